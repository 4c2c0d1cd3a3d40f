"""What a link is like: plain values, checked once when a model takes them.

Read Gilbert, "Capacity of a Burst-Noise Channel" (1960), and Elliott (1963) for
the bursts; RFC 4737 for what reordering means, RFC 5236 for how it is counted.
Nothing here knows how the values act: that is `model`.
"""

from __future__ import annotations

from dataclasses import dataclass

from rawproto.errors import UsageError

__all__ = ["GilbertElliott", "Impairment"]


@dataclass(slots=True, kw_only=True)
class GilbertElliott:
    """Bursty loss: a two-state chain that takes one step for each packet.

    ::

                  good_to_bad
            +------+ -----> +-----+
            | good |        | bad |
            +------+ <----- +-----+
                  bad_to_good

    With the default losses a burst is a stay in `bad`: it lasts 1 / bad_to_good packets
    in the mean, and good_to_bad / (good_to_bad + bad_to_good) of all packets are lost.

    Attributes:
        good_to_bad: chance to go bad before a packet, 0 to 1.
        bad_to_good: chance to recover before a packet, 0 to 1.
        loss_good: chance to lose a packet while good, 0 in Gilbert's model.
        loss_bad: chance to lose a packet while bad, below 1 in Elliott's.
    """

    good_to_bad: float
    bad_to_good: float
    loss_good: float = 0.0
    loss_bad: float = 1.0

    @classmethod
    def of_mean(cls, *, loss: float, burst: float) -> GilbertElliott:
        """The chain that loses a share `loss` of all packets in bursts of `burst` in the mean.

        Args:
            loss: 0 up to but not including 1.
            burst: mean length of a burst in packets, 1 or more.

        Raises:
            UsageError: no such chain exists.
        """
        if not (0 <= loss < 1 and burst >= 1):
            raise UsageError(f"no bursts of {burst} packets lose {loss} of all")
        chain = cls(good_to_bad=loss / (burst * (1 - loss)), bad_to_good=1 / burst)
        if chain.good_to_bad > 1:
            raise UsageError(f"bursts of {burst} packets are too short to lose {loss} of all")
        return chain

    def check(self) -> None:
        """Raises UsageError where a chance is none."""
        for name in ("good_to_bad", "bad_to_good", "loss_good", "loss_bad"):
            _check_chance(f"burst_loss.{name}", getattr(self, name))


@dataclass(slots=True, kw_only=True)
class Impairment:
    """One direction of a link. The default is a perfect one: no delay, no limit, no chance.

    Attributes:
        rate_bps: bits a second, of all bytes offered; None sends in no time.
        queue_packets: how many may wait while another is being sent; more are dropped.
        queue_bytes: likewise in bytes; None counts packets only.
        delay_ns: from the last bit sent to the last bit there.
        jitter_ns: the delay varies evenly by up to so much both ways.
        keep_order: jitter makes no packet overtake another.
        loss: chance to lose a packet, each by itself.
        burst_loss: losses that come in bursts, beside `loss`.
        duplicate: chance that a packet arrives twice.
        reorder: chance that a packet is held back, so that later ones overtake it.
        reorder_delay_ns: how long a packet is held back.
        corrupt: chance that one bit of a packet is flipped.
        corrupt_from: the first bytes, as many as this, are never the corrupted ones.
        mtu: longest packet in bytes, longer ones are dropped; None takes any.
    """

    rate_bps: int | None = None
    queue_packets: int = 1000
    queue_bytes: int | None = None
    delay_ns: int = 0
    jitter_ns: int = 0
    keep_order: bool = True
    loss: float = 0.0
    burst_loss: GilbertElliott | None = None
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_delay_ns: int = 10_000_000
    corrupt: float = 0.0
    corrupt_from: int = 0
    mtu: int | None = None

    def check(self) -> None:
        """Raises UsageError, naming the field, where a value makes no sense."""
        for name in ("loss", "duplicate", "reorder", "corrupt"):
            _check_chance(name, getattr(self, name))
        if self.burst_loss is not None:
            self.burst_loss.check()
        if self.rate_bps is not None and self.rate_bps <= 0:
            raise UsageError(f"rate_bps {self.rate_bps}: must be above 0")
        for name in ("queue_packets", "queue_bytes", "delay_ns", "jitter_ns", "reorder_delay_ns"):
            _check_natural(name, getattr(self, name))
        for name in ("corrupt_from", "mtu"):
            _check_natural(name, getattr(self, name))
        if self.jitter_ns > self.delay_ns:
            raise UsageError(
                f"jitter_ns {self.jitter_ns}: above delay_ns {self.delay_ns}, "
                "packets would arrive before they are sent"
            )


def _check_chance(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise UsageError(f"{name} {value}: a chance lies between 0 and 1")


def _check_natural(name: str, value: int | None) -> None:
    if value is not None and value < 0:
        raise UsageError(f"{name} {value}: must not be negative")
