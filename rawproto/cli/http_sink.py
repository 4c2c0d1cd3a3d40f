"""Where `rawproto http get` puts what came: a file, stdout as it is, a terminal that it spares."""

from __future__ import annotations

import codecs
import os
import re

from rawproto.apps.http.fetch import FetchError
from rawproto.drivers.stdio import write_output
from rawproto.wire.words import printable

__all__ = ["SHOWN", "Sink"]

SHOWN = ""
"""Where an answer goes that nobody named a file for: stdout, escaped on a terminal."""

_COMMANDS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What commands a terminal, or turns a line's order; what joins letters of a script stays."""


class Sink:
    """Where an answer goes: a file, made when there is something to put in, or stdout.

    On a terminal what could command it is escaped, and bytes that are no text are refused,
    unless `-o -` asked for them as they are.

    Args:
        name: of the file, `-` or `SHOWN` for stdout.

    Attributes:
        append: to what there is.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._fd: int | None = 1 if name in ("-", SHOWN) else None
        self.append = False
        self.is_terminal = self._fd == 1 and os.isatty(1)
        self._escapes = name == SHOWN and self.is_terminal
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def _open(self) -> int:
        if self._fd is None:
            mode = os.O_APPEND if self.append else os.O_TRUNC
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | mode
            self._fd = os.open(self._name, flags, 0o666)
        return self._fd

    def write_now(self, data: bytes) -> None:
        """Writes a few bytes."""
        try:
            fd, view = self._open(), memoryview(self._shown(data))
            while view:
                view = view[os.write(fd, view) :]
        except OSError as error:
            raise self._failed(error) from None

    async def write(self, data: bytes) -> None:
        """Writes, while others may go on. Raises FetchError (23)."""
        try:
            fd = self._open()
            if data:
                await write_output(self._shown(data), fd)
        except OSError as error:
            raise self._failed(error) from None

    def _shown(self, data: bytes) -> bytes:
        if not self._escapes:
            return data
        if b"\0" in data:
            raise FetchError(23, "bytes that are no text, for a terminal: say -o FILE")
        text = self._decoder.decode(data)
        return _COMMANDS.sub(lambda found: printable(found[0]), text.replace("\r", "")).encode()

    def _failed(self, error: OSError) -> FetchError:
        return FetchError(23, f"{self._name or 'stdout'}: {error.strerror}")

    def close(self) -> None:
        """Closes a file."""
        if self._fd not in (1, None):
            os.close(self._fd)
            self._fd = None
