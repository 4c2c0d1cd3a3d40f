"""Workers where something is missing: descriptors, patience, all of them at once."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import time
from pathlib import Path

import pytest

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import serve
from rawproto.drivers.rpt.workers import WorkerServer
from rawproto.errors import RawprotoError
from tests.live.test_rpt_library import run
from tests.live.test_rpt_workers import (
    Clients,
    ask,
    ended,
    parent_of,
    replaced,
    tell_who,
    workers,
)

pytestmark = pytest.mark.live


def test_supervisor_without_descriptors_tries_again_and_the_others_go_on() -> None:
    async def body() -> None:
        async with workers("rpt+udp") as server, Clients() as clients:
            first, second = server.pids
            kept = await clients.connect_to(server, second)
            supervisor = parent_of(first)
            limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
            resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (3, limits[1]))
            gone = ended([first])
            os.kill(first, signal.SIGKILL)
            await gone
            for _ in range(10):
                assert await ask(kept) == second
                await asyncio.sleep(0.03)
            assert server.pids == [0, second]
            resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
            assert await ask(await clients.connect_to(server, await replaced(server, 0, first)))
            assert await ask(kept) == second

    run(body())


def test_program_without_descriptors_for_its_workers_hears_so() -> None:
    async def body() -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        for more in range(2, 7):
            highest = max(map(int, os.listdir("/proc/self/fd")))
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + more, limits[1]))
            try:
                with pytest.raises((OSError, RawprotoError), match="Too many open files"):
                    await serve("rpt+udp://127.0.0.1:0", tell_who, workers=2)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    run(body())


def test_worker_whose_life_fails_in_a_way_of_its_own_does_not_serve_and_says_why() -> None:
    class Life:
        async def begin(self, number: int) -> None:
            raise FileNotFoundError(2, "no such database", "/nowhere")

        def ending(self) -> None: ...

        async def end(self) -> None: ...

    async def body() -> None:
        with pytest.raises(RawprotoError, match=r"FileNotFoundError: .*no such database"):
            await serve("rpt+udp://127.0.0.1:0", tell_who, workers=2, life=Life())

    run(body())


def test_all_workers_that_are_killed_at_once_are_replaced() -> None:
    async def body() -> None:
        async with workers("rpt+udp", count=4) as server, Clients() as clients:
            before = list(server.pids)
            gone = ended(before)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            await gone
            for number, pid in enumerate(before):
                await replaced(server, number, pid)
            assert await ask(await clients.connect(server.address)) in server.pids

    run(body())


def test_end_with_a_long_grace_is_hastened_by_who_closes_again(tmp_path: Path) -> None:
    async def tell_and_stay(connection: RPTConnection) -> None:
        try:
            await tell_who(connection)
        finally:
            (tmp_path / str(os.getpid())).touch()

    async def body() -> None:
        listener = serve("rpt+udp://127.0.0.1:0", tell_and_stay, workers=2)
        async with listener as server, Clients() as clients:
            assert isinstance(server, WorkerServer)
            pids = list(server.pids)
            for pid in pids:
                await clients.connect_to(server, pid)
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.close(grace_s=60), 0.1)
            await server.close(0.5)
            assert 0.5 < time.monotonic() - begun < 3
            assert {int(path.name) for path in tmp_path.iterdir()} == set(pids)  # not by SIGKILL

    run(body())
