"""The Noise machine against the official vectors and against `noiseprotocol`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from noise.connection import Keypair, NoiseConnection

from rawproto.transport.noise import (
    AES_GCM,
    CHACHA_POLY,
    PATTERNS,
    X25519,
    KeyExchange,
    NoiseError,
    NoiseHandshake,
)

HERE = Path(__file__).parent / "noise"
VECTORS = [
    vector
    for file in ("cacophony", "snow")
    for vector in json.loads((HERE / f"{file}.json").read_text())["vectors"]
]
CIPHERS = {cipher.name: cipher for cipher in (AES_GCM, CHACHA_POLY)}


def _public_of(private_key: bytes) -> bytes:
    return X448PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def _exchange(private_key: bytes, public_key: bytes) -> bytes:
    key = X448PrivateKey.from_private_bytes(private_key)
    return key.exchange(X448PublicKey.from_public_bytes(public_key))


EXCHANGES = {"25519": X25519, "448": KeyExchange("448", 56, _public_of, _exchange)}


def name_of(vector: dict[str, Any]) -> str:
    return str(vector.get("protocol_name") or vector["name"])


def side(vector: dict[str, Any], who: str, *, initiator: bool) -> NoiseHandshake:
    _, pattern, exchange, cipher, label = name_of(vector).split("_")
    remote = vector.get(f"{who}_remote_static")
    psks = vector.get(f"{who}_psks") or [vector.get(f"{who}_psk", "")]
    return NoiseHandshake(
        PATTERNS[pattern],
        CIPHERS[cipher],
        initiator=initiator,
        static=bytes.fromhex(vector[f"{who}_static"]),
        ephemeral=bytes.fromhex(vector[f"{who}_ephemeral"]),
        remote_static=bytes.fromhex(remote) if remote else None,
        psk=bytes.fromhex(psks[0]) if psks[0] else b"",
        prologue=bytes.fromhex(vector[f"{who}_prologue"]),
        key_exchange=EXCHANGES[exchange],
        hash_name=label.lower(),
        hash_label=label,
    )


@pytest.mark.parametrize("number", range(len(VECTORS)), ids=[name_of(each) for each in VECTORS])
def test_each_message_of_the_official_vectors_is_written_and_read_as_they_say(number: int) -> None:
    vector = VECTORS[number]
    writer, reader = side(vector, "init", initiator=True), side(vector, "resp", initiator=False)
    first = writer
    ciphers: list[Any] = []
    for position, message in enumerate(vector["messages"]):
        payload, expected = bytes.fromhex(message["payload"]), bytes.fromhex(message["ciphertext"])
        if not writer.finished:
            assert writer.write(payload) == expected
            assert reader.read(expected) == payload
            writer, reader = reader, writer
            continue
        if not ciphers:
            assert first.split() == (reader if first is writer else writer).split()
            cipher = CIPHERS[name_of(vector).split("_")[3]]
            ciphers = [cipher.aead(secret) for secret in first.split()]
        # The initiator writes the even messages, each side counting its own.
        start = len(PATTERNS[name_of(vector).split("_")[1]].messages)
        mine = [at for at in range(start, position) if at % 2 == position % 2]
        nonce = CIPHERS[name_of(vector).split("_")[3]].nonce(len(mine))
        assert ciphers[position % 2].encrypt(nonce, payload, b"") == expected
    if "handshake_hash" in vector:
        assert first.hash.hex() == vector["handshake_hash"]


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
@pytest.mark.parametrize("cipher", sorted(CIPHERS))
@pytest.mark.parametrize("we_begin", [True, False])
def test_handshake_with_another_implementation_ends_in_the_same_keys(
    pattern: str, cipher: str, we_begin: bool
) -> None:
    statics = {True: bytes([1]) * 32, False: bytes([2]) * 32}
    psk = bytes([7]) * 32 if PATTERNS[pattern].psk else b""
    other = NoiseConnection.from_name(f"Noise_{pattern}_25519_{cipher}_SHA256".encode())
    (other.set_as_responder if we_begin else other.set_as_initiator)()
    if psk:
        other.set_psks(psk)
    other.set_keypair_from_private_bytes(Keypair.STATIC, statics[not we_begin])
    if PATTERNS[pattern].responder_known and not we_begin:
        key = X25519.public_of(statics[we_begin])
        other.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, key)
    other.set_prologue(b"before")
    other.start_handshake()
    ours = NoiseHandshake(
        PATTERNS[pattern],
        CIPHERS[cipher],
        initiator=we_begin,
        static=statics[we_begin],
        ephemeral=bytes([3]) * 32,
        remote_static=X25519.public_of(statics[not we_begin]) if we_begin else None,
        psk=psk,
        prologue=b"before",
    )
    turn = we_begin
    while not ours.finished:
        if turn:
            assert bytes(other.read_message(ours.write(b"ours"))) == b"ours"
        else:
            assert ours.read(bytes(other.write_message(b"theirs"))) == b"theirs"
        turn = not turn
    assert ours.remote_static == X25519.public_of(statics[not we_begin])
    mine = ours.split()[0 if we_begin else 1]
    sealed = CIPHERS[cipher].aead(mine).encrypt(CIPHERS[cipher].nonce(0), b"data", b"")
    assert bytes(other.decrypt(sealed)) == b"data"


def pair(pattern: str, **changes: Any) -> tuple[NoiseHandshake, NoiseHandshake]:
    """Both sides, in agreement but for what `changes` gives the responder."""
    psk = bytes([7]) * 32 if PATTERNS[pattern].psk else b""
    common: dict[str, Any] = {"psk": psk, "prologue": b"p"}
    client = NoiseHandshake(
        PATTERNS[pattern],
        AES_GCM,
        initiator=True,
        static=bytes([1]) * 32,
        ephemeral=bytes([3]) * 32,
        remote_static=X25519.public_of(bytes([2]) * 32),
        **common,
    )
    theirs = {"static": bytes([2]) * 32, "ephemeral": bytes([4]) * 32, **common, **changes}
    return client, NoiseHandshake(PATTERNS[pattern], AES_GCM, initiator=False, **theirs)


@pytest.mark.parametrize("pattern", sorted(PATTERNS))
def test_message_changed_in_any_byte_opens_nowhere_and_changes_nothing(pattern: str) -> None:
    client, server = pair(pattern)
    writer, reader, first = client, server, True
    while not writer.finished:
        message = writer.write(b"payload")
        for at in range(len(message)):
            broken = bytearray(message)
            broken[at] ^= 0x40
            if pattern == "XX" and first:
                break  # its first message has nothing that would tell
            with pytest.raises(NoiseError):
                reader.read(bytes(broken))
        for length in range(len(message) - len(b"payload")):
            with pytest.raises(NoiseError):
                reader.read(message[:length])
        assert reader.read(message) == b"payload"
        writer, reader, first = reader, writer, False
    assert client.split() == server.split()


@pytest.mark.parametrize(
    ("pattern", "change", "fails_at"),
    [
        ("XX", {"prologue": b"q"}, 1),
        ("IK", {"prologue": b"q"}, 0),
        ("IK", {"static": bytes([9]) * 32}, 0),
        ("XXpsk3", {"psk": bytes([8]) * 32}, 2),
        ("IKpsk2", {"psk": bytes([8]) * 32}, 1),
    ],
)
def test_what_the_sides_disagree_on_shows_in_the_message_where_it_must(
    pattern: str, change: dict[str, Any], fails_at: int
) -> None:
    writer, reader = pair(pattern, **change)
    for number in range(fails_at + 1):
        message = writer.write(b"")
        if number == fails_at:
            with pytest.raises(NoiseError):
                reader.read(message)
        else:
            reader.read(message)
        writer, reader = reader, writer


def test_public_key_of_low_order_is_refused() -> None:
    client, _ = pair("XX")
    client.write(b"")
    with pytest.raises(NoiseError, match="low order"):
        client.read(bytes(32) + bytes(200))


@pytest.mark.parametrize(
    "make",
    [
        lambda: pair("XXpsk3", psk=b""),
        lambda: pair("XX", psk=bytes(32)),
        lambda: pair("XXpsk3", psk=bytes(31)),
    ],
)
def test_shared_secret_that_does_not_suit_the_pattern_is_refused(
    make: Callable[[], object],
) -> None:
    with pytest.raises(ValueError, match="psk"):
        make()
