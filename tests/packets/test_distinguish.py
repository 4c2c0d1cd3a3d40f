"""What tells answers apart is filled in where it was left out, and only there."""

from __future__ import annotations

from random import Random

from rawproto.packets.distinguish import Distinguisher
from rawproto.wire.dns import DNSMessage
from rawproto.wire.icmp import ICMPExtendedEcho, ICMPTimeExceeded
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Packet
from rawproto.wire.tcp import ACK, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader


def distinguisher() -> Distinguisher:
    return Distinguisher(lambda kind, number: {"tcp": 1000, "udp": 2000}[kind] + number, Random(4))


def test_echo_requests_count_on_under_one_identifier() -> None:
    numbers = distinguisher()
    made = [numbers.distinguish(IPv4Header() / ICMPEcho())[ICMPEcho] for _ in range(3)]
    assert [each.sequence_number for each in made] == [1, 2, 3]
    assert {each.identifier for each in made} == {numbers.identifier}
    assert numbers.distinguish(IPv6Header() / ICMPv6Echo())[ICMPv6Echo].sequence_number == 4


def test_sequence_numbers_of_extended_echo_have_eight_bits() -> None:
    numbers = distinguisher()
    made = [
        numbers.distinguish(IPv4Header() / ICMPExtendedEcho())[ICMPExtendedEcho] for _ in range(300)
    ]
    assert {each.sequence_number for each in made} == set(range(1, 256))


def test_what_is_given_stays() -> None:
    for packet in (
        IPv4Header() / ICMPEcho(identifier=5, sequence_number=6) / b"x",
        IPv4Header() / UDPHeader(src_port=7, dst_port=53) / DNSMessage(identifier=8),
        IPv4Header() / TCPHeader(src_port=7, flags=SYN, sequence_number=9),
        IPv4Header() / ICMPEcho(icmp_type=0),
        IPv4Header() / ICMPTimeExceeded(),
        IPv4Header() / UDPHeader(src_port=53) / DNSMessage(qr=True),
        IPv4Header() / b"anything",
    ):
        assert distinguisher().distinguish(packet) is packet


def test_equal_datagrams_get_ports_of_their_own() -> None:
    numbers = distinguisher()

    def port(dst_addr: str, dst_port: int) -> int:
        packet = IPv4Header(dst_addr=dst_addr) / UDPHeader(dst_port=dst_port)
        return numbers.distinguish(packet)[UDPHeader].src_port

    assert [port("10.0.0.2", 9) for _ in range(3)] == [2000, 2001, 2002]
    assert port("10.0.0.2", 10) == port("10.0.0.3", 9) == 2000
    assert len({port("10.0.0.2", 11) for _ in range(1000)}) == 64


def test_syn_gets_a_number_that_strangers_cannot_guess() -> None:
    numbers = distinguisher()
    made = [numbers.distinguish(IPv4Header() / TCPHeader(flags=SYN))[TCPHeader] for _ in range(9)]
    assert len({each.sequence_number for each in made}) == 9
    assert {each.src_port for each in made} == {1000}
    acknowledged = numbers.distinguish(IPv4Header() / TCPHeader(flags=ACK))[TCPHeader]
    assert acknowledged.sequence_number == 0


def test_query_gets_an_identifier() -> None:
    query: Packet = IPv4Header() / UDPHeader(src_port=5, dst_port=53) / DNSMessage()
    assert distinguisher().distinguish(query)[DNSMessage].identifier != 0
