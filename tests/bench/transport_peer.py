"""Bulk data over RPT by one of the ways in which a program may send it: for bench_rpt_transport.

transport_peer.py serve WAY ADDRESS        until it is terminated; prints `listening`
transport_peer.py run WAY ADDRESS SECONDS  prints JSON: goodput, CPU for a KiB on either side

The receiver answers the end of the stream with the bytes that came, how long they took, and
its CPU.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from typing import Any

import rawproto

PIECE = bytes(1 << 16)
READ_BYTES = 1 << 18
REPORT = struct.Struct("!QQQ")


class Count:
    """Bytes, and what they cost."""

    def __init__(self) -> None:
        self.size = 0
        self.start_ns, self.cpu_ns = time.monotonic_ns(), time.process_time_ns()

    def add(self, size: int) -> None:
        self.size += size

    def report(self) -> bytes:
        time_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
        return REPORT.pack(self.size, time_ns - self.start_ns, cpu_ns - self.cpu_ns)


# --- by streams of RPT's own ---------------------------------------------------------------------


async def answer_stream(connection: rawproto.RPTConnection) -> None:
    count = Count()
    while data := await connection.stream.receive(READ_BYTES):
        count.add(len(data))
    await connection.stream.send(count.report())
    await connection.stream.send_eof()


async def run_stream(address: str, seconds: float) -> bytes:
    async with rawproto.connect(address) as connection:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            await connection.stream.send(PIECE)
        await connection.stream.send_eof()
        return await connection.stream.receive()


# --- by readers and writers ----------------------------------------------------------------------


async def answer_reader(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    count = Count()
    while data := await reader.read(READ_BYTES):
        count.add(len(data))
    writer.write(count.report())
    writer.close()


async def run_writer(address: str, seconds: float) -> bytes:
    reader, writer = await rawproto.open_rpt_connection(address)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        writer.write(PIECE)
        await writer.drain()
    writer.write_eof()
    report = await reader.read()
    writer.close()
    await writer.wait_closed()
    return report


# --- by transports and protocols -----------------------------------------------------------------


class Answer(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport, self.count = transport, Count()

    def data_received(self, data: bytes) -> None:
        self.count.add(len(data))

    def eof_received(self) -> None:
        self.transport.write(self.count.report())


class BufferedAnswer(asyncio.BufferedProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport, self.count = transport, Count()
        self.buffer = bytearray(READ_BYTES)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.count.add(nbytes)

    def eof_received(self) -> None:
        self.transport.write(self.count.report())


class Ask(asyncio.Protocol):
    def __init__(self, seconds: float) -> None:
        self.end, self.data = time.monotonic() + seconds, b""
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport, self.paused = transport, False
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        while not self.paused and time.monotonic() < self.end:
            self.transport.write(PIECE)
        if not self.paused:
            self.transport.write_eof()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(None)


async def run_protocol(address: str, seconds: float) -> bytes:
    _, protocol = await rawproto.create_rpt_connection(lambda: Ask(seconds), address)
    await protocol.lost
    return protocol.data


SERVERS = {
    "stream": lambda address: rawproto.serve(address, answer_stream),
    "transport": lambda address: rawproto.create_rpt_server(Answer, address),
    "buffered": lambda address: rawproto.create_rpt_server(BufferedAnswer, address),
    "reader": lambda address: rawproto.start_rpt_server(answer_reader, address),
}
CLIENTS = {
    "stream": run_stream,
    "transport": run_protocol,
    "buffered": run_protocol,
    "reader": run_writer,
}


async def serve(way: str, address: str) -> None:
    server: Any = await SERVERS[way](address)
    print("listening", flush=True)
    await server.wait_closed()


async def run(way: str, address: str, seconds: float) -> None:
    before_ns = time.process_time_ns()
    report = await CLIENTS[way](address, seconds)
    sender_ns = time.process_time_ns() - before_ns
    size, time_ns, receiver_ns = REPORT.unpack(report)
    figures = {
        "goodput_bps": size * 8e9 / time_ns,
        "sender_us": sender_ns / 1e3 / (size / 1024),
        "receiver_us": receiver_ns / 1e3 / (size / 1024),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(*sys.argv[2:4]))
    else:
        asyncio.run(run(*sys.argv[2:4], float(sys.argv[4])))
