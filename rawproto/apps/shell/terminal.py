"""Terminals: their size, and raw mode that is given back whatever happens. Read termios(3)."""

from __future__ import annotations

import fcntl
import struct
import termios
from contextlib import suppress
from types import TracebackType

__all__ = ["RawMode", "Size", "set_size", "size_of"]

Size = tuple[int, int, int, int]
"""Columns, rows, and both in pixels, 0 for unknown."""

_ROWS_COLUMNS = struct.Struct("HHHH")


def size_of(descriptor: int) -> Size:
    """How large a terminal is. Raises OSError where there is none."""
    packed = fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(_ROWS_COLUMNS.size))
    rows, columns, width, height = _ROWS_COLUMNS.unpack(packed)
    return columns, rows, width, height


def set_size(descriptor: int, size: Size) -> None:
    """Makes a terminal so large, of which its foreground programs are told (SIGWINCH)."""
    columns, rows, width, height = size
    packed = _ROWS_COLUMNS.pack(rows, columns, width, height)
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, packed)


class RawMode:
    """A terminal that passes on each key as it is: `with RawMode(0) as raw`.

    Args:
        descriptor: of the terminal.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._before = termios.tcgetattr(descriptor)

    def __enter__(self) -> RawMode:
        self.enter()
        return self

    def enter(self) -> None:
        """As cfmakeraw(3), which Python 3.11's `tty.setraw` is not quite."""
        settings = list(self._before)
        settings[0] &= ~(
            termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP
            | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
            | termios.IXOFF | termios.IXANY
        )  # fmt: skip
        settings[1] &= ~termios.OPOST
        settings[2] = settings[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        settings[3] &= ~(
            termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN
        )
        settings[6] = list(settings[6])
        settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._descriptor, termios.TCSADRAIN, settings)

    def leave(self) -> None:
        """As it was; input that nobody has read stays for the next program."""
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.leave()
