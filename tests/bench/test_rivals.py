"""The flows that benches put side by side: what their link is, and what counts as goodput."""

from __future__ import annotations

import json

import pytest

from rawproto.lab.impairments import impairment, parse_change
from tests.bench.rpt_rivals import QUIC, _client_words, _goodput, _server_words, link_of


def test_link_has_half_the_rtt_each_way_and_a_queue_of_so_many_bdps() -> None:
    change = parse_change(link_of(100, 50, 1, 1))
    for direction in ("forward", "backward"):
        link = impairment(change.settings, direction)
        assert (link.rate_bps, link.delay_ns, link.loss) == (100_000_000, 25_000_000, 0.01)
        assert link.queue_packets == 100_000_000 // 8 // 20 // 1500
    shallow = impairment(parse_change(link_of(1, 1, 0.5)).settings, "forward")
    assert (shallow.queue_packets, shallow.loss) == (2, 0.0)


def test_goodput_is_what_the_receiver_saw() -> None:
    sums = {"sum_sent": {"bits_per_second": 9.0}, "sum_received": {"bits_per_second": 8.0}}
    assert _goodput("tcp cubic", json.dumps({"end": sums}).encode()) == 8.0
    lines = b'{"type":"interval","goodput_bps":3}\n{"type":"summary","goodput_bps":7}\n'
    assert _goodput("rpt bbr", lines) == 7.0


@pytest.mark.parametrize("name", ["rpt bbr", "tcp bbr", *QUIC])
def test_each_flow_has_a_server_and_a_client_of_its_kind(name: str) -> None:
    server = _server_words(name, "10.0.0.2", 5201)
    client = _client_words(name, "10.0.0.2", 5201, 2.0)
    assert server[0] == client[0]
    assert any("10.0.0.2" in word for word in client)
    if " " in name:
        assert name.split()[1] in client
        assert any("5201" in word for word in server)
    else:
        assert name in server
        assert name in client
