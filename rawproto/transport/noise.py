"""Noise handshakes: XX, IK, XXpsk3 and IKpsk2 (read The Noise Protocol Framework, revision 34).

::

    XX:                      IK:
      -> e                     <- s              (known before)
      <- e, ee, s, es          ...
      -> s, se                 -> e, es, s, ss
                               <- e, ee, se

Patterns are data, tokens in the order of the messages; a state runs through them. The
wire uses X25519 and SHA-256; other primitives can be handed in, and the official vectors
prove the machine with those too.

It knows no packets, no time-outs and no keys' owners: `handshake` does.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

__all__ = [
    "AES_GCM",
    "CHACHA_POLY",
    "PATTERNS",
    "X25519",
    "Cipher",
    "KeyExchange",
    "NoiseError",
    "NoiseHandshake",
    "Pattern",
]

MAX_MESSAGE_BYTES = 65535
_TAG_BYTES = 16


class NoiseError(ValueError):
    """A message that is none, or not for us. It changes nothing in the state that read it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern.

    Attributes:
        name: as in a protocol name.
        messages: the tokens of each, the initiator's first.
        responder_known: the initiator knows the responder's static key before (`<- s`).
    """

    name: str
    messages: tuple[tuple[str, ...], ...]
    responder_known: bool = False

    @property
    def psk(self) -> bool:
        """Whether it mixes in a shared secret."""
        return any("psk" in tokens for tokens in self.messages)


PATTERNS = {
    pattern.name: pattern
    for pattern in (
        Pattern("XX", (("e",), ("e", "ee", "s", "es"), ("s", "se"))),
        Pattern("XXpsk3", (("e",), ("e", "ee", "s", "es"), ("s", "se", "psk"))),
        Pattern("IK", (("e", "es", "s", "ss"), ("e", "ee", "se")), responder_known=True),
        Pattern("IKpsk2", (("e", "es", "s", "ss"), ("e", "ee", "se", "psk")), responder_known=True),
    )
}


@dataclass(frozen=True, slots=True)
class Cipher:
    """An AEAD with its name in protocol names, and where the nonce's 64 bits stand."""

    name: str
    aead: Callable[[bytes], Any]
    byte_order: Any

    def nonce(self, number: int) -> bytes:
        """The 12 bytes for a number (revision 34, section 12)."""
        return bytes(4) + number.to_bytes(8, self.byte_order)


AES_GCM = Cipher("AESGCM", AESGCM, "big")
CHACHA_POLY = Cipher("ChaChaPoly", ChaCha20Poly1305, "little")


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """A Diffie-Hellman function with its name in protocol names.

    Attributes:
        name: such as 25519.
        public_bytes: how long a public key is.
        public_of: private key -> public key, raw bytes.
        exchange: (private key, public key) -> secret; raises ValueError for a useless one.
    """

    name: str
    public_bytes: int
    public_of: Callable[[bytes], bytes]
    exchange: Callable[[bytes, bytes], bytes]


def _public_of(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def _exchange(private_key: bytes, public_key: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private_key)
    return key.exchange(X25519PublicKey.from_public_bytes(public_key))


X25519 = KeyExchange("25519", 32, _public_of, _exchange)


class _Symmetric:
    """The symmetric state (section 5.2): chaining key, hash, and a cipher once there is a key."""

    __slots__ = ("_aead", "_chaining_key", "_cipher", "_hash_name", "_number", "hash")

    def __init__(self, protocol_name: bytes, cipher: Cipher, hash_name: str) -> None:
        self._cipher = cipher
        self._hash_name = hash_name
        size = hashlib.new(hash_name).digest_size
        padded = protocol_name.ljust(size, b"\0")
        self.hash = padded if len(padded) == size else self._digest(protocol_name)
        self._chaining_key = self.hash
        self._aead: Any = None
        self._number = 0

    def _digest(self, data: bytes) -> bytes:
        return hashlib.new(self._hash_name, data).digest()

    def _expand(self, material: bytes, outputs: int) -> list[bytes]:
        temporary = hmac.digest(self._chaining_key, material, self._hash_name)
        found = [b""]
        for number in range(1, outputs + 1):
            found.append(hmac.digest(temporary, found[-1] + bytes([number]), self._hash_name))
        return found[1:]

    def _key(self, secret: bytes) -> None:
        self._aead = self._cipher.aead(secret[:32])
        self._number = 0

    def mix_hash(self, data: bytes) -> None:
        self.hash = self._digest(self.hash + data)

    def mix_key(self, material: bytes) -> None:
        self._chaining_key, key = self._expand(material, 2)
        self._key(key)

    def mix_key_and_hash(self, material: bytes) -> None:
        self._chaining_key, extra, key = self._expand(material, 3)
        self.mix_hash(extra)
        self._key(key)

    def seal(self, plaintext: bytes) -> bytes:
        sealed = plaintext
        if self._aead:
            nonce = self._cipher.nonce(self._number)
            sealed = self._aead.encrypt(nonce, plaintext, self.hash)
            self._number += 1
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed: bytes) -> bytes:
        plaintext = sealed
        if self._aead:
            try:
                nonce = self._cipher.nonce(self._number)
                plaintext = self._aead.decrypt(nonce, sealed, self.hash)
            except InvalidTag:
                raise NoiseError("does not open") from None
            self._number += 1
        self.mix_hash(sealed)
        return plaintext

    @property
    def tag_bytes(self) -> int:
        return _TAG_BYTES if self._aead else 0

    def split(self) -> tuple[bytes, bytes]:
        first, second = self._expand(b"", 2)
        return first[:32], second[:32]


class NoiseHandshake:
    """One side's handshake state (revision 34, section 5.3).

    `write` and `read` alternate, the initiator writing first, until `finished`. `read`
    works on a copy and takes it over only if the message opens.

    Args:
        pattern: which handshake.
        cipher: of the messages.
        initiator: whether this side writes the first message.
        static: this side's private key.
        ephemeral: its private key for this handshake only, fresh from a source of entropy.
        remote_static: the responder's public key, for the initiator of IK.
        psk: the shared secret of 32 bytes, for the psk patterns.
        prologue: what both sides must have seen alike.
        key_exchange: the Diffie-Hellman function.
        hash_name: the hash, as `hashlib` names it.
        hash_label: and as protocol names do.

    Attributes:
        finished: all messages were written and read.
        remote_static: the other side's public key, None until it is known.
    """

    def __init__(
        self,
        pattern: Pattern,
        cipher: Cipher,
        *,
        initiator: bool,
        static: bytes,
        ephemeral: bytes,
        remote_static: bytes | None = None,
        psk: bytes = b"",
        prologue: bytes = b"",
        key_exchange: KeyExchange = X25519,
        hash_name: str = "sha256",
        hash_label: str = "SHA256",
    ) -> None:
        if pattern.psk != bool(psk) or (psk and len(psk) != 32):
            raise ValueError(f"{pattern.name} takes {'32' if pattern.psk else 'no'} bytes of psk")
        self._initiator = initiator
        self._psk = psk
        self._dh = key_exchange
        self._private = {"s": static, "e": ephemeral}
        self._remote: dict[str, bytes] = {}
        self._messages = pattern.messages
        self._done = 0
        self._mixes_ephemeral = pattern.psk
        name = f"Noise_{pattern.name}_{key_exchange.name}_{cipher.name}_{hash_label}"
        self._symmetric = _Symmetric(name.encode(), cipher, hash_name)
        self._symmetric.mix_hash(prologue)
        if pattern.responder_known:
            if initiator:
                if remote_static is None:
                    raise ValueError(f"{pattern.name} needs the responder's static key")
                self._remote["s"] = remote_static
                self._symmetric.mix_hash(remote_static)
            else:
                self._symmetric.mix_hash(key_exchange.public_of(static))

    @property
    def finished(self) -> bool:
        return self._done == len(self._messages)

    @property
    def remote_static(self) -> bytes | None:
        return self._remote.get("s")

    @property
    def hash(self) -> bytes:
        """The hash of all that was said; once finished, the handshake's own name (section 11.2)."""
        return self._symmetric.hash

    def write(self, payload: bytes = b"") -> bytes:
        """The next message, with `payload` in it (encrypted as far as the pattern is)."""
        state = self._symmetric
        parts = []
        for token in self._messages[self._done]:
            if token in ("e", "s"):
                public = self._dh.public_of(self._private[token])
                parts.append(state.seal(public) if token == "s" else public)
                if token == "e":
                    self._mix_ephemeral(state, public)
            else:
                self._mix(state, token, self._remote)
        parts.append(state.seal(payload))
        self._done += 1
        return b"".join(parts)

    def read(self, message: bytes) -> bytes:
        """Reads the next message: its payload.

        Raises:
            NoiseError: it does not open; the state is what it was.
        """
        if len(message) > MAX_MESSAGE_BYTES:
            raise NoiseError("too long")
        state = copy(self._symmetric)
        remote = dict(self._remote)
        rest = message
        for token in self._messages[self._done]:
            if token in ("e", "s"):
                size = self._dh.public_bytes + (state.tag_bytes if token == "s" else 0)
                if len(rest) < size:
                    raise NoiseError("too short")
                part, rest = rest[:size], rest[size:]
                remote[token] = state.open(part) if token == "s" else part
                if token == "e":
                    self._mix_ephemeral(state, part)
            else:
                self._mix(state, token, remote)
        if len(rest) < state.tag_bytes:
            raise NoiseError("too short")
        payload = state.open(rest)
        self._symmetric = state
        self._remote = remote
        self._done += 1
        return payload

    def _mix_ephemeral(self, state: _Symmetric, public: bytes) -> None:
        state.mix_hash(public)
        if self._mixes_ephemeral:  # section 9.2: in psk handshakes the key follows from it too
            state.mix_key(public)

    def _mix(self, state: _Symmetric, token: str, remote: dict[str, bytes]) -> None:
        if token == "psk":
            state.mix_key_and_hash(self._psk)
            return
        # The first letter is the initiator's key, the second the responder's.
        ours, theirs = token[0], token[1]
        if not self._initiator:
            ours, theirs = theirs, ours
        try:
            state.mix_key(self._dh.exchange(self._private[ours], remote[theirs]))
        except ValueError:
            raise NoiseError("a public key of low order") from None

    def split(self) -> tuple[bytes, bytes]:
        """Once finished: the secrets for the initiator's packets and for the responder's."""
        if not self.finished:
            raise ValueError("the handshake is not finished")
        return self._symmetric.split()

    def copied(self) -> Self:
        """A state of its own that goes on from here."""
        other = copy(self)
        other._symmetric = copy(self._symmetric)
        other._remote = dict(self._remote)
        return other
