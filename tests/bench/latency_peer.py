"""One side of a ping-pong of 64 bytes: bench_rpt_latency's four peers.

    latency_peer.py serve KIND ADDR            latency_peer.py run KIND ADDR COUNT

KIND is `bare` (a blocking raw socket that echoes), `bare-asyncio` (the same with
`loop.sock_recv` and `sock_sendto`), `rpt` (rawproto.socket) or `rpt-asyncio` (rawproto.serve
and connect). `run` prints quantiles of the round trips as JSON, in microseconds.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import Awaitable, Callable

import rawproto

PROTOCOL = 252  # not RPT's: other filters need not look at it
PORT = 4000
SIZE = 64
HEADER_BYTES = 20


def say_ready() -> None:
    print("listening", flush=True)


def report(times: list[int]) -> None:
    times = sorted(times[len(times) // 10 :])  # what comes first warms up
    at = {
        name: times[int(len(times) * share)] / 1e3 for name, share in (("p10", 0.1), ("p99", 0.99))
    }
    print(json.dumps({"median_us": times[len(times) // 2] / 1e3, **at}))


def measure(count: int, ask: Callable[[bytes], object]) -> None:
    times, data, clock = [], bytes(SIZE), time.perf_counter_ns
    for _ in range(count):
        start = clock()
        ask(data)
        times.append(clock() - start)
    report(times)


async def measure_async(count: int, ask: Callable[[bytes], Awaitable[object]]) -> None:
    times, data, clock = [], bytes(SIZE), time.perf_counter_ns
    for _ in range(count):
        start = clock()
        await ask(data)
        times.append(clock() - start)
    report(times)


def raw_socket(addr: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL)
    sock.bind((addr, 0))
    return sock


def serve_bare(addr: str) -> None:
    sock = raw_socket(addr)
    say_ready()
    while True:
        packet, source = sock.recvfrom(2048)
        sock.sendto(packet[HEADER_BYTES:], source)


def run_bare(addr: str, count: int) -> None:
    sock = raw_socket("")
    sock.settimeout(10)

    def ask(data: bytes) -> None:
        sock.sendto(data, (addr, 0))
        sock.recv(2048)

    measure(count, ask)


async def serve_bare_asyncio(addr: str) -> None:
    sock, loop = raw_socket(addr), asyncio.get_running_loop()
    sock.setblocking(False)
    say_ready()
    while True:
        packet, source = await loop.sock_recvfrom(sock, 2048)
        await loop.sock_sendto(sock, packet[HEADER_BYTES:], source)


async def run_bare_asyncio(addr: str, count: int) -> None:
    sock, loop = raw_socket(""), asyncio.get_running_loop()
    sock.setblocking(False)

    async def ask(data: bytes) -> None:
        await loop.sock_sendto(sock, data, (addr, 0))
        await loop.sock_recv(sock, 2048)

    await measure_async(count, ask)


def serve_rpt(addr: str) -> None:
    with rawproto.create_server((addr, PORT)) as listener:
        say_ready()
        connection, _ = listener.accept()
        while data := connection.recv(2048):
            connection.send(data)


def run_rpt(addr: str, count: int) -> None:
    with rawproto.create_connection((addr, PORT)) as sock:

        def ask(data: bytes) -> None:
            sock.send(data)
            sock.recv(2048)

        measure(count, ask)


async def serve_rpt_asyncio(addr: str) -> None:
    async def echo(connection: rawproto.RPTConnection) -> None:
        async for data in connection.stream:
            await connection.stream.send(data)

    async with rawproto.serve(f"rpt://{addr}:{PORT}", echo):
        say_ready()
        await asyncio.sleep(3600)


async def run_rpt_asyncio(addr: str, count: int) -> None:
    async with rawproto.connect(f"rpt://{addr}:{PORT}") as connection:
        stream = connection.stream

        async def ask(data: bytes) -> None:
            await stream.send(data)
            await stream.receive()

        await measure_async(count, ask)
        await stream.send_eof()


BLOCKING = {"bare": (serve_bare, run_bare), "rpt": (serve_rpt, run_rpt)}
ASYNC = {
    "bare-asyncio": (serve_bare_asyncio, run_bare_asyncio),
    "rpt-asyncio": (serve_rpt_asyncio, run_rpt_asyncio),
}


def main(role: str, kind: str, addr: str, *more: str) -> None:
    arguments = [int(each) for each in more]
    running = role == "run"
    if kind in BLOCKING:
        BLOCKING[kind][running](addr, *arguments)
    else:
        asyncio.run(ASYNC[kind][running](addr, *arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
