"""A connection's story as qlog 0.3, which qvis draws (https://qvis.quictools.info).

Read draft-ietf-quic-qlog-main-schema-04 and -quic-events-04 for names and fields. The form is
JSON-SEQ (RFC 7464): a record separator, an object and a line feed, event by event, so that a
file is whole whenever its writer stops. RPT's packets and frames go by the names of their kin
in QUIC: HANDSHAKE is `handshake`, a Noise message `crypto`, a short packet `1RTT`, STREAMS
`stream_limit_error`; where there is no kin (DATAGRAM, MESSAGE), by RPT's own name or number.
No I/O in here: records go to whatever `write` is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from math import inf
from typing import Any

from rawproto.errors import WireError
from rawproto.transport.constants import CloseCode
from rawproto.transport.recovery import Recovery
from rawproto.transport.trace import LongPacket
from rawproto.wire.rpt import HANDSHAKE, INIT, RESET, RETRY, VERSION, VERSION_1
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
    PathChallengeFrame,
    PathResponseFrame,
    ResetStreamFrame,
    RetireConnectionIDFrame,
    StopSendingFrame,
    StreamFrame,
    parse_frames,
)

__all__ = ["QlogTracer"]

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_BLOCKED = ("data_blocked", "stream_data_blocked", "streams_blocked", "streams_blocked")
_DIRECTIONS = ("bidirectional", "unidirectional")
_PACKET_TYPES = {
    INIT: "initial",
    RETRY: "retry",
    HANDSHAKE: "handshake",
    RESET: "stateless_reset",
    VERSION: "version_negotiation",
}
_ERRORS: dict[int, str] = {
    CloseCode.NONE: "no_error",
    CloseCode.INTERNAL: "internal_error",
    CloseCode.PROTOCOL: "protocol_violation",
    CloseCode.FRAME: "frame_encoding_error",
    CloseCode.FLOW: "flow_control_error",
    CloseCode.STREAMS: "stream_limit_error",
    CloseCode.STREAM_STATE: "stream_state_error",
    CloseCode.FINAL_SIZE: "final_size_error",
    CloseCode.NOT_AUTHORIZED: "connection_refused",
    CloseCode.KEY_UPDATE: "key_update_error",
    CloseCode.KEY_LIMIT: "aead_limit_reached",
    CloseCode.CID_LIMIT: "connection_id_limit_error",
}


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
        self._sent = self._recovery_until = -1
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

    def handshake_packet(self, packet: LongPacket) -> None:
        """As `Tracer` has it."""
        header: dict[str, Any] = {
            "packet_type": _PACKET_TYPES.get(packet.packet_type, "unknown"),
            "version": f"{VERSION_1:x}",
            "scid": f"{packet.src_cid:016x}",
            "dcid": f"{packet.dst_cid:016x}",
        }
        data: dict[str, Any] = {"header": header, "raw": {"length": packet.size}}
        if packet.message_bytes:
            message = {"frame_type": "crypto", "offset": 0, "length": packet.message_bytes}
            data["frames"] = [message]
        if packet.token_bytes:
            token = {"type": "retry", "raw": {"length": packet.token_bytes}}
            if packet.packet_type == RETRY:
                data["retry_token"] = token
            else:
                header["token"] = token
        name = "transport:packet_sent" if packet.sent else "transport:packet_received"
        self._event(name, packet.now_ns, data)

    def packet_sent(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """As `Tracer` has it."""
        self._sent = number
        self._packet("transport:packet_sent", now_ns, number, size, frames)

    def packet_received(self, now_ns: int, number: int, size: int, frames: bytes) -> None:
        """As `Tracer` has it."""
        self._packet("transport:packet_received", now_ns, number, size, frames)

    def packet_lost(
        self, now_ns: int, number: int, size: int, *, overtaken: bool, probe: bool
    ) -> None:
        """As `Tracer` has it."""
        trigger = "reordering_threshold" if overtaken else "time_threshold"
        data: dict[str, Any] = {"header": _header(number), "trigger": trigger}
        if probe:
            data["is_mtu_probe_packet"] = True
        self._event("recovery:packet_lost", now_ns, data)

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
        threshold = getattr(controller, "threshold", None)
        if threshold is not None and threshold < inf:
            metrics["ssthresh"] = int(threshold)
        if controller.pacing_rate is not None:
            metrics["pacing_rate"] = controller.pacing_rate * 8
        state = self._congestion_state(recovery)
        changed = {
            name: value for name, value in metrics.items() if value != self._metrics.get(name)
        }
        if changed:
            self._metrics = metrics
            self._event("recovery:metrics_updated", now_ns, changed)
        if state != self._state:
            states = {"old": self._state, "new": state} if self._state else {"new": state}
            self._event("recovery:congestion_state_updated", now_ns, states)
            self._state = state

    def _congestion_state(self, recovery: Recovery) -> str:
        """By the controller's own word, if it has one; else by RFC 9002, section 7.3."""
        controller = recovery.controller
        own = getattr(controller, "state", None)
        if own is not None:
            return str(own)
        if controller.window < self._metrics.get("congestion_window", 0):
            self._recovery_until = self._sent
        if recovery.largest_acked <= self._recovery_until:
            return "recovery"
        return "slow_start" if controller.slow_start else "congestion_avoidance"

    def _packet(self, name: str, now_ns: int, number: int, size: int, data: bytes) -> None:
        try:
            frames = [_frame(frame) for frame in parse_frames(data)]
        except WireError:
            # A peer may seal anything.
            frames = [{"frame_type": "unknown", "frame_type_value": data[0] if data else 0}]
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
            }
            if frame.fin:
                found["fin"] = True
        case AckFrame():
            name = "ack"
            found = {"ack_delay": frame.delay_us / 1000, "acked_ranges": _ranges(frame)}
            if frame.ecn is not None:
                found |= zip(("ect0", "ect1", "ce"), frame.ecn, strict=True)
        case PaddingFrame(length):
            found = {"payload_length": length}
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
            found = {"limit": limit}
            if name == "stream_data_blocked":
                found["stream_id"] = stream_id
            elif name == "streams_blocked":
                found["stream_type"] = _DIRECTIONS[what - 2]
        case NewConnectionIDFrame():
            found = {
                "sequence_number": frame.sequence,
                "retire_prior_to": frame.retire_prior_to,
                "connection_id_length": 8,
                "connection_id": f"{frame.cid:016x}",
            }
        case RetireConnectionIDFrame(sequence):
            found = {"sequence_number": sequence}
        case CloseFrame(code, reason):
            space = "application" if code >= 256 else "transport"
            found = {
                "error_space": space,
                "error_code": _ERRORS.get(code, code),
                "error_code_value": code,
                "reason": reason,
            }
        case PathChallengeFrame(data) | PathResponseFrame(data):
            found = {"data": data.hex()}
    return {"frame_type": name or _snake(type(frame).__name__), **found}


def _ranges(frame: AckFrame) -> list[list[int]]:
    """The numbers acknowledged, lowest range first, both ends included."""
    low = frame.largest - frame.first + 1
    ranges = [[low, frame.largest]]
    for gap, length in frame.ranges:
        high = low - gap - 1
        low = high - length + 1
        ranges.append([low, high])
    # A range of one number has one number.
    return [found[: 1 + (found[0] < found[1])] for found in reversed(ranges)]


def _snake(name: str) -> str:
    """`MaxStreamDataFrame` as `max_stream_data`."""
    words = name.removesuffix("Frame").replace("ID", "Id")
    return "".join([f"_{each.lower()}" if each.isupper() else each for each in words])[1:]


_NAMES: dict[type[Frame], str] = {CloseFrame: "connection_close"}
