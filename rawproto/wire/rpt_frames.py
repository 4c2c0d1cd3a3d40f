"""RPT/1 frames, what a short packet holds once it is opened (docs/transport-spec.md section 5).

::

    +------+----------------- ... --+------+--------- ...
    | type | fields of fixed width  | type | fields
    +------+----------------- ... --+------+--------- ...

Values for the dissector, the tests and whatever is rare. The transport's hot path packs
and unpacks STREAM, DATAGRAM and ACK with the same structs, without an object per frame.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, MalformedError, TruncatedError

__all__ = [
    "ACK_HEAD",
    "ACK_RANGE",
    "DATAGRAM_HEAD",
    "ECN_COUNTS",
    "MAX_RANGES",
    "STREAM_HEAD",
    "AckFrame",
    "BlockedFrame",
    "CloseFrame",
    "DatagramFrame",
    "Frame",
    "FrameType",
    "HandshakeDoneFrame",
    "MaxDataFrame",
    "MaxStreamDataFrame",
    "MaxStreamsFrame",
    "NewConnectionIDFrame",
    "PaddingFrame",
    "PathChallengeFrame",
    "PathResponseFrame",
    "PingFrame",
    "ResetStreamFrame",
    "RetireConnectionIDFrame",
    "StopSendingFrame",
    "StreamFrame",
    "emit_frames",
    "end_of_padding",
    "parse_frame",
    "parse_frames",
]

ACK_HEAD = struct.Struct("!BQIBI")
"""type, largest, delay_us, count, first."""
ACK_RANGE = struct.Struct("!II")
"""gap, length."""
ECN_COUNTS = struct.Struct("!QQQ")
"""ect0, ect1, ce."""
STREAM_HEAD = struct.Struct("!BIQH")
"""type, stream_id, offset, length."""
DATAGRAM_HEAD = struct.Struct("!BH")
"""type, length."""

MAX_RANGES = 64
"""Of an ACK: `first`, and 63 more."""


class FrameType:
    """The numbers of frame types."""

    PADDING = 0x00
    PING = 0x01
    ACK = 0x02
    ACK_ECN = 0x03
    STREAM = 0x04
    STREAM_FIN = 0x05
    RESET_STREAM = 0x06
    STOP_SENDING = 0x07
    MAX_DATA = 0x08
    MAX_STREAM_DATA = 0x09
    MAX_STREAMS = 0x0A
    BLOCKED = 0x0B
    DATAGRAM = 0x0C
    NEW_CONNECTION_ID = 0x0D
    RETIRE_CONNECTION_ID = 0x0E
    PATH_CHALLENGE = 0x0F
    PATH_RESPONSE = 0x10
    HANDSHAKE_DONE = 0x11
    CLOSE = 0x12


class Frame:
    """The base of all frames; `emit` gives a frame's bytes."""

    __slots__ = ()

    layer: ClassVar[str] = "rpt_frames"
    frame_type: ClassVar[int] = -1
    fixed: ClassVar[struct.Struct] = struct.Struct("")
    """The fields behind the type, for frames that have no others."""

    @classmethod
    def _parse(cls, data: bytes, at: int) -> tuple[Self, int]:
        """Reads the frame whose type stands at `at`: (frame, where it ends)."""
        end = at + 1 + cls.fixed.size
        if end > len(data):
            raise TruncatedError("rpt_frames", at, end - at, len(data) - at)
        return cls(*cls.fixed.unpack_from(data, at + 1)), end

    def emit(self) -> bytes:
        """The frame's bytes. Raises EmitError."""
        values = [getattr(self, name) for name in self.__match_args__]  # type: ignore[attr-defined]
        try:
            data = self.fixed.pack(*values)
        except struct.error as error:
            raise EmitError(type(self).__name__, values, str(error)) from None
        if self.fixed.unpack(data) != tuple(values):  # struct pads and cuts bytes in silence
            raise EmitError(type(self).__name__, values, "bytes of another length")
        return bytes([self.frame_type]) + data


class _Choosing(Frame):
    """A frame whose first field, a byte, chooses between few meanings."""

    __slots__ = ()

    meanings: ClassVar[int] = 0

    @classmethod
    def _parse(cls, data: bytes, at: int) -> tuple[Self, int]:
        frame, end = super()._parse(data, at)
        if data[at + 1] >= cls.meanings:
            raise MalformedError("rpt_frames", at, f"{cls.__name__} of a kind {data[at + 1]}")
        return frame, end


def _part(data: bytes, at: int, start: int, length: int) -> bytes:
    """`length` bytes from `start` on, of the frame at `at`."""
    if start + length > len(data):
        raise TruncatedError("rpt_frames", at, start + length - at, len(data) - at)
    return data[start : start + length]


_zeros = re.compile(rb"\0*").match


def end_of_padding(data: bytes, at: int) -> int:
    """Where zeros from `at` on come to their end. What follows them is not looked at."""
    found = _zeros(data, at)
    return found.end() if found is not None else at


@dataclass(slots=True)
class PaddingFrame(Frame):
    """Zeros, so many in a row."""

    length: int = 1

    frame_type: ClassVar[int] = FrameType.PADDING

    @classmethod
    def _parse(cls, data: bytes, at: int) -> tuple[Self, int]:
        end = end_of_padding(data, at)
        return cls(end - at), end

    def emit(self) -> bytes:
        return bytes(self.length)


@dataclass(slots=True)
class PingFrame(Frame):
    """Asks for an acknowledgement."""

    frame_type: ClassVar[int] = FrameType.PING


@dataclass(slots=True)
class AckFrame(Frame):
    """What arrived (section 5.1).

    Attributes:
        largest: highest packet number.
        delay_us: how long ago that came.
        first: packets up to `largest` that arrived, `largest` among them.
        ranges: going down from there, (packets that did not, packets that did).
        ecn: counts of ECT(0), ECT(1) and CE, None if not told.
    """

    largest: int
    delay_us: int
    first: int
    ranges: tuple[tuple[int, int], ...] = ()
    ecn: tuple[int, int, int] | None = None

    frame_type: ClassVar[int] = FrameType.ACK

    @classmethod
    def _parse(cls, data: bytes, at: int) -> tuple[Self, int]:
        if len(data) - at < ACK_HEAD.size:
            raise TruncatedError("rpt_frames", at, ACK_HEAD.size, len(data) - at)
        kind, largest, delay_us, count, first = ACK_HEAD.unpack_from(data, at)
        if count >= MAX_RANGES:
            raise MalformedError("rpt_frames", at, f"an ACK of {count + 1} ranges")
        end = at + ACK_HEAD.size + count * ACK_RANGE.size
        ranges = tuple(ACK_RANGE.iter_unpack(_part(data, at, at + ACK_HEAD.size, end - at - 18)))
        if not first or any(not gap or not length for gap, length in ranges):
            raise MalformedError("rpt_frames", at, "an ACK with an empty range")
        if first + sum([gap + length for gap, length in ranges]) > largest + 1:
            raise MalformedError("rpt_frames", at, "an ACK of packets below 0")
        ecn = None
        if kind == FrameType.ACK_ECN:
            ecn = ECN_COUNTS.unpack(_part(data, at, end, ECN_COUNTS.size))
            end += ECN_COUNTS.size
        return cls(largest, delay_us, first, ranges, ecn), end

    def emit(self) -> bytes:
        kind = FrameType.ACK if self.ecn is None else FrameType.ACK_ECN
        try:
            head = ACK_HEAD.pack(kind, self.largest, self.delay_us, len(self.ranges), self.first)
            ranges = b"".join([ACK_RANGE.pack(*each) for each in self.ranges])
            return head + ranges + (ECN_COUNTS.pack(*self.ecn) if self.ecn else b"")
        except struct.error as error:
            raise EmitError("AckFrame", self, str(error)) from None


@dataclass(slots=True)
class StreamFrame(Frame):
    """Data of a stream.

    Attributes:
        stream_id: 32 bits.
        offset: of the data in the stream.
        data: up to 65,535 bytes.
        fin: the stream ends behind them.
    """

    stream_id: int
    offset: int
    data: bytes
    fin: bool = False

    frame_type: ClassVar[int] = FrameType.STREAM

    @classmethod
    def _parse(cls, data: bytes, at: int) -> tuple[Self, int]:
        start = at + STREAM_HEAD.size
        if start > len(data):
            raise TruncatedError("rpt_frames", at, STREAM_HEAD.size, len(data) - at)
        kind, stream_id, offset, length = STREAM_HEAD.unpack_from(data, at)
        part = _part(data, at, start, length)
        return cls(stream_id, offset, part, kind == FrameType.STREAM_FIN), start + length

    def emit(self) -> bytes:
        kind = self.frame_type | self.fin
        try:
            return STREAM_HEAD.pack(kind, self.stream_id, self.offset, len(self.data)) + self.data
        except struct.error as error:
            raise EmitError("StreamFrame", self, str(error)) from None


@dataclass(slots=True)
class ResetStreamFrame(Frame):
    """The sender gives up a stream, after `final_size` bytes."""

    stream_id: int
    code: int
    final_size: int

    frame_type: ClassVar[int] = FrameType.RESET_STREAM
    fixed: ClassVar[struct.Struct] = struct.Struct("!IIQ")


@dataclass(slots=True)
class StopSendingFrame(Frame):
    """The receiver wants no more of a stream."""

    stream_id: int
    code: int

    frame_type: ClassVar[int] = FrameType.STOP_SENDING
    fixed: ClassVar[struct.Struct] = struct.Struct("!II")


@dataclass(slots=True)
class MaxDataFrame(Frame):
    """How many bytes the peer may send on all streams together."""

    maximum: int

    frame_type: ClassVar[int] = FrameType.MAX_DATA
    fixed: ClassVar[struct.Struct] = struct.Struct("!Q")


@dataclass(slots=True)
class MaxStreamDataFrame(Frame):
    """How many bytes the peer may send on one stream."""

    stream_id: int
    maximum: int

    frame_type: ClassVar[int] = FrameType.MAX_STREAM_DATA
    fixed: ClassVar[struct.Struct] = struct.Struct("!IQ")


@dataclass(slots=True)
class MaxStreamsFrame(_Choosing):
    """How many streams of a sort the peer may open: `direction` 0 two-way, 1 one-way."""

    direction: int
    maximum: int

    frame_type: ClassVar[int] = FrameType.MAX_STREAMS
    meanings: ClassVar[int] = 2
    fixed: ClassVar[struct.Struct] = struct.Struct("!BI")


@dataclass(slots=True)
class BlockedFrame(_Choosing):
    """What keeps the sender from sending: `what` 0 data, 1 stream, 2 two-way, 3 one-way."""

    what: int
    stream_id: int
    limit: int

    frame_type: ClassVar[int] = FrameType.BLOCKED
    meanings: ClassVar[int] = 4
    fixed: ClassVar[struct.Struct] = struct.Struct("!BIQ")


@dataclass(slots=True)
class DatagramFrame(Frame):
    """Data that is delivered at most once, up to 65,535 bytes."""

    data: bytes

    frame_type: ClassVar[int] = FrameType.DATAGRAM

    @classmethod
    def _parse(cls, data: bytes, at: int) -> tuple[Self, int]:
        start = at + DATAGRAM_HEAD.size
        if start > len(data):
            raise TruncatedError("rpt_frames", at, DATAGRAM_HEAD.size, len(data) - at)
        _, length = DATAGRAM_HEAD.unpack_from(data, at)
        return cls(_part(data, at, start, length)), start + length

    def emit(self) -> bytes:
        try:
            return DATAGRAM_HEAD.pack(self.frame_type, len(self.data)) + self.data
        except struct.error as error:
            raise EmitError("DatagramFrame", self, str(error)) from None


@dataclass(slots=True)
class NewConnectionIDFrame(Frame):
    """Another connection ID of the sender's, with the token that a RESET about it has."""

    sequence: int
    retire_prior_to: int
    cid: int
    reset_token: bytes

    frame_type: ClassVar[int] = FrameType.NEW_CONNECTION_ID
    fixed: ClassVar[struct.Struct] = struct.Struct("!IIQ16s")


@dataclass(slots=True)
class RetireConnectionIDFrame(Frame):
    """A connection ID of the receiver's that the sender uses no more."""

    sequence: int

    frame_type: ClassVar[int] = FrameType.RETIRE_CONNECTION_ID
    fixed: ClassVar[struct.Struct] = struct.Struct("!I")


@dataclass(slots=True)
class PathChallengeFrame(Frame):
    """Is somebody there? 8 bytes to be repeated."""

    data: bytes

    frame_type: ClassVar[int] = FrameType.PATH_CHALLENGE
    fixed: ClassVar[struct.Struct] = struct.Struct("!8s")


@dataclass(slots=True)
class PathResponseFrame(Frame):
    """The 8 bytes of a challenge."""

    data: bytes

    frame_type: ClassVar[int] = FrameType.PATH_RESPONSE
    fixed: ClassVar[struct.Struct] = struct.Struct("!8s")


@dataclass(slots=True)
class HandshakeDoneFrame(Frame):
    """The listener's: the handshake is over."""

    frame_type: ClassVar[int] = FrameType.HANDSHAKE_DONE


@dataclass(slots=True)
class CloseFrame(Frame):
    """The end of the connection.

    Attributes:
        code: why (section 11.2); the application's from 256 up.
        reason: up to 255 bytes of UTF-8.
    """

    code: int
    reason: str = ""

    frame_type: ClassVar[int] = FrameType.CLOSE

    @classmethod
    def _parse(cls, data: bytes, at: int) -> tuple[Self, int]:
        if len(data) - at < _CLOSE_HEAD.size:
            raise TruncatedError("rpt_frames", at, _CLOSE_HEAD.size, len(data) - at)
        _, code, length = _CLOSE_HEAD.unpack_from(data, at)
        reason = _part(data, at, at + _CLOSE_HEAD.size, length)
        return cls(code, reason.decode(errors="replace")), at + _CLOSE_HEAD.size + length

    def emit(self) -> bytes:
        reason = self.reason.encode(errors="replace")
        try:
            return _CLOSE_HEAD.pack(self.frame_type, self.code, len(reason)) + reason
        except struct.error as error:
            raise EmitError("CloseFrame", self, str(error)) from None


_CLOSE_HEAD = struct.Struct("!BIB")

_Parse = Callable[[bytes, int], tuple[Frame, int]]
_PARSERS: dict[int, _Parse] = {
    kind.frame_type: kind._parse
    for kind in (
        PaddingFrame,
        PingFrame,
        AckFrame,
        StreamFrame,
        ResetStreamFrame,
        StopSendingFrame,
        MaxDataFrame,
        MaxStreamDataFrame,
        MaxStreamsFrame,
        BlockedFrame,
        DatagramFrame,
        NewConnectionIDFrame,
        RetireConnectionIDFrame,
        PathChallengeFrame,
        PathResponseFrame,
        HandshakeDoneFrame,
        CloseFrame,
    )
}
_PARSERS[FrameType.ACK_ECN] = AckFrame._parse
_PARSERS[FrameType.STREAM_FIN] = StreamFrame._parse


def parse_frame(data: bytes, at: int) -> tuple[Frame, int]:
    """Reads the frame at `at`: (frame, where it ends).

    Raises:
        TruncatedError: it is cut short.
        MalformedError: an unknown type, or fields that contradict themselves.
    """
    if at >= len(data):
        raise TruncatedError("rpt_frames", at, 1, 0)
    parser = _PARSERS.get(data[at])
    if parser is None:
        raise MalformedError("rpt_frames", at, f"unknown frame type {data[at]:#04x}")
    return parser(data, at)


def parse_frames(data: bytes) -> list[Frame]:
    """Reads all frames of an opened packet. Raises as `parse_frame` does."""
    frames: list[Frame] = []
    at, end = 0, len(data)
    while at < end:
        frame, at = parse_frame(data, at)
        frames.append(frame)
    return frames


def emit_frames(frames: list[Frame]) -> bytes:
    """The bytes of frames, one behind the other. Raises EmitError."""
    return b"".join([frame.emit() for frame in frames])
