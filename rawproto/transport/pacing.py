"""When the next burst may leave, so that a window is spread over its round trip (section 8.2)."""

from __future__ import annotations

__all__ = ["MAX_BURST", "Pacer", "burst_packets"]

MIN_BURST, MAX_BURST = 2, 32
_BURST_NS = 1_000_000
_SECOND_NS = 1_000_000_000


def burst_packets(rate: int, packet: int) -> int:
    """How many packets of a size leave at once: what 1 ms of the rate holds, 2 to 32."""
    return min(max(rate * _BURST_NS // _SECOND_NS // packet, MIN_BURST), MAX_BURST)


class Pacer:
    """A bucket of credit in bytes, filled at the rate and as large as one burst.

    Whoever was told when to send, and is woken later than that, finds what it missed too, up to
    64 packets: timers of a busy machine are late, and a rate would never be reached. What only
    rested finds one burst.

    Attributes:
        rate: bytes a second.
        packet: the size of packets.
        burst: the packets of one burst, 2 to 32.
    """

    __slots__ = ("_credit", "_due_ns", "_filled_ns", "burst", "packet", "rate")

    def __init__(self, packet: int) -> None:
        self.packet = packet
        self.rate = 0
        self.burst = MAX_BURST
        self._credit = MAX_BURST * packet
        self._filled_ns = self._due_ns = 0

    def set_rate(self, rate: int, packet: int) -> None:
        """What is true from now on: `rate` in bytes a second, `packet` the size of packets."""
        self.rate = max(rate, 1)
        self.packet = packet
        self.burst = burst_packets(self.rate, packet)

    def allowance(self, now_ns: int) -> int:
        """How many bytes may leave at once; what is below one packet waits."""
        if not self.rate:
            return MAX_BURST * self.packet
        limit = self.burst * self.packet
        if 0 < self._due_ns < now_ns:
            missed = self.rate * (now_ns - self._due_ns) // _SECOND_NS
            limit += min(missed, 2 * MAX_BURST * self.packet)
        self._due_ns = 0
        if now_ns > self._filled_ns:
            gained = self.rate * (now_ns - self._filled_ns) // _SECOND_NS
            if gained or self._credit >= limit:  # what would round to nothing goes on to count
                credit = self._credit + gained
                self._credit = credit if credit < limit else limit
                self._filled_ns = now_ns
        return self._credit

    def spend(self, size: int, now_ns: int) -> bool:
        """Whether so many bytes may leave, which then do. Who sends little needs no look at what
        came in since before all of what was there is gone."""
        if self._credit < size and self.allowance(now_ns) < size:
            return False
        self._credit -= size
        return True

    def on_sent(self, size: int) -> None:
        """Bytes have left."""
        self._credit -= size

    def next_ns(self) -> int:
        """When a whole burst may leave; 0 for at once. Asked by who has something to send."""
        if not self.rate:
            return 0
        lacking = self.burst * self.packet - self._credit
        if lacking <= 0:
            return 0
        self._due_ns = self._filled_ns + -(-lacking * _SECOND_NS // self.rate)
        return self._due_ns
