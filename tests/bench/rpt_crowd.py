"""Many clients of a `rawproto perf serve` in one process: `python rpt_crowd.py WHAT ADDR PORT ...`.

    idle ADDR PORT COUNT              connections that say nothing, until input ends; then each
                                      proves that it still works
    busy ADDR PORT COUNT BYTES        connections that all send so many bytes at once
    handshakes ADDR PORT SECONDS      connections that are closed as soon as they stand
    single ADDR PORT COUNT SECONDS    clients of a port each, who come one after the other

All but the last share one port, because the kernel copies each packet to every raw socket.
What came of it is told as a line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from statistics import median
from typing import Any

import rawproto
from rawproto.apps.perf import Plan, run_perf
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.node import Node
from rawproto.link.rpt_carrier import RawCarrier
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.endpoint import Endpoint

AT_ONCE = 24  # a listener takes 32 handshakes from one address at a time
_CONFIG = Config(keep_alive_ns=10 * 10**9)
_PROOF = Plan(total_bytes=1)


class Crowd:
    """Connections from one port to one listener."""

    def __init__(self, addr: str, port: int) -> None:
        self._target, self._port = (addr, 0), port
        carrier = RawCarrier(4, peer=addr)
        self._endpoint = Endpoint(
            carrier.port, _CONFIG, entropy=os.urandom, ceiling=carrier.ceiling
        )
        self._node = Node(self._endpoint, carrier)
        self._credentials = Credentials(
            static=os.urandom(32), peer_key=None, psk=b"", trust=lambda key: None
        )
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def connect(self, credentials: Credentials | None = None) -> RPTConnection:
        async with self._slots:
            now_ns = time.monotonic_ns()
            machine = self._endpoint.connect(
                self._target, self._port, credentials or self._credentials, now_ns
            )
            connection = self._node.adopt(machine)
            await connection.established()
            return connection

    async def connect_all(self, count: int) -> list[RPTConnection]:
        """Those of so many that succeed."""
        came = await asyncio.gather(*[self.connect() for _ in range(count)], return_exceptions=True)
        return [each for each in came if isinstance(each, RPTConnection)]

    def close(self) -> None:
        self._node.close()


async def served(connections: list[RPTConnection], plan: Plan) -> list[dict[str, Any]]:
    """Has the server take what is planned, of all at once: what became of those that it served."""
    told = await asyncio.gather(
        *[run_perf(each, plan) for each in connections], return_exceptions=True
    )
    return [each for each in told if isinstance(each, dict) and each["bytes"] == plan.total_bytes]


@asynccontextmanager
async def crowd(addr: str, port: int) -> AsyncIterator[Crowd]:
    made = Crowd(addr, port)
    try:
        yield made
    finally:
        made.close()


async def idle(addr: str, port: int, count: int) -> dict[str, object]:
    async with crowd(addr, port) as made:
        start = time.monotonic()
        connections = await made.connect_all(count)
        took_s = time.monotonic() - start
        print(json.dumps({"connected": len(connections), "seconds": took_s}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        alive = 0
        for first in range(0, count, AT_ONCE):  # a listener that is asked too much may be slow
            alive += len(await served(connections[first : first + AT_ONCE], _PROOF))
        return {"alive": alive}


async def busy(addr: str, port: int, count: int, size: int) -> dict[str, object]:
    async with crowd(addr, port) as made:
        connections = await made.connect_all(count)
        start, plan = time.monotonic(), Plan(total_bytes=size)
        summaries = await served(connections, plan)
        seconds = time.monotonic() - start
        rates = [summary["goodput_bps"] for summary in summaries]
        return {
            "served": len(summaries),
            "goodput_bps": sum(summary["bytes"] for summary in summaries) * 8 / seconds,
            "jain": sum(rates) ** 2 / (len(rates) * sum(rate * rate for rate in rates) or 1),
        }


async def handshakes(addr: str, port: int, seconds: float) -> dict[str, object]:
    done = 0

    async def come_and_go(made: Crowd, until: float) -> None:
        nonlocal done
        while time.monotonic() < until:
            with suppress(rawproto.RawprotoError):
                connection = await made.connect()
                connection.abort()
                done += 1

    async with crowd(addr, port) as made:
        start = time.monotonic()
        until = start + seconds
        await asyncio.gather(*[come_and_go(made, until) for _ in range(AT_ONCE)])
        return {"handshakes_per_second": done / (time.monotonic() - start)}


async def single(addr: str, port: int, count: int, seconds: float) -> dict[str, object]:
    took: list[float] = []
    errors: list[str] = []

    async def come(number: int) -> None:
        await asyncio.sleep(seconds * number / count)
        start = time.monotonic()
        try:
            async with rawproto.connect(f"rpt://{addr}:{port}") as connection:
                standing = time.monotonic() - start
                if (await run_perf(connection, _PROOF))["bytes"] == 1:
                    took.append(standing)
        except (rawproto.RawprotoError, OSError) as error:
            errors.append(repr(error))

    await asyncio.gather(*[come(number) for number in range(count)])
    figures = {"median_s": median(took), "most_s": max(took)} if took else {}
    return {"connected": len(took), **figures, "errors": errors[:3]}


DOES = {"idle": idle, "busy": busy, "handshakes": handshakes, "single": single}


def main() -> int:
    what, addr, port, *numbers = sys.argv[1:]
    values = [float(each) if "." in each else int(each) for each in numbers]
    print(json.dumps(asyncio.run(DOES[what](addr, int(port), *values))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
