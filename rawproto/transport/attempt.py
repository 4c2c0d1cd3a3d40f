"""A client's attempt to connect: sending again, RETRY, VERSION, refusals (section 3.4).

`TRANSITIONS` is what attempts follow, and what the specification prints and draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from rawproto.errors import (
    ConnectionLostError,
    HandshakeError,
    PeerMismatchError,
    RawprotoError,
    RefusedError,
)
from rawproto.transport.config import Config
from rawproto.transport.constants import ResetCode
from rawproto.transport.handshake import Agreement, ClientHandshake, Ports, suite_number
from rawproto.transport.parameters import Parameters
from rawproto.transport.table import Table
from rawproto.wire.rpt import VERSION_1, RPTHandshake, RPTReset, RPTRetry, RPTVersion

__all__ = ["TRANSITIONS", "Attempt", "Credentials", "Event", "State"]

_FIRST_NS, _LAST_NS = 250_000_000, 1_000_000_000


class State(Enum):
    """Where an attempt stands."""

    WAITING_2 = "waiting_2"
    UNCONFIRMED = "unconfirmed"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Event(Enum):
    """What takes an attempt further."""

    TIMER = "its timer"
    RETRY = "RETRY"
    KEY_RESET = "IK: RESET(KEY) that echoes both CIDs"
    MESSAGE_2 = "message 2 opens"
    STRANGER = "message 2 of a peer that is not trusted"
    VERSION = "VERSION without version 1"
    BUSY = "RESET(BUSY) that echoes both CIDs"
    RESET = "another RESET that echoes both CIDs"
    UNREACHABLE = "ICMP: nobody is there"
    TIME = "10 s have passed"
    SHORT = "a short packet opens"


TRANSITIONS: Table[State, Event] = Table(
    (State.WAITING_2, Event.TIMER, "sends the same INIT again", State.WAITING_2),
    (State.WAITING_2, Event.RETRY, "starts afresh (2.5.1)", State.WAITING_2),
    (State.WAITING_2, Event.KEY_RESET, "starts afresh with XX (3.4.5)", State.WAITING_2),
    (State.WAITING_2, Event.BUSY, "goes on, and says so if it fails", State.WAITING_2),
    (
        State.WAITING_2,
        Event.MESSAGE_2,
        "XX: sends message 3; it may send data",
        State.UNCONFIRMED,
    ),
    (State.WAITING_2, Event.STRANGER, "", State.FAILED),
    (State.WAITING_2, Event.VERSION, "", State.FAILED),
    (State.WAITING_2, Event.RESET, "", State.FAILED),
    (State.WAITING_2, Event.UNREACHABLE, "", State.FAILED),
    (State.WAITING_2, Event.TIME, "", State.FAILED),
    (
        State.UNCONFIRMED,
        Event.TIMER,
        "XX: message 3 again; IK: PING, if nothing is in flight",
        State.UNCONFIRMED,
    ),
    (State.UNCONFIRMED, Event.SHORT, "stops its timer", State.CONFIRMED),
    (State.UNCONFIRMED, Event.RESET, "", State.FAILED),
    (State.UNCONFIRMED, Event.TIME, "", State.FAILED),
)
"""(state, what happens) -> state; what is not in here changes nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who this side is, and whom it takes the other for.

    Attributes:
        static: its private key.
        peer_key: the public key pinned for the peer, None on first contact.
        psk: a secret of 32 bytes that both know, b"" for none.
        trust: asked about the key of a peer without a pinned one; answers why not, or None.
    """

    static: bytes
    peer_key: bytes | None = None
    psk: bytes = b""
    trust: Callable[[bytes], RawprotoError | None] = lambda key: None


class Attempt:
    """One `connect`.

    Args:
        credentials: who and whom.
        config: of the connection.
        ports: where to; `peer_cid` is the random one.
        parameters: what this side tells of itself.
        entropy: gives so many random bytes.
        now_ns: when it begins.

    Attributes:
        state: of the attempt.
        error: why it failed.
        timeout_ns: when something is due.
    """

    def __init__(
        self,
        credentials: Credentials,
        config: Config,
        ports: Ports,
        parameters: Parameters,
        entropy: Callable[[int], bytes],
        now_ns: int,
    ) -> None:
        self._credentials = credentials
        self._config = config
        self._ports = ports
        self._parameters = parameters
        self._entropy = entropy
        self.state = State.WAITING_2
        self.error: RawprotoError | None = None
        self._until_ns = now_ns + config.handshake_timeout_ns
        self._retried = self._busy = False
        self._asking_for_key = self._foreign = False
        self._former: ClientHandshake | None = None  # of the INIT before a RETRY
        self._peer_cid = ports.peer_cid
        psk = "psk" if credentials.psk else ""
        if credentials.peer_key is None:
            self._pattern = f"XX{psk}3" if psk else "XX"
        else:
            self._pattern = f"IK{psk}2" if psk else "IK"
        self._start(now_ns)

    def _start(self, now_ns: int, token: bytes = b"") -> None:
        self._handshake = ClientHandshake(
            suite_number(self._pattern, self._config.cipher),
            self._ports,
            static=self._credentials.static,
            ephemeral=self._entropy(32),
            parameters=self._parameters,
            peer_key=self._credentials.peer_key,
            psk=self._credentials.psk,
            token=token,
        )
        self._wait_ns = _FIRST_NS
        self._due_ns: int | None = now_ns

    def _move(self, event: Event) -> bool:
        """Follows the table; whether it says anything."""
        after = TRANSITIONS.after(self.state, event)
        if after is None:
            return False
        self.state = after
        return True

    @property
    def timeout_ns(self) -> int | None:
        if self.state in (State.CONFIRMED, State.FAILED):
            return None
        return self._until_ns if self._due_ns is None else min(self._due_ns, self._until_ns)

    def hurry(self, until_ns: int) -> None:
        """Nobody waits for longer than that any more."""
        self._until_ns = min(self._until_ns, until_ns)

    def handle_timeout(self, now_ns: int) -> None:
        """Time has passed."""
        opened = self.state is State.UNCONFIRMED
        if now_ns >= self._until_ns and self._move(Event.TIME):
            if self._foreign and not opened:
                words = "answers came, but none that opens: another shared secret (psk) or key?"
                self.error = HandshakeError(words)
            elif self._busy:
                self.error = _REFUSALS[ResetCode.BUSY]()
            else:
                self.error = ConnectionLostError("no answer to the handshake")

    def poll(self, now_ns: int) -> bytes | None:
        """What is to be sent now: INIT or message 3; b"" asks for a PING; None for nothing."""
        if self._due_ns is None or now_ns < self._due_ns or not self._move(Event.TIMER):
            return None
        self._due_ns = now_ns + self._wait_ns
        self._wait_ns = min(2 * self._wait_ns, _LAST_NS)
        if self.state is State.WAITING_2:
            return self._handshake.init
        return self._handshake.finish or b""

    def on_handshake(self, packet: RPTHandshake, now_ns: int) -> Agreement | None:
        """Message 2, perhaps: what was agreed on once it opens and the peer is trusted."""
        if self.state is not State.WAITING_2:
            return None
        agreement = self._handshake.read(packet)
        if agreement is None:
            # The INIT before a RETRY, sent twice, may be answered both ways.
            if self._former is None or self._former.read(packet) is None:
                self._foreign = True
            return None
        refused = self._judge(agreement.peer_key)
        if refused is not None:
            self._move(Event.STRANGER)
            self.error = refused
            return None
        self._move(Event.MESSAGE_2)
        self._peer_cid = packet.src_cid
        self._wait_ns = _FIRST_NS
        # Message 3 leaves at once; without one, the first data or a PING stands for it.
        self._due_ns = now_ns if self._handshake.finish else now_ns + _FIRST_NS
        return agreement

    def _judge(self, key: bytes) -> RawprotoError | None:
        pinned = self._credentials.peer_key
        if pinned is None:
            return self._credentials.trust(key)
        if key != pinned:
            return PeerMismatchError("the peer has another key than the one pinned for it", key)
        if self._asking_for_key:
            return HandshakeError("the peer has the right key and refuses: another psk?")
        return None

    def _echoed(self, packet: RPTRetry | RPTReset | RPTVersion) -> bool:
        """Whether a stateless answer names both CIDs of what we sent (section 2.2.5)."""
        return packet.dst_cid == self._ports.cid and packet.src_cid in (
            self._ports.peer_cid,
            self._peer_cid,
        )

    def on_retry(self, packet: RPTRetry, now_ns: int) -> None:
        """The listener wants the address proved; once an attempt."""
        if self._echoed(packet) and not self._retried and packet.token and self._move(Event.RETRY):
            self._retried = True
            self._former = self._handshake
            self._start(now_ns, packet.token)

    def on_version(self, packet: RPTVersion) -> None:
        """The listener speaks other versions."""
        if self._echoed(packet) and VERSION_1 not in packet.versions and self._move(Event.VERSION):
            versions = ", ".join(map(str, packet.versions[:8]))
            self.error = HandshakeError(f"the peer speaks versions {versions}, not {VERSION_1}")

    def on_reset(self, packet: RPTReset, now_ns: int) -> None:
        """The listener refuses, perhaps."""
        if not self._echoed(packet) or self.state not in (State.WAITING_2, State.UNCONFIRMED):
            return
        if (
            packet.code == ResetCode.KEY
            and self._pattern.startswith("IK")
            and self._move(Event.KEY_RESET)
        ):
            # Has it another key by now? XX shows it, as far as message 2 (section 3.4.5).
            self._pattern = self._pattern.replace("IK", "XX").replace("psk2", "psk3")
            self._asking_for_key = True
            self._ports = replace(self._ports, peer_cid=int.from_bytes(self._entropy(8), "big"))
            self._start(now_ns)
            return
        if packet.code == ResetCode.BUSY and self._move(Event.BUSY):
            self._busy = True
            return
        self._move(Event.RESET)
        self.error = _REFUSALS.get(packet.code, _REFUSALS[ResetCode.KEY])()

    def on_unreachable(self, error: RawprotoError) -> None:
        """The kernel over there, or a router, says that nobody is there."""
        if self._move(Event.UNREACHABLE):
            self.error = error

    def on_short_packet(self) -> None:
        """A packet of the listener's opened: it has all it needs."""
        self._move(Event.SHORT)


_REFUSALS: dict[int, Callable[[], RawprotoError]] = {
    ResetCode.PORT: lambda: RefusedError("nobody listens on that port"),
    ResetCode.KEY: lambda: HandshakeError("the peer cannot open our handshake: another psk or key"),
    ResetCode.SUITE: lambda: HandshakeError(
        "the peer wants another handshake: with a psk if we have none, or without"
    ),
    ResetCode.BUSY: lambda: RefusedError("the peer has too many handshakes under way"),
    ResetCode.UNKNOWN: lambda: ConnectionLostError("the peer forgot the handshake"),
}
