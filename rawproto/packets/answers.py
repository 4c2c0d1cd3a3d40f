"""Which packet an arrived one answers: questions that wait, and what is said to them.

An answer is a reply (an echo reply, a SYN-ACK or RST, a datagram from the port asked, an
ARP reply, a neighbour advertisement, ...) or an ICMP error that quotes the question. It is
known by the keys of `clues`; where several questions have the same key, and where a
stranger could have guessed it, it must also be plausible:

- it goes to the address that the question came from, or to a group;
- a TCP segment acknowledges what was sent (RFC 9293 section 3.10.7), a quoted one has
  the sequence number that was sent;
- a DNS response has the identifier of the query (RFC 1035, RFC 5452);
- of equal questions it is the one with the identification quoted, else the oldest that
  has no answer yet.

It knows no sockets; times are arguments. Nothing raises, whatever arrives.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from rawproto.machine import StampSource
from rawproto.packets.clues import (
    ACK,
    DNS_PORTS,
    FIN,
    RST,
    SYN,
    TCP,
    UDP,
    Clues,
    Key,
    clues_of_answer,
    clues_of_request,
)
from rawproto.wire.dissect import Dissection
from rawproto.wire.layer import Packet

__all__ = ["Answer", "Question", "Questions"]

_PASSING_ERRORS = (4, 5)
"""ICMP source quench and redirect: the packet itself goes on, an answer may still come."""


@dataclass(slots=True, kw_only=True)
class Answer:
    """What came back.

    Attributes:
        kind: `reply`, or `error` for an ICMP error that quotes the request.
        found: the packet, dissected; `found.packet` is its layers, `found.data` its bytes.
        src_addr: who sent it: an IP address, or a MAC address where it has none (ARP).
        rtt_ns: from the request's transmit stamp to the receive stamp.
        tx_stamp: who took the first, the kernel or this process.
        rx_stamp: who took the second.
        received_ns: when it arrived, monotonic.
        interface: index of the interface it came by.
        link_type: what `found.data` begins with.
        valid: False where a checksum in it is wrong; a host would not take it.
    """

    kind: Literal["reply", "error"]
    found: Dissection
    src_addr: str
    rtt_ns: int
    tx_stamp: StampSource
    rx_stamp: StampSource
    received_ns: int
    interface: int = 0
    link_type: int = 1
    valid: bool = True

    @property
    def packet(self) -> Packet:
        """Its layers, outermost first."""
        return self.found.packet


@dataclass(slots=True, kw_only=True, eq=False)
class Question:
    """A packet of ours that may be answered.

    Attributes:
        number: counts from 1.
        data: as sent, from the first byte of `link_type` on.
        link_type: what it begins with.
        packet: its layers; None where only bytes are known.
        pieces: what was sent: `data`, or the fragments that it was cut into.
        group: whether more than one host may answer.
        sent_ns: when it left, monotonic.
        tx_stamp: who says so.
        due_ns: until when to wait for answers.
        answers: so far.
        unsent: why it never left, "" if it did.
        settled: nobody waits any longer.
        clues: by what its answers are known.
    """

    number: int
    data: bytes
    link_type: int
    packet: Packet | None = None
    pieces: tuple[bytes, ...] = ()
    group: bool = False
    sent_ns: int = 0
    tx_stamp: StampSource = "user"
    due_ns: int = 0
    answers: list[Answer] = field(default_factory=list)
    unsent: str = ""
    settled: bool = False
    clues: Clues = field(init=False)

    def __post_init__(self) -> None:
        self.clues = clues_of_request(self.data, self.link_type, group=self.group)


@dataclass(slots=True, kw_only=True)
class Match:
    """Which question an arrived packet answers.

    Attributes:
        question: that one.
        kind: how.
        final: False where an answer may still come: after a redirect.
        packet: the arrived one, from its IP header (or ARP message) on.
    """

    question: Question
    kind: Literal["reply", "error"]
    final: bool
    packet: bytes


class Questions:
    """Those that wait for an answer, and the latest of those that did.

    Args:
        remembered: how many settled ones are still known, to count late and second answers.
    """

    def __init__(self, *, remembered: int = 4096) -> None:
        self._by_key: dict[Key, list[Question]] = {}
        self._settled: deque[Question] = deque()
        self._remembered = remembered

    def add(self, question: Question) -> None:
        """It was sent, or is about to be."""
        for key in question.clues.keys:
            self._by_key.setdefault(key, []).append(question)

    def settle(self, question: Question) -> None:
        """Nobody waits for it any longer."""
        question.settled = True
        self._settled.append(question)
        if len(self._settled) > self._remembered:
            self.forget(self._settled.popleft())

    def forget(self, question: Question) -> None:
        """It is known no longer."""
        for key in question.clues.keys:
            waiting = self._by_key.get(key, [])
            if question in waiting:
                waiting.remove(question)
                if not waiting:
                    del self._by_key[key]

    def match(self, data: bytes, link_type: int) -> Match | None:
        """The question that an arrived frame answers, None where it answers none."""
        if not self._by_key:
            return None
        clues = clues_of_answer(data, link_type)
        if clues is None or not clues.kind:
            return None
        for key in clues.keys:
            candidates = [
                each for each in self._by_key.get(key, ()) if _plausible(each.clues, clues)
            ]
            if candidates:
                question = min(candidates, key=lambda each: _preference(each, clues))
                passing = clues.data[0] >> 4 == 4 and clues.icmp_type in _PASSING_ERRORS
                return Match(
                    question=question, kind=clues.kind, final=not passing, packet=clues.data
                )
        return None


def _preference(question: Question, answer: Clues) -> tuple[bool, bool, bool, int]:
    """Sorts equal questions by how likely the answer is theirs; the smallest is the likeliest."""
    other_packet = bool(
        answer.identification and question.clues.identification != answer.identification
    )
    return other_packet, question.settled, bool(question.answers), question.number


def _plausible(request: Clues, answer: Clues) -> bool:
    """Whether an answer with a key of a request is indeed one to it."""
    if answer.data == request.data:
        return False  # our own packet, heard on a loopback
    inside, asked = answer.inside, request.inside
    if any(request.src_addr) and not _concerns(request, answer):
        return False
    if answer.kind == "error":
        if answer.protocol >= 0 and answer.protocol != request.protocol:
            return False
        if request.protocol == TCP and len(inside) >= 8 and len(asked) >= 8:
            return inside[4:8] == asked[4:8]
        return True
    if request.protocol == TCP:
        return _plausible_segment(asked, inside)
    if request.protocol == UDP and int.from_bytes(asked[2:4], "big") in DNS_PORTS:
        # One question or a few, and nothing answered yet: else something else uses the port.
        is_query = len(asked) >= 20 and not asked[10] & 0x80
        is_query = is_query and asked[12] == 0 < asked[13] and asked[14:16] == b"\0\0"
        responds = len(inside) >= 20 and inside[10] & 0x80 and inside[8:10] == asked[8:10]
        return not is_query or bool(responds)
    return True


def _concerns(request: Clues, answer: Clues) -> bool:
    """Whether it goes to whom the request came from, or to a group; an error quotes him."""
    if answer.kind == "error":
        return answer.src_addr == request.src_addr
    to = answer.dst_addr
    return to == request.src_addr or to[0] >= (0xE0 if len(to) == 4 else 0xFF)


def _plausible_segment(asked: bytes, segment: bytes) -> bool:
    """Whether a TCP segment is what a host would say to ours."""
    if len(segment) < 20 or len(asked) < 20:
        return False
    flags, sent = segment[13], asked[13]
    if flags & ACK:
        sequence_number = int.from_bytes(asked[4:8], "big")
        length = max(0, len(asked) - (asked[12] >> 4) * 4)
        length += bool(sent & SYN) + bool(sent & FIN)
        acknowledged = int.from_bytes(segment[8:12], "big") - sequence_number & 0xFFFFFFFF
        return acknowledged <= length and (acknowledged > 0 or not length)
    # A reset of what carried an acknowledgment has that as its sequence number.
    return bool(flags & RST and sent & ACK) and segment[4:8] == asked[8:12]
