"""Packets sorted into conversations."""

from __future__ import annotations

import pytest

from rawproto.packets.conversations import Conversation, Conversations, transport
from rawproto.wire.dissect import RAW, dissect
from rawproto.wire.fragment import fragment_ipv4
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.tcp import ACK, RST, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader

A, B = "192.0.2.1", "198.51.100.2"


def tcp(src_port: int, dst_port: int, flags: int, sequence_number: int = 1) -> TCPHeader:
    return TCPHeader(
        src_port=src_port, dst_port=dst_port, flags=flags, sequence_number=sequence_number
    )


def add(
    table: Conversations, src: str, dst: str, header: TCPHeader | UDPHeader | None = None
) -> tuple[Conversation, int]:
    known = table.add(src, dst, 0, header)
    assert known is not None
    return known


def test_both_directions_are_one_conversation_of_who_began_it() -> None:
    table = Conversations("tcp")
    there, side = add(table, A, B, tcp(40000, 80, SYN))
    back, other = add(table, B, A, tcp(80, 40000, SYN | ACK))
    assert there is back
    assert (side, other) == (0, 1)
    assert there.name == "tcp:0"
    assert there.ends == ("192.0.2.1:40000", "198.51.100.2:80")


def test_a_syn_ack_seen_first_answers_who_began() -> None:
    table = Conversations("tcp")
    conversation, side = add(table, B, A, tcp(80, 40000, SYN | ACK))
    assert side == 1
    assert conversation.src_addr == A
    assert add(table, A, B, tcp(40000, 80, ACK)) == (conversation, 0)


def test_a_syn_with_another_number_is_another_conversation_and_sent_again_is_none() -> None:
    table = Conversations("tcp")
    first, _ = add(table, A, B, tcp(40000, 80, SYN, 100))
    assert add(table, A, B, tcp(40000, 80, SYN, 100))[0] is first
    add(table, B, A, tcp(80, 40000, RST | ACK))
    second, _ = add(table, A, B, tcp(40000, 80, SYN, 200))
    assert second.number == 1
    assert add(table, B, A, tcp(80, 40000, SYN | ACK)) == (second, 1)
    third, side = add(table, B, A, tcp(80, 40000, SYN, 300))
    assert (third.number, third.src_addr, side) == (2, B, 0)


def test_a_syn_after_a_conversation_seen_from_its_middle_begins_another() -> None:
    table = Conversations("tcp")
    add(table, A, B, tcp(40000, 80, ACK, 500))
    assert add(table, A, B, tcp(40000, 80, SYN, 900))[0].number == 1


def test_who_talks_with_himself_has_one_conversation() -> None:
    table = Conversations("udp")
    header = UDPHeader(src_port=9, dst_port=9)
    assert add(table, A, A, header) == add(table, A, A, header)
    assert len(table.all) == 1


def test_what_there_is_no_room_for_is_counted() -> None:
    table = Conversations("ipv4", max_conversations=2)
    for number in range(5):
        table.add(A, f"10.0.0.{number}", 0)
    assert (len(table.all), table.untracked) == (2, 3)
    assert table.add("10.0.0.1", A, 0) == (table.all[1], 1)


def test_ends_of_ipv6_are_bracketed_before_a_port() -> None:
    table = Conversations("udp")
    conversation, _ = add(table, "fd00::1", "fd00::2", UDPHeader(src_port=1, dst_port=2))
    assert conversation.ends == ("[fd00::1]:1", "[fd00::2]:2")


@pytest.mark.parametrize("padding", [b"", bytes(18)])
def test_padding_is_no_payload(padding: bytes) -> None:
    packet = IPv4Header(src_addr=A, dst_addr=B) / TCPHeader(src_port=1, dst_port=2) / b"data"
    carried = transport(dissect(packet.emit() + padding, RAW))
    assert carried is not None
    assert (carried.data, carried.length) == (b"data", 4)


def test_what_the_capture_cut_off_counts_in_the_length() -> None:
    packet = IPv6Header(src_addr="fd00::1", dst_addr="fd00::2") / UDPHeader(dst_port=2) / bytes(99)
    carried = transport(dissect(packet.emit()[:58], RAW))
    assert carried is not None
    assert (carried.data, carried.length) == (bytes(10), 99)


def test_dns_is_payload_of_its_datagram() -> None:
    query = bytes.fromhex("0001 0100 0001 0000 0000 0000 0161 00 0001 0001".replace(" ", ""))
    packet = IPv4Header(src_addr=A, dst_addr=B) / UDPHeader(dst_port=53) / query
    carried = transport(dissect(packet.emit(), RAW))
    assert carried is not None
    assert carried.data == query


def test_a_tunnel_counts_by_its_inner_addresses() -> None:
    inner = IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2") / UDPHeader(dst_port=9) / b"x"
    carried = transport(dissect((IPv4Header(src_addr=A, dst_addr=B) / inner).emit(), RAW))
    assert carried is not None
    assert (carried.src_addr, carried.data) == ("10.0.0.1", b"x")


def test_neither_fragments_nor_other_protocols_carry_any() -> None:
    packet = (IPv4Header(src_addr=A, dst_addr=B) / UDPHeader(dst_port=9) / bytes(99)).emit()
    assert transport(dissect(fragment_ipv4(packet, 68)[0], RAW)) is None
    assert transport(dissect(IPv4Header(protocol=1).emit(bytes(8)), RAW)) is None
    assert transport(dissect(b"", RAW)) is None
