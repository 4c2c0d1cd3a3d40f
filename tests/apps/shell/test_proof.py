"""The answer to a porter's challenge: by that key, for that user, at that server, once."""

from __future__ import annotations

import pytest

from rawproto.apps.shell.proof import Challenge, prove, public_half

CLIENT, OTHER, SERVER = bytes(range(32)), bytes(range(1, 33)), b"\x09" * 32


def test_only_the_keys_owner_answers_for_that_user_at_that_server() -> None:
    challenge = Challenge(public_half(CLIENT), SERVER)
    answer = prove(CLIENT, challenge.data, SERVER, "ada")
    assert challenge.holds(answer, "ada")
    assert not challenge.holds(answer, "root")
    for wrong in (
        prove(OTHER, challenge.data, SERVER, "ada"),
        prove(CLIENT, Challenge(public_half(CLIENT), SERVER).data, SERVER, "ada"),
        prove(CLIENT, challenge.data, public_half(OTHER), "ada"),  # relayed from another server
        bytes(32),
        b"",
    ):
        assert not challenge.holds(wrong, "ada")


def test_key_of_low_order_proves_nothing() -> None:
    assert not Challenge(bytes(32), SERVER).holds(bytes(32), "ada")
    for data in (bytes(32), b"", b"short"):
        with pytest.raises(ValueError, match=r".*"):
            prove(CLIENT, data, SERVER, "ada")
