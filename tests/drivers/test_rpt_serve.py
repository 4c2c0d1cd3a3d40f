"""How a server of coroutines ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rawproto.drivers.rpt import coroutines, responder
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.drivers.rpt.node import Node
from rawproto.errors import HandshakeError, LinkError, NotAuthorizedError


def test_server_does_not_wait_for_ever_for_peers_that_do_not_answer_its_farewell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(node: Node) -> None:
        await asyncio.Event().wait()

    async def handler(connection: RPTConnection) -> None:
        await connection.wait_closed()

    async def body() -> None:
        async with asyncio.timeout(20), serve("rpt+udp://127.0.0.1:0", handler) as server:
            address = str(server.address)
            async with connect(address):
                with monkeypatch.context() as patched:
                    patched.setattr(Node, "drained", never)
                    patched.setattr(coroutines, "_FAREWELL_S", 0.01)
                    await server.close()
            async with serve(address, handler):
                pass  # the port is free

    asyncio.run(body())


@pytest.mark.parametrize("workers", [1, 2])
def test_port_is_given_back_where_what_is_to_be_done_with_it_open_fails(workers: int) -> None:
    def fail() -> None:
        raise PermissionError("no")

    async def body() -> None:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(PermissionError):
            await serve("rpt+udp://127.0.0.1:0", never_used, workers=workers, opened=fail)
        assert len(os.listdir("/proc/self/fd")) == before

    async def never_used(connection: RPTConnection) -> None:
        raise AssertionError(connection)

    asyncio.run(body())


@contextmanager
def descriptors(left: int) -> Iterator[None]:
    """No more than so many can be opened within."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filling = [os.open("/dev/null", os.O_RDONLY) for _ in range(left)]
    last = os.open("/dev/null", os.O_RDONLY)  # the lowest ones are all taken
    for each in filling:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, (last, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        os.close(last)


async def waits(connection: RPTConnection) -> None:
    await connection.wait_closed()


@pytest.mark.parametrize("left", range(3))
def test_who_finds_no_descriptor_gives_back_those_that_he_had(left: int) -> None:
    async def body() -> None:
        async with asyncio.timeout(20), serve("rpt+udp://127.0.0.1:0", waits) as server:
            async with connect(str(server.address)):
                pass  # what is read from files is read
            before = os.listdir("/proc/self/fd")
            with descriptors(left), pytest.raises(LinkError, match="Too many open files") as told:
                await connect(str(server.address))
            assert os.listdir("/proc/self/fd") == before, told  # though its frames are held
            if left < 2:
                with descriptors(left), pytest.raises(LinkError, match="Too many") as told:
                    await serve("rpt+udp://127.0.0.1:0", waits)
                assert os.listdir("/proc/self/fd") == before, told

    asyncio.run(body())


def test_program_that_fails_to_judge_a_key_refuses_it() -> None:
    def fail(key: bytes) -> bool:
        raise KeyError("the table of keys")

    def fail_too(key: bytes) -> None:
        raise KeyError("the other one")

    async def body() -> None:
        async with asyncio.timeout(20):
            async with serve("rpt+udp://127.0.0.1:0", waits, authorize=fail) as server:
                client = await connect(str(server.address))
                with pytest.warns(RuntimeWarning, match="the table of keys"):
                    await client.wait_closed()
                assert isinstance(client.error, NotAuthorizedError)
            async with serve("rpt+udp://127.0.0.1:0", waits) as server:
                with pytest.raises(HandshakeError, match="the other one"):
                    await connect(str(server.address), trust=fail_too)

    asyncio.run(body())


def test_server_whose_end_is_cancelled_has_ended() -> None:
    said = []

    class Diary:
        async def begin(self, number: int) -> None:
            said.append("begin")

        def ending(self) -> None:
            said.append("ending")

        async def end(self) -> None:
            said.append("end")

    async def handler(connection: RPTConnection) -> None:
        try:
            await connection.wait_closed()
        except asyncio.CancelledError:
            said.append("cancelled")
            raise

    async def body() -> None:
        async with asyncio.timeout(20):
            server = await serve("rpt+udp://127.0.0.1:0", handler, life=Diary())
            client = await connect(str(server.address))
            await client.stream.send(b"hello")
            await asyncio.sleep(0.05)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.close(grace_s=60), 0.05)
            await server.wait_closed()
            async with serve(str(server.address), handler):
                pass  # the port is free
            assert said == ["begin", "ending", "end", "cancelled"]
            client.abort()
            await client.wait_closed()
            await asyncio.sleep(0.1)

    asyncio.run(body())


def test_office_of_refusing_is_tried_for_again_where_no_descriptor_was_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[bool | LinkError] = [
        False,
        LinkError("open raw socket", "", errno.EMFILE),
        False,
        True,
    ]

    class Office:
        def __init__(self, family: int) -> None: ...

        def stand(self) -> bool:
            answer = answers.pop(0)
            if isinstance(answer, LinkError):
                raise answer
            return answer

        def filenos(self) -> list[int]:
            return []

        def close(self) -> None: ...

    async def body() -> None:
        async with asyncio.timeout(20):
            candidate = responder.Responder(4)
            while answers:
                await asyncio.sleep(0.001)
            candidate.close()

    monkeypatch.setattr(responder, "Office", Office)
    monkeypatch.setattr(responder, "LOOK_S", 0.001)
    asyncio.run(body())


def test_event_loop_that_is_closed_in_the_middle_leaves_no_descriptor() -> None:
    def run() -> None:
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(serve("rpt+udp://127.0.0.1:0", waits)._serve())
        client = loop.run_until_complete(connect(str(server.address))._connect())
        loop.call_later(0.01, loop.stop)
        loop.run_forever()
        loop.run_until_complete(client.stream.send(b"it goes on where it stopped"))
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()

    gc.collect()
    before = os.listdir("/proc/self/fd")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of its sockets, rightly
        run()
        gc.collect()
    assert os.listdir("/proc/self/fd") == before
