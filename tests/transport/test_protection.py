"""Keys of both directions and how they change (specification 4)."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from rawproto.errors import RemoteProtocolError
from rawproto.transport.constants import CloseCode
from rawproto.transport.noise import AES_GCM, CHACHA_POLY, Cipher
from rawproto.transport.protection import Protection

MS = 1_000_000
PTO = 100 * MS


class Side:
    """One side: seals with its numbers, opens what the other sealed."""

    def __init__(self, send: bytes, receive: bytes, cipher: Cipher) -> None:
        self.protection = Protection(send, receive, cipher)
        self.number = 0

    def seal(self, frames: bytes) -> tuple[int, int, bytes]:
        """(number, phase, sealed)."""
        sealer, number = self.protection.sealer, self.number
        self.number += 1
        nonce = (sealer.iv ^ number).to_bytes(12, "big")
        return number, sealer.phase, sealer.aead.encrypt(nonce, frames, b"header")

    def open(self, packet: tuple[int, int, bytes], now_ns: int = 0) -> bytes:
        number, phase, sealed = packet
        opener = self.protection.opener
        if phase == opener.phase:
            nonce = (opener.iv ^ number).to_bytes(12, "big")
            return bytes(opener.aead.decrypt(nonce, sealed, b"header"))
        return self.protection.open_other(number, sealed, b"header", self.number, now_ns, PTO)


def sides(cipher: Cipher = AES_GCM) -> tuple[Side, Side]:
    one, other = bytes([1]) * 32, bytes([2]) * 32
    return Side(one, other, cipher), Side(other, one, cipher)


def change(side: Side, now_ns: int) -> bool:
    """Changes keys after the peer acknowledged all that was sent."""
    side.protection.on_acked(side.number - 1)
    return side.protection.change(side.number, now_ns, PTO)


@pytest.mark.parametrize("cipher", [AES_GCM, CHACHA_POLY], ids=lambda each: each.name)
def test_both_directions_open_in_every_phase(cipher: Cipher) -> None:
    ours, theirs = sides(cipher)
    phases = []
    for turn in range(5):
        now_ns = turn * 10 * PTO
        packet = ours.seal(b"question")
        phases.append(packet[1])
        assert theirs.open(packet, now_ns) == b"question"
        answer = theirs.seal(b"answer")
        assert answer[1] == packet[1], "who follows seals its next packet with the new keys"
        assert ours.open(answer, now_ns) == b"answer"
        assert change(ours, now_ns + 5 * PTO)
    assert phases == [0, 1, 0, 1, 0]


def test_directions_and_phases_share_no_key() -> None:
    ours, theirs = sides()
    first = ours.seal(b"same")
    ours.number = 0
    ours.protection.sealer.change(0)
    assert ours.seal(b"same")[2] != first[2]
    theirs.number = 0
    assert theirs.seal(b"same")[2] != first[2]


def test_keys_do_not_change_before_the_phase_was_acknowledged() -> None:
    ours, theirs = sides()
    assert not ours.protection.change(0, 0, PTO)
    ours.seal(b"x")
    assert change(ours, 0)
    assert not ours.protection.change(ours.number, 100 * PTO, PTO), "none of the new phase yet"
    theirs.open(ours.seal(b"y"))
    ours.open(theirs.seal(b"z"))
    ours.protection.on_acked(0)
    assert not ours.protection.change(ours.number, 100 * PTO, PTO), "that was of the old phase"
    ours.protection.on_acked(1)
    assert ours.protection.change(ours.number, 100 * PTO, PTO)


def test_keys_do_not_change_again_before_the_peer_followed_or_within_three_ptos() -> None:
    ours, theirs = sides()
    ours.seal(b"x")
    assert change(ours, 0)
    packet = ours.seal(b"y")
    assert not change(ours, 100 * PTO), "the peer has not followed"
    theirs.open(packet)
    ours.open(theirs.seal(b"z"))
    assert not change(ours, 3 * PTO - 1)
    assert change(ours, 3 * PTO)


def test_late_packet_of_the_last_phase_opens_until_its_keys_are_forgotten() -> None:
    ours, theirs = sides()
    late, later = ours.seal(b"late"), ours.seal(b"later")
    assert change(ours, 0)
    theirs.open(ours.seal(b"new"), now_ns=7 * MS)
    assert theirs.open(late) == b"late"
    assert theirs.protection.forget_ns == 7 * MS + 3 * PTO
    theirs.protection.forget_previous()
    assert theirs.protection.forget_ns is None
    with pytest.raises(InvalidTag):
        theirs.open(later)


def test_forged_packet_of_a_next_phase_changes_nothing() -> None:
    ours, theirs = sides()
    with pytest.raises(InvalidTag):
        theirs.open((5, 1, bytes(40)))
    assert (theirs.protection.sealer.phase, theirs.protection.opener.phase) == (0, 0)
    assert theirs.open(ours.seal(b"still the first phase")) == b"still the first phase"


def test_peer_that_changes_again_before_it_can_know_that_we_followed_is_refused() -> None:
    ours, theirs = sides()
    ours.seal(b"x")
    assert change(ours, 0)
    theirs.open(ours.seal(b"y"))
    ours.protection.opener.change(0)  # it pretends that we followed
    assert change(ours, 100 * PTO)
    with pytest.raises(RemoteProtocolError) as refused:
        theirs.open(ours.seal(b"z"))
    assert refused.value.code == CloseCode.KEY_UPDATE
