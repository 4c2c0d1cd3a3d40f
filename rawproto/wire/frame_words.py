"""RPT's frames in a few words each, for one-line summaries (docs/transport-spec.md section 5).

::

    STREAM 0 1151:2302, ACK 0-11 13, PADDING 20

A stream's data is written as in `FIN` of TCP's lines: from its first byte to behind its
last. What an ACK acknowledges stands in rising order. It shows no data.
"""

from __future__ import annotations

from rawproto.wire import rpt_frames as frames
from rawproto.wire.words import printable

__all__ = ["frame_words", "frames_words"]

_MOST_RANGES = 8
_BLOCKED = {0: "data", 1: "stream", 2: "two-way streams", 3: "one-way streams"}
_DIRECTIONS = {0: "two-way", 1: "one-way"}


def frame_words(frame: frames.Frame) -> str:
    """One frame: its name as in the specification, and what it says."""
    match frame:
        case frames.PaddingFrame(length=length):
            return f"PADDING {length}"
        case frames.AckFrame():
            return _ack(frame)
        case frames.StreamFrame(stream_id=stream_id, offset=offset, data=data, fin=fin):
            return f"STREAM {stream_id} {offset}:{offset + len(data)}{' FIN' if fin else ''}"
        case frames.ResetStreamFrame(stream_id=stream_id, code=code, final_size=final_size):
            return f"RESET_STREAM {stream_id} code {code} at {final_size}"
        case frames.StopSendingFrame(stream_id=stream_id, code=code):
            return f"STOP_SENDING {stream_id} code {code}"
        case frames.MaxDataFrame(maximum=maximum):
            return f"MAX_DATA {maximum}"
        case frames.MaxStreamDataFrame(stream_id=stream_id, maximum=maximum):
            return f"MAX_STREAM_DATA {stream_id} {maximum}"
        case frames.MaxStreamsFrame(direction=direction, maximum=maximum):
            return f"MAX_STREAMS {_DIRECTIONS.get(direction, direction)} {maximum}"
        case frames.BlockedFrame(what=what, stream_id=stream_id, limit=limit):
            which = f" {stream_id}" if what == 1 else ""
            return f"BLOCKED {_BLOCKED.get(what, what)}{which} at {limit}"
        case frames.DatagramFrame(data=data):
            return f"DATAGRAM {len(data)}"
        case frames.NewConnectionIDFrame(sequence=sequence, cid=cid):
            return f"NEW_CONNECTION_ID {sequence} {cid:016x}"
        case frames.RetireConnectionIDFrame(sequence=sequence):
            return f"RETIRE_CONNECTION_ID {sequence}"
        case frames.PathChallengeFrame(data=data):
            return f"PATH_CHALLENGE {data.hex()}"
        case frames.PathResponseFrame(data=data):
            return f"PATH_RESPONSE {data.hex()}"
        case frames.HandshakeDoneFrame():
            return "HANDSHAKE_DONE"
        case frames.CloseFrame(code=code, reason=reason):
            return f"CLOSE {code}" + (f' "{printable(reason)}"' if reason else "")
    return "PING"


def frames_words(found: list[frames.Frame]) -> str:
    """Several, in their order."""
    return ", ".join([frame_words(frame) for frame in found])


def _ack(frame: frames.AckFrame) -> str:
    last = frame.largest
    first = last - frame.first + 1
    ranges = [(first, last)]
    for gap, length in frame.ranges:
        last = first - gap - 1
        first = last - length + 1
        ranges.append((first, last))
    lowest_first = ranges[::-1]
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in lowest_first[-_MOST_RANGES:]]
    more = ["..."] if len(ranges) > _MOST_RANGES else []
    words = " ".join(["ACK", *more, *shown])
    if frame.ecn is not None:
        words += " ECN {}/{}/{}".format(*frame.ecn)
    return words
