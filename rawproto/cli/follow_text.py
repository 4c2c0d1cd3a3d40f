"""A conversation for the eyes, or one side's bytes for another program.

::

    tcp:0  10.0.0.1:40000 > 10.0.0.2:80
    > GET / HTTP/1.1
    < HTTP/1.1 200 OK
    [1460 bytes missing] <
    [> 70 bytes, FIN; < 2400 bytes, 1460 missing, FIN]

`>` is what came from who began it, `<` what came back. Lines in brackets are ours; what
was said never begins a line. Of it only what prints is shown as it is (UTF-8), all else is
escaped: it comes from the network, and may not steer a terminal.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable
from typing import BinaryIO, TextIO

from rawproto.cli.render import Style
from rawproto.packets.conversations import Conversation
from rawproto.packets.streams import StreamData, StreamGap, StreamSide, TCPStream
from rawproto.wire.show import hexdump

__all__ = ["FollowHex", "FollowRaw", "FollowText"]

_MARKS = ("> ", "< ")
# As Wireshark has them: who began it red; but a terminal's blue is hard to read.
_COLOURS = ("red", "cyan")


class FollowHex:
    """Bytes as hexadecimal and as text, with their offsets in what the side sent."""

    def __init__(self, stream: TextIO, sides: tuple[int, ...], style: Style) -> None:
        """
        Args:
            stream: where to.
            sides: whose bytes to show.
            style: whether to colour.
        """
        self._stream = stream
        self._sides = sides
        self._style = style

    def begin(self, conversation: Conversation) -> None:
        one, other = conversation.ends
        line = f"{conversation.name}  {one} > {other}"
        self._stream.write(self._style(line, "bold") + "\n")

    def tell(self, event: StreamData | StreamGap) -> None:
        if event.side not in self._sides:
            return
        if isinstance(event, StreamGap):
            words = f"[{event.length} bytes missing] {_MARKS[event.side].strip()}"
            self._ours(words)
        else:
            self._data(event)

    def end(self, conversation: Conversation, stream: TCPStream | None) -> None:
        if stream is not None:
            words = [f"{_MARKS[side]}{_side_words(stream.sides[side])}" for side in (0, 1)]
            self._ours(f"[{'; '.join(words)}]")

    def _ours(self, words: str) -> None:
        self._stream.write(self._style(words, "yellow") + "\n")

    def _data(self, event: StreamData) -> None:
        if not event.data:
            self._ours(f"[empty datagram] {_MARKS[event.side].strip()}")
            return
        for line in hexdump(event.data, offset=event.offset).splitlines():
            self._line(event.side, line)

    def _line(self, side: int, words: str) -> None:
        self._stream.write(_MARKS[side] + self._style(words, _COLOURS[side]) + "\n")


class FollowText(FollowHex):
    """Lines of text, as they were said."""

    def __init__(self, stream: TextIO, sides: tuple[int, ...], style: Style) -> None:
        super().__init__(stream, sides, style)
        self._decoders = [codecs.getincrementaldecoder("utf-8")("backslashreplace") for _ in _MARKS]
        self._open: int | None = None  # the side whose line has not ended
        self._held = ""  # a CR at the end of it: perhaps the LF follows

    def tell(self, event: StreamData | StreamGap) -> None:
        if event.side not in self._sides:
            return
        if self._open not in (None, event.side) or isinstance(event, StreamGap):
            self._close()
        super().tell(event)

    def end(self, conversation: Conversation, stream: TCPStream | None) -> None:
        self._close()
        super().end(conversation, stream)

    def begin(self, conversation: Conversation) -> None:
        self._datagrams = conversation.protocol == "udp"
        super().begin(conversation)

    def _data(self, event: StreamData) -> None:
        if not event.data:
            super()._data(event)
            return
        text = self._held + self._decoders[event.side].decode(event.data, self._datagrams)
        self._held = ""
        if text.endswith("\r") and not self._datagrams:
            text, self._held = text[:-1], "\r"
        *lines, rest = text.split("\n")
        for line in lines:
            self._say(event.side, line.removesuffix("\r"))
            self._stream.write("\n")
            self._open = None
        if rest or self._held:
            self._say(event.side, rest)
            self._open = event.side
        if self._datagrams:
            self._close()

    def _say(self, side: int, text: str) -> None:
        if self._open is None:
            self._stream.write(_MARKS[side])
        if text:
            self._stream.write(self._style(_escaped(text), _COLOURS[side]))

    def _close(self) -> None:
        """Ends a line that its speaker did not end, with the character he left half-said."""
        if self._open is None:
            return
        rest = self._held + self._decoders[self._open].decode(b"", True)
        self._stream.write(self._style(_escaped(rest), _COLOURS[self._open]) + "\n")
        self._held, self._open = "", None


class FollowRaw:
    """One side's bytes as they were, and nothing else; what is missing is told apart."""

    def __init__(self, stream: BinaryIO, side: int, complain: Callable[[str], None]) -> None:
        """
        Args:
            stream: where to.
            side: whose bytes.
            complain: takes a line about what is missing.
        """
        self._stream = stream
        self._side = side
        self._complain = complain
        self._name = ""

    def begin(self, conversation: Conversation) -> None:
        self._name = conversation.name

    def tell(self, event: StreamData | StreamGap) -> None:
        if event.side != self._side:
            return
        if isinstance(event, StreamData):
            self._stream.write(event.data)
        else:
            self._complain(f"{self._name}: {event.length} bytes missing at byte {event.offset}")

    def end(self, conversation: Conversation, stream: TCPStream | None) -> None:
        self._stream.flush()


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\t" else _escape(each) for each in text)


def _escape(character: str) -> str:
    if character.isascii():
        return character.encode("unicode_escape").decode()
    return "".join(f"\\x{byte:02x}" for byte in character.encode())


def _side_words(side: StreamSide) -> str:
    words = [f"{side.offset - side.missing_bytes} bytes"]
    for count, what in (
        (side.missing_bytes, "missing"),
        (side.retransmitted_bytes, "sent again"),
        (side.conflicting_bytes, "otherwise than before"),
    ):
        if count:
            words.append(f"{count} {what}")
    if side.fin_at is not None:
        words.append("FIN")
    if side.rst:
        words.append("RST")
    return ", ".join(words)
