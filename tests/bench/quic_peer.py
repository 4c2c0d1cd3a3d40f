"""The same transfer over aioquic, as a program on each side: bench_rpt's peer.

    quic_peer.py serve ADDR            quic_peer.py run ADDR SECONDS

aioquic is given what RPT has: packets as large as an MTU of 1500 takes, windows of 16 MiB,
and a sender that keeps 1 MiB ready and no more, because its buffer slows down as it grows.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import ssl
import sys
import time

from aioquic.asyncio import connect, serve
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent, StreamDataReceived
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

PORT = 4433
AHEAD_BYTES = 1 << 20
PIECE = bytes(1 << 16)


def configuration(*, is_client: bool) -> QuicConfiguration:
    return QuicConfiguration(
        is_client=is_client,
        alpn_protocols=["perf"],
        max_datagram_size=1472,
        max_data=16 << 20,
        max_stream_data=16 << 20,
        verify_mode=ssl.CERT_NONE,
    )


class Counter(QuicConnectionProtocol):
    """The server's side: counts, and tells at the end."""

    size = packets = 0
    start_ns = cpu_ns = 0

    def datagram_received(self, data: bytes | str, addr: object) -> None:
        self.packets += 1
        super().datagram_received(data, addr)

    def quic_event_received(self, event: QuicEvent) -> None:
        if not isinstance(event, StreamDataReceived):
            return
        if not self.start_ns:
            self.start_ns, self.cpu_ns = time.monotonic_ns(), time.process_time_ns()
        self.size += len(event.data)
        if event.end_stream:
            seconds = (time.monotonic_ns() - self.start_ns) / 1e9
            us = (time.process_time_ns() - self.cpu_ns) / 1e3 / self.packets
            report = {"bytes": self.size, "seconds": seconds, "us": us}
            self._quic.send_stream_data(event.stream_id, json.dumps(report).encode(), True)


class Filler(QuicConnectionProtocol):
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

    def fill(self) -> None:
        if time.monotonic() >= self.end:
            self._quic.send_stream_data(self.stream_id, b"", True)
            self.end = 0.0
            return
        stream = self._quic._streams.get(self.stream_id)
        waiting = stream.sender._buffer_stop - stream.sender._buffer_start if stream else 0
        while waiting < AHEAD_BYTES:
            self._quic.send_stream_data(self.stream_id, PIECE)
            waiting += len(PIECE)

    def quic_event_received(self, event: QuicEvent) -> None:
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
    settings.certificate, settings.private_key = certificate()
    await serve(addr, PORT, configuration=settings, create_protocol=Counter)
    print("listening", flush=True)
    await asyncio.Event().wait()


async def run(addr: str, seconds: float) -> None:
    settings = configuration(is_client=True)
    async with connect(addr, PORT, configuration=settings, create_protocol=Filler) as client:
        assert isinstance(client, Filler)
        cpu_ns = time.process_time_ns()
        client.begin(seconds)
        report = json.loads(await client.done)
        cpu_ns = time.process_time_ns() - cpu_ns
        packets = client._quic._packet_number
    figures = {
        "goodput_bps": report["bytes"] * 8 / report["seconds"],
        "sender_us": cpu_ns / 1e3 / packets,
        "receiver_us": report["us"],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve_forever(sys.argv[2]))
    else:
        asyncio.run(run(sys.argv[2], float(sys.argv[3])))
