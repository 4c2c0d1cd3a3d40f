"""CUBIC (read RFC 9438): the window grows by the time since the last loss, not by the RTT.

::

    window                     .'      W(t) = C (t - K)^3 + W_max
      |          ____________.'        flat around the window at which the last loss was,
      |      .-'                       steep far from it; never below what Reno would have
      |    .'
      +----------------------------> t

Slow start ends by HyStart++ (RFC 9406) where the RTT grows, before the queue overflows.
"""

from __future__ import annotations

from rawproto.transport.congestion.sample import Acked, Lost

__all__ = ["Cubic"]

_C = 0.4
_BETA = 0.7
_RENO_INCREASE = 3 * (1 - _BETA) / (1 + _BETA)
_INITIAL_PACKETS = 10
_MIN_PACKETS = 2

# HyStart++, RFC 9406 section 4.3
_MIN_RTT_THRESHOLD_NS, _MAX_RTT_THRESHOLD_NS = 4_000_000, 16_000_000
_RTT_SAMPLES = 8
_CSS_DIVISOR = 4
_CSS_ROUNDS = 5


class Cubic:
    """A window in bytes; `packet` is the size of packets. Windows inside are in packets."""

    def __init__(self, packet: int) -> None:
        self.packet = packet
        self.pacing_rate: int | None = None
        self.threshold = float("inf")
        self._window = float(_INITIAL_PACKETS)
        self._w_max = 0.0
        self._w_est = 0.0
        self._k = 0.0
        self._epoch_ns: int | None = None
        self._recovery_ns = -1
        self._before: tuple[float, float, float, int] | None = None
        self._hystart = _HyStart()

    @property
    def window(self) -> int:
        """How much may be in flight, in bytes."""
        return int(self._window * self.packet)

    @property
    def slow_start(self) -> bool:
        return self._window < self.threshold

    def on_acked(self, acked: Acked) -> None:
        if acked.burst.sent_ns <= self._recovery_ns:
            return
        if not acked.window_limited:
            self._epoch_ns = None  # time in which nothing was tried does not count (section 5.8)
            return
        packets = acked.size / self.packet
        if self.slow_start:
            self._window += packets / self._hystart.divisor
            if self._hystart.on_acked(acked):
                self.threshold = self._window
            return
        if self._epoch_ns is None:
            self._epoch_ns = acked.now_ns
            self._w_est = self._window
            self._w_max = max(self._w_max, self._window)
            self._k = ((self._w_max - self._window) / _C) ** (1 / 3)
        elapsed = (acked.now_ns - self._epoch_ns) / 1e9
        rtt = acked.smoothed_rtt / 1e9
        target = _C * (elapsed + rtt - self._k) ** 3 + self._w_max
        target = min(max(target, self._window), 1.5 * self._window)
        gain = _RENO_INCREASE if self._w_est < self._w_max else 1.0
        self._w_est += gain * packets / self._window
        self._window += (target - self._window) * packets / self._window
        self._window = max(self._window, self._w_est)

    def on_lost(self, lost: Lost) -> None:
        if lost.burst.sent_ns <= self._recovery_ns:
            return
        self._before = self._window, self.threshold, self._w_max, self._recovery_ns
        self._recovery_ns = lost.now_ns
        # Fast convergence (section 4.7): a flow that lost ground makes room for others.
        shrunk = self._window < self._w_max
        self._w_max = self._window * (1 + _BETA) / 2 if shrunk else self._window
        self._window = max(self._window * _BETA, _MIN_PACKETS)
        self.threshold = self._window
        self._epoch_ns = None

    def on_restart(self, now_ns: int) -> None:
        """The window stays: what leaves is paced."""

    def on_spurious(self) -> None:
        if self._before is not None:
            window, self.threshold, self._w_max, self._recovery_ns = self._before
            self._window = max(self._window, window)
            self._epoch_ns = None
            self._before = None

    def on_persistent_congestion(self) -> None:
        self._window = float(_MIN_PACKETS)
        self._recovery_ns = -1
        self._epoch_ns = None
        self._before = None
        self._hystart = _HyStart()

    def on_packet_size(self, size: int) -> None:
        if self._window != _INITIAL_PACKETS:
            self._window = max(self._window * self.packet / size, _MIN_PACKETS)
            self._w_max *= self.packet / size
            if self.threshold != float("inf"):
                self.threshold *= self.packet / size
        self.packet = size


class _HyStart:
    """Tells the end of slow start by the RTT (RFC 9406): first slower growth, then none."""

    def __init__(self) -> None:
        self.divisor = 1
        self._round_end_ns = 0
        self._last_min = self._current_min = 0
        self._samples = 0
        self._css_min = 0
        self._css_rounds = 0

    def on_acked(self, acked: Acked) -> bool:
        """Takes in what an ACK tells; whether slow start is over."""
        if acked.burst.sent_ns >= self._round_end_ns:  # all that a round sent came back
            self._round_end_ns = acked.now_ns
            self._last_min, self._current_min, self._samples = self._current_min, 0, 0
            if self.divisor > 1:
                self._css_rounds += 1
                if self._css_rounds > _CSS_ROUNDS:
                    return True
        if acked.rtt_ns is not None:
            self._current_min = min(self._current_min or acked.rtt_ns, acked.rtt_ns)
            self._samples += 1
        if self._samples < _RTT_SAMPLES or not self._last_min:
            return False
        if self.divisor > 1:
            if self._current_min < self._css_min:  # the growth was not there to stay
                self.divisor, self._css_rounds = 1, 0
            return False
        threshold = min(max(self._last_min // 8, _MIN_RTT_THRESHOLD_NS), _MAX_RTT_THRESHOLD_NS)
        if self._current_min >= self._last_min + threshold:
            self.divisor = _CSS_DIVISOR
            self._css_min = self._current_min
            self._css_rounds = 0
        return False
