"""What is left of a TCP header in a capture of short packets."""

from __future__ import annotations

import pytest

from rawproto.packets.conversations import transport
from rawproto.packets.statistics import Statistics
from rawproto.wire.cut import cut_tcp
from rawproto.wire.dissect import RAW, dissect
from rawproto.wire.ethernet import EthernetHeader
from rawproto.wire.fragment import fragment_ipv4
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.summary import summary
from rawproto.wire.tcp import ACK, PSH, TCPHeader
from rawproto.wire.tcp_options import NoOperation, Timestamps

SEGMENT = TCPHeader(
    src_port=40000,
    dst_port=80,
    sequence_number=100,
    acknowledgment_number=7,
    flags=PSH | ACK,
    window=512,
    options=(NoOperation(), NoOperation(), Timestamps(tsval=1, tsecr=2)),
)
HEADER = IPv4Header(src_addr="192.0.2.1", dst_addr="192.0.2.2")
HEADER6 = IPv6Header(src_addr="2001:db8::1", dst_addr="2001:db8::2")
FRAME = (EthernetHeader() / HEADER / SEGMENT / bytes(100)).emit()


@pytest.mark.parametrize("kept", [54, 64, 65])
def test_ports_numbers_and_flags_are_told_where_only_options_are_cut(kept: int) -> None:
    line = summary(dissect(FRAME[:kept]))
    assert line == (
        "IP 192.0.2.1.40000 > 192.0.2.2.80: Flags [P.], seq 100:200, ack 7, win 512, length 100"
        f" [|ipv4, {len(FRAME) - kept} bytes missing]"
    )


def test_it_is_of_its_conversation_with_all_its_length() -> None:
    found = dissect(FRAME[:64])
    carried = transport(found)
    assert carried is not None
    assert (carried.src_addr, carried.header.dst_port) == ("192.0.2.1", 80)
    assert (carried.data, carried.length) == (b"", 100)
    statistics = Statistics()
    statistics.add(found, found, len(FRAME), 0)
    (conversation,) = statistics.tables["tcp"].all
    assert conversation.ends == ("192.0.2.1:40000", "192.0.2.2:80")
    assert "tcp" in statistics.protocols.inside["ethernet"].inside["ipv4"].inside


def test_ipv6_carries_it_too() -> None:
    found = dissect((HEADER6 / SEGMENT).emit()[:-4], RAW)
    header = cut_tcp(found)
    assert header is not None
    assert (header.src_port, header.data_offset, header.options) == (40000, 8, ())


def test_dissect_reads_it_no_more_than_before() -> None:
    found = dissect(FRAME[:64])
    assert TCPHeader not in found
    assert found.packet.emit() == FRAME[:64]


def test_what_is_whole_too_short_or_a_fragment_is_none() -> None:
    assert cut_tcp(dissect(FRAME)) is None
    assert cut_tcp(dissect(FRAME[:100])) is None
    assert cut_tcp(dissect(FRAME[:53])) is None
    assert cut_tcp(dissect(b"")) is None
    first = fragment_ipv4((HEADER / SEGMENT / bytes(100)).emit(), 64)[0]
    assert cut_tcp(dissect(first[:50], RAW)) is None
