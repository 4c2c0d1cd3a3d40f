"""Calls and their answers, as a program on each side: what bench_rpc times.

    rpc_peer.py serve WHAT ADDR                   prints `listening` when it is ready
    rpc_peer.py run WHAT ADDR SECONDS AT_ONCE     calls a second, and CPU of one at each side

WHAT is `rpt`, which is `rawproto.rpc`, or `tcp`: asyncio's streams with the same framing, a
length and JSON, and a number in each message to tell the calls apart that are under way at once.
Both add two numbers.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import rawproto
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.rpc import Call, RPCPeer

PORT = 4100
_LENGTH = struct.Struct("!I")

Caller = Callable[[str, dict[str, int]], Awaitable[Any]]


def answer(method: str, params: Any) -> Any:
    if method == "cpu":
        return time.process_time()
    return params["a"] + params["b"]


# --- RPT -----------------------------------------------------------------------------------------


async def serve_rpt(addr: str) -> None:
    async def add(params: Any, call: Call) -> Any:
        return answer(call.method, params)

    async def handle(connection: RPTConnection) -> None:
        peer = RPCPeer(connection, {"add": add, "cpu": add})
        await connection.wait_closed()
        await peer.close()

    async with rawproto.serve(f"rpt://{addr}:{PORT}", handle) as server:
        print("listening", flush=True)
        await server.wait_closed()


@asynccontextmanager
async def rpt(addr: str) -> AsyncIterator[Caller]:
    async with rawproto.connect(f"rpt://{addr}:{PORT}") as connection:
        peer = RPCPeer(connection)
        yield peer.call
        await peer.close()


# --- TCP -----------------------------------------------------------------------------------------


async def read(reader: asyncio.StreamReader) -> dict[str, Any]:
    (length,) = _LENGTH.unpack(await reader.readexactly(4))
    message: dict[str, Any] = json.loads(await reader.readexactly(length))
    return message


def write(writer: asyncio.StreamWriter, message: dict[str, Any]) -> None:
    data = json.dumps(message, separators=(",", ":")).encode()
    writer.write(_LENGTH.pack(len(data)) + data)


async def serve_tcp(addr: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def one(request: dict[str, Any]) -> None:
            result = answer(request["method"], request["params"])
            write(writer, {"id": request["id"], "result": result})
            await writer.drain()

        tasks = set()
        try:
            while True:
                task = asyncio.create_task(one(await read(reader)))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(handle, addr, PORT)
    print("listening", flush=True)
    await server.serve_forever()


@asynccontextmanager
async def tcp(addr: str) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection(addr, PORT)
    numbers = itertools.count()
    waiting: dict[int, asyncio.Future[Any]] = {}

    async def call(method: str, params: dict[str, int]) -> Any:
        number = next(numbers)
        waiting[number] = answered = asyncio.get_running_loop().create_future()
        write(writer, {"id": number, "method": method, "params": params, "timeout_s": 30.0})
        await writer.drain()
        async with asyncio.timeout(30.0):
            return await answered

    async def listen() -> None:
        while True:
            message = await read(reader)
            waiting.pop(message["id"]).set_result(message["result"])

    listening = asyncio.create_task(listen())
    yield call
    listening.cancel()
    writer.close()


# --- what is timed -------------------------------------------------------------------------------


async def run(what: str, addr: str, seconds: float, at_once: int) -> dict[str, float]:
    count = 0

    async def calling(call: Caller, until: float) -> None:
        nonlocal count
        while time.monotonic() < until:
            assert await call("add", {"a": count, "b": 1}) >= 1
            count += 1

    async with {"rpt": rpt, "tcp": tcp}[what](addr) as call:
        theirs, ours, start = await call("cpu", {}), time.process_time(), time.monotonic()
        await asyncio.gather(*[calling(call, start + seconds) for _ in range(at_once)])
        elapsed, ours = time.monotonic() - start, time.process_time() - ours
        theirs = await call("cpu", {}) - theirs
    return {"calls": count / elapsed, "caller_us": ours / count * 1e6,
            "callee_us": theirs / count * 1e6}  # fmt: skip


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run({"rpt": serve_rpt, "tcp": serve_tcp}[sys.argv[2]](sys.argv[3]))
    else:
        what, addr, seconds, at_once = sys.argv[2:]
        print(json.dumps(asyncio.run(run(what, addr, float(seconds), int(at_once)))))
