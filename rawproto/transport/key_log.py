"""A key log: the secrets that open other people's packets (specification section 14).

::

    RPT_CLIENT_SECRET 8c0f... 51ab...
    RPT_SERVER_SECRET 8c0f... 07d2...

Each line names a connection by the `src_cid` of its INIT. `key_log_lines` writes them,
`KeyLog` reads them and keeps a bounded number.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Bounded", "KeyLog", "key_log_lines"]

_LINE = re.compile(rb"RPT_(CLIENT|SERVER)_SECRET ([0-9a-fA-F]{16}) ([0-9a-fA-F]{64})\s*")
_MOST_SECRETS = 1 << 20

K = TypeVar("K")
V = TypeVar("V")


class Bounded(OrderedDict[K, V], Generic[K, V]):
    """A dictionary that forgets its oldest entry when there are too many."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def remember(self, key: K, value: V) -> None:
        self[key] = value
        if len(self) > self._most:
            self.popitem(last=False)


class KeyLog:
    """The secrets of many connections, each known by the `src_cid` of its INIT."""

    def __init__(self, text: bytes = b"") -> None:
        self._secrets: Bounded[tuple[int, bool], bytes] = Bounded(_MOST_SECRETS)
        self.add(text)

    def __len__(self) -> int:
        """How many secrets there are, two a connection."""
        return len(self._secrets)

    def add(self, text: bytes) -> None:
        """Takes lines of a key log; those of other protocols, or cut short, say nothing."""
        for line in text.splitlines():
            if found := _LINE.fullmatch(line):
                of_client = found[1] == b"CLIENT"
                secret = bytes.fromhex(found[3].decode())
                self._secrets.remember((int(found[2], 16), of_client), secret)

    def knows(self, cid: int) -> bool:
        """Whether a client began with this connection ID."""
        return (cid, True) in self._secrets or (cid, False) in self._secrets

    def secret(self, cid: int, *, of_client: bool) -> bytes | None:
        """The first phase's secret for what one side of a connection sends."""
        return self._secrets.get((cid, of_client))


def key_log_lines(cid: int, to_server: bytes, to_client: bytes) -> str:
    """A connection's lines.

    Args:
        cid: `src_cid` of its INIT.
        to_server: the secret of phase 0 for the client's packets.
        to_client: likewise for the listener's.
    """
    pairs = (("RPT_CLIENT_SECRET", to_server), ("RPT_SERVER_SECRET", to_client))
    return "".join([f"{label} {cid:016x} {secret.hex()}\n" for label, secret in pairs])
