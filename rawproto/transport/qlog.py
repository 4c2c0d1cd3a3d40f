"""A connection's story as qlog 0.3, which qvis draws (https://qvis.quictools.info).

Read draft-ietf-quic-qlog-main-schema-04 and -quic-events-04 for names and fields. The form is
JSON-SEQ (RFC 7464): a record separator, an object and a line feed, event by event, so that a
file is whole whenever its writer stops. RPT's frames go by the names of their kin in QUIC.
No I/O in here: records go to whatever `write` is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from rawproto.errors import WireError
from rawproto.transport.constants import CloseCode
from rawproto.transport.recovery import Recovery
from rawproto.wire.rpt_frames import (
    AckFrame,
    BlockedFrame,
    CloseFrame,
    DatagramFrame,
    Frame,
    MaxDataFrame,
    MaxStreamDataFrame,
    MaxStreamsFrame,
    NewConnectionIDFrame,
    PaddingFrame,
    ResetStreamFrame,
    RetireConnectionIDFrame,
    StopSendingFrame,
    StreamFrame,
    parse_frames,
)

__all__ = ["QlogTracer"]

_encode = json.JSONEncoder(separators=(",", ":")).encode
_BLOCKED = ("data_blocked", "stream_data_blocked", "streams_blocked", "streams_blocked")
_DIRECTIONS = ("bidirectional", "unidirectional")


class QlogTracer:
    """One side of one connection.

    Args:
        write: takes a record, text.
        client: whether this side is the client.
        cid: what the trace goes by: `src_cid` of the INIT.
        now_ns: what times count from.
    """

    def __init__(
        self, write: Callable[[str], object], *, client: bool, cid: int, now_ns: int
    ) -> None:
        self._write = write
        self._start_ns = now_ns
        self._metrics: dict[str, float] = {}
        self._state = ""
        side = "client" if client else "server"
        self._record(
            {
                "qlog_version": "0.3",
                "qlog_format": "JSON-SEQ",
                "title": f"RPT {cid:016x} {side}",
                "trace": {
                    "vantage_point": {"name": f"rawproto {side}", "type": side},
                    "common_fields": {
                        "ODCID": f"{cid:016x}",
                        "group_id": f"{cid:016x}",
                        "protocol_type": ["RPT"],
                        "time_format": "relative",
                        "reference_time": 0,
                    },
                },
            }
        )

    def packet_sent(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """As `Tracer` has it."""
        self._packet("transport:packet_sent", now_ns, number, size, frames)

    def packet_received(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """As `Tracer` has it."""
        self._packet("transport:packet_received", now_ns, number, size, frames)

    def packet_lost(self, now_ns: int, number: int, size: int) -> None:
        """As `Tracer` has it."""
        self._event("recovery:packet_lost", now_ns, {"header": _header(number)})

    def metrics_updated(self, now_ns: int, recovery: Recovery) -> None:
        """As `Tracer` has it; only what has changed is written."""
        rtt, controller = recovery.rtt, recovery.controller
        metrics: dict[str, float] = {
            "min_rtt": rtt.min_rtt / 1e6,
            "smoothed_rtt": rtt.smoothed_rtt / 1e6,
            "latest_rtt": rtt.latest_rtt / 1e6,
            "rtt_variance": rtt.rttvar / 1e6,
            "pto_count": recovery.pto_count,
            "congestion_window": controller.window,
            "bytes_in_flight": recovery.in_flight,
        }
        if controller.pacing_rate is not None:
            metrics["pacing_rate"] = controller.pacing_rate * 8
        changed = {
            name: value for name, value in metrics.items() if value != self._metrics.get(name)
        }
        if changed:
            self._metrics = metrics
            self._event("recovery:metrics_updated", now_ns, changed)
        state = "slow_start" if controller.slow_start else "congestion_avoidance"
        if state != self._state:
            states = {"old": self._state, "new": state} if self._state else {"new": state}
            self._event("recovery:congestion_state_updated", now_ns, states)
            self._state = state

    def _packet(self, name: str, now_ns: int, number: int, size: int, data: bytes) -> None:
        try:
            frames = [_frame(frame) for frame in parse_frames(data)]
        except WireError:
            frames = [{"frame_type": "unknown"}]  # a peer may seal anything
        fields = {"header": _header(number), "raw": {"length": size}, "frames": frames}
        self._event(name, now_ns, fields)

    def _event(self, name: str, now_ns: int, data: dict[str, Any]) -> None:
        self._record({"time": (now_ns - self._start_ns) / 1e6, "name": name, "data": data})

    def _record(self, record: dict[str, Any]) -> None:
        self._write(f"\x1e{_encode(record)}\n")


def _header(number: int) -> dict[str, Any]:
    return {"packet_type": "1RTT", "packet_number": number}


def _frame(frame: Frame) -> dict[str, Any]:
    """A frame by qlog's names."""
    found: dict[str, Any] = {}
    name = _NAMES.get(type(frame))
    match frame:
        case StreamFrame():
            name = "stream"
            found = {
                "stream_id": frame.stream_id,
                "offset": frame.offset,
                "length": len(frame.data),
                "fin": frame.fin,
            }
        case AckFrame():
            name = "ack"
            found = {"ack_delay": frame.delay_us / 1000, "acked_ranges": _ranges(frame)}
        case PaddingFrame(length):
            found = {"length": length}
        case DatagramFrame(data):
            found = {"length": len(data)}
        case ResetStreamFrame(stream_id, code, final_size):
            found = {"stream_id": stream_id, "error_code": code, "final_size": final_size}
        case StopSendingFrame(stream_id, code):
            found = {"stream_id": stream_id, "error_code": code}
        case MaxDataFrame(maximum):
            found = {"maximum": maximum}
        case MaxStreamDataFrame(stream_id, maximum):
            found = {"stream_id": stream_id, "maximum": maximum}
        case MaxStreamsFrame(direction, maximum):
            found = {"stream_type": _DIRECTIONS[direction], "maximum": maximum}
        case BlockedFrame(what, stream_id, limit):
            name = _BLOCKED[what]
            found = {"stream_id": stream_id, "limit": limit}
        case NewConnectionIDFrame():
            found = {
                "sequence_number": frame.sequence,
                "retire_prior_to": frame.retire_prior_to,
                "connection_id": f"{frame.cid:016x}",
            }
        case RetireConnectionIDFrame(sequence):
            found = {"sequence_number": sequence}
        case CloseFrame(code, reason):
            space = "application" if code >= 256 else "transport"
            words = CloseCode(code).name if code in list(CloseCode) else code
            found = {"error_space": space, "error_code": words, "reason": reason}
    return {"frame_type": name or _snake(type(frame).__name__), **found}


def _ranges(frame: AckFrame) -> list[list[int]]:
    """The numbers acknowledged, lowest range first, both ends included."""
    low = frame.largest - frame.first + 1
    ranges = [[low, frame.largest]]
    for gap, length in frame.ranges:
        high = low - gap - 1
        low = high - length + 1
        ranges.append([low, high])
    return ranges[::-1]


def _snake(name: str) -> str:
    """`MaxStreamDataFrame` as `max_stream_data`."""
    words = name.removesuffix("Frame").replace("ID", "Id")
    return "".join([f"_{each.lower()}" if each.isupper() else each for each in words])[1:]


_NAMES: dict[type[Frame], str] = {CloseFrame: "connection_close"}
