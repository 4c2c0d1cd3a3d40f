"""What answers what, in both families; and what a stranger says is no answer.

The answers are built by scapy, so that our reading of them is not tested by our writing.
"""

from __future__ import annotations

import random

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrDestOpt,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.sctp import SCTP, SCTPChunkInit, SCTPChunkInitAck
from scapy.packet import Packet as Scapy
from scapy.packet import Raw

from rawproto.packets.answers import Match, Question, Questions
from rawproto.packets.clues import clues_of_answer, clues_of_request
from rawproto.wire.dissect import ETHERNET, RAW

ME, YOU, ROUTER = "10.0.0.1", "10.0.0.2", "10.0.0.254"
ME6, YOU6, ROUTER6 = "fd00::1", "fd00::2", "fd00::fe"
# With both addresses, so that scapy asks nobody on this machine's network for them.
FRAME = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


class Desk:
    """Questions asked, and what they get."""

    def __init__(self, *asked: Scapy, group: bool = False) -> None:
        self.questions = Questions(remembered=2)
        self.asked = [
            Question(
                number=number,
                data=bytes(packet),
                link_type=ETHERNET if isinstance(packet, Ether) else RAW,
                group=group,
            )
            for number, packet in enumerate(asked, 1)
        ]
        for question in self.asked:
            self.questions.add(question)

    def match(self, answer: Scapy) -> Match | None:
        """Of an answer that comes in a frame, as all do."""
        framed = answer if isinstance(answer, Ether) else FRAME / answer
        return self.questions.match(bytes(framed), ETHERNET)

    def answered(self, answer: Scapy) -> int | None:
        """The number of the question that this answers."""
        found = self.match(answer)
        return found and found.question.number


def echo(dst: str = YOU, number: int = 7, **fields: int) -> Scapy:
    if ":" in dst:
        return IPv6(src=ME6, dst=dst) / ICMPv6EchoRequest(id=77, seq=number)
    return IP(src=ME, dst=dst, **fields) / ICMP(id=77, seq=number)


def quoted(packet: Scapy, inside: int = 8, **fields: int) -> bytes:
    """As a router quotes it: with a TTL of 1, and as many bytes behind the IP header."""
    copy = packet.copy()
    if IP in copy:
        copy[IP].ttl = 1
        return bytes(copy)[: 20 + inside]
    copy[IPv6].hlim = 1
    return bytes(copy)[: 40 + inside]


def time_exceeded(packet: Scapy, inside: int = 8) -> Scapy:
    if IP in packet:
        return IP(src=ROUTER, dst=ME) / ICMP(type=11) / Raw(quoted(packet, inside))
    return IPv6(src=ROUTER6, dst=ME6) / ICMPv6TimeExceeded() / Raw(quoted(packet, inside))


PAIRS = {
    "echo": (echo(), IP(src=YOU, dst=ME) / ICMP(type=0, id=77, seq=7)),
    "echo of IPv6": (echo(YOU6), IPv6(src=YOU6, dst=ME6) / ICMPv6EchoReply(id=77, seq=7)),
    "timestamp": (
        IP(src=ME, dst=YOU) / ICMP(type=13, id=9, seq=3),
        IP(src=YOU, dst=ME) / ICMP(type=14, id=9, seq=3),
    ),
    "extended echo": (
        IP(src=ME, dst=YOU, proto=1) / Raw(bytes.fromhex("2a00000000090301")),
        IP(src=YOU, dst=ME, proto=1) / Raw(bytes.fromhex("2b00000000090304")),
    ),
    "extended echo of IPv6": (
        IPv6(src=ME6, dst=YOU6, nh=58) / Raw(bytes.fromhex("a000000000090301")),
        IPv6(src=YOU6, dst=ME6, nh=58) / Raw(bytes.fromhex("a100000000090304")),
    ),
    "SYN-ACK": (
        IP(src=ME, dst=YOU) / TCP(sport=4000, dport=80, flags="S", seq=100),
        IP(src=YOU, dst=ME) / TCP(sport=80, dport=4000, flags="SA", seq=9, ack=101),
    ),
    "RST": (
        IPv6(src=ME6, dst=YOU6) / TCP(sport=4000, dport=80, flags="S", seq=0xFFFFFFFF),
        IPv6(src=YOU6, dst=ME6) / TCP(sport=80, dport=4000, flags="RA", ack=0),
    ),
    "RST to an ACK": (
        IP(src=ME, dst=YOU) / TCP(sport=4000, dport=80, flags="A", seq=100, ack=555),
        IP(src=YOU, dst=ME) / TCP(sport=80, dport=4000, flags="R", seq=555),
    ),
    "UDP": (
        IP(src=ME, dst=YOU) / UDP(sport=4000, dport=9) / b"ping",
        IP(src=YOU, dst=ME) / UDP(sport=9, dport=4000) / b"pong",
    ),
    "UDP behind extension headers": (
        IPv6(src=ME6, dst=YOU6) / IPv6ExtHdrDestOpt() / UDP(sport=4000, dport=9),
        IPv6(src=YOU6, dst=ME6) / IPv6ExtHdrDestOpt() / UDP(sport=9, dport=4000),
    ),
    "DNS": (
        IP(src=ME, dst=YOU) / UDP(sport=4000, dport=53) / DNS(id=5, qd=DNSQR(qname="a.example")),
        IP(src=YOU, dst=ME) / UDP(sport=53, dport=4000) / DNS(id=5, qr=1, qd=DNSQR(qname="b")),
    ),
    "no DNS on DNS's port": (
        IP(src=ME, dst=YOU) / UDP(sport=4000, dport=53) / b"\x79Z\x47\xb1what is there",
        IP(src=YOU, dst=ME) / UDP(sport=53, dport=4000) / b"back",
    ),
    "SCTP": (
        IP(src=ME, dst=YOU) / SCTP(sport=4000, dport=9) / SCTPChunkInit(),
        IP(src=YOU, dst=ME) / SCTP(sport=9, dport=4000) / SCTPChunkInitAck(),
    ),
    "a protocol without ports": (
        IP(src=ME, dst=YOU, proto=253) / Raw(b"hello"),
        IP(src=YOU, dst=ME, proto=253) / Raw(b"hello yourself"),
    ),
    "ARP": (
        FRAME / ARP(op=1, psrc=ME, pdst=YOU),
        FRAME / ARP(op=2, psrc=YOU, pdst=ME),
    ),
    "ARP behind a VLAN tag": (
        FRAME / Dot1Q(vlan=7) / ARP(op=1, psrc=ME, pdst=YOU),
        FRAME / Dot1Q(vlan=7) / ARP(op=2, psrc=YOU, pdst=ME),
    ),
    "neighbor advertisement": (
        IPv6(src=ME6, dst="ff02::1:ff00:2", nh=58)
        / Raw(bytes((135, 0, 0, 0, 0, 0, 0, 0)) + bytes.fromhex("fd" + "00" * 14 + "02")),
        IPv6(src=YOU6, dst=ME6) / ICMPv6ND_NA(tgt=YOU6),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_reply_is_known(name: str) -> None:
    request, reply = PAIRS[name]
    found = Desk(request).match(reply)
    assert found is not None
    assert (found.question.number, found.kind, found.final) == (1, "reply", True)


def test_answer_to_one_is_none_to_another() -> None:
    different = [pair for name, pair in PAIRS.items() if "VLAN" not in name]
    desk = Desk(*(request for request, _ in different))
    answered = [desk.answered(reply) for _, reply in different]
    assert answered == list(range(1, len(different) + 1))


@pytest.mark.parametrize("name", PAIRS)
def test_own_packet_heard_again_is_no_answer(name: str) -> None:
    request, _ = PAIRS[name]
    assert Desk(request).match(request) is None


@pytest.mark.parametrize("inside", [8, 28, 200])
@pytest.mark.parametrize("name", [name for name in PAIRS if "ARP" not in name])
def test_error_that_quotes_the_request_is_known(name: str, inside: int) -> None:
    request, _ = PAIRS[name]
    behind = 8 if "extension" in name else 0
    found = Desk(request).match(time_exceeded(request, behind + inside))
    assert found is not None
    assert (found.question.number, found.kind, found.final) == (1, "error", True)


def test_error_that_quotes_nothing_behind_the_header_is_known_by_identification() -> None:
    desk = Desk(echo(id=1000), echo(number=8, id=1001))
    assert desk.answered(time_exceeded(echo(number=8, id=1001), inside=0)) == 2
    assert desk.answered(time_exceeded(echo(number=8, id=1002), inside=0)) is None


def test_equal_requests_are_told_apart_by_identification() -> None:
    probes = [
        IP(src=ME, dst=YOU, ttl=ttl, id=500 + ttl) / UDP(sport=4000, dport=9) for ttl in range(3)
    ]
    desk = Desk(*probes)
    for number in (2, 3, 1):
        assert desk.answered(time_exceeded(probes[number - 1])) == number


def test_equal_requests_of_tcp_are_told_apart_by_sequence_number() -> None:
    probes = [
        IPv6(src=ME6, dst=YOU6) / TCP(sport=4000, dport=80, flags="S", seq=seq)
        for seq in (100, 200)
    ]
    assert Desk(*probes).answered(time_exceeded(probes[1])) == 2
    reply = IPv6(src=YOU6, dst=ME6) / TCP(sport=80, dport=4000, flags="SA", ack=201)
    assert Desk(*probes).answered(reply) == 2


def test_equal_requests_are_answered_oldest_first() -> None:
    desk = Desk(*(IP(src=ME, dst=YOU) / UDP(sport=4000, dport=9) for _ in range(2)))
    reply = IP(src=YOU, dst=ME) / UDP(sport=9, dport=4000)
    first = desk.match(reply)
    assert first is not None
    assert first.question.number == 1
    desk.questions.settle(first.question)
    assert desk.answered(reply) == 2


def test_equal_requests_from_two_addresses_are_told_apart_by_these() -> None:
    asked = [IP(src=src, dst=YOU) / UDP(sport=4000, dport=9) for src in (ME, "10.0.0.7")]
    desk = Desk(*asked)
    assert desk.answered(IP(src=YOU, dst="10.0.0.7") / UDP(sport=9, dport=4000)) == 2
    assert desk.answered(IP(src=YOU, dst=ME) / UDP(sport=9, dport=4000)) == 1
    assert desk.answered(time_exceeded(asked[1])) == 2
    assert desk.answered(IP(src=YOU, dst="10.0.0.8") / UDP(sport=9, dport=4000)) is None


def test_answer_may_go_to_a_group() -> None:
    asked = IP(src=ME, dst=YOU) / UDP(sport=5353, dport=9)
    for group in ("224.0.0.251", "255.255.255.255"):
        assert Desk(asked).answered(IP(src=YOU, dst=group) / UDP(sport=9, dport=5353)) == 1
    nobody = IP(src="0.0.0.0", dst=YOU) / UDP(sport=68, dport=67)
    assert Desk(nobody).answered(IP(src=YOU, dst="10.0.0.9") / UDP(sport=67, dport=68)) == 1


def test_redirect_is_not_the_end() -> None:
    redirect = IP(src=ROUTER, dst=ME) / ICMP(type=5, code=1) / Raw(quoted(echo()))
    found = Desk(echo()).match(redirect)
    assert found is not None
    assert not found.final


def test_unreachable_and_too_big_of_ipv6_are_errors() -> None:
    for message in (ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=1280)):
        answer = IPv6(src=ROUTER6, dst=ME6) / message / Raw(quoted(echo(YOU6)))
        found = Desk(echo(YOU6)).match(answer)
        assert found is not None
        assert (found.kind, found.final) == ("error", True)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (echo(), IP(src=ROUTER, dst=ME) / ICMP(type=0, id=77, seq=7)),
        (echo(), IP(src=YOU, dst=ME) / ICMP(type=0, id=77, seq=8)),
        (echo(), IP(src=YOU, dst=ME) / ICMP(type=0, id=78, seq=7)),
        (echo(), time_exceeded(echo(dst="10.0.0.3"))),
        (PAIRS["SYN-ACK"][0], IP(src=YOU, dst=ME) / TCP(sport=80, dport=4000, flags="SA", ack=99)),
        (PAIRS["SYN-ACK"][0], IP(src=YOU, dst=ME) / TCP(sport=80, dport=4000, flags="R", seq=0)),
        (PAIRS["SYN-ACK"][0], IP(src=YOU, dst=ME) / TCP(sport=81, dport=4000, flags="SA", ack=101)),
        (
            PAIRS["SYN-ACK"][0],
            time_exceeded(IP(src=ME, dst=YOU) / TCP(sport=4000, dport=80, seq=666)),
        ),
        (PAIRS["RST to an ACK"][0], IP(src=YOU, dst=ME) / TCP(sport=80, dport=4000, flags="R")),
        (PAIRS["DNS"][0], IP(src=YOU, dst=ME) / UDP(sport=53, dport=4000) / DNS(id=6, qr=1)),
        (PAIRS["DNS"][0], IP(src=YOU, dst=ME) / UDP(sport=53, dport=4000) / DNS(id=5, qr=0)),
        (PAIRS["DNS"][0], IP(src=YOU, dst=ME) / UDP(sport=53, dport=4000) / b"x"),
        (PAIRS["ARP"][0], FRAME / ARP(op=2, psrc=ROUTER, pdst=ME)),
        (PAIRS["ARP"][0], FRAME / ARP(op=1, psrc=YOU, pdst=ME)),
    ],
)
def test_what_a_stranger_says_is_no_answer(request_: Scapy, answer: Scapy) -> None:
    assert Desk(request_).match(answer) is None


def test_anybody_may_answer_a_group() -> None:
    asked = echo(dst="224.0.0.1")
    reply = IP(src=YOU, dst=ME) / ICMP(type=0, id=77, seq=7)
    assert Desk(asked, group=True).answered(reply) == 1
    assert Desk(asked).answered(reply) is None


def test_first_fragment_of_an_answer_is_one() -> None:
    reply = IP(src=YOU, dst=ME, flags="MF") / ICMP(type=0, id=77, seq=7) / Raw(bytes(64))
    later = IP(src=YOU, dst=ME, frag=9, proto=1) / Raw(bytes(64))
    assert Desk(echo()).answered(reply) == 1
    assert Desk(echo()).answered(later) is None


def test_settled_question_is_remembered_for_a_while() -> None:
    desk = Desk(*(echo(number=number) for number in range(3)))
    for question in desk.asked:
        desk.questions.settle(question)  # two are remembered
    replies = [IP(src=YOU, dst=ME) / ICMP(type=0, id=77, seq=number) for number in range(3)]
    assert [desk.answered(reply) for reply in replies] == [None, 2, 3]


def test_nothing_is_left_of_what_is_forgotten() -> None:
    desk = Desk(*(request for request, _ in PAIRS.values()))
    for question in desk.asked:
        desk.questions.forget(question)
    assert desk.questions._by_key == {}


def test_any_bytes_are_read_without_complaint() -> None:
    rng = random.Random(4)
    whole = [
        bytes(FRAME / each if Ether not in each else each) for p in PAIRS.values() for each in p
    ]
    whole += [bytes(FRAME / time_exceeded(p[0])) for n, p in PAIRS.items() if "ARP" not in n]
    desk = Desk(*(request for request, _ in PAIRS.values()))
    for frame in whole:
        for end in range(len(frame)):
            desk.questions.match(frame[:end], ETHERNET)
            clues_of_request(frame[:end], ETHERNET)
            clues_of_answer(frame[14:end], RAW)
        for _ in range(15):
            damaged = bytearray(frame)
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            desk.questions.match(bytes(damaged), ETHERNET)
            clues_of_request(bytes(damaged), ETHERNET)
            clues_of_request(bytes(damaged[14:]), RAW)


def test_deep_tags_and_chains_end() -> None:
    tags = bytes(12) + bytes.fromhex("81000001") * 5000
    assert clues_of_answer(tags, ETHERNET) is None
    headers = (
        bytes.fromhex("6000000000003c40") + bytes(32) + bytes.fromhex("3c00000000000000") * 5000
    )
    assert clues_of_answer(headers, RAW) is None
