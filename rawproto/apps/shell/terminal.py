"""Terminals: their size, their keys, and raw mode that is given back whatever happens.

Read termios(3).
"""

from __future__ import annotations

import fcntl
import struct
import termios
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType

__all__ = ["MODES", "RawMode", "Size", "modes_of", "set_modes", "set_size", "size_of"]

Size = tuple[int, int, int, int]
"""Columns, rows, and both in pixels, 0 for unknown."""

_KEYS = (
    "VINTR", "VQUIT", "VERASE", "VKILL", "VEOF", "VEOL", "VEOL2", "VSTART",
    "VSTOP", "VSUSP", "VREPRINT", "VWERASE", "VLNEXT", "VDISCARD",
)  # fmt: skip
_FLOW = ("IXON", "IXOFF", "IXANY")
MODES = (*_KEYS, *_FLOW)
"""What of a terminal's settings its user has chosen: keys, by their codes, 0 for none, and flow
control, 0 or 1. The names are those of RFC 4254 section 8."""

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


def modes_of(descriptor: int) -> dict[str, int]:
    """How a terminal is set. Raises termios.error where there is none."""
    settings = termios.tcgetattr(descriptor)
    keys = {name: settings[6][getattr(termios, name)][0] for name in _KEYS}
    return keys | {name: int(bool(settings[0] & getattr(termios, name))) for name in _FLOW}


def set_modes(descriptor: int, modes: Mapping[str, int]) -> None:
    """Sets it so; what is not named stays."""
    settings = termios.tcgetattr(descriptor)
    for name, value in modes.items():
        number = getattr(termios, name)
        if name in _KEYS:
            settings[6][number] = bytes([value])
        else:
            settings[0] = settings[0] | number if value else settings[0] & ~number
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)


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
