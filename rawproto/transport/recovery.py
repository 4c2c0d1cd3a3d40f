"""What was sent and not acknowledged yet: RTT, losses, probe time-outs (read RFC 9002).

A packet sent is a plain tuple, because there is one for each::

    (burst, size, stream, start, end, rest)
      |       |     `------+-----'     `- what else was in it, for `feedback` to judge; or None
      |       |            `- data of a stream: which part, of which sending buffer; or None, 0, 0
      |       `- bytes of the packet; 0 if it is not in flight (only ACKs)
      `- Burst: when it left, and how delivery stood then, shared by all packets of one turn

`Recovery` decides which packets are acknowledged and which are lost, and tells the
congestion controller. What that means for streams is the business of `feedback`. Of one
path it keeps one state; a change of path begins anew.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from rawproto.transport.congestion import Acked, Burst, Controller, Lost
from rawproto.transport.ecn import ECN
from rawproto.transport.rtt import GRANULARITY_NS, MAX_PTO_NS, RTT
from rawproto.transport.trace import Tracer

__all__ = ["Recovery", "Sent"]

Sent = tuple[Burst, int, Any, int, int, Any]

PACKET_THRESHOLD = 3
_PERSISTENT_PTOS = 3
_SECOND_NS = 1_000_000_000
_TELL_NS = 25_000_000


class Recovery:
    """The sender's memory.

    Args:
        controller: of congestion.

    Attributes:
        rtt: of the path.
        controller: as given.
        sent: packet number -> what was sent, oldest first; neither acknowledged nor lost.
        in_flight: bytes of those.
        delivered: bytes acknowledged so far.
        lost: bytes lost so far, but for those of probes.
        app_limited_until: what `delivered` has to pass before a lack of data shows no more.
        largest_acked: highest packet number acknowledged, -1 for none.
        pto_count: probe time-outs since something was acknowledged.
        loss_ns: when a packet will count as lost, None for never.
        last_eliciting_ns: when the last packet that wants an ACK was sent.
        asked_ns: since when something is in flight, if there is.
        lost_packets: how many were lost so far.
        spurious_packets: how many of those came after all.
        skipped: the packet numbers that were last left out on purpose.
        tracer: told of what happens to packets, on this half of the connection and the other.
        ecn: whether the path takes marked packets.
        alone: number of the last packet that left alone with data of one stream, -1 for none.
    """

    def __init__(self, controller: Controller) -> None:
        self.rtt = RTT()
        self.controller = controller
        self.sent: dict[int, Sent] = {}
        self.in_flight = 0
        self.delivered = 0
        self.lost = 0
        self.app_limited_until = -1
        self.largest_acked = -1
        self.pto_count = 0
        self.loss_ns: int | None = None
        self.last_eliciting_ns = 0
        self.asked_ns = 0
        self.lost_packets = 0
        self.spurious_packets = 0
        self.skipped: list[int] = []
        self.tracer: Tracer | None = None
        self.ecn = ECN()
        self.alone = -1
        self._delivered_ns = 0
        self._first_sent_ns = 0
        self._first_sample_ns: int | None = None
        # Declared lost, and perhaps still to come; in the order of their numbers.
        self._lost: list[tuple[int, Sent]] = []
        self._spurious_round = False
        self.untold = 0  # bytes that arrived alone, of which the controller has not heard
        self.told_rtt = self.tell_ns = 0

    def burst(self, now_ns: int, app_limited: bool) -> Burst:
        """What the packets that are sent now have in common."""
        if self.app_limited_until >= self.delivered:
            app_limited = True
        if not self.in_flight:
            self._delivered_ns = self._first_sent_ns = self.asked_ns = now_ns
            if app_limited:
                self.controller.on_restart(now_ns)
        return Burst(
            now_ns,
            self.delivered,
            self._delivered_ns,
            self._first_sent_ns,
            app_limited,
            self.lost,
            self.in_flight,
            self.ecn.mark > 0,
        )

    def begin_path(self, controller: Controller) -> None:
        """Packets go by another path from now on (RFC 9000 section 9.4).

        Those under way may still be acknowledged, and are found lost by what the new path
        acknowledges; they say nothing of it, and take no room in its window.
        """
        self.rtt = RTT()
        self.controller = controller
        self.ecn.begin()
        self.in_flight = 0
        self.alone = -1
        self.untold = self.tell_ns = 0
        self.pto_count = 0
        self.loss_ns = self._first_sample_ns = None
        self._lost.clear()
        self._spurious_round = False
        for number, packet in self.sent.items():
            burst, _, stream, start, end, rest = packet
            self.sent[number] = burst, 0, stream, start, end, None if _is_probe(packet) else rest

    def on_refused(self, limit: int) -> None:
        """Nothing larger than this passes: probes that were take no room in the window any more.

        The first one may be as large as a loopback carries, and more than the window has.
        """
        for number, packet in self.sent.items():
            if packet[1] > limit and _is_probe(packet):
                burst, size, stream, start, end, _ = packet
                self.sent[number] = burst, 0, stream, start, end, None
                self.in_flight -= size

    def on_sent(self, burst: Burst | None, app_limited: bool) -> None:
        """A turn of sending is over: what left, and whether it ended for want of data."""
        if burst is not None:
            burst.in_flight = self.in_flight
        if app_limited:
            self.app_limited_until = self.delivered + self.in_flight

    def on_acked(
        self, ranges: Sequence[tuple[int, int]], ack_delay_ns: int, now_ns: int, limited: bool
    ) -> tuple[list[Sent], list[Sent]]:
        """Takes in an ACK.

        Args:
            ranges: (first, past the last) packet numbers acknowledged, highest first.
            ack_delay_ns: how long the peer says that it held the highest one's.
            now_ns: when the ACK came.
            limited: the window is what keeps this side from sending.

        Returns:
            The packets that it acknowledges for the first time, those of each range upwards and
            those among them that were thought lost; and those that it shows lost.
        """
        sent, acked = self.sent, []
        before = self.in_flight
        size, newest, latest = 0, -1, None
        # Nearly all of what is in an ACK was in the last one too: look at what is left.
        oldest = next(iter(sent), 1 << 62)
        # Upwards, so that what was sent in a row is told in a row.
        kept: list[int] = []
        for start, end in reversed(ranges):
            first = start if start > oldest else oldest
            named: Sequence[int] = range(first, end)
            if end - first > len(sent):  # of ACKs that were not kept, a million perhaps
                kept = kept or list(sent)
                named = kept[bisect_left(kept, first) : bisect_left(kept, end)]
            for number in named:
                packet = sent.pop(number, None)
                if packet is not None:
                    acked.append(packet)
                    size += packet[1]
                    newest, latest = number, packet
            if self._lost:
                acked += self._note_late(start, end)
        if latest is None:
            return acked, []
        self.in_flight -= size
        self.delivered += size
        self.pto_count = 0
        burst = latest[0]
        rtt_ns = None
        if newest > self.largest_acked:
            self.largest_acked = newest
            if size:  # ACKs alone are acknowledged whenever something else is (section 5.1)
                rtt_ns = now_ns - burst.sent_ns
                self.rtt.on_sample(rtt_ns, ack_delay_ns)
                if self._first_sample_ns is None:
                    self._first_sample_ns = now_ns
        self._delivered_ns, self._first_sent_ns = now_ns, burst.sent_ns
        self.loss_ns = None
        lost = self._find_lost(now_ns) if sent else []
        if size:
            interval = now_ns - burst.delivered_ns
            sending = burst.sent_ns - burst.first_sent_ns
            if sending > interval:
                interval = sending
            gained = self.delivered - burst.delivered
            rate = gained * _SECOND_NS // interval if interval > 0 else 0
            rtt = self.rtt
            size += self.untold
            self.untold = 0
            self.controller.on_acked(
                Acked(
                    now_ns,
                    size,
                    before,
                    burst,
                    rtt_ns,
                    rtt.smoothed_rtt,
                    rtt.min_rtt,
                    self.delivered,
                    rate,
                    limited,
                    self.in_flight,
                    self.lost,
                )
            )
        return acked, lost

    def only_alone(self, start: int) -> bool:
        """Whether the packet `alone` is the only one that is left, and an ACK of all numbers from
        `start` up to it tells nothing of others."""
        return self.floor < start <= self.alone > self.largest_acked and len(self.sent) == 1

    @property
    def usual_rtt(self) -> tuple[int, int]:
        """From where and up to where, in ns, an RTT changes nothing that a timer could tell;
        (0, 0) if all may."""
        smoothed = self.rtt.smoothed_rtt
        if 4 * self.rtt.rttvar > GRANULARITY_NS:
            return 0, 0
        return smoothed - GRANULARITY_NS, smoothed + GRANULARITY_NS

    @property
    def floor(self) -> int:
        """The highest number that an ACK cannot name as a matter of course: left out or lost."""
        return max(
            self.skipped[-1] if self.skipped else -1,
            self._lost[-1][0] if self._lost else -1,
        )

    def on_left_alone(self, sent_ns: int) -> None:
        """What `burst` notes and tells of a packet that left so with nothing under way."""
        self._delivered_ns = self._first_sent_ns = self.asked_ns = sent_ns
        self.controller.on_restart(sent_ns)

    def on_alone_acked(self, packet: Sent, ack_delay_ns: int, now_ns: int) -> None:
        """The packet `alone`, the only one that was left, arrived. See `on_acked`.

        Of a path that carries single packets to and fro, each tells what the last one told. So
        the controller hears of one in 25 ms and of each that took less time than that one; the
        RTT's estimates hear of those that are not as all others (`usual_rtt`) too.
        """
        burst, size = packet[0], packet[1]
        rtt_ns, (least, most) = now_ns - burst.sent_ns, self.usual_rtt
        if now_ns >= self.tell_ns or rtt_ns < self.told_rtt:
            self.told_rtt, self.tell_ns = rtt_ns, now_ns + _TELL_NS
            self.on_acked(((self.alone, self.alone + 1),), ack_delay_ns, now_ns, False)
            return
        if not least <= rtt_ns < most:
            self.rtt.on_sample(rtt_ns, ack_delay_ns)
        self.largest_acked = self.alone
        del self.sent[self.alone]
        self.in_flight = 0
        self.delivered += size
        self.untold += size
        self.pto_count = 0
        self._delivered_ns, self._first_sent_ns = now_ns, burst.sent_ns
        self.loss_ns = None

    def _note_late(self, start: int, end: int) -> list[Sent]:
        """What was thought lost has come: if all of it has, the response to it is taken back."""
        lost = self._lost
        # Asked for each range of each ACK; a peer decides how many those are, and how wide.
        first, past = bisect_left(lost, (start,)), bisect_left(lost, (end,))
        if first == past:
            return []
        late = [packet for _, packet in lost[first:past]]
        del lost[first:past]
        self.spurious_packets += len(late)
        if not lost and self._spurious_round:
            self._spurious_round = False
            self.controller.on_spurious()
        return late

    def _find_lost(self, now_ns: int) -> list[Sent]:
        """Packets sent so long, or so many packets, before one that came (RFC 9002 section 6.1)."""
        self.loss_ns = None
        delay = self.rtt.loss_delay
        horizon = now_ns - delay
        lost: list[tuple[int, Sent]] = []
        for number, packet in self.sent.items():
            if number >= self.largest_acked:
                break
            sent_ns = packet[0].sent_ns
            if number <= self.largest_acked - PACKET_THRESHOLD or sent_ns <= horizon:
                lost.append((number, packet))
            else:
                self.loss_ns = sent_ns + delay
                break
        if lost:
            self._on_lost(lost, now_ns)
        return [packet for _, packet in lost]

    def _on_lost(self, lost: list[tuple[int, Sent]], now_ns: int) -> None:
        size = 0
        for number, packet in lost:
            del self.sent[number]
            size += packet[1]
            if packet[1]:
                self._lost.append((number, packet))
        self.in_flight -= size
        self.lost_packets += len(lost)
        if self.tracer is not None:
            for number, packet in lost:
                overtaken = number <= self.largest_acked - PACKET_THRESHOLD
                self.tracer.packet_lost(
                    now_ns, number, packet[1], overtaken=overtaken, probe=_is_probe(packet)
                )
        counted = [packet for _, packet in lost if packet[1] and not _is_probe(packet)]
        if not counted:
            return
        self._spurious_round = True
        gone = sum([packet[1] for packet in counted])
        self.lost += gone
        self.controller.on_lost(
            Lost(now_ns, gone, counted[-1][0], self.in_flight, self.rtt.min_rtt, self.lost)
        )
        self._forget_late(now_ns)
        if self._persistent(lost):
            self._spurious_round = False
            self.controller.on_persistent_congestion()

    def _forget_late(self, now_ns: int) -> None:
        """What was lost 3 PTO ago will not come any more."""
        horizon = now_ns - 3 * self.rtt.pto
        past = 0
        for _, packet in self._lost:
            if packet[0].sent_ns > horizon:
                break
            past += 1
        if past:
            del self._lost[:past]
            self._spurious_round = False

    def _persistent(self, lost: list[tuple[int, Sent]]) -> bool:
        """Whether an unbroken run of losses lasted for 3 PTO (RFC 9002 section 7.6)."""
        if self._first_sample_ns is None:
            return False
        span = _PERSISTENT_PTOS * self.rtt.pto
        start, previous = 0, -2
        for number, packet in lost:
            sent_ns = packet[0].sent_ns
            if sent_ns < self._first_sample_ns:
                continue
            # A number that is missing was acknowledged, or left out on purpose.
            missing = number - previous - 1
            if missing > (number - 1 in self.skipped):
                start = sent_ns
            previous = number
            if sent_ns - start > span:
                return True
        return False

    def on_ce(self, now_ns: int, acked: Sequence[Sent]) -> None:
        """Some of these packets were marked CE on their way, as the peer says."""
        burst = max([packet[0] for packet in acked], key=lambda burst: burst.sent_ns)
        lost = Lost(now_ns, 0, burst, self.in_flight, self.rtt.min_rtt, self.lost)
        self.controller.on_lost(lost)

    def on_loss_timeout(self, now_ns: int) -> list[Sent]:
        """The time of `loss_ns` has come: the packets that are lost now."""
        lost = self._find_lost(now_ns)
        self.tell(now_ns)
        return lost

    def tell(self, now_ns: int) -> None:
        """Whoever traces sees what has become of RTT, window and what is in flight."""
        if self.tracer is not None:
            self.tracer.metrics_updated(now_ns, self)

    def pto_ns(self) -> int | None:
        """When to send a probe because no ACK came; None with nothing in flight."""
        if not self.in_flight:
            return None
        if not self.pto_count:
            return self.last_eliciting_ns + self.rtt.pto
        return self.last_eliciting_ns + min(self.rtt.pto << min(self.pto_count, 10), MAX_PTO_NS)

    def oldest(self) -> Sent | None:
        """The oldest packet in flight."""
        return next((packet for packet in self.sent.values() if packet[1]), None)


def _is_probe(packet: Sent) -> bool:
    """Whether a packet only tried a larger size: its loss is no sign of congestion."""
    rest = packet[5]
    return bool(rest) and rest[0][0] == "probe"
