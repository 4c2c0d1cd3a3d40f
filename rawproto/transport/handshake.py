"""The handshake's packets: INIT and HANDSHAKE out of Noise messages and parameters (section 3).

::

    client                                      listener
      INIT (message 1) ------------------------->          padded to 1,200 bytes
           <------------------------- HANDSHAKE (message 2)
      HANDSHAKE (message 3, XX only) ----------->
      short packets  <=========================>

Each side is an object that writes its packets once and keeps their bytes, and reads the
other's. When to send again, and whom to trust, is not decided here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rawproto.errors import WireError
from rawproto.transport.constants import MIN_INIT_BYTES
from rawproto.transport.noise import (
    AES_GCM,
    CHACHA_POLY,
    PATTERNS,
    Cipher,
    NoiseError,
    NoiseHandshake,
    Pattern,
)
from rawproto.transport.parameters import Parameters
from rawproto.wire.rpt import LONG, RPTHandshake, RPTInit

__all__ = ["Agreement", "ClientHandshake", "Ports", "ServerHandshake", "suite_number", "suite_of"]

_PATTERN_NUMBERS = {"XX": 0, "IK": 1, "XXpsk3": 2, "IKpsk2": 3}
_CIPHERS = {1: AES_GCM, 2: CHACHA_POLY}
_TRAILER_BYTES = 4


def suite_number(pattern: str, cipher: str) -> int:
    """The byte that names pattern and cipher (section 3.1)."""
    numbers = {each.name: number for number, each in _CIPHERS.items()}
    return _PATTERN_NUMBERS[pattern] << 4 | numbers[cipher]


def suite_of(number: int) -> tuple[Pattern, Cipher] | None:
    """Pattern and cipher that the byte names; None if it names none."""
    names = {each: name for name, each in _PATTERN_NUMBERS.items()}
    name, cipher = names.get(number >> 4), _CIPHERS.get(number & 0x0F)
    return (PATTERNS[name], cipher) if name and cipher else None


@dataclass(frozen=True, slots=True)
class Ports:
    """RPT ports and connection IDs as this side sees them, `peer_cid` where it is known.

    Attributes:
        port: this side's.
        peer_port: the other side's.
        cid: this side's connection ID.
        peer_cid: the other side's; of a client's INIT the random one.
    """

    port: int
    peer_port: int
    cid: int
    peer_cid: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """What a finished handshake leaves behind.

    Attributes:
        send_secret: for packets that this side sends.
        receive_secret: for those it gets.
        cipher: of both.
        peer_key: the peer's static public key.
        parameters: the peer's.
    """

    send_secret: bytes
    receive_secret: bytes
    cipher: Cipher
    peer_key: bytes
    parameters: Parameters


class ClientHandshake:
    """The client's side of one attempt.

    Args:
        suite: pattern and cipher, by number.
        ports: where to, and the client's CID.
        static: its private key.
        ephemeral: a private key for this attempt alone.
        parameters: what it tells of itself.
        peer_key: the listener's public key, for IK.
        psk: the shared secret, for the psk patterns.
        token: from a RETRY.

    Attributes:
        init: the INIT, complete.
        finish: message 3, complete, once message 2 was read; None if the pattern has none.
    """

    def __init__(
        self,
        suite: int,
        ports: Ports,
        *,
        static: bytes,
        ephemeral: bytes,
        parameters: Parameters,
        peer_key: bytes | None = None,
        psk: bytes = b"",
        token: bytes = b"",
    ) -> None:
        found = suite_of(suite)
        if found is None:
            raise ValueError(f"suite {suite:#04x}")
        pattern, self._cipher = found
        self._suite, self._ports, self._parameters = suite, ports, parameters
        payload = parameters.emit() if pattern.responder_known else b""
        # The prologue holds the lengths, so they have to be known before the first message.
        message_bytes = 32 + len(payload) + (64 if pattern.responder_known else 0)
        message_bytes += 16 if pattern.psk and not pattern.responder_known else 0
        init = self._init(token, bytes(message_bytes))
        emitted = init.emit()
        body_at = LONG.size + 3 + len(token)
        self._noise = NoiseHandshake(
            pattern,
            self._cipher,
            initiator=True,
            static=static,
            ephemeral=ephemeral,
            remote_static=peer_key if pattern.responder_known else None,
            psk=psk if pattern.psk else b"",
            prologue=emitted[:body_at],
        )
        self.init = self._init(token, self._noise.write(payload)).emit()
        self.finish: bytes | None = None

    def _init(self, token: bytes, message: bytes) -> RPTInit:
        size = LONG.size + 3 + len(token) + len(message) + _TRAILER_BYTES
        return RPTInit(
            suite=self._suite,
            dst_port=self._ports.peer_port,
            src_port=self._ports.port,
            dst_cid=self._ports.peer_cid,
            src_cid=self._ports.cid,
            token=token,
            message=message,
            padding=bytes(max(MIN_INIT_BYTES - size, 0)),
        )

    def read(self, packet: RPTHandshake) -> Agreement | None:
        """Message 2: what was agreed on, None if it does not open or contradicts itself."""
        if packet.suite != self._suite or self._noise.finished:
            return None
        try:
            noise = self._noise.copied()
            parameters = Parameters.parse(noise.read(packet.message))
        except (NoiseError, WireError):
            return None
        if (
            parameters.connection_id != packet.src_cid
            or parameters.original_cid != self._ports.peer_cid
            or noise.remote_static is None
        ):
            return None
        if not noise.finished:
            self.finish = RPTHandshake(
                suite=self._suite,
                dst_port=self._ports.peer_port,
                src_port=self._ports.port,
                dst_cid=packet.src_cid,
                src_cid=self._ports.cid,
                message=noise.write(self._parameters.emit()),
            ).emit()
        self._noise = noise
        to_server, to_client = noise.split()
        return Agreement(to_server, to_client, self._cipher, noise.remote_static, parameters)


class ServerHandshake:
    """The listener's side, made from an INIT.

    Args:
        packet: the INIT, as parsed.
        data: the same, its bytes.
        static: the listener's private key.
        ephemeral: a private key for this attempt alone.
        parameters: what it tells of itself, by the INIT's `dst_cid`.
        psk: the shared secret, for the psk patterns.

    Attributes:
        answer: message 2, complete.
        agreement: what was agreed on; None until message 3 has opened.

    Raises:
        NoiseError: message 1 does not open.
        WireError: its parameters cannot be read.
    """

    def __init__(
        self,
        packet: RPTInit,
        data: bytes,
        *,
        static: bytes,
        ephemeral: Callable[[], bytes],
        parameters: Parameters,
        psk: bytes = b"",
    ) -> None:
        found = suite_of(packet.suite)
        if found is None:
            raise NoiseError(f"suite {packet.suite:#04x}")
        pattern, self._cipher = found
        self._suite = packet.suite
        self._client_cid = packet.src_cid
        self._noise = NoiseHandshake(
            pattern,
            self._cipher,
            initiator=False,
            static=static,
            ephemeral=ephemeral(),
            psk=psk if pattern.psk else b"",
            prologue=data[: LONG.size + 3 + len(packet.token)],
        )
        payload = self._noise.read(packet.message)
        peer = self._check(payload) if pattern.responder_known else None
        self.answer = RPTHandshake(
            suite=packet.suite,
            dst_port=packet.src_port,
            src_port=packet.dst_port,
            dst_cid=packet.src_cid,
            src_cid=parameters.connection_id,
            message=self._noise.write(parameters.emit()),
        ).emit()
        self.agreement = self._agree(peer) if peer is not None else None

    def _check(self, payload: bytes) -> Parameters:
        peer = Parameters.parse(payload)
        if peer.connection_id != self._client_cid:
            raise NoiseError("the connection ID is not the packet's")
        return peer

    def _agree(self, peer: Parameters) -> Agreement:
        to_server, to_client = self._noise.split()
        peer_key = self._noise.remote_static or b""
        return Agreement(to_client, to_server, self._cipher, peer_key, peer)

    def read(self, packet: RPTHandshake) -> Agreement:
        """Message 3: what was agreed on.

        Raises:
            NoiseError: it does not open, or there is none in this pattern.
            WireError: its parameters cannot be read.
        """
        if packet.suite != self._suite or self._noise.finished:
            raise NoiseError("no message 3 is waited for")
        before = self._noise.copied()
        try:
            peer = self._check(self._noise.read(packet.message))
        except (NoiseError, WireError):
            self._noise = before
            raise
        self.agreement = self._agree(peer)
        return self.agreement
