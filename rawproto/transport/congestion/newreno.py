"""NewReno, as RFC 9002 section 7 has it: a packet more each round trip, half after a loss."""

from __future__ import annotations

from rawproto.transport.congestion.sample import Acked, Lost

__all__ = ["NewReno"]

_INITIAL_PACKETS = 10
_MIN_PACKETS = 2


class NewReno:
    """A window in bytes; `packet` is the size of packets."""

    def __init__(self, packet: int) -> None:
        self.packet = packet
        self.window = _INITIAL_PACKETS * packet
        self.pacing_rate: int | None = None
        self.threshold: int | None = None
        self._recovery_ns = -1  # losses of packets sent up to then are answered already
        self._acked = 0
        self._before: tuple[int, int | None, int] | None = None

    @property
    def slow_start(self) -> bool:
        return self.threshold is None or self.window < self.threshold

    def on_acked(self, acked: Acked) -> None:
        if acked.burst.sent_ns <= self._recovery_ns or not acked.window_limited:
            return
        if self.slow_start:
            self.window += acked.size
            return
        self._acked += acked.size
        if self._acked >= self.window:
            self._acked -= self.window
            self.window += self.packet

    def on_lost(self, lost: Lost) -> None:
        if lost.burst.sent_ns <= self._recovery_ns:
            return
        self._before = self.window, self.threshold, self._recovery_ns
        self._recovery_ns = lost.now_ns
        self.window = max(self.window // 2, _MIN_PACKETS * self.packet)
        self.threshold = self.window
        self._acked = 0

    def on_restart(self, now_ns: int) -> None:
        """The window stays: what leaves is paced."""

    def on_spurious(self) -> None:
        if self._before is not None:
            window, self.threshold, self._recovery_ns = self._before
            self.window = max(self.window, window)
            self._before = None

    def on_persistent_congestion(self) -> None:
        self.window = _MIN_PACKETS * self.packet
        self._recovery_ns = -1
        self._before = None

    def on_packet_size(self, size: int) -> None:
        if self.window == _INITIAL_PACKETS * self.packet:
            self.window = _INITIAL_PACKETS * size
        self.packet = size
        self.window = max(self.window, _MIN_PACKETS * size)
