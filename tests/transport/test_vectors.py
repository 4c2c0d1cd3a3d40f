"""Section 15 of the specification, read from the document.

First against our code, which must write the same; then against other implementations: of
Noise (`noiseprotocol`), HKDF and the AEADs, and against the document's own table of frames.
"""

from __future__ import annotations

import hmac
import re
import struct
from typing import Any
from zlib import crc32

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from noise.connection import Keypair, NoiseConnection

from rawproto.transport.parameters import Parameters
from rawproto.wire.rpt import RPTReset, RPTRetry, RPTVersion, parse_rpt
from rawproto.wire.rpt_frames import FrameType, parse_frame, parse_frames
from tests.transport.vectors import BEGIN, END, PAGE, section

TEXT = PAGE.read_text()
SECTION = TEXT.partition(BEGIN)[2].partition(END)[0]
AEADS = {"AESGCM": AESGCM, "ChaChaPoly": ChaCha20Poly1305}

Vector = dict[str, str]


def blocks(number: int) -> list[Vector]:
    """The blocks of section 15.`number`, each as its names and values."""
    (part,) = re.findall(rf"^15\.{number}\. (.*?)(?=^15\.\d|\Z)", SECTION, re.M | re.S)
    found = []
    for block in re.findall(r"^```\n(.*?)^```$", part, re.M | re.S):
        joined = re.sub(r"\n +", "", block)
        found.append(dict(line.split(maxsplit=1) for line in joined.splitlines()))
    return found


def hexadecimal(vector: Vector, name: str) -> bytes:
    return bytes.fromhex(vector[name])


KEYS = blocks(1)[0]
HANDSHAKES = [blocks(number)[0] for number in (2, 3, 4, 5)]
PACKETS = blocks(7)
FRAMES = re.findall(r"^\| (.*?) \| `([0-9a-f]+)` \|$", SECTION, re.M)
each_handshake = pytest.mark.parametrize("vector", HANDSHAKES, ids=lambda each: each["pattern"])


def init_of(vector: Vector) -> bytes:
    head = hexadecimal(vector, "init_prologue") + hexadecimal(vector, "init_message")
    return head + bytes(int(vector["init_zeros"])) + hexadecimal(vector, "init_crc")


def test_document_holds_what_our_code_writes() -> None:
    assert SECTION.strip() == section().strip()


@pytest.mark.filterwarnings("ignore:One of ephemeral keypairs")
@each_handshake
def test_each_handshake_is_that_of_another_implementation_of_noise(vector: Vector) -> None:
    name = f"Noise_{vector['pattern']}_25519_{vector['cipher']}_SHA256".encode()
    client, listener = NoiseConnection.from_name(name), NoiseConnection.from_name(name)
    client.set_as_initiator()
    listener.set_as_responder()
    for side, who in ((client, "client"), (listener, "listener")):
        for kind, key in ((Keypair.STATIC, "static"), (Keypair.EPHEMERAL, "ephemeral")):
            side.set_keypair_from_private_bytes(kind, hexadecimal(KEYS, f"{who}_{key}"))
        side.set_prologue(hexadecimal(vector, "init_prologue"))
        if "psk" in vector["pattern"]:
            side.set_psks(hexadecimal(KEYS, "psk"))
    known = vector["pattern"].startswith("IK")
    if known:
        key = hexadecimal(KEYS, "listener_static_public")
        client.set_keypair_from_public_bytes(Keypair.REMOTE_STATIC, key)
    client.start_handshake()
    listener.start_handshake()
    ours, theirs = (hexadecimal(KEYS, f"{who}_parameters") for who in ("client", "listener"))
    messages = [
        (client, listener, ours if known else b"", hexadecimal(vector, "init_message")),
        (listener, client, theirs, hexadecimal(vector, "message_2")[24:-4]),
    ]
    if not known:
        messages.append((client, listener, ours, hexadecimal(vector, "message_3")[24:-4]))
    for writer, reader, payload, message in messages:
        assert bytes(writer.write_message(payload)) == message
        assert bytes(reader.read_message(message)) == payload
    assert client.handshake_finished
    assert listener.handshake_finished
    for side, who in ((client, "client"), (listener, "listener")):
        assert side.noise_protocol.cipher_state_encrypt.k == hexadecimal(vector, f"{who}_secret")


@each_handshake
def test_keys_of_both_phases_follow_from_the_secrets_by_hkdf(vector: Vector) -> None:
    for phase in ("client", "client_next", "listener", "listener_next"):
        secret = hexadecimal(vector, f"{phase}_secret")
        for name, size in (("key", 32), ("iv", 12)):
            block = hmac.digest(secret, f"rpt1 {name}\x01".encode(), "sha256")
            assert block[:size] == hexadecimal(vector, f"{phase}_{name}")
        if not phase.endswith("next"):
            block = hmac.digest(secret, b"rpt1 next\x01", "sha256")
            assert block == hexadecimal(vector, f"{phase}_next_secret")


@each_handshake
def test_long_packets_have_the_header_that_section_2_draws(vector: Vector) -> None:
    packets = [init_of(vector), hexadecimal(vector, "message_2")]
    packets += [hexadecimal(vector, "message_3")] if "message_3" in vector else []
    assert len(packets[0]) == 1200
    for packet, kind, ports, cids in zip(
        packets,
        (0, 2, 2),
        ((4000, 50000), (50000, 4000), (4000, 50000)),
        ((0x22, 0x11), (0x11, 0x33), (0x33, 0x11)),
        strict=False,
    ):
        flags, suite, dst_port, src_port, dst_cid, src_cid, length = struct.unpack(
            "!BBHHQQH", packet[:24]
        )
        assert flags == 0x80 | kind << 4 | 1
        assert suite == int(vector["suite"], 16)
        assert (dst_port, src_port) == ports
        assert (dst_cid, src_cid) == tuple(cid * 0x0101010101010101 for cid in cids)
        assert len(packet) == 24 + length + 4
        assert int.from_bytes(packet[-4:], "big") == crc32(packet[:-4])
    prologue = hexadecimal(vector, "init_prologue")
    token_length = prologue[24]
    message_length = len(hexadecimal(vector, "init_message"))
    assert prologue[25:] == b"token"[:token_length] + message_length.to_bytes(2, "big")


def test_reset_tokens_are_what_section_11_says() -> None:
    for who, port, cid in (("client", 50000, 0x11), ("listener", 4000, 0x33)):
        key = hexadecimal(KEYS, f"{who}_reset_key")
        named = port.to_bytes(2, "big") + bytes([cid]) * 8
        parameters = Parameters.parse(hexadecimal(KEYS, f"{who}_parameters"))
        assert parameters.reset_token == hmac.digest(key, named, "sha256")[:16]
        assert parameters.connection_id == int.from_bytes(named[2:], "big")


def test_answers_without_a_connection_are_read_as_what_they_are() -> None:
    (vector,) = blocks(6)
    found: dict[str, Any] = {name: parse_rpt(bytes.fromhex(vector[name]))[0] for name in vector}
    for name, packet in found.items():
        assert type(packet).verify(bytes.fromhex(vector[name]))
    assert isinstance(found["retry"], RPTRetry)
    assert found["retry"].token == b"token"
    assert isinstance(found["version"], RPTVersion)
    assert found["version"].versions == (1,)
    assert isinstance(found["reset_port"], RPTReset)
    assert (found["reset_port"].code, found["reset_port"].token) == (0, bytes(16))
    parameters = Parameters.parse(hexadecimal(KEYS, "listener_parameters"))
    assert found["reset_unknown"].token == parameters.reset_token
    assert found["reset_unknown"].dst_cid == 0


@pytest.mark.parametrize("number", range(len(PACKETS)))
def test_short_packet_opens_with_the_key_and_nonce_of_the_document(number: int) -> None:
    vector, packet = PACKETS[number], hexadecimal(PACKETS[number], "packet")
    handshake = HANDSHAKES[1 if number == len(PACKETS) - 1 else 0]
    phase = vector["from"] + ("_next" if vector["phase"] == "1" else "")
    iv, whole = hexadecimal(handshake, f"{phase}_iv"), int(vector["number"])
    nonce = (int.from_bytes(iv, "big") ^ whole).to_bytes(12, "big")
    assert nonce == hexadecimal(vector, "nonce")
    aead = AEADS[handshake["cipher"]](hexadecimal(handshake, f"{phase}_key"))
    assert aead.decrypt(nonce, packet[18:], packet[:18]) == hexadecimal(vector, "frames")
    assert parse_frames(hexadecimal(vector, "frames"))
    flags, _, dst_port, _, cid, low = struct.unpack("!BBHHQI", packet[:18])
    assert flags == 0x40 * int(vector["phase"]) | 1
    to = (4000, 0x33) if vector["from"] == "client" else (50000, 0x11)
    assert (dst_port, cid) == (to[0], to[1] * 0x0101010101010101)
    assert low == whole & 0xFFFFFFFF
    assert len(packet) >= 46


def test_key_log_names_the_secrets() -> None:
    lines = re.findall(r"^RPT_(\w+)_SECRET (\w{16}) (\w{64})$", SECTION, re.M)
    secrets = [HANDSHAKES[0]["client_secret"], HANDSHAKES[0]["listener_secret"]]
    assert lines == [
        ("CLIENT", "11" * 8, secrets[0]),
        ("SERVER", "11" * 8, secrets[1]),
    ]


def frame_table() -> dict[int, tuple[str, str]]:
    """Section 5's table: type -> (name, fields)."""
    frames = TEXT.partition("## 5 Frames\n")[2].partition("\n## ")[0]
    rows = [row.split("|") for row in re.findall(r"^\| 0x.*$", frames, re.M)]
    return {int(row[1], 16): (row[2].strip(), row[3]) for row in rows}


def read_by_table(data: bytes) -> str:
    """A frame in words, read by nothing but the table of section 5."""
    table = frame_table()
    name, words = table[data[0]]
    words = words.replace("as ACK, then", table[2][1] + ",")
    words = table[4][1] if "as STREAM" in words else words
    words = re.sub(r"\(\d.*?\)|\(UTF-8\)|\(one byte each\)", "", words)
    at, found, count = 1, [name], 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        assert at <= len(data)
        return data[at - size : at]

    for repeated, field in re.findall(r" *count x \((.*?)\)|([^,]+)", words):
        for each in repeated.split(",") * count if repeated else [field]:
            label, _, kind = each.strip().partition(" ")
            if not label or label == "from":  # HANDSHAKE_DONE: "from the listener only"
                continue
            if kind.startswith("u"):
                count_or_value = int.from_bytes(take(int(kind.split()[0][1:]) // 8), "big")
                if label in ("count", "length") and not repeated:
                    count = count_or_value
                else:
                    found.append(f"{label}={count_or_value}")
            else:
                value = take(int(kind) if kind else count)
                found.append(f"{label}={value.decode() if label == 'reason' else value.hex()}")
    assert at == len(data)
    return " ".join(found)


@pytest.mark.parametrize(("words", "shown"), FRAMES)
def test_frame_is_what_the_table_of_section_5_and_our_parser_read(words: str, shown: str) -> None:
    data = bytes.fromhex(shown)
    assert read_by_table(data) == words
    frame, end = parse_frame(data, 0)
    assert end == len(data)
    assert frame.emit() == data


def test_every_frame_has_a_vector() -> None:
    known = {value for name, value in vars(FrameType).items() if name.isupper()}
    assert {bytes.fromhex(shown)[0] for _, shown in FRAMES} == known == set(frame_table())
