"""The keys of data packets: seal, open, change (specification section 4).

::

    secret --- "rpt1 key" --> key --> AEAD(nonce = iv XOR packet number, header as associated data)
           `-- "rpt1 iv" ---> iv
           `-- "rpt1 next" -> the next phase's secret

`Sealer` and `Opener` hold one direction each; `Protection` both, and the rules by which
their keys change. `aead` and `iv` are attributes so that the hot path seals without a call
in between.
"""

from __future__ import annotations

from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from rawproto.errors import RemoteProtocolError
from rawproto.transport.constants import CloseCode
from rawproto.transport.noise import Cipher

__all__ = ["Keys", "Opener", "Protection", "Sealer"]


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=size, info=label).derive(secret)


class Keys:
    """What one phase of one direction is sealed with.

    Attributes:
        secret: what all follows from.
        aead: the cipher, keyed.
        iv: the 12 bytes as a number.
    """

    __slots__ = ("_cipher", "aead", "iv", "secret")

    def __init__(self, secret: bytes, cipher: Cipher) -> None:
        self._cipher = cipher
        self.secret = secret
        self.aead: Any = cipher.aead(_expand(secret, b"rpt1 key", 32))
        self.iv = int.from_bytes(_expand(secret, b"rpt1 iv", 12), "big")

    def next(self) -> Keys:
        """The keys of the phase that follows."""
        return Keys(_expand(self.secret, b"rpt1 next", 32), self._cipher)

    def nonce(self, number: int) -> bytes:
        """The nonce of a packet, by its whole number."""
        return (self.iv ^ number).to_bytes(12, "big")


class Sealer:
    """One direction as its sender has it.

    Attributes:
        aead: of the current phase.
        iv: likewise.
        phase: 0 or 1.
        first: the number of the first packet of the phase.
    """

    __slots__ = ("_keys", "aead", "first", "iv", "phase")

    def __init__(self, keys: Keys) -> None:
        self.phase = 1
        self._take(keys, 0)

    def _take(self, keys: Keys, first: int) -> None:
        self._keys = keys
        self.aead, self.iv = keys.aead, keys.iv
        self.phase ^= 1
        self.first = first

    def change(self, first: int) -> None:
        """Goes to the next phase, with packet number `first`."""
        self._take(self._keys.next(), first)


class Opener:
    """One direction as its receiver has it: the current keys, the next, and for a while the last.

    Attributes:
        aead: of the current phase.
        iv: likewise.
        phase: 0 or 1.
        first: the lowest number known to be of the current phase.
    """

    __slots__ = ("_keys", "_next", "_previous", "aead", "first", "iv", "phase")

    def __init__(self, keys: Keys) -> None:
        self._previous: Keys | None = None
        self.phase = 0
        self.first = 0
        self._keys = keys
        self.aead, self.iv = keys.aead, keys.iv
        self._next: Keys | None = None

    def open_other(self, number: int, sealed: bytes, header: bytes) -> tuple[bytes, bool]:
        """Opens a packet whose phase is not the current one (specification 4.4).

        Returns:
            The frames, and whether the packet is of the next phase; then `change` is due.

        Raises:
            InvalidTag: it does not open.
        """
        if number < self.first:
            if self._previous is None:
                raise InvalidTag
            keys, is_next = self._previous, False
        else:
            # Made once and kept: who sends rubbish shall not make us derive keys each time.
            keys = self._next = self._next or self._keys.next()
            is_next = True
        return keys.aead.decrypt(keys.nonce(number), sealed, header), is_next

    def change(self, first: int) -> None:
        """Goes to the next phase, which began with packet number `first` or before."""
        self._previous = self._keys
        self._keys = self._next or self._keys.next()
        self._next = None
        self.aead, self.iv = self._keys.aead, self._keys.iv
        self.phase ^= 1
        self.first = first

    def forget_previous(self) -> None:
        """The last phase's keys go, when its packets are too late."""
        self._previous = None


class Protection:
    """Both directions of a connection.

    Args:
        send_secret: of the first phase, for packets that this side sends.
        receive_secret: for those it gets.
        cipher: of both.

    Attributes:
        sealer: seals what leaves.
        opener: opens what arrives.
        forget_ns: when the previous keys go, None if there are none.
    """

    __slots__ = ("_changed_ns", "acked", "forget_ns", "opener", "sealer")

    def __init__(self, send_secret: bytes, receive_secret: bytes, cipher: Cipher) -> None:
        self.sealer = Sealer(Keys(send_secret, cipher))
        self.opener = Opener(Keys(receive_secret, cipher))
        self.forget_ns: int | None = None
        self.acked = False
        self._changed_ns: int | None = None

    def on_acked(self, largest: int) -> None:
        """The peer acknowledged packets up to this number."""
        if largest >= self.sealer.first:
            self.acked = True

    def open_other(
        self, number: int, sealed: bytes, header: bytes, next_number: int, now_ns: int, pto_ns: int
    ) -> bytes:
        """Opens a packet of another phase than the current one, and follows to the next.

        Args:
            number: the packet's.
            sealed: what is sealed in it.
            header: what it begins with.
            next_number: that of the next packet that this side sends.
            now_ns: by now.
            pto_ns: the probe time-out.

        Raises:
            InvalidTag: it does not open.
            RemoteProtocolError: the peer changed its keys too soon.
        """
        sealer, opener = self.sealer, self.opener
        frames, is_next = opener.open_other(number, sealed, header)
        if not is_next:
            return frames
        if sealer.phase == opener.phase:  # not in answer to a change of ours
            # The peer may go on only once we acknowledged a packet under its last keys, and that
            # acknowledgement went out under ours.
            if self._changed_ns is not None and next_number == sealer.first:
                raise RemoteProtocolError(CloseCode.KEY_UPDATE, "keys changed too soon")
            self._change(next_number, now_ns)
        opener.change(number)
        self.forget_ns = now_ns + 3 * pto_ns
        return frames

    def change(self, next_number: int, now_ns: int, pto_ns: int) -> bool:
        """Goes to the next phase of keys, if that is allowed now: whether it did."""
        if not self.acked or self.sealer.phase != self.opener.phase:
            return False
        if self._changed_ns is not None and now_ns < self._changed_ns + 3 * pto_ns:
            return False
        self._change(next_number, now_ns)
        return True

    def _change(self, next_number: int, now_ns: int) -> None:
        self.sealer.change(next_number)
        self.acked = False
        self._changed_ns = now_ns

    def forget_previous(self) -> None:
        """The previous keys go: their packets are too late."""
        self.forget_ns = None
        self.opener.forget_previous()
