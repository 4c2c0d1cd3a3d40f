"""qlog records against draft-ietf-quic-qlog-quic-events-04, whose names qlog 0.3 has.

The tables are the draft's CDDL, as far as we write any of it: which fields there may be, of
which type, and which there must be (`!`).
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from typing import Any

import pytest

from rawproto.impair import Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.halfopen import UNDER_LOAD
from rawproto.transport.qlog import QlogTracer
from rawproto.wire.rpt_frames import CloseFrame, Frame, parse_frame
from tests.transport.pair import CLIENT, Pair, init_from
from tests.transport.vectors import FRAMES

MS = 1_000_000
HEX = r"(?:[0-9a-f]{2})*"

HEADER = {
    "packet_type!": r"initial|handshake|0RTT|1RTT|retry|version_negotiation|stateless_reset",
    "packet_number": int,
    "token": dict,
    "length": int,
    "version": r"[0-9a-f]+",
    "scid": HEX,
    "dcid": HEX,
}
PACKET = {"header!": HEADER, "frames": list, "raw": {"length": int}, "retry_token": dict}
EVENTS: dict[str, dict[str, Any]] = {
    "transport:packet_sent": PACKET,
    "transport:packet_received": PACKET,
    "recovery:packet_lost": {
        "header!": HEADER,
        "is_mtu_probe_packet": bool,
        "trigger!": "reordering_threshold|time_threshold|pto_expired",
    },
    "recovery:metrics_updated": {
        "min_rtt": float,
        "smoothed_rtt": float,
        "latest_rtt": float,
        "rtt_variance": float,
        "pto_count": int,
        "congestion_window": int,
        "bytes_in_flight": int,
        "ssthresh": int,
        "pacing_rate": int,
    },
    "recovery:congestion_state_updated": {"old": r"\w+", "new!": r"\w+"},
}
_DIRECTION = "bidirectional|unidirectional"
FRAME_FIELDS: dict[str, dict[str, Any]] = {
    "padding": {"payload_length!": int},
    "ping": {},
    "ack": {"ack_delay": float, "acked_ranges": list, "ect0": int, "ect1": int, "ce": int},
    "reset_stream": {"stream_id!": int, "error_code!": int, "final_size!": int},
    "stop_sending": {"stream_id!": int, "error_code!": int},
    "crypto": {"offset!": int, "length!": int},
    "stream": {"stream_id!": int, "offset!": int, "length!": int, "fin": bool},
    "max_data": {"maximum!": int},
    "max_stream_data": {"stream_id!": int, "maximum!": int},
    "max_streams": {"stream_type!": _DIRECTION, "maximum!": int},
    "data_blocked": {"limit!": int},
    "stream_data_blocked": {"stream_id!": int, "limit!": int},
    "streams_blocked": {"stream_type!": _DIRECTION, "limit!": int},
    "new_connection_id": {
        "sequence_number!": int,
        "retire_prior_to!": int,
        "connection_id_length": int,
        "connection_id!": HEX,
    },
    "retire_connection_id": {"sequence_number!": int},
    "path_challenge": {"data": HEX},
    "path_response": {"data": HEX},
    "connection_close": {
        "error_space": "transport|application",
        "error_code": object,
        "error_code_value": int,
        "reason": str,
    },
    "handshake_done": {},
    "unknown": {"frame_type_value!": int},
    # Not in this draft, whose frames may be more; so later ones have it (RFC 9221).
    "datagram": {"length": int},
}
TRANSPORT_ERRORS = {
    "no_error",
    "internal_error",
    "connection_refused",
    "flow_control_error",
    "stream_limit_error",
    "stream_state_error",
    "final_size_error",
    "frame_encoding_error",
    "connection_id_limit_error",
    "protocol_violation",
    "key_update_error",
    "aead_limit_reached",
}


def check(values: dict[str, Any], fields: dict[str, Any]) -> None:
    """That an object has the fields that it must have, and others only that it may have."""
    kinds = {name.rstrip("!"): kind for name, kind in fields.items()}
    assert values.keys() <= kinds.keys(), values
    assert {name[:-1] for name in fields if name.endswith("!")} <= values.keys(), values
    for name, value in values.items():
        kind = kinds[name]
        if isinstance(kind, dict):
            check(value, kind)
        elif isinstance(kind, str):
            assert re.fullmatch(kind, value), (name, value)
        else:
            assert isinstance(value, (int, float) if kind is float else kind), (name, value)


def check_frame(frame: dict[str, Any]) -> None:
    kind = frame["frame_type"]
    check(
        {name: value for name, value in frame.items() if name != "frame_type"}, FRAME_FIELDS[kind]
    )
    for found in frame.get("acked_ranges", []):
        assert len(found) == 1 or (len(found) == 2 and found[0] < found[1])
    assert frame.get("fin", True) is True
    code = frame.get("error_code")
    assert not isinstance(code, str) or code in TRANSPORT_ERRORS


def parsed(text: str) -> list[dict[str, Any]]:
    """The records of a JSON text sequence."""
    return [json.loads(record) for record in text.split("\x1e")[1:]]


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a trace, each checked."""
    head, *events = parsed(text)
    assert (head["qlog_version"], head["qlog_format"]) == ("0.3", "JSON-SEQ")
    for event in events:
        assert event.keys() == {"time", "name", "data"}
        check(event["data"], EVENTS[event["name"]])
        for frame in event["data"].get("frames", []):
            check_frame(frame)
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert not times or times[0] >= 0
    return events


def trace(config: Config, link: Impairment, size: int = 400_000) -> tuple[str, str]:
    """What both sides of a flow wrote."""
    network = Network(3, link, link)
    flow = Flow(network, size, config=config)
    ours, theirs = list[str](), list[str]()
    cid = flow.client.log_cid
    start_ns = flow.start_ns
    flow.client.trace(QlogTracer(ours.append, client=True, cid=cid, now_ns=start_ns))
    flow.server_tracer = QlogTracer(theirs.append, client=False, cid=cid, now_ns=start_ns)
    assert network.run(lambda: flow.ended, 60_000 * MS)
    return "".join(ours), "".join(theirs)


@pytest.mark.parametrize("congestion", ["newreno", "cubic", "bbr"])
def test_events_of_a_lossy_flow_have_the_draft_s_fields(congestion: str) -> None:
    link = Impairment(rate_bps=10_000_000, delay_ns=20 * MS, queue_packets=50, loss=0.03)
    for text in trace(Config(congestion=congestion), link):
        events = events_of(text)
        assert {event["name"] for event in events} >= {
            "transport:packet_sent",
            "transport:packet_received",
            "recovery:metrics_updated",
            "recovery:congestion_state_updated",
        }
        states = [
            event["data"] for event in events if event["name"].endswith("congestion_state_updated")
        ]
        assert "old" not in states[0]
        for before, after in pairwise(states):
            assert after["old"] == before["new"] != after["new"]


def test_states_of_a_window_are_those_of_rfc_9002() -> None:
    link = Impairment(rate_bps=10_000_000, delay_ns=20 * MS, queue_packets=20)
    ours, _ = trace(Config(congestion="newreno"), link, 1_500_000)
    new = [
        event["data"]["new"]
        for event in events_of(ours)
        if event["name"] == "recovery:congestion_state_updated"
    ]
    assert new[:3] == ["slow_start", "recovery", "congestion_avoidance"]
    assert set(new) == {"slow_start", "recovery", "congestion_avoidance"}


def types_of(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """(sent or received, packet type) of the handshake's packets."""
    found = []
    for event in events:
        kind = event["data"].get("header", {}).get("packet_type", "1RTT")
        if kind != "1RTT":
            found.append((event["name"].rpartition("_")[2], kind))
    return found


def test_both_sides_tell_of_the_handshake_although_the_listener_hears_of_it_last() -> None:
    link = Impairment(delay_ns=20 * MS)
    ours, theirs = trace(Config(), link, 1000)
    client, server = events_of(ours), events_of(theirs)
    assert types_of(client) == [
        ("sent", "initial"),
        ("received", "handshake"),
        ("sent", "handshake"),
    ]
    assert types_of(server) == [
        ("received", "initial"),
        ("sent", "handshake"),
        ("received", "handshake"),
    ]
    assert [event["time"] for event in client[:3]] == [0, 40, 40]
    assert [event["time"] for event in server[:3]] == [20, 20, 60]
    sizes = [event["data"]["raw"]["length"] for event in client[:3]]
    assert sizes == [event["data"]["raw"]["length"] for event in server[:3]]
    assert sizes[0] == 1200
    assert client[0]["data"]["frames"] == [{"frame_type": "crypto", "offset": 0, "length": 32}]
    assert client[0]["data"]["header"]["dcid"] == server[0]["data"]["header"]["dcid"]


def test_retry_and_what_it_proves_are_told_with_their_tokens() -> None:
    pair = Pair()
    for number in range(UNDER_LOAD):
        pair.server.receive([(init_from(pair, number), CLIENT, 0)], pair.now_ns)
    connection = pair.connect()
    written: list[str] = []
    tracer = QlogTracer(written.append, client=True, cid=connection.log_cid, now_ns=pair.now_ns)
    connection.trace(tracer)
    pair.run(0.1)
    events = events_of("".join(written))
    assert types_of(events)[:4] == [
        ("sent", "initial"),
        ("received", "retry"),
        ("sent", "initial"),
        ("received", "handshake"),
    ]
    token = events[1]["data"]["retry_token"]
    assert token["raw"]["length"] > 30
    assert events[2]["data"]["header"]["token"] == token
    assert "token" not in events[0]["data"]["header"]


@pytest.mark.parametrize(("name", "frame"), FRAMES, ids=lambda each: str(each)[:30])
def test_each_frame_has_the_draft_s_fields(name: str, frame: Frame) -> None:
    written: list[str] = []
    tracer = QlogTracer(written.append, client=True, cid=1, now_ns=0)
    tracer.packet_sent(5, 1, 100, frame.emit())
    ((told,),) = [event["data"]["frames"] for event in events_of("".join(written))]
    assert told["frame_type"] == {
        "ACK with ECN": "ack",
        "STREAM with FIN": "stream",
        "BLOCKED": "stream_data_blocked",
        "CLOSE": "connection_close",
    }.get(re.split(r" \w+=", name)[0], name.split()[0].lower())


def test_each_reason_to_close_has_a_name_of_the_draft_s_or_its_number() -> None:
    told = []
    for code in [*CloseCode, 256]:
        written: list[str] = []
        tracer = QlogTracer(written.append, client=True, cid=1, now_ns=0)
        tracer.packet_sent(5, 1, 100, CloseFrame(code, "why").emit())
        ((frame,),) = [event["data"]["frames"] for event in events_of("".join(written))]
        assert frame["error_code_value"] == code
        assert frame["error_space"] == ("application" if code == 256 else "transport")
        told.append(frame["error_code"])
    assert [code for code in told if isinstance(code, int)] == [
        CloseCode.MESSAGE,
        CloseCode.KIND,
        256,
    ]


def test_frames_that_nobody_can_read_are_unknown() -> None:
    written: list[str] = []
    tracer = QlogTracer(written.append, client=True, cid=1, now_ns=0)
    tracer.packet_received(5, 1, 100, b"\x77\0\0")
    ((told,),) = [event["data"]["frames"] for event in events_of("".join(written))]
    assert told == {"frame_type": "unknown", "frame_type_value": 0x77}
    with pytest.raises(ValueError, match="unknown frame type"):
        parse_frame(b"\x77\0\0", 0)
