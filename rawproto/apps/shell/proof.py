"""How a client proves to the porter, past the process that speaks with it, whose key it has.

The handshake of RPT proves it to the network process alone, which the porter does not believe.
So the porter makes an X25519 key for each login and sends its public half as a challenge; the
client answers

    HMAC-SHA256(X25519(its key, challenge), "rawproto shell login 1" server client challenge user)

which only the two can compute. `server`, the key that the handshake showed the client, is in it,
so that a server to which somebody comes cannot use the answer at another.
"""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

__all__ = ["Challenge", "prove", "public_half"]

_LABEL = b"rawproto shell login 1"


def public_half(private: bytes) -> bytes:
    """The public key of a private one, 32 bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _mac(key: X25519PrivateKey, other: bytes, *said: bytes) -> bytes:
    """Raises ValueError where `other` is of low order, or no key."""
    shared = key.exchange(X25519PublicKey.from_public_bytes(other))
    return hmac.digest(shared, _LABEL + b"".join(said), hashlib.sha256)


def prove(private: bytes, challenge: bytes, server: bytes, user: str) -> bytes:
    """The client's answer.

    Args:
        private: its own key, 32 bytes.
        challenge: as the porter sent it.
        server: the public key that the handshake showed.
        user: who it wants to be.

    Raises:
        ValueError: the challenge is none.
    """
    key = X25519PrivateKey.from_private_bytes(private)
    client = key.public_key().public_bytes_raw()
    return _mac(key, challenge, server, client, challenge, user.encode(errors="replace"))


class Challenge:
    """One question, good for one answer.

    Args:
        client: whose public key is in question.
        server: the public key of this server.

    Attributes:
        data: what the client is sent.
        client: as given.
    """

    def __init__(self, client: bytes, server: bytes) -> None:
        self._key = X25519PrivateKey.generate()
        self._server = server
        self.client = client
        self.data = self._key.public_key().public_bytes_raw()

    def holds(self, proof: bytes, user: str) -> bool:
        """Whether that is the client's answer."""
        said = (self._server, self.client, self.data, user.encode(errors="replace"))
        try:
            wanted = _mac(self._key, self.client, *said)
        except ValueError:
            return False
        return hmac.compare_digest(wanted, proof)
