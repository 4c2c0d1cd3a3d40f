"""A run of questions: sends them, hears what comes, and knows when to wait no longer.

One turn, in this order: take in stamps of what was sent, then what came, settle what is
answered or overdue, send what may go. Whoever drives it sleeps until its descriptor is
readable or the time that `turn` answered has come; `drivers.ask` does, and `craft`.

Bounded: questions under way, answers kept of one, settled ones remembered.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import islice, takewhile
from random import SystemRandom
from typing import Literal, Self

from rawproto.capture.packet import CapturedPacket
from rawproto.drivers.send import (
    BURST,
    FULL_WAIT_NS,
    Outgoing,
    Pace,
    Sendable,
    Sender,
    each_of,
    wait_for_room,
)
from rawproto.errors import LinkError, RawprotoError, UsageError
from rawproto.link.base import Transmitted
from rawproto.link.bench import Heard
from rawproto.link.ports import reserve_port
from rawproto.packets.answers import Answer, Question, Questions
from rawproto.packets.distinguish import Distinguisher
from rawproto.wire.arp import ARPMessage
from rawproto.wire.dissect import RAW, Dissection, checksums, dissect
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer, Packet

__all__ = ["Asking"]

LARGEST_WINDOW = 65_536
READ_AT_ONCE = 256
MOST_ANSWERS = 4096
"""Kept of one question: whoever sends more of them is not heard."""


class Asking:
    """A run of questions; see `ask` for the arguments. `turn` drives it.

    Args:
        on_packet: called with each packet sent and each answer, as a capture has them.
        clock: monotonic ns.

    Attributes:
        sent: how many questions were sent.
        unsent: how many could not be sent, for nobody is at their next hop to take them.
        answered: how many got an answer, an error included.
        late: answers that came after their question was given up.
        duplicates: second and further answers to questions that one host answers.
        settled: those that nobody waits for any longer, to be taken out by the caller.
        offset_ns: what added to a monotonic time makes it nanoseconds since the epoch.
    """

    def __init__(
        self,
        packets: Sendable | Iterable[Sendable],
        *,
        timeout_ns: int = 10**9,
        interface: str | None = None,
        count: int = 1,
        interval_ns: int = 0,
        rate_pps: float | None = None,
        fill: bool = True,
        fragment_bytes: int | None = None,
        most_in_flight: int = 1024,
        wait_for: Literal["first", "all"] = "first",
        in_order: bool = False,
        on_packet: Callable[[CapturedPacket], None] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        if timeout_ns <= 0:
            raise UsageError("a time-out must be more than 0")
        if not 1 <= most_in_flight <= LARGEST_WINDOW:
            raise UsageError(f"most_in_flight must be 1 to {LARGEST_WINDOW}")
        if wait_for not in ("first", "all"):
            raise UsageError(f"wait_for {wait_for!r}: must be 'first' or 'all'")
        self.sent = self.unsent = self.answered = self.late = self.duplicates = 0
        self.settled: deque[Question] = deque()
        self._timeout_ns = timeout_ns
        self._window = most_in_flight
        self._wait_for_all = wait_for == "all"
        self._in_order = in_order
        self._on_packet = on_packet
        self._pace = Pace(interval_ns, rate_pps)
        self._items = each_of(packets, count)
        self._exhausted = False
        self._held: tuple[Question, Outgoing] | None = None
        self._full_until = 0
        self._failure: RawprotoError | None = None
        self._questions = Questions()
        # By number, in order of sending; told in order, settled ones stay behind unsettled ones.
        self._waiting: OrderedDict[int, Question] = OrderedDict()
        self._unstamped: dict[int, Question] = {}
        self._fill = fill
        self._ports: dict[tuple[str, int], socket.socket] = {}
        self._records: list[CapturedPacket] = []
        self._clock = clock
        self.offset_ns = time.time_ns() - clock()
        self._distinguisher = Distinguisher(self._port, SystemRandom())
        self._sender = Sender(interface, fill=fill, fragment_bytes=fragment_bytes, listen=True)

    @property
    def finished(self) -> bool:
        """Nothing more is to be sent or waited for."""
        return self._exhausted and not self._waiting

    @property
    def failure(self) -> RawprotoError | None:
        """What ended the sending before its time; what was under way has been waited for."""
        return self._failure

    @property
    def dropped(self) -> int:
        """Frames that this host dropped before we could read them: answers may be among them."""
        return self._sender.link.dropped

    def fileno(self) -> int:
        """Readable when a turn would find something."""
        return self._sender.link.fileno()

    def stop(self) -> None:
        """Sends no more and waits for nothing more: all that is under way is settled."""
        self._exhausted, self._held = True, None
        for question in list(self._waiting.values()):
            if not question.settled:
                self._settle(question)
        self._tell_settled()
        self._tell_records()

    def turn(self) -> int | None:
        """Takes in what came, settles what is due, sends what may go.

        Returns:
            When to take the next turn if nothing arrives, monotonic ns; None: finished.
        """
        try:
            stamps, heard = self._sender.link.receive(READ_AT_ONCE)
        except LinkError as error:  # the interface that all was to leave by is down or gone
            self._failure = self._failure or error
            self.stop()
            return None
        for each in stamps:
            self._stamp(each)
        for frame in heard:
            self._hear(frame)
        now_ns = self._clock()
        # Not before all that has come was heard: what is late is so by the time of this host.
        if len(heard) < READ_AT_ONCE:
            self._expire(now_ns)
        self._tell_records()
        sent_all = self._send_some()
        if self.finished:
            return None
        if not sent_all or len(heard) == READ_AT_ONCE or self._sender.link.failing:
            return now_ns
        due = [question.due_ns for question in islice(self._waiting.values(), 1)]
        if not self._exhausted and len(self._waiting) < self._window:
            due.append(now_ns + FULL_WAIT_NS if self._full_until else self._pace.due_ns)
        return min(due)

    def close(self) -> None:
        """Gives every descriptor back."""
        self._sender.close()
        for each in self._ports.values():
            each.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- out -----------------------------------------------------------------------------------

    def _send_some(self) -> bool:
        """Sends what may go now; whether that was all, and not only a burst of it."""
        for _ in range(BURST):
            if self._exhausted or len(self._waiting) >= self._window:
                return True
            if self._pace.interval_ns and self._pace.due_ns > self._clock():
                return True
            try:
                if not self._send_one():
                    return True
            except RawprotoError as error:
                self._failure, self._exhausted = error, True
        return self._exhausted

    def _send_one(self) -> bool:
        """Sends the next question; False where there is none, or it could not go now."""
        held, self._held = self._held, None
        if held is None:
            item = next(self._items, None)
            if item is None:
                self._exhausted = True
                return False
            held = self._prepare(item)
        question, outgoing = held
        try:
            question.sent_ns = self._sender.send(outgoing, question.number)
        except LinkError as error:
            if error.errno == errno.EHOSTUNREACH:
                self._give_up(question, error)
                return False  # looking for it took its time: others have their turn first
            self._full_until = wait_for_room(error, self._full_until)
            self._held = held
            return False
        self._full_until = 0
        self._pace.took(question.sent_ns)
        question.due_ns = question.sent_ns + self._timeout_ns
        self.sent += 1
        self._questions.add(question)
        self._waiting[question.number] = question
        self._unstamped[question.number] = question
        return True

    def _give_up(self, question: Question, error: LinkError) -> None:
        """Nobody is there to take it: it is settled in its turn, and the next one goes."""
        self._full_until = 0
        self.unsent += 1
        question.sent_ns = question.due_ns = self._clock()
        question.unsent, question.settled = str(error), True
        if self._in_order:
            self._waiting[question.number] = question
        else:
            self.settled.append(question)

    def _prepare(self, item: Sendable) -> tuple[Question, Outgoing]:
        if isinstance(item, Layer):
            item = Packet((item,))
        if self._fill and isinstance(item, Packet):
            item = self._distinguisher.distinguish(item)
        outgoing = self._sender.ready(item)
        question = Question(
            number=self.sent + self.unsent + 1,
            data=outgoing.data,
            link_type=outgoing.link_type,
            packet=outgoing.packet,
            group=outgoing.group,
            pieces=tuple(piece.data for piece in outgoing.fragments) or (outgoing.data,),
        )
        return question, outgoing

    def _port(self, kind: str, number: int) -> int:
        """A port of this host's that nobody else uses meanwhile, in both families."""
        known = self._ports.get((kind, number))
        if known is None:
            protocol: Literal["tcp", "udp"] = "tcp" if kind == "tcp" else "udp"
            try:
                known = reserve_port(protocol, "::")
            except LinkError:  # a host without IPv6
                known = reserve_port(protocol, "0.0.0.0")
            self._ports[kind, number] = known
        port: int = known.getsockname()[1]
        return port

    # -- in ------------------------------------------------------------------------------------

    def _stamp(self, stamp: Transmitted) -> None:
        question = self._unstamped.pop(stamp.token, None)
        if question is not None:
            question.sent_ns, question.tx_stamp = stamp.sent_ns, stamp.stamp_source
            self._record_question(question)

    def _hear(self, heard: Heard) -> None:
        frame = heard.frame
        match = self._questions.match(frame.data, heard.link_type)
        if match is None:
            return
        question = match.question
        # One capture has one link type where it can: that of what was sent.
        data, link_type = frame.data, heard.link_type
        if question.link_type == RAW:
            data, link_type = match.packet, RAW
        self._record(data, link_type, heard.received_ns, "in")
        if question.settled:
            if question.answers:
                self.duplicates += 1
            else:
                self.late += 1
            return
        if len(question.answers) >= MOST_ANSWERS:
            return
        if question.answers and not question.group and match.final:
            self.duplicates += 1
        found = dissect(frame.data, heard.link_type)
        verdicts = checksums(found) if frame.checksum_ready else []
        question.answers.append(
            Answer(
                kind=match.kind,
                found=found,
                src_addr=_sender_of(found),
                rtt_ns=max(0, heard.received_ns - question.sent_ns),
                tx_stamp=question.tx_stamp,
                rx_stamp=heard.stamp_source,
                received_ns=heard.received_ns,
                interface=frame.interface,
                link_type=heard.link_type,
                valid=all(right is not False for _, right in verdicts),
            )
        )
        if match.final and not question.group and not self._wait_for_all:
            self._settle(question)

    def _expire(self, now_ns: int) -> None:
        due = takewhile(lambda each: each.due_ns <= now_ns, self._waiting.values())
        for question in list(due):
            if not question.settled:
                self._settle(question)
        self._tell_settled()

    def _settle(self, question: Question) -> None:
        self._questions.settle(question)
        if self._unstamped.pop(question.number, None) is not None:
            # No stamp came: the time of the system call has to do.
            self._record_question(question)
        if question.answers:
            self.answered += 1
        if not self._in_order:
            del self._waiting[question.number]
            self.settled.append(question)

    def _tell_settled(self) -> None:
        """In order: those in front of which nobody waits any longer."""
        while self._in_order and self._waiting:
            number, question = next(iter(self._waiting.items()))
            if not question.settled:
                return
            del self._waiting[number]
            self.settled.append(question)

    def _record_question(self, question: Question) -> None:
        for piece in question.pieces:
            self._record(piece, question.link_type, question.sent_ns, "out")

    def _record(
        self, data: bytes, link_type: int, at_ns: int, direction: Literal["in", "out"]
    ) -> None:
        if self._on_packet is not None:
            self._records.append(
                CapturedPacket(
                    time_ns=at_ns + self.offset_ns,
                    data=data,
                    link_type=link_type,
                    direction=direction,
                )
            )

    def _tell_records(self) -> None:
        """In the order of their times: stamps of what was sent come after what it brought."""
        if self._on_packet is not None:
            for packet in sorted(self._records, key=lambda each: each.time_ns):
                self._on_packet(packet)
        self._records.clear()


def _sender_of(found: Dissection) -> str:
    for layer in found.layers:
        if isinstance(layer, IPv4Header | IPv6Header):
            return layer.src_addr
        if isinstance(layer, ARPMessage):
            return layer.sender_protocol_addr
    return ""
