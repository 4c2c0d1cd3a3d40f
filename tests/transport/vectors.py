"""Writes section 15 of docs/transport-spec.md: `python -m tests.transport.vectors`.

The same bytes on each run: all keys, CIDs and ports are fixed. `test_vectors` reads the
section back from the document and checks it without the code that wrote it.
"""

from __future__ import annotations

import hashlib
import hmac
import textwrap
from pathlib import Path

from rawproto.transport.constants import ResetCode
from rawproto.transport.handshake import (
    Agreement,
    ClientHandshake,
    Ports,
    ServerHandshake,
    suite_number,
)
from rawproto.transport.noise import X25519
from rawproto.transport.parameters import Parameters
from rawproto.transport.protection import Keys
from rawproto.transport.tokens import reset_token
from rawproto.wire.rpt import (
    KEY_PHASE,
    LONG,
    SHORT,
    VERSION_1,
    RPTHandshake,
    RPTInit,
    RPTReset,
    RPTRetry,
    RPTVersion,
)
from rawproto.wire.rpt_frames import (
    AckFrame,
    BlockedFrame,
    CloseFrame,
    DatagramFrame,
    Frame,
    HandshakeDoneFrame,
    MaxDataFrame,
    MaxStreamDataFrame,
    MaxStreamsFrame,
    NewConnectionIDFrame,
    PaddingFrame,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    ResetStreamFrame,
    RetireConnectionIDFrame,
    StopSendingFrame,
    StreamFrame,
    emit_frames,
)

__all__ = ["BEGIN", "END", "PAGE", "section"]

PAGE = Path(__file__).parents[2] / "docs" / "transport-spec.md"
BEGIN, END = "<!-- vectors: begin -->", "<!-- vectors: end -->"

_CLIENT_PORT, _LISTENER_PORT = 50_000, 4000
_CLIENT_CID, _ORIGINAL_CID = 0x1111111111111111, 0x2222222222222222
_LISTENER_CID = 0x3333333333333333
_TOKEN = b"token"
_PHASE_NUMBER = (1 << 32) + 5

FRAMES: list[tuple[str, Frame]] = [
    ("PADDING", PaddingFrame(1)),
    ("PING", PingFrame()),
    ("ACK largest=9 delay_us=25000 first=10", AckFrame(9, 25_000, 10)),
    (
        "ACK largest=4294967300 delay_us=0 first=2 gap=1 length=3 gap=7 length=1",
        AckFrame(0x1_0000_0004, 0, 2, ((1, 3), (7, 1))),
    ),
    (
        "ACK with ECN largest=5 delay_us=10 first=1 gap=1 length=2 ect0=4 ect1=0 ce=1",
        AckFrame(5, 10, 1, ((1, 2),), (4, 0, 1)),
    ),
    ("STREAM stream_id=4 offset=65536 data=616263", StreamFrame(4, 65_536, b"abc")),
    ("STREAM with FIN stream_id=0 offset=3 data=", StreamFrame(0, 3, b"", True)),
    ("RESET_STREAM stream_id=8 code=256 final_size=70000", ResetStreamFrame(8, 256, 70_000)),
    ("STOP_SENDING stream_id=5 code=257", StopSendingFrame(5, 257)),
    ("MAX_DATA maximum=1048576", MaxDataFrame(1 << 20)),
    ("MAX_STREAM_DATA stream_id=4 maximum=4294967296", MaxStreamDataFrame(4, 1 << 32)),
    ("MAX_STREAMS direction=1 maximum=129", MaxStreamsFrame(1, 129)),
    ("BLOCKED what=1 stream_id=4 limit=1048576", BlockedFrame(1, 4, 1 << 20)),
    ("DATAGRAM data=00ff", DatagramFrame(b"\0\xff")),
    (
        "NEW_CONNECTION_ID sequence=1 retire_prior_to=1 cid=255 reset_token="
        + bytes(range(16)).hex(),
        NewConnectionIDFrame(1, 1, 255, bytes(range(16))),
    ),
    ("RETIRE_CONNECTION_ID sequence=0", RetireConnectionIDFrame(0)),
    ("PATH_CHALLENGE data=0102030405060708", PathChallengeFrame(bytes(range(1, 9)))),
    ("PATH_RESPONSE data=0102030405060708", PathResponseFrame(bytes(range(1, 9)))),
    ("HANDSHAKE_DONE", HandshakeDoneFrame()),
    ("CLOSE code=256 reason=süß", CloseFrame(256, "süß")),
]


def _secret(name: str) -> bytes:
    """32 bytes that anybody can make again: SHA-256 of the name."""
    return hashlib.sha256(name.encode()).digest()


def _block(*lines: tuple[str, str | bytes | int]) -> str:
    """Names and values; long hexadecimal goes on below itself."""
    shown = []
    for name, value in lines:
        text = value.hex() if isinstance(value, bytes) else str(value)
        first, *rest = textwrap.wrap(text, 72) or [""]
        shown += [f"{name:<25} {first}".rstrip(), *[" " * 26 + part for part in rest]]
    return "\n".join(["```", *shown, "```", ""])


def _parameters(client: bool) -> Parameters:
    cid = _CLIENT_CID if client else _LISTENER_CID
    port = _CLIENT_PORT if client else _LISTENER_PORT
    key = _secret("client reset key" if client else "listener reset key")
    return Parameters(
        connection_id=cid,
        reset_token=reset_token(key, port, cid),
        original_cid=None if client else _ORIGINAL_CID,
        max_data=1 << 20,
        max_stream_data=1 << 20,
        max_streams_two_way=128,
        max_streams_one_way=128,
        idle_timeout_ms=30_000,
        max_packet_bytes=65_507,
        max_datagram_bytes=65_000,
        max_message_bytes=1 << 24,
    )


def _handshake(pattern: str, cipher: str, token: bytes) -> tuple[str, Agreement]:
    """One handshake: its block, and what the client agreed on."""
    psk = _secret("psk") if "psk" in pattern else b""
    known = pattern.startswith("IK")
    client = ClientHandshake(
        suite_number(pattern, cipher),
        Ports(_CLIENT_PORT, _LISTENER_PORT, _CLIENT_CID, _ORIGINAL_CID),
        static=_secret("client static"),
        ephemeral=_secret("client ephemeral"),
        parameters=_parameters(True),
        peer_key=X25519.public_of(_secret("listener static")) if known else None,
        psk=psk,
        token=token,
    )
    init, _ = RPTInit.parse(client.init)
    server = ServerHandshake(
        init,
        client.init,
        static=_secret("listener static"),
        ephemeral=lambda: _secret("listener ephemeral"),
        parameters=_parameters(False),
        psk=psk,
    )
    agreed = client.read(RPTHandshake.parse(server.answer)[0])
    assert agreed is not None
    if client.finish is not None:
        server.read(RPTHandshake.parse(client.finish)[0])
    assert server.agreement is not None
    assert server.agreement.receive_secret == agreed.send_secret
    body = LONG.size + 3 + len(token)
    message_end = body + len(init.message)
    lines: list[tuple[str, str | bytes | int]] = [
        ("pattern", pattern),
        ("cipher", cipher),
        ("suite", bytes([init.suite])),
        ("init_prologue", client.init[:body]),
        ("init_message", init.message),
        ("init_zeros", len(init.padding)),
        ("init_crc", client.init[message_end + len(init.padding) :]),
        ("message_2", server.answer),
    ]
    if client.finish is not None:
        lines.append(("message_3", client.finish))
    for name, secret in (
        ("client", agreed.send_secret),
        ("listener", agreed.receive_secret),
    ):
        keys = Keys(secret, agreed.cipher)
        lines += [(f"{name}_secret", secret), *_key_lines(name, keys)]
        lines += [(f"{name}_next_secret", keys.next().secret)]
        lines += _key_lines(f"{name}_next", keys.next())
    return _block(*lines), agreed


def _key_lines(name: str, keys: Keys) -> list[tuple[str, str | bytes | int]]:
    # One block of HKDF-Expand is all of a key.
    return [
        (f"{name}_key", hmac.digest(keys.secret, b"rpt1 key\x01", "sha256")),
        (f"{name}_iv", keys.iv.to_bytes(12, "big")),
    ]


def _sealed(
    keys: Keys, frames: list[Frame], *, from_client: bool, number: int = 0, phase: int = 0
) -> str:
    plain = emit_frames(frames).ljust(12, b"\0")
    header = SHORT.pack(
        KEY_PHASE * phase | VERSION_1,
        2,
        _LISTENER_PORT if from_client else _CLIENT_PORT,
        _CLIENT_PORT if from_client else _LISTENER_PORT,
        _LISTENER_CID if from_client else _CLIENT_CID,
        number & 0xFFFFFFFF,
    )
    sealed = keys.aead.encrypt(keys.nonce(number), plain, header)
    return _block(
        ("from", "client" if from_client else "listener"),
        ("phase", phase),
        ("number", number),
        ("frames", plain),
        ("nonce", keys.nonce(number)),
        ("packet", header + sealed),
    )


def section() -> str:
    """The section between its markers."""
    names = ("client static", "listener static", "client ephemeral", "listener ephemeral")
    keys: list[tuple[str, str | bytes | int]] = []
    for name in names:
        label = name.replace(" ", "_")
        keys += [(label, _secret(name)), (f"{label}_public", X25519.public_of(_secret(name)))]
    keys += [("psk", _secret("psk"))]
    for name in ("client", "listener"):
        keys += [(f"{name}_reset_key", _secret(f"{name} reset key"))]
        keys += [(f"{name}_parameters", _parameters(name == "client").emit())]
    parts = [
        "15.1. Each key is SHA-256 of its name in words (`client static`). The client has port",
        "50000 and connection ID 11 .. 11, the listener 4000 and 33 .. 33, INIT's `dst_cid` is",
        "22 .. 22. An INIT is `init_prologue || init_message ||` so many zeros `|| init_crc`.",
        "Values go on where a line is indented.",
        "",
        _block(*keys),
    ]
    agreements = []
    for number, (pattern, cipher, token) in enumerate(
        (
            ("XX", "AESGCM", b""),
            ("IK", "ChaChaPoly", _TOKEN),
            ("XXpsk3", "ChaChaPoly", b""),
            ("IKpsk2", "AESGCM", b""),
        ),
        2,
    ):
        block, agreed = _handshake(pattern, cipher, token)
        agreements.append(agreed)
        after = f", after a RETRY with the token `{token.decode()}`" if token else ""
        parts += [
            f"15.{number}. {pattern}{after}.",
            "",
            block,
        ]
    returned = {
        "suite": 0x01,
        "dst_port": _CLIENT_PORT,
        "src_port": _LISTENER_PORT,
        "dst_cid": _CLIENT_CID,
        "src_cid": _ORIGINAL_CID,
    }
    forgotten = {**returned, "suite": 0, "dst_cid": 0, "src_cid": _LISTENER_CID}
    token = reset_token(_secret("listener reset key"), _LISTENER_PORT, _LISTENER_CID)
    parts += [
        "15.6. Answers to the INIT of 15.2, and the last, RESET(UNKNOWN), to a packet of 15.7.",
        "",
        _block(
            ("retry", RPTRetry(**returned, token=_TOKEN).emit()),
            ("reset_port", RPTReset(**returned, code=ResetCode.PORT).emit()),
            ("version", RPTVersion(**returned, versions=(1,)).emit()),
            ("reset_unknown", RPTReset(**forgotten, code=ResetCode.UNKNOWN, token=token).emit()),
        ),
        "15.7. Short packets under the secrets of 15.2, and the last under those of 15.3. Who",
        "reads the third has opened about 2^32 packets before it.",
        "",
    ]
    xx, ik = agreements[:2]
    to_listener, to_client = (
        Keys(xx.send_secret, xx.cipher),
        Keys(xx.receive_secret, xx.cipher),
    )
    greeting: list[Frame] = [StreamFrame(0, 0, b"hello", True)]
    answer: list[Frame] = [AckFrame(0, 0, 1), HandshakeDoneFrame()]
    parts += [
        _sealed(to_listener, greeting, from_client=True),
        _sealed(to_client, answer, from_client=False),
        _sealed(to_listener.next(), [PingFrame()], from_client=True, number=_PHASE_NUMBER, phase=1),
        _sealed(Keys(ik.send_secret, ik.cipher), [PingFrame()], from_client=True, number=7),
        "15.8. Frames, their fields under the names of 5; bytes in hexadecimal.",
        "",
        "| frame | bytes |",
        "|---|---|",
        *[f"| {text} | `{frame.emit().hex()}` |" for text, frame in FRAMES],
        "",
        "15.9. The key log of 15.2.",
        "",
        "```",
        f"RPT_CLIENT_SECRET {_CLIENT_CID:016x} {xx.send_secret.hex()}",
        f"RPT_SERVER_SECRET {_CLIENT_CID:016x} {xx.receive_secret.hex()}",
        "```",
        "",
    ]
    return "\n".join(parts)


def main() -> None:
    """Puts the section into the page."""
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{section()}\n{END}{after}")


if __name__ == "__main__":
    main()
