"""Tokens that prove an address, and tokens that prove who forgot a connection (sections 11, 12).

::

    RETRY token   nonce 12 | AEAD(time u64) + tag      the address, port and CIDs are associated
    reset token   HMAC-SHA-256(reset key, port u16 | cid u64), the first 16 bytes
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["RetryTokens", "reset_token"]

LIFE_NS = 15_000_000_000
_TIME = struct.Struct("!Q")
_NONCE_BYTES = 12
_TOKEN_BYTES = _NONCE_BYTES + _TIME.size + 16


class RetryTokens:
    """Makes and reads the tokens of RETRY; workers share the key.

    Args:
        key: 32 bytes.
        entropy: gives so many random bytes.
    """

    def __init__(self, key: bytes, entropy: Callable[[int], bytes]) -> None:
        self._aead = AESGCM(key)
        self._entropy = entropy

    @staticmethod
    def _bound(addr: str, port: int, client_cid: int, server_cid: int) -> bytes:
        return f"{addr} {port} {client_cid} {server_cid}".encode()

    def make(self, addr: str, port: int, client_cid: int, server_cid: int, now_ns: int) -> bytes:
        """A token for an INIT from `addr` and the carrier's `port` with these CIDs."""
        nonce = self._entropy(_NONCE_BYTES)
        bound = self._bound(addr, port, client_cid, server_cid)
        return nonce + self._aead.encrypt(nonce, _TIME.pack(now_ns), bound)

    def valid(
        self, token: bytes, addr: str, port: int, client_cid: int, server_cid: int, now_ns: int
    ) -> bool:
        """Whether a token is one of ours, for just this INIT, and young enough."""
        if len(token) != _TOKEN_BYTES:
            return False
        bound = self._bound(addr, port, client_cid, server_cid)
        try:
            plain = self._aead.decrypt(token[:_NONCE_BYTES], token[_NONCE_BYTES:], bound)
        except InvalidTag:
            return False
        (made_ns,) = _TIME.unpack(plain)
        return bool(0 <= now_ns - made_ns <= LIFE_NS)


def reset_token(key: bytes, port: int, cid: int) -> bytes:
    """The token that a RESET about a connection ID carries."""
    return hmac.digest(key, struct.pack("!HQ", port, cid), "sha256")[:16]
