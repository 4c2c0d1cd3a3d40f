"""Handshakes that are half-open, and whom a listener lets begin one (sections 3.4 and 12).

A flood of INITs costs us a Noise message each until 64 are half-open, or 64 in a second did not
open; from then on an address is proved by RETRY first, which costs an AEAD and no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from enum import Enum
from hashlib import sha256
from ipaddress import ip_network

from cryptography.exceptions import InvalidTag

from rawproto.errors import WireError
from rawproto.transport.budget import Budget
from rawproto.transport.config import Config
from rawproto.transport.connection import Address
from rawproto.transport.constants import (
    AMPLIFICATION,
    BASE_PACKET_BYTES,
    HELD_PACKETS,
    ResetCode,
)
from rawproto.transport.handshake import ServerHandshake, suite_of
from rawproto.transport.noise import NoiseError
from rawproto.transport.parameters import Parameters
from rawproto.transport.protection import Keys, Opener
from rawproto.transport.refusals import returned
from rawproto.transport.table import Table
from rawproto.transport.tokens import RetryTokens
from rawproto.transport.trace import History
from rawproto.wire.rpt import KEY_PHASE, SHORT, RPTHandshake, RPTInit, RPTRetry

__all__ = ["TRANSITIONS", "Event", "HalfOpen", "Listener", "State"]

UNDER_LOAD = 64
_BROKEN_PER_SECOND = 64
_WARY_NS = 1_000_000_000
MOST_HALF_OPEN = 1024
MOST_OF_A_PREFIX = 32
_MOST_NUMBER = 1 << 31  # of the first packet: above it one below 0 would be meant (7.2)


class State(Enum):
    """What a listener knows of a handshake."""

    UNKNOWN = "nothing known"
    HALF_OPEN = "half_open"
    ESTABLISHED = "established"


class Event(Enum):
    """What takes a handshake further, or does not."""

    INIT = "INIT opens"
    BROKEN_INIT = "INIT does not open"
    SUITE = "INIT of a suite that is not for it"
    UNPROVED = "INIT without a valid token, 64 half-open"
    FULL = "INIT above a limit of 12.6"
    AGAIN = "the same INIT again"
    PROVED = "its client's INIT with a valid token"
    MESSAGE_3 = "XX: message 3 opens"
    BROKEN_3 = "XX: message 3 does not open"
    HELD = "XX: a short packet"
    SHORT = "IK: a short packet opens"
    TIME = "10 s have passed"


TRANSITIONS: Table[State, Event] = Table(
    (State.UNKNOWN, Event.INIT, "sends message 2", State.HALF_OPEN),
    (State.UNKNOWN, Event.BROKEN_INIT, "sends RESET(KEY)", State.UNKNOWN),
    (State.UNKNOWN, Event.SUITE, "sends RESET(SUITE)", State.UNKNOWN),
    (State.UNKNOWN, Event.UNPROVED, "sends RETRY (12.5)", State.UNKNOWN),
    (State.UNKNOWN, Event.FULL, "sends RESET(BUSY)", State.UNKNOWN),
    (State.HALF_OPEN, Event.AGAIN, "sends the same message 2 again (12.4)", State.HALF_OPEN),
    (State.HALF_OPEN, Event.BROKEN_3, "sends RESET(KEY)", State.HALF_OPEN),
    (
        State.HALF_OPEN,
        Event.HELD,
        "holds up to 8 of 1,200 bytes at most, opens them after message 3",
        State.HALF_OPEN,
    ),
    (
        State.HALF_OPEN,
        Event.MESSAGE_3,
        "sends HANDSHAKE_DONE; it may send data",
        State.ESTABLISHED,
    ),
    (State.HALF_OPEN, Event.SHORT, "likewise, and takes that packet", State.ESTABLISHED),
    (State.HALF_OPEN, Event.PROVED, "forgets it, and begins anew (12.5)", State.UNKNOWN),
    (State.HALF_OPEN, Event.TIME, "forgets it", State.UNKNOWN),
)


class HalfOpen:
    """A handshake whose message 2 was sent.

    Attributes:
        state: where it stands.
        handshake: its Noise.
        address: where the INIT came from.
        peer_port: the client's RPT port.
        client_cid: the client's connection ID.
        cid: this side's.
        held: short packets that overtook message 3.
        history: the packets so far, for tracers.
        until_ns: when it is forgotten.
        prefix: whose account it is on, if its address is proved.
    """

    __slots__ = (
        "_answered",
        "_got",
        "_opener",
        "address",
        "cid",
        "client_cid",
        "handshake",
        "held",
        "history",
        "key",
        "peer_port",
        "prefix",
        "state",
        "until_ns",
    )

    def __init__(
        self,
        handshake: ServerHandshake,
        packet: RPTInit,
        cid: int,
        address: Address,
        key: bytes,
        prefix: str | None,
        until_ns: int,
    ) -> None:
        self.state = State.UNKNOWN
        self.handshake = handshake
        self.address = address
        self.peer_port = packet.src_port
        self.client_cid = packet.src_cid
        self.cid = cid
        self.key = key
        self.prefix = prefix
        self.until_ns = until_ns
        self.held: list[bytes] = []
        self.history = History()
        self._got = self._answered = 0
        self._opener: Opener | None = None

    def move(self, event: Event) -> bool:
        """Follows the table; whether it says anything."""
        after = TRANSITIONS.after(self.state, event)
        if after is None:
            return False
        self.state = after
        return True

    def hold(self, data: bytes) -> None:
        """Keeps a short packet until message 3 has come; an honest one is not larger by then."""
        small = len(data) <= BASE_PACKET_BYTES
        if self.move(Event.HELD) and small and len(self.held) < HELD_PACKETS:
            self.held.append(data)

    def opens(self, data: bytes) -> bool:
        """Under IK: whether a short packet is the client's.

        Looked at before there is a connection, which is a hundred objects for each forged one.
        """
        agreement = self.handshake.agreement
        assert agreement is not None
        if self._opener is None:
            self._opener = Opener(Keys(agreement.receive_secret, agreement.cipher))
        flags, _, _, _, _, number = SHORT.unpack_from(data)
        if flags & KEY_PHASE or number >= _MOST_NUMBER:
            return False
        nonce, header = (self._opener.iv ^ number).to_bytes(12, "big"), data[: SHORT.size]
        try:
            self._opener.aead.decrypt(nonce, data[SHORT.size :], header)
        except InvalidTag:
            return False
        return True

    def read(self, packet: RPTHandshake) -> bool:
        """Message 3: whether it opened."""
        try:
            self.handshake.read(packet)
        except (NoiseError, WireError):
            self.move(Event.BROKEN_3)
            return False
        return True

    def answer(self, event: Event, data: bytes, now_ns: int) -> bytes | None:
        """Message 2, for its INIT; None where three times what came is used up."""
        if not self.move(event):
            return None
        self.history.note(now_ns, data, sent=False)
        self._got += len(data)
        if self._answered + len(self.handshake.answer) > AMPLIFICATION * self._got:
            return None
        self._answered += len(self.handshake.answer)
        self.history.note(now_ns, self.handshake.answer, sent=True)
        return self.handshake.answer


class Listener:
    """What it takes to accept connections.

    Args:
        static: the private key.
        config: of the connections.
        psk: a shared secret of 32 bytes that clients must know, b"" for none.
        authorize: whether the owner of a public key may connect.
        token_key: the secret of RETRY tokens, shared by workers; None draws one.

    Attributes:
        by_cid: the half-open handshakes.
    """

    def __init__(
        self,
        static: bytes,
        config: Config,
        *,
        psk: bytes = b"",
        authorize: Callable[[bytes], bool] = lambda key: True,
        token_key: bytes | None = None,
    ) -> None:
        self._static = static
        self._config = config
        self._psk = psk
        self.authorize = authorize
        self._token_key = token_key
        self.by_cid: dict[int, HalfOpen] = {}
        self._by_key: dict[bytes, HalfOpen] = {}
        self._unproved: dict[tuple[Address, int], HalfOpen] = {}  # by client
        self._of_prefix: Counter[str] = Counter()
        self._broken = Budget(_BROKEN_PER_SECOND)
        self._wary_until_ns = 0

    def attach(
        self,
        parameters: Callable[[int | None, Config], Parameters],
        entropy: Callable[[int], bytes],
    ) -> None:
        """Takes from the endpoint how parameters and chance are made."""
        self._parameters = parameters
        self._entropy = entropy
        self._tokens = RetryTokens(self._token_key or entropy(32), entropy)

    def on_init(
        self, packet: RPTInit, data: bytes, address: Address, now_ns: int
    ) -> bytes | RPTRetry | ResetCode | None:
        """An INIT came: message 2 for it, a demand for a proof, a refusal, or nothing."""
        key = sha256(data).digest()
        known = self._by_key.get(key)
        if known is not None:
            return known.answer(Event.AGAIN, data, now_ns)
        proved = bool(packet.token) and self._tokens.valid(
            packet.token, *address, packet.src_cid, packet.dst_cid, now_ns
        )
        crowded = len(self.by_cid) >= UNDER_LOAD or now_ns < self._wary_until_ns
        if crowded and not proved:
            return RPTRetry(
                **returned(packet),
                token=self._tokens.make(*address, packet.src_cid, packet.dst_cid, now_ns),
            )
        client = (address, packet.src_cid)
        former = self._unproved.get(client) if proved else None
        if former is not None:  # made of an INIT that crossed our RETRY: nobody will finish it
            self.forget(former, Event.PROVED)
        prefix = _prefix(address[0]) if proved else None
        if len(self.by_cid) >= MOST_HALF_OPEN or (
            prefix is not None and self._of_prefix[prefix] >= MOST_OF_A_PREFIX
        ):
            return ResetCode.BUSY
        suite = suite_of(packet.suite)
        if suite is None or suite[0].psk != bool(self._psk):
            return ResetCode.SUITE
        parameters = self._parameters(packet.dst_cid, self._config)
        try:
            handshake = ServerHandshake(
                packet,
                data,
                static=self._static,
                ephemeral=lambda: self._entropy(32),
                parameters=parameters,
                psk=self._psk,
            )
        except (NoiseError, WireError):
            if not self._broken.take(now_ns):  # they leave nothing half-open, and cost as much
                self._wary_until_ns = now_ns + _WARY_NS
            return ResetCode.KEY
        until_ns = now_ns + self._config.handshake_timeout_ns
        half_open = HalfOpen(
            handshake, packet, parameters.connection_id, address, key, prefix, until_ns
        )
        self.by_cid[half_open.cid] = half_open
        self._by_key[key] = half_open
        if prefix is None:
            self._unproved[client] = half_open
        else:
            self._of_prefix[prefix] += 1
        return half_open.answer(Event.INIT, data, now_ns)

    def forget(self, half_open: HalfOpen, event: Event) -> None:
        """A handshake is over, well or not."""
        if not half_open.move(event):
            return
        del self.by_cid[half_open.cid]
        del self._by_key[half_open.key]
        client = (half_open.address, half_open.client_cid)
        if self._unproved.get(client) is half_open:  # and not a later one
            del self._unproved[client]
        if half_open.prefix is not None:
            self._of_prefix[half_open.prefix] -= 1
            if not self._of_prefix[half_open.prefix]:
                del self._of_prefix[half_open.prefix]

    def expiry_ns(self) -> int:
        """When the oldest is forgotten, of those that there are."""
        return next(iter(self.by_cid.values())).until_ns

    def expire(self, now_ns: int) -> None:
        """Forgets those whose time is up; they stand in the order in which they came."""
        while self.by_cid:
            oldest = next(iter(self.by_cid.values()))
            if oldest.until_ns > now_ns:
                return
            self.forget(oldest, Event.TIME)


def _prefix(addr: str) -> str:
    """The network that counts as one source: a /32, or an IPv6 /64."""
    addr = addr.partition("%")[0]
    return str(ip_network(f"{addr}/64", strict=False)) if ":" in addr else addr
