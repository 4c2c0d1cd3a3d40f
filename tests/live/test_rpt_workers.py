"""One port, several processes: who serves whom, and what becomes of it when one of them dies."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from rawproto.drivers.rpt.address import parse_address
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import Server, connect, serve
from rawproto.drivers.rpt.workers import WorkerServer
from rawproto.errors import (
    ConnectionLostError,
    LinkError,
    RawprotoError,
    RefusedError,
    RemoteProtocolError,
    UsageError,
)
from rawproto.filter.rpt_programs import Share
from rawproto.link.rpt_udp import UDPCarrier
from rawproto.transport.constants import CloseCode, ResetCode
from rawproto.wire.rpt import RPTReset
from tests.live.test_rpt_library import run

pytestmark = pytest.mark.live

CARRIERS = ("rpt", "rpt+udp")
MOST_TRIES = 64
"""Which worker it gets is chance: so many connections in a row miss one with odds of 2**-63."""


async def tell_who(connection: RPTConnection) -> None:
    """Answers whatever is asked with the process that answers."""
    async for question in connection.stream:
        if question == b"fail":
            raise ZeroDivisionError("as it was told")
        await connection.stream.send(b"%d" % os.getpid())
    await connection.stream.send_eof()


async def ask(connection: RPTConnection, question: bytes = b"who") -> int:
    await connection.stream.send(question)
    return int(await connection.stream.receive())


async def ask_often(connection: RPTConnection) -> None:
    for _ in range(MOST_TRIES):
        await ask(connection)


@asynccontextmanager
async def workers(
    carrier: str = "rpt", host: str = "127.0.0.1", count: int = 2
) -> AsyncIterator[WorkerServer]:
    async with serve(f"{carrier}://{host}:0", tell_who, workers=count) as server:
        assert isinstance(server, WorkerServer)
        yield server


class Clients(AsyncExitStack):
    """Connections, however they end."""

    async def connect(self, address: object) -> RPTConnection:
        attempt = connect(str(address))
        connection = await attempt.__aenter__()
        self.push_async_callback(attempt.__aexit__, ConnectionError)  # not well, if still open
        return connection

    async def connect_to(self, server: WorkerServer, pid: int) -> RPTConnection:
        """A connection that this worker serves."""
        for _ in range(MOST_TRIES):
            connection = await self.connect(server.address)
            if await ask(connection) == pid:
                return connection
        raise AssertionError(f"process {pid} of {server.pids} serves nobody")


def ended(pids: Iterable[int]) -> Coroutine[None, None, None]:
    """Of processes that are there now: to be awaited until they are no more."""
    descriptors = [os.pidfd_open(pid) for pid in pids]

    async def wait() -> None:
        loop = asyncio.get_running_loop()
        for descriptor in descriptors:
            over = asyncio.Event()
            loop.add_reader(descriptor, over.set)
            try:
                await over.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)

    return wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def replaced(server: WorkerServer, number: int, pid: int) -> int:
    """The worker of this number that comes after the one that was `pid`."""
    while server.pids[number] in (0, pid):
        await asyncio.sleep(0.01)
    return server.pids[number]


@pytest.mark.parametrize(("carrier", "host"), [("rpt", "[::1]"), ("rpt+udp", "127.0.0.1")])
def test_all_workers_serve_and_a_connection_stays_with_its_own(carrier: str, host: str) -> None:
    async def body() -> None:
        async with workers(carrier, host, 3) as server, Clients() as clients:
            assert len({os.getpid(), *server.pids}) == 4
            connections = [await clients.connect_to(server, pid) for pid in server.pids]
            for _ in range(3):
                assert [await ask(each) for each in connections] == server.pids

    run(body())


def test_reset_about_an_id_that_a_client_gave_out_later_finds_its_worker() -> None:
    async def body() -> None:
        async with workers() as server, Clients() as clients:
            connection = await clients.connect(server.address)
            for _ in range(3):
                await ask(connection)  # until the other IDs have come along
            machine = connection.machine
            given = [machine.cids.frame(sequence) for sequence in (1, 2, 3)]
            # One by whose residue it would be another worker's, if there is one by chance.
            frame = max(
                [each for each in given if each is not None],
                key=lambda each: (each.cid - machine.cid) % 2,
            )
            reset = RPTReset(
                dst_port=server.address.port,
                src_port=connection.port,
                dst_cid=0,
                src_cid=frame.cid,
                code=ResetCode.UNKNOWN,
                token=frame.reset_token,
            )
            connection._node.carrier.send_many([reset.emit()], machine.address, 0)
            with pytest.raises(ConnectionLostError, match="forgotten"):
                await ask_often(connection)

    for _ in range(4):
        run(body())


async def digest(connection: RPTConnection) -> None:
    """Says which process it is, and of what the client sends the hash."""
    await connection.stream.send(b"%07d" % os.getpid())
    found = hashlib.sha256()
    async for data in connection.stream:
        found.update(data)
    await connection.stream.send(found.digest())
    await connection.stream.send_eof()


async def transfer(connection: RPTConnection, half: asyncio.Barrier) -> bool:
    """Whether all bytes arrived; in the middle it waits for the others."""
    data = os.urandom(3_000_000)
    await connection.stream.send(data[: len(data) // 2])
    await half.wait()
    await connection.stream.send(data[len(data) // 2 :])
    await connection.stream.send_eof()
    answer = b"".join([part async for part in connection.stream])
    return answer == hashlib.sha256(data).digest()


@pytest.mark.parametrize("carrier", CARRIERS)
def test_killed_worker_is_replaced_amid_the_transfers_of_others(carrier: str) -> None:
    async def body() -> None:
        listener = serve(f"{carrier}://127.0.0.1:0", digest, workers=2)
        async with listener as server, Clients() as clients:
            assert isinstance(server, WorkerServer)
            victim, survivor = server.pids
            of: dict[int, list[RPTConnection]] = {victim: [], survivor: []}
            while not all(len(each) >= 2 for each in of.values()):
                connection = await clients.connect(server.address)
                of[int(await connection.stream.receive(7))].append(connection)
            half = asyncio.Barrier(1 + sum(map(len, of.values())))
            tasks = {
                pid: [asyncio.create_task(transfer(each, half)) for each in served]
                for pid, served in of.items()
            }
            await half.wait()
            os.kill(victim, signal.SIGKILL)
            assert all(await asyncio.gather(*tasks[survivor]))
            lost = await asyncio.gather(*tasks[victim], return_exceptions=True)
            assert {type(each) for each in lost} == {ConnectionLostError}, lost
            assert "forgotten" in str(lost[0])
            assert await replaced(server, 0, victim) != survivor == server.pids[1]

    run(body())


def test_worker_that_replaces_a_dead_one_serves_new_clients() -> None:
    async def body() -> None:
        async with workers() as server, Clients() as clients:
            victim, survivor = server.pids
            other = await clients.connect_to(server, survivor)
            os.kill(victim, signal.SIGKILL)
            await clients.connect_to(server, await replaced(server, 0, victim))
            assert await ask(other) == survivor

    run(body())


def test_worker_that_is_asked_to_end_closes_its_connections_first() -> None:
    async def body() -> None:
        async with workers() as server, Clients() as clients:
            pid = server.pids[0]
            connection = await clients.connect_to(server, pid)
            os.kill(pid, signal.SIGTERM)
            await connection.wait_closed()
            assert connection.error is None
            await replaced(server, 0, pid)

    run(body())


@pytest.mark.parametrize("count", [1, 2])
def test_handler_that_fails_harms_only_its_own_connection(count: int, tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def body() -> None:
        listener = serve("rpt://127.0.0.1:0", tell_who, workers=count)
        async with listener as server, Clients() as clients:
            first = await clients.connect(server.address)
            pid = await ask(first)
            second = await clients.connect(server.address)
            while await ask(second) != pid:
                second = await clients.connect(server.address)
            with pytest.raises(RemoteProtocolError, match="listener failed") as caught:
                await ask(first, b"fail")
            assert caught.value.code == CloseCode.INTERNAL
            assert await ask(second) == pid

    handler = logging.FileHandler(log)
    logging.getLogger().addHandler(handler)
    try:
        run(body())
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert "ZeroDivisionError: as it was told" in log.read_text()


def test_close_gives_connections_the_time_it_was_told_and_leaves_nothing() -> None:
    async def body() -> None:
        async with workers() as server, Clients() as clients:
            pids = list(server.pids)
            leaving = await clients.connect_to(server, pids[0])
            staying = await clients.connect_to(server, pids[1])
            gone = ended(pids)
            closing = asyncio.create_task(server.close(grace_s=3))
            await asyncio.sleep(0)
            assert await ask(leaving) == pids[0]
            await leaving.close()
            await staying.wait_closed()
            await closing
            await gone
            assert server.pids == [0, 0]
            with pytest.raises(RefusedError):
                await clients.connect(server.address)
            async with serve(str(server.address), tell_who):
                pass

    run(body())


@pytest.mark.parametrize("counts", [(1, 2), (2, 1), (2, 2)])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_port_is_held_by_one_listener_whatever_its_workers(
    carrier: str, counts: tuple[int, int]
) -> None:
    async def body() -> None:
        async with serve(f"{carrier}://127.0.0.1:0", tell_who, workers=counts[0]) as server:
            with pytest.raises(LinkError, match="in use"):
                await serve(str(server.address), tell_who, workers=counts[1])

    run(body())


def test_killed_supervisor_takes_the_workers_with_it_and_the_program_is_told() -> None:
    async def body() -> None:
        async with workers() as server:
            (parent,) = {parent_of(pid) for pid in server.pids}
            gone = ended(server.pids)
            os.kill(parent, signal.SIGKILL)
            await gone
            with pytest.raises(LinkError, match="supervisor was killed"):
                await server.wait_closed()
            async with serve(str(server.address), tell_who):
                pass

    run(body())


PROGRAM = """
import asyncio, os, sys, rawproto

async def handler(connection):
    await connection.stream.send(await connection.stream.receive())
    await connection.wait_closed()

async def main():
    async with rawproto.serve("rpt://127.0.0.1:0", handler, workers=2) as server:
        print(server.address, *server.pids, flush=True)
        await server.wait_closed()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_program_that_is_killed_takes_its_workers_with_it_and_clients_are_told(
    number: signal.Signals,
) -> None:
    async def body(address: str, pids: list[int], program: subprocess.Popen[str]) -> None:
        async with Clients() as clients:
            connection = await clients.connect(address)
            assert await ask(connection, b"1") == 1
            gone = ended([*pids, parent_of(pids[0])])
            program.send_signal(number)
            await connection.wait_closed()
            assert connection.error is None, "it was closed, not lost"
            await gone
        async with serve(address, tell_who):
            pass

    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        try:
            assert program.stdout is not None
            address, *pids = program.stdout.readline().split()
            run(body(address, list(map(int, pids)), program))
        finally:
            program.kill()
    assert program.returncode != 0


def test_worker_that_dies_at_once_is_started_later_and_later(tmp_path: Path) -> None:
    log = tmp_path / "starts"
    log.touch()

    async def fail(number: int) -> Server:
        with log.open("a") as file:
            file.write(f"{number} {time.monotonic()}\n")
        os._exit(1)

    def starts(number: int) -> list[float]:
        lines = [line.split() for line in log.read_text().splitlines()]
        return [float(when) for which, when in lines if which == str(number)]

    async def body() -> None:
        carriers = [UDPCarrier(4, "127.0.0.1", share=Share(0, 1)) for _ in range(2)]
        server = WorkerServer(parse_address("rpt+udp://127.0.0.1:9"), fail, carriers)
        while min(len(starts(number)) for number in (0, 1)) < 4:
            await asyncio.sleep(0.01)
        await server.close()
        for number in (0, 1):
            pauses = [after - before for before, after in pairwise(starts(number))]
            assert all(pause >= 0.1 * 2**at for at, pause in enumerate(pauses)), pauses

    run(body())


@pytest.mark.parametrize("count", [1, 2])
def test_each_process_begins_before_its_clients_and_ends_after_them(
    count: int, tmp_path: Path
) -> None:
    class Life:
        def note(self, word: str) -> None:
            with (tmp_path / str(os.getpid())).open("a") as file:
                file.write(f"{word} ")

        async def begin(self, number: int) -> None:
            assert 0 <= number < count
            self.note("begin")

        def ending(self) -> None:
            self.note("ending")

        async def end(self) -> None:
            self.note("end")

    life = Life()

    async def handler(connection: RPTConnection) -> None:
        life.note("client")
        try:
            await tell_who(connection)
        finally:
            life.note("gone")

    async def body() -> None:
        listener = serve("rpt+udp://127.0.0.1:0", handler, workers=count, life=life)
        async with listener as server, Clients() as clients:
            client = await clients.connect(server.address)
            pid = await ask(client)
            closing = asyncio.create_task(server.close(grace_s=30))
            while "ending" not in (tmp_path / str(pid)).read_text():
                await asyncio.sleep(0.001)  # nobody tells that a worker was told
            await client.close()
            await closing
            assert (tmp_path / str(pid)).read_text() == "begin client ending gone end "
            others = {path.read_text() for path in tmp_path.iterdir() if path.name != str(pid)}
            assert others <= {"begin ending end "}
            assert len(list(tmp_path.iterdir())) == count

    run(body())


@pytest.mark.parametrize("count", [1, 2])
def test_process_that_cannot_begin_does_not_serve(
    count: int, caplog: pytest.LogCaptureFixture
) -> None:
    class Life:
        async def begin(self, number: int) -> None:
            if number == count - 1:
                raise UsageError("no database")

        def ending(self) -> None: ...

        async def end(self) -> None: ...

    async def body() -> None:
        with pytest.raises(RawprotoError, match=r"^no database$"):
            await serve("rpt+udp://127.0.0.1:0", tell_who, workers=count, life=Life())

    run(body())
    assert caplog.messages == []


def test_worker_that_cannot_begin_in_place_of_a_dead_one_is_tried_again(tmp_path: Path) -> None:
    class Life:
        async def begin(self, number: int) -> None:
            with (tmp_path / str(number)).open("a") as file:
                file.write("begun ")
            if (tmp_path / str(number)).read_text() == "begun begun ":
                raise UsageError("no database yet")

        def ending(self) -> None: ...

        async def end(self) -> None: ...

    async def body() -> None:
        listener = serve("rpt+udp://127.0.0.1:0", tell_who, workers=2, life=Life())
        async with listener as server, Clients() as clients:
            assert isinstance(server, WorkerServer)
            first = server.pids[0]
            os.kill(first, signal.SIGKILL)
            await replaced(server, 0, first)
            assert (tmp_path / "0").read_text() == "begun begun begun "
            assert await ask(await clients.connect_to(server, server.pids[0]))

    run(body())


def test_event_loop_that_ends_ends_workers_that_nobody_closed() -> None:
    servers = []

    async def body() -> None:
        server = await serve("rpt://127.0.0.1:0", tell_who, workers=2)
        assert isinstance(server, WorkerServer)
        servers.append((server, [os.pidfd_open(pid) for pid in server.pids]))

    asyncio.run(body())
    ((server, descriptors),) = servers
    assert server.pids == [0, 0]
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], 0)[0], "it lives"
        os.close(descriptor)


def test_count_of_workers_that_cannot_be_is_refused() -> None:
    for count in (0, -1, 65):
        with pytest.raises(UsageError, match="1 to 64"):
            serve("rpt://127.0.0.1:0", tell_who, workers=count)
