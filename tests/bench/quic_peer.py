"""The same transfer over a QUIC library, as a program on each side: bench_rpt's peers.

    quic_peer.py aioquic|qh3 serve ADDR            quic_peer.py aioquic|qh3 run ADDR SECONDS

Both are given what RPT has: packets as large as an MTU of 1500 takes, windows of 16 MiB, and a
sender that keeps 1 MiB ready and no more, because aioquic's buffer slows down as it grows.
qh3 is aioquic's interface over a core in Rust, which sends with UDP segmentation; it does not
tell how many packets it sent, so these are counted where they arrive.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import sys
import time
from importlib import import_module
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

LIBRARY = sys.argv[1]
QUIC: Any = import_module(f"{LIBRARY}.asyncio")
Configuration: Any = import_module(f"{LIBRARY}.quic.configuration").QuicConfiguration
StreamDataReceived: Any = import_module(f"{LIBRARY}.quic.events").StreamDataReceived
PORT = 4433
AHEAD_BYTES = 1 << 20
PIECE = bytes(1 << 16)


def configuration(*, is_client: bool) -> Any:
    return Configuration(
        is_client=is_client,
        alpn_protocols=["perf"],
        max_datagram_size=1472,
        max_data=16 << 20,
        max_stream_data=16 << 20,
        verify_mode=ssl.CERT_NONE,
    )


class Counter(QUIC.QuicConnectionProtocol):  # type: ignore[misc]
    """The server's side: counts, and tells at the end."""

    size = packets = 0
    start_ns = cpu_ns = 0

    def datagram_received(self, data: bytes | str, addr: object) -> None:
        self.packets += 1
        super().datagram_received(data, addr)

    def quic_event_received(self, event: Any) -> None:
        if not isinstance(event, StreamDataReceived):
            return
        if not self.start_ns:
            self.start_ns, self.cpu_ns = time.monotonic_ns(), time.process_time_ns()
        self.size += len(event.data)
        if event.end_stream:
            seconds = (time.monotonic_ns() - self.start_ns) / 1e9
            us = (time.process_time_ns() - self.cpu_ns) / 1e3 / self.packets
            report = {
                "bytes": self.size,
                "seconds": seconds,
                "us": us,
                "packets": self.packets,
            }
            self._quic.send_stream_data(event.stream_id, json.dumps(report).encode(), True)


class Filler(QUIC.QuicConnectionProtocol):  # type: ignore[misc]
    """The client's side: keeps the stream's buffer filled until the time is over."""

    stream_id = -1
    end = 0.0
    report = b""

    def begin(self, seconds: float) -> None:
        self.stream_id = self._quic.get_next_available_stream_id()
        self.end = time.monotonic() + seconds
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.fill()
        self.transmit()

    def datagram_received(self, data: bytes | str, addr: object) -> None:
        if self.end:
            self.fill()
        super().datagram_received(data, addr)

    def datagrams_received(self, data: list[bytes], addr: object) -> None:
        """qh3 hands over what came at once."""
        if self.end:
            self.fill()
        super().datagrams_received(data, addr)

    def fill(self) -> None:
        if time.monotonic() >= self.end:
            self._quic.send_stream_data(self.stream_id, b"", True)
            self.end = 0.0
            return
        if LIBRARY == "qh3":
            waiting = self._quic.get_send_buffer_size(self.stream_id)
        else:
            stream = self._quic._streams.get(self.stream_id)
            waiting = stream.sender._buffer_stop - stream.sender._buffer_start if stream else 0
        while waiting < AHEAD_BYTES:
            self._quic.send_stream_data(self.stream_id, PIECE)
            waiting += len(PIECE)

    def quic_event_received(self, event: Any) -> None:
        if isinstance(event, StreamDataReceived):
            self.report += event.data
            if event.end_stream:
                self.done.set_result(self.report)


def certificate() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """One that says nothing; nobody looks at it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
    day = datetime.datetime(2020, 1, 1)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day + datetime.timedelta(days=36_500))
        .sign(key, SHA256())
    )
    return made, key


async def serve_forever(addr: str) -> None:
    settings = configuration(is_client=False)
    made, key = certificate()
    if LIBRARY == "qh3":
        plain = PrivateFormat.PKCS8, NoEncryption()
        settings.load_cert_chain(
            made.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, *plain)
        )
    else:
        settings.certificate, settings.private_key = made, key
    await QUIC.serve(addr, PORT, configuration=settings, create_protocol=Counter)
    print("listening", flush=True)
    await asyncio.Event().wait()


async def run(addr: str, seconds: float) -> None:
    settings = configuration(is_client=True)
    async with QUIC.connect(addr, PORT, configuration=settings, create_protocol=Filler) as client:
        assert isinstance(client, Filler)
        cpu_ns = time.process_time_ns()
        client.begin(seconds)
        report = json.loads(await client.done)
        cpu_ns = time.process_time_ns() - cpu_ns
        packets = getattr(client._quic, "_packet_number", report["packets"])
    figures = {
        "goodput_bps": report["bytes"] * 8 / report["seconds"],
        "sender_us": cpu_ns / 1e3 / packets,
        "receiver_us": report["us"],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[2] == "serve":
        asyncio.run(serve_forever(sys.argv[3]))
    else:
        asyncio.run(run(sys.argv[3], float(sys.argv[4])))
