"""RPT in UDP, over loopback: whom an answer comes from."""

from __future__ import annotations

import select
import socket
from contextlib import closing

import pytest

from rawproto.link.rpt_carrier import Family
from rawproto.link.rpt_udp import UDPCarrier

PACKET = bytes(1200)


@pytest.mark.parametrize("addr", ["127.0.0.1", "127.0.0.5"])
def test_answer_comes_from_the_address_that_was_written_to(addr: str) -> None:
    """A socket that is connected takes packets of its peer alone, as a NAT and a firewall do."""
    with closing(UDPCarrier(4)) as carrier, socket.socket(type=socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.9", 0))
        client.connect((addr, carrier.port))
        client.settimeout(5)
        client.send(PACKET)
        assert select.select(carrier.filenos(), [], [], 5)[0]
        ((data, peer, _),) = carrier.receive(64)
        assert (data, peer) == (PACKET, client.getsockname())
        carrier.send(b"alone", peer, 2)
        assert client.recv(99) == b"alone"
        assert carrier.send_many([PACKET] * 3, peer) == 3
        assert [client.recv(1500) for _ in range(3)] == [PACKET] * 3


def test_marks_are_read_whether_or_not_it_is_asked_whom_a_packet_was_for() -> None:
    hosts: dict[Family, str] = {4: "127.0.0.1", 6: "::1"}
    for family, here in hosts.items():
        for bound in (here, ""):
            with (
                closing(UDPCarrier(family, bound)) as one,
                closing(UDPCarrier(family, here)) as two,
            ):
                for ecn in (0, 1, 2, 3):
                    two.send(PACKET, (here, one.port), ecn)
                assert select.select(one.filenos(), [], [], 5)[0]
                came = one.receive(64)
                assert [ecn for _, _, ecn in came] == [0, 1, 2, 3]
                one.send(b"back", came[0][1], 1)
                assert select.select(two.filenos(), [], [], 5)[0]
                assert two.receive(1) == [(b"back", (here, one.port), 1)]


def test_notes_about_peers_do_not_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rawproto.link.rpt_udp._MAX_PEERS", 8)
    with closing(UDPCarrier(4)) as carrier:
        for _ in range(30):
            with socket.socket(type=socket.SOCK_DGRAM) as client:
                client.sendto(PACKET, ("127.0.0.1", carrier.port))
        assert len(carrier.receive(64)) == 30
        assert len(carrier._local) <= 8
