"""The golden probes are those that rawproto's own machines lay out."""

from __future__ import annotations

from random import Random

import pytest

from rawproto.probe.echo import EchoBuilder
from rawproto.probe.flow import FlowPackets
from rawproto.probe.ping_events import PingConfig, PingTarget
from rawproto.probe.trace_events import TraceConfig
from tests.captures.golden import HOST_1, HOST_1_V6, HOST_2, HOST_2_V6
from tests.captures.make import CAPTURES
from tests.captures.packets_own import IDENTIFIER, NUMBER, PATTERN, PORT, SEQUENCE, SIZE, TTL

PROBES = [golden.captured for golden in CAPTURES["probes.pcap"].packets()]
FAMILIES = ((HOST_1, HOST_2), (HOST_1_V6, HOST_2_V6))


def test_pings_requests_are_the_golden_ones() -> None:
    builder = EchoBuilder(PingConfig(identifier=IDENTIFIER, payload=PATTERN), Random(0))
    made = [
        builder.build(PingTarget(name="", src_addr=src, dst_addr=dst), SEQUENCE, 1500, 0)
        for src, dst in FAMILIES
    ]
    assert made == [[PROBES[0]], [PROBES[1]]]


@pytest.mark.parametrize(("method", "first"), [("udp", 2), ("icmp", 4), ("tcp", 6)])
def test_traceroutes_probes_are_the_golden_ones(method: str, first: int) -> None:
    for (src, dst), golden in zip(FAMILIES, PROBES[first : first + 2], strict=True):
        config = TraceConfig(
            method=method,  # type: ignore[arg-type]
            src_addr=src,
            dst_addr=dst,
            src_port=PORT,
            dst_port=33434 if method == "udp" else 80,
        )
        assert FlowPackets(config, Random(0)).packet(NUMBER, TTL, SIZE) == golden
