"""Where the peer is, and whether that is proved (specification sections 10.2 and 10.3).

Read RFC 9000 sections 8.2 and 9. A packet that opens was sealed by the peer, but whoever saw it
pass can send it on from any address, first. So a new address gets no more than three times
what came from it, until it answers what only it was told::

               the highest packet, no probe, from elsewhere
    settled -------------------------------------------------> proving
       ^ ^                                                      | | ^
       | |         1,200 bytes of challenge answered            | | |
       | `------------------------------------------------------' | |
       |      no answer in time: the address was none             | |
       `----------------------------------------------------------' `- yet another address

The address proved last is asked too. If an answer comes to that, from wherever, the peer is
still there, and packets go there while the new one is being proved.
It knows addresses, sizes and times. What a new path means for RTT and window is the sender's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rawproto.transport.constants import AMPLIFICATION, BASE_PACKET_BYTES, MIN_SHORT_BYTES
from rawproto.transport.rtt import RTT
from rawproto.wire.rpt_frames import (
    Frame,
    NewConnectionIDFrame,
    PaddingFrame,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    emit_frames,
    parse_frame,
)

__all__ = ["Address", "Paths", "Probe"]

Address = tuple[str, int]
"""A peer's IP address and the carrier's port, 0 on raw IP."""

_PROBING = (PaddingFrame, PathChallengeFrame, PathResponseFrame, NewConnectionIDFrame)
_MOST_PROBES = 4
_PTOS = 3
_INITIAL_PTO_NS = RTT().pto


class Probe(NamedTuple):
    """A packet that asks or answers, and goes by the way it names.

    Attributes:
        frames: what it says.
        size: of the whole packet, in bytes.
        address: whereto.
    """

    frames: bytes
    size: int
    address: Address


class Paths:
    """The peer's addresses.

    Args:
        address: the one that the handshake proved.
        mobile: whether the peer may move: a listener's may.
        entropy: gives so many random bytes.

    Attributes:
        address: where packets go.
        usual: the same while all is quiet, and what comes from there needs no look; None while
            an address is being proved or a probe waits to be sent.
    """

    __slots__ = (
        "_again_ns",
        "_answered",
        "_asked",
        "_challenge",
        "_challenged",
        "_claimed",
        "_entropy",
        "_got",
        "_mobile",
        "_old_challenge",
        "_probes",
        "_proved",
        "_sent",
        "_until_ns",
        "_wait_ns",
        "address",
        "usual",
    )

    def __init__(self, address: Address, *, mobile: bool, entropy: Callable[[int], bytes]) -> None:
        self.address = self._proved = address
        self.usual: Address | None = address
        self._mobile = mobile
        self._entropy = entropy
        self._claimed: Address | None = None  # what is being proved
        self._got = self._sent = 0  # from it and to it
        self._challenge = self._old_challenge = b""
        self._challenged = 0  # the size of the packet that the last challenge left in
        self._until_ns = self._again_ns = self._wait_ns = 0
        self._asked: bytes | None = None  # by the packet that is being read
        self._answered: bytes | None = None
        self._probes: list[Probe] = []

    # --- what arrives ---

    def on_challenge(self, frame: PathChallengeFrame) -> None:
        """Of the packet that is being read; `on_packet` will tell where it came from."""
        self._asked = frame.data
        self.usual = None

    def on_response(self, frame: PathResponseFrame) -> None:
        """Likewise."""
        if self._claimed is not None:
            self._answered = frame.data

    def on_packet(
        self, address: Address, frames: bytes, size: int, newest: bool, now_ns: int, pto_ns: int
    ) -> Address | None:
        """A packet opened that did not come from `usual`.

        Args:
            address: where it came from.
            frames: what was in it, which has been read.
            size: of the whole packet.
            newest: whether its number is the highest so far.
            now_ns: by now.
            pto_ns: the probe time-out of the path so far.

        Returns:
            The address that was left for good, if the packet proves the new one; else None.
        """
        left = None
        asked, self._asked = self._asked, None
        answered, self._answered = self._answered, None
        if asked is not None and len(self._probes) < _MOST_PROBES:
            # The PING lets a listener that asks at an old address see that we are there.
            answer: list[Frame] = [PathResponseFrame(asked)]
            if not self._mobile:
                answer.append(PingFrame())
            self._probes.append(Probe(emit_frames(answer), size, address))
        if self._mobile:
            if newest and address not in (self._claimed, self.usual) and _moves(frames):
                self.claim(address, size, now_ns, pto_ns)
            elif self._claimed is not None:
                left = self._on_proof(address, answered, size, now_ns)
        self._settle()
        return left

    def claim(self, address: Address, size: int, now_ns: int, pto_ns: int) -> None:
        """What only the peer can have sealed, and no probe, came from another address."""
        self.address = address
        if address == self._proved:
            self._claimed = None
            self._settle()
            return
        self._claimed = address
        self._got, self._sent = size, 0
        self._wait_ns = max(pto_ns, _INITIAL_PTO_NS)
        self._ask(now_ns)
        if len(self._probes) < _MOST_PROBES:
            self._old_challenge = self._entropy(8)
            old = PathChallengeFrame(self._old_challenge).emit()
            self._probes.append(Probe(old, BASE_PACKET_BYTES, self._proved))
        self._settle()

    def _ask(self, now_ns: int) -> None:
        self._challenge = self._entropy(8)
        self._challenged = 0
        self._again_ns = now_ns
        self._until_ns = now_ns + _PTOS * self._wait_ns

    def _on_proof(
        self, address: Address, answered: bytes | None, size: int, now_ns: int
    ) -> Address | None:
        """A packet that may help to prove an address: what was left, if it does."""
        if answered == self._old_challenge:
            self.address = self._proved
        if address != self._claimed:
            return None
        self._got += size
        if answered != self._challenge:
            return None
        if self._challenged < BASE_PACKET_BYTES:
            self._ask(now_ns)  # the answer leaves room for a larger one
            return None
        left, self._proved = self._proved, self._claimed
        self.address, self._claimed = self._proved, None
        return left

    def _settle(self) -> None:
        quiet = self._claimed is None and not self._probes
        self.usual = self.address if quiet else None

    # --- what leaves ---

    @property
    def _credit(self) -> int:
        return AMPLIFICATION * self._got - self._sent

    @property
    def budget(self) -> int | None:
        """How many bytes may still go to `address`; None for as many as one likes."""
        return self._credit if self.address == self._claimed else None

    def on_sent(self, size: int) -> None:
        """So many bytes left for `address`, which had a budget."""
        self._sent += size

    def probes(self, now_ns: int) -> Sequence[Probe]:
        """The packets that leave now, beside what else there is to send."""
        probes, self._probes = self._probes, []
        if self._claimed is not None and self._may_ask and now_ns >= self._again_ns:
            size = min(self._credit, BASE_PACKET_BYTES)
            frame = PathChallengeFrame(self._challenge).emit()
            probes.append(Probe(frame, size, self._claimed))
            self._challenged = size
            self._again_ns = now_ns + self._wait_ns
        self._sent += sum([probe.size for probe in probes if probe.address == self._claimed])
        self._settle()
        return probes

    @property
    def _may_ask(self) -> bool:
        return self._credit >= MIN_SHORT_BYTES

    # --- time ---

    @property
    def timeout_ns(self) -> int | None:
        """When something is due; 0 for at once, None for never."""
        if self._probes:
            return 0
        if self._claimed is None:
            return None
        return min(self._again_ns, self._until_ns) if self._may_ask else self._until_ns

    def handle_timeout(self, now_ns: int) -> bool:
        """Time has passed: whether packets go back where they went before."""
        if self._claimed is None or now_ns < self._until_ns:
            return False
        back = self.address == self._claimed
        self.address, self._claimed = self._proved, None
        self._settle()
        return back


def _moves(frames: bytes) -> bool:
    """Whether a packet says more than a probe does: mostly its first frame tells."""
    at = 0
    while at < len(frames):
        frame, at = parse_frame(frames, at)
        if not isinstance(frame, _PROBING):
            return True
    return False
