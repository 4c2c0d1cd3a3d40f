"""RPT on the wire between two hosts, as scapy sees it: sealed, and with the key log open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet
from scapy.utils import checksum

from rawproto import lab
from rawproto.link.packet import ETH_P_IP, ETH_P_IPV6, Frame
from tests.live.peers import Peer, address_of, listening
from tests.live.pinging import Wire
from tests.rpt_scapy import RPT, KeyedReader, RPTLong

pytestmark = pytest.mark.live

QUESTION = b"the quick brown fox jumps over the lazy dog " * 20
ANSWER = b"nobody else has read this " * 20


class Cable(Wire):
    """All that is RPT or ICMP, but for the kernel's talk of neighbours and groups."""

    def wanted(self, frame: Frame) -> bool:
        data = frame.data[14:]
        if frame.ethertype == ETH_P_IP:
            return data[9] in (1, 253)
        if frame.ethertype != ETH_P_IPV6:
            return False
        return data[6] == 253 or (data[6] == 58 and data[40] < 130)


@pytest.fixture(scope="module")
def cable() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        yield network


def data_of(reader: KeyedReader, packets: list[Packet]) -> bytes:
    """What stream 0 carried in these packets, and a check that they all open."""
    pieces: dict[int, bytes] = {}
    for packet in packets:
        assert isinstance(packet.payload, RPT)
        frames = reader.read(packet.payload)
        assert (frames is None) == isinstance(packet.payload, RPTLong)
        for frame in frames.frames if frames else ():
            if frame.name in ("STREAM", "STREAM_FIN") and frame.stream_id == 0:
                pieces[frame.offset] = frame.data
    return b"".join([pieces[offset] for offset in sorted(pieces)])


@pytest.mark.parametrize("family", [4, 6])
def test_packets_are_well_formed_and_sealed_and_open_with_the_key_log(
    family: int, cable: lab.Network, tmp_path: Path
) -> None:
    left = Peer(cable.host("h1"), tmp_path / "left")
    right = Peer(cable.host("h2"), tmp_path / "right")
    address = address_of(right, "rpt", family)
    keys = tmp_path / "keys"
    with (
        Cable(right.host, "eth0") as there,
        Cable(left.host, "eth0") as back,
        listening(right, address) as listener,
    ):
        assert listener.stdin is not None
        listener.stdin.write(ANSWER)
        listener.stdin.close()
        listener.stdin = None
        words = ("connect", "--accept-new", "--keylog", str(keys), address)
        code, output, said = left.run(*words, data=QUESTION)
        assert (code, output) == (0, ANSWER), said
        assert listener.communicate(timeout=30)[0] == QUESTION
        read = IP if family == 4 else IPv6
        ways = [[read(frame.data[14:]) for frame in wire.frames(4)] for wire in (there, back)]
    ends = (left, right), (right, left)
    for packets, (src, dst) in zip(ways, ends, strict=True):
        for packet in packets:
            assert bytes(packet).find(b"quick brown") == bytes(packet).find(b"nobody else") == -1
            host = ("ipv4", "ipv6")[family == 6]
            assert (packet.src, packet.dst) == (getattr(src.host, host), getattr(dst.host, host))
            if family == 4:
                assert packet.proto == 253, "the kernels told each other nothing"
                assert packet.len == len(packet)
                assert checksum(bytes(packet)[: packet.ihl * 4]) == 0
                assert packet.flags == "DF"
                assert packet.ttl == 64
            else:
                assert packet.nh == 253, "the kernels told each other nothing"
                assert packet.plen == len(packet) - 40
                assert packet.hlim == 64
    reader = KeyedReader(keys.read_text())
    opening = [way.pop(0) for way in ways]  # INIT and HANDSHAKE tell of both directions
    assert [packet.payload.packet_type for packet in opening] == [0, 2]
    assert all(packet.payload.crc_is_right() for packet in opening)
    assert data_of(reader, opening) == b""
    assert [data_of(reader, way) for way in ways] == [QUESTION, ANSWER]
