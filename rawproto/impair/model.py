"""One direction of an impaired link, in integer nanoseconds.

::

    offer -> mtu -> [ queue | | | ] -> sender -> wire ----------------> deliver
              |          |             rate_bps  delay, jitter, loss,
            too big    full                      corrupt, duplicate, reorder

Chance is drawn as a packet is offered, each effect from a stream of its own. So
the fate of the n-th packet follows from the seed and n alone: neither timing nor
another effect that is switched on changes which packets are lost. A packet that
the wire loses has taken its time in queue and sender, as on a real link.

A packet's time in the sender, 8 * size / rate seconds, is seldom whole
nanoseconds. The fraction is carried over to the next packet, so a busy link has
its exact rate however long it runs; what is told outside is rounded up.

It knows no headers: "too big" is counted and answered by nobody.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from heapq import heappop, heappush

from rawproto.impair.config import Impairment

__all__ = ["LinkModel", "LinkStatistics"]

_BITS_NS = 8 * 10**9


@dataclass(slots=True, kw_only=True)
class LinkStatistics:
    """What became of the packets: offered + duplicated = delivered + all the drops.

    Attributes:
        offered: packets offered.
        offered_bytes: their bytes.
        delivered: packets delivered or on their way, copies included.
        delivered_bytes: their bytes.
        too_big: dropped for the MTU.
        queue_full: dropped at the tail of the queue.
        lost: lost one by one.
        lost_in_burst: lost to the Gilbert-Elliott chain.
        overflowed: dropped because more than `max_pending` were on their way (`enqueue` only).
        duplicated: copies delivered beside their originals.
        reordered: packets held back.
        corrupted: packets with a flipped bit.
    """

    offered: int = 0
    offered_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    too_big: int = 0
    queue_full: int = 0
    lost: int = 0
    lost_in_burst: int = 0
    overflowed: int = 0
    duplicated: int = 0
    reordered: int = 0
    corrupted: int = 0


class LinkModel:
    """One direction of a link; two of them make a cable.

    Use it one of two ways. `offer` says at once when a packet arrives, and the caller
    keeps it until then. Or `enqueue` keeps it, `poll_timeout` says when there is
    something, `poll` hands it out. Times offered should not run backwards.

    Args:
        impairment: what the link is like.
        rng: where the seeds of its chances come from.
        max_pending: most packets that `enqueue` keeps.

    Attributes:
        statistics: the counts so far.
    """

    def __init__(
        self, impairment: Impairment, rng: random.Random, *, max_pending: int = 65_536
    ) -> None:
        self.statistics = LinkStatistics()
        self._max_pending = max_pending
        # A stream for each effect, always all of them and in this order.
        streams = [random.Random(rng.getrandbits(64)).random for _ in range(6)]
        self._loss, self._burst, self._corrupt, self._duplicate, self._reorder, self._jitter = (
            streams
        )
        self._bad = False
        self._free_ns = 0  # when the sender is free: whole nanoseconds,
        self._free_fraction = 0  # and the rest, in units of 1 / rate_bps
        self._waiting: deque[tuple[int, int]] = deque()  # (when its sending starts, size)
        self._waiting_bytes = 0
        self._latest_ns = 0  # the latest arrival so far of those that keep order
        self._pending: list[tuple[int, int, bytes]] = []
        self._kept = 0
        self.configure(impairment)

    def configure(self, impairment: Impairment) -> None:
        """Changes the link from the next packet on; what it has accepted keeps its time.

        Raises:
            UsageError: a value makes no sense.
        """
        impairment.check()
        self.impairment = impairment
        # Most links of a simulation leave nothing to chance, and are asked for each packet.
        self._chancy = bool(
            impairment.loss
            or impairment.burst_loss
            or impairment.corrupt
            or impairment.duplicate
            or impairment.reorder
        )
        if self._free_fraction:  # it was counted in units of the old rate
            self._free_ns += 1
            self._free_fraction = 0

    def offer(self, data: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        """One packet into the link.

        Args:
            data: the packet; what counts against rate, queue and MTU is its length.
            now_ns: when its last bit is there to be queued.

        Returns:
            (deliver_at_ns, packet) for each copy that arrives: none where it is dropped,
            two where it is duplicated.
        """
        link = self.impairment
        statistics = self.statistics
        size = len(data)
        statistics.offered += 1
        statistics.offered_bytes += size

        # All chance before any time: see the module's docstring.
        lost = lost_in_burst = corrupted = duplicated = held_back = False
        if self._chancy:
            lost = link.loss > 0 and self._loss() < link.loss
            lost_in_burst = link.burst_loss is not None and self._step_burst()
            corrupted = link.corrupt > 0 and self._corrupt() < link.corrupt
            place = self._corrupt() if corrupted else 0.0
            duplicated = link.duplicate > 0 and self._duplicate() < link.duplicate
            held_back = link.reorder > 0 and self._reorder() < link.reorder
        arrival_ns = link.delay_ns
        if link.jitter_ns:
            # Every whole nanosecond from -jitter to +jitter alike.
            arrival_ns += int(self._jitter() * (2 * link.jitter_ns + 1)) - link.jitter_ns

        if link.mtu is not None and size > link.mtu:
            statistics.too_big += 1
            return []
        if link.rate_bps is None:
            arrival_ns += now_ns
        else:
            sent_ns = self._send(size, now_ns, link.rate_bps)
            if sent_ns is None:
                statistics.queue_full += 1
                return []
            arrival_ns += sent_ns
        if lost:
            statistics.lost += 1
            return []
        if lost_in_burst:
            statistics.lost_in_burst += 1
            return []

        if held_back:
            statistics.reordered += 1
            arrival_ns += link.reorder_delay_ns
        elif link.keep_order:
            if arrival_ns < self._latest_ns:
                arrival_ns = self._latest_ns
            self._latest_ns = arrival_ns
        if corrupted and size > link.corrupt_from:
            statistics.corrupted += 1
            data = _flip_bit(data, link.corrupt_from, place)
        statistics.delivered += 1
        statistics.delivered_bytes += size
        if not duplicated:
            return [(arrival_ns, data)]
        statistics.duplicated += 1
        statistics.delivered += 1
        statistics.delivered_bytes += size
        return [(arrival_ns, data), (arrival_ns, data)]

    def offer_batch(self, packets: Iterable[bytes], now_ns: int) -> list[tuple[int, bytes]]:
        """Packets that come together, one after the other; their arrivals in that order."""
        arrivals: list[tuple[int, bytes]] = []
        for data in packets:
            arrivals += self.offer(data, now_ns)
        return arrivals

    def enqueue(self, data: bytes, now_ns: int) -> None:
        """As `offer`, but the model keeps the packet until `poll` hands it out."""
        pending = self._pending
        statistics = self.statistics
        for arrival_ns, packet in self.offer(data, now_ns):
            if len(pending) >= self._max_pending:
                statistics.overflowed += 1
                statistics.delivered -= 1
                statistics.delivered_bytes -= len(packet)
            else:
                # Numbered, so that those due at once leave in their order.
                self._kept += 1
                heappush(pending, (arrival_ns, self._kept, packet))

    def poll(self, now_ns: int, limit: int | None = None) -> list[tuple[int, bytes]]:
        """What `enqueue` kept and has arrived by now, (arrival_ns, packet), oldest first.

        Args:
            now_ns: the time.
            limit: at most so many.
        """
        pending = self._pending
        due: list[tuple[int, bytes]] = []
        while pending and pending[0][0] <= now_ns and len(due) != limit:
            arrival_ns, _, packet = heappop(pending)
            due.append((arrival_ns, packet))
        return due

    def poll_timeout(self) -> int | None:
        """When the next packet arrives, in ns; None when none is on its way. A pure read."""
        return self._pending[0][0] if self._pending else None

    @property
    def pending(self) -> int:
        """How many packets `enqueue` has kept and `poll` has not handed out."""
        return len(self._pending)

    def queued(self, now_ns: int) -> tuple[int, int]:
        """The queue before the sender at `now_ns`, (packets, bytes), without the one being sent."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= now_ns:
            self._waiting_bytes -= waiting.popleft()[1]
        return len(waiting), self._waiting_bytes

    def _send(self, size: int, now_ns: int, rate_bps: int) -> int | None:
        """Queues a packet: when its last bit is sent, None where the queue has no room."""
        start_ns, fraction = self._free_ns, self._free_fraction
        # The sender is free at `start_ns` and a fraction, so a packet must wait even at start_ns.
        if now_ns > start_ns or (now_ns == start_ns and not fraction):
            start_ns, fraction = now_ns, 0
        else:
            packets, in_bytes = self.queued(now_ns)
            limit_bytes = self.impairment.queue_bytes
            if packets >= self.impairment.queue_packets or (
                limit_bytes is not None and in_bytes + size > limit_bytes
            ):
                return None
            self._waiting.append((start_ns + (fraction > 0), size))
            self._waiting_bytes += size
        whole_ns, fraction = divmod(fraction + size * _BITS_NS, rate_bps)
        self._free_ns, self._free_fraction = start_ns + whole_ns, fraction
        return self._free_ns + (fraction > 0)

    def _step_burst(self) -> bool:
        """One step of the Gilbert-Elliott chain: is this packet lost?"""
        chain = self.impairment.burst_loss
        assert chain is not None
        draw = self._burst
        if self._bad:
            self._bad = draw() >= chain.bad_to_good
        else:
            self._bad = draw() < chain.good_to_bad
        return draw() < (chain.loss_bad if self._bad else chain.loss_good)


def _flip_bit(data: bytes, first: int, place: float) -> bytes:
    """A copy with one bit flipped, `place` (0 up to 1) of the way from byte `first` to the end."""
    bit = int(place * (len(data) - first) * 8)
    damaged = bytearray(data)
    damaged[first + (bit >> 3)] ^= 0x80 >> (bit & 7)
    return bytes(damaged)
