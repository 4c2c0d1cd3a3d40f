"""Calls over loopback: results, items both ways, errors by class, deadlines, giving up."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.drivers.rpt.stream import RPTStream
from rawproto.errors import ConnectionLostError, RemoteProtocolError
from rawproto.rpc import (
    BadRequestError,
    Call,
    DeadlineError,
    InternalError,
    Method,
    RPCError,
    RPCPeer,
    UnknownMethodError,
)


class TakenError(RPCError):
    code = "taken"


async def add(params: Any, call: Call) -> Any:
    return params["a"] + params["b"]


async def count(params: Any, call: Call) -> Any:
    for number in range(params):
        await call.send(number)
    return "done"


async def echo(params: Any, call: Call) -> Any:
    size = 0
    async for item in call:
        await call.send(item)
        size += len(item)
    return size


async def taken(params: Any, call: Call) -> Any:
    raise TakenError("that name is taken", {"name": params})


async def broken(params: Any, call: Call) -> Any:
    raise ZeroDivisionError("a secret")


async def ask_back(params: Any, call: Call) -> Any:
    return await call.peer.call("add", {"a": params, "b": 1})


METHODS: dict[str, Method] = {
    "add": add,
    "count": count,
    "echo": echo,
    "taken": taken,
    "broken": broken,
    "ask_back": ask_back,
}


def met(
    client: Callable[[RPCPeer], Awaitable[Any]],
    methods: dict[str, Method] | None = None,
    told: list[str] | None = None,
) -> Any:
    """What a client gets from a server with these methods."""

    async def handle(connection: RPTConnection) -> None:
        peer = RPCPeer(
            connection,
            METHODS if methods is None else methods,
            on_failure=lambda method, error: (told if told is not None else []).append(
                f"{method}: {error}"
            ),
        )
        await connection.wait_closed()
        await peer.close()

    async def main() -> Any:
        before = asyncio.all_tasks()
        server = await serve("rpt+udp://127.0.0.1:0", handle)
        try:
            async with asyncio.timeout(20), connect(str(server.address)) as connection:
                peer = RPCPeer(connection, {"add": add}, errors=[TakenError])
                try:
                    return await client(peer)
                finally:
                    await peer.close()
        finally:
            await server.close()
            assert asyncio.all_tasks() == before

    return asyncio.run(main())


def test_call_returns_what_the_method_does() -> None:
    assert met(lambda peer: peer.call("add", {"a": 2, "b": 40})) == 42


def test_hundreds_of_calls_run_beside_each_other_and_leave_no_streams() -> None:
    async def client(peer: RPCPeer) -> Any:
        answers = await asyncio.gather(
            *[peer.call("add", {"a": number, "b": 1}) for number in range(500)]
        )
        handles = peer.connection._streams
        assert len(handles) < 200
        return answers

    assert met(client) == list(range(1, 501))


def test_method_streams_items_before_its_result() -> None:
    async def client(peer: RPCPeer) -> Any:
        async with peer.open("count", 3) as call:
            return [item async for item in call], await call.result()

    assert met(client) == ([0, 1, 2], "done")


def test_parts_of_an_item_come_before_all_of_it_has() -> None:
    piece = os.urandom(100_000)
    more = asyncio.Event()

    async def send(params: Any, call: Call) -> Any:
        await call.send({"size": len(piece)})
        await call.send(b"")
        head = bytes([2])  # DATA, of which half comes, and the rest when somebody had that
        await call._stream.send((len(piece) + 1).to_bytes(4, "big") + head + piece[:50_000])
        await more.wait()
        await call._stream.send(piece[50_000:])
        await call.send("end")
        return "done"

    async def client(peer: RPCPeer) -> Any:
        async with peer.open("send") as call:
            assert await call.receive_part() == {"size": len(piece)}
            got = b""
            while len(got) < 50_000:
                got += await call.receive_part()
            more.set()
            while len(got) < len(piece):
                got += await call.receive_part()
            assert got == piece
            assert await call.receive_part() == "end"
            with pytest.raises(StopAsyncIteration):
                await call.receive_part()
            return await call.result()

    assert met(client, {"send": send}) == "done"


def test_part_of_what_is_no_message_breaks_the_call_off() -> None:
    async def nonsense(params: Any, call: Call) -> Any:
        await call._stream.send_message(params.encode())
        await call.receive()

    async def client(peer: RPCPeer) -> Any:
        for each in ("", "\x07", "\x01{"):
            async with peer.open("nonsense", each) as call:
                with pytest.raises(RemoteProtocolError):
                    await call.receive_part()
        return await peer.call("add", {"a": 1, "b": 1})

    assert met(client, {"nonsense": nonsense, "add": add}) == 2


def test_time_out_of_the_callers_own_is_no_deadline() -> None:
    async def client(peer: RPCPeer) -> Any:
        with pytest.raises(TimeoutError):
            async with peer.open("wait", timeout_s=None):
                raise TimeoutError("the caller's")
        return True

    async def wait(params: Any, call: Call) -> Any:
        await call.receive()

    assert met(client, {"wait": wait})


def test_items_go_both_ways_and_bytes_stay_bytes() -> None:
    async def client(peer: RPCPeer) -> Any:
        items = [b"", b"\0\xff" * 1000, "text", [1, 2]]
        async with peer.open("echo") as call:
            for item in items:
                await call.send(item)
            await call.end()
            assert [item async for item in call] == items
            return await call.result()

    assert met(client) == 2006


def test_callee_calls_back() -> None:
    assert met(lambda peer: peer.call("ask_back", 4)) == 5


def test_error_has_the_class_that_both_name() -> None:
    async def client(peer: RPCPeer) -> None:
        with pytest.raises(TakenError, match="that name is taken") as caught:
            await peer.call("taken", "bob")
        assert caught.value.details == {"name": "bob"}
        with pytest.raises(UnknownMethodError):
            await peer.call("nothing")
        with pytest.raises(BadRequestError, match="allowed"):
            await peer.call("add", "x" * 300_000)

    met(client)


def test_what_fails_inside_stays_inside() -> None:
    told: list[str] = []

    async def client(peer: RPCPeer) -> None:
        with pytest.raises(InternalError, match=r"^broken failed$"):
            await peer.call("broken")
        assert await peer.call("add", {"a": 1, "b": 1}) == 2

    met(client, told=told)
    assert told == ["broken: a secret"]


def test_what_cannot_be_told_is_an_error_at_the_caller() -> None:
    """The call broke off, the caller did not hear why, and the loop complained of the task."""
    told: list[str] = []
    loops: list[Any] = []

    async def large(params: Any, call: Call) -> Any:
        return "x" * 300_000

    async def strange(params: Any, call: Call) -> Any:
        return object()

    async def verbose(params: Any, call: Call) -> Any:
        raise TakenError("x" * 300_000, details=params)

    async def detailed(params: Any, call: Call) -> Any:
        raise TakenError("that name is taken", object())

    async def late(params: Any, call: Call) -> Any:
        raise TimeoutError("its own")

    async def client(peer: RPCPeer) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, told: loops.append(told))
        with pytest.raises(RPCError, match=r"^large: a result of 300003 bytes$"):
            await peer.call("large")
        for method in ("strange", "late"):
            with pytest.raises(InternalError, match=rf"^{method} failed$"):
                await peer.call(method)
        with pytest.raises(TakenError, match=r"^x{10000}$"):
            await peer.call("verbose")
        with pytest.raises(TakenError, match=r"^that name is taken$"):
            await peer.call("detailed")

    methods = {"large": large, "strange": strange, "verbose": verbose, "detailed": detailed}
    met(client, {**methods, "late": late}, told)
    assert (loops, len(told)) == ([], 2)


def test_deadline_ends_the_call_on_both_sides() -> None:
    cancelled: list[str] = []

    async def wait(params: Any, call: Call) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(call.method)

    async def client(peer: RPCPeer) -> None:
        with pytest.raises(DeadlineError, match=r"0\.05 s"):
            await peer.call("wait", timeout_s=0.05)

    met(client, {"wait": wait})
    assert cancelled == ["wait"]


def test_giving_up_cancels_the_method() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(params: Any, call: Call) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def client(peer: RPCPeer) -> None:
        async with peer.open("wait"):
            await begun.wait()
        await cancelled.wait()

    met(client, {"wait": wait})


async def send_for_ever(peer: RPCPeer, method: str) -> None:
    async with peer.open(method) as call:
        while True:
            await call.send(bytes(100_000))


def test_sender_of_items_that_nobody_wants_hears_why() -> None:
    async def refuse(params: Any, call: Call) -> None:
        await call.receive()
        raise TakenError("no room")

    async def client(peer: RPCPeer) -> None:
        with pytest.raises(TakenError, match="no room"):
            await send_for_ever(peer, "refuse")

    met(client, {"refuse": refuse})


def test_who_sends_beside_a_receiver_takes_nothing_from_it() -> None:
    """The callee answers, and what it said before is still on its way."""
    count, piece = 200, os.urandom(10_000)

    async def talk(params: Any, call: Call) -> str:
        for _ in range(count):
            await call.send(piece)
        return "done"

    async def client(peer: RPCPeer) -> None:
        async with peer.open("talk") as call:

            async def send_for_ever() -> None:
                while True:
                    await call.send({"what": "nobody wants"})

            sending = asyncio.create_task(send_for_ever())
            size = 0
            async for item in call:
                size += len(item)
                await asyncio.sleep(0)
            assert (size, await call.result()) == (count * len(piece), "done")
            with pytest.raises(RemoteProtocolError):
                await sending

    met(client, {"talk": talk})


def test_end_of_the_connection_ends_its_calls() -> None:
    async def leave(params: Any, call: Call) -> None:
        call.peer.connection.abort()
        await asyncio.Event().wait()

    async def client(peer: RPCPeer) -> None:
        with pytest.raises((ConnectionLostError, RemoteProtocolError)):
            await peer.call("leave")

    met(client, {"leave": leave})


async def to_the_end(stream: RPTStream) -> None:
    """Reads until it ends or is broken off."""
    with suppress(RemoteProtocolError):
        while await stream.receive():
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x00\x00",
        b"\x00\x00\x00\x01\x09",
        b"\x00\x00\x00\x03\x00{]",
        b"\x00\x00\x00\x03\x00[]",
        b"\x00\x00\x00\x05\x03null",
        b"\x00\x00\x00\x21\x00" + b"[" * 32,
    ],
)
def test_garbage_hurts_nobody_else(data: bytes) -> None:
    async def client(peer: RPCPeer) -> Any:
        stream = await peer.connection.open_stream()
        await stream.send(data)
        await stream.send_eof()
        await to_the_end(stream)
        return await peer.call("add", {"a": 1, "b": 2})

    assert met(client) == 3


def test_message_longer_than_allowed_ends_the_connection() -> None:
    async def client(peer: RPCPeer) -> None:
        stream = await peer.connection.open_stream()
        await stream.send(b"\x00\x04\x00\x01" + b"x" * 100)
        with pytest.raises((ConnectionLostError, RemoteProtocolError)):
            await peer.call("add", {"a": 1, "b": 2})

    with pytest.raises((ConnectionLostError, RemoteProtocolError)):
        met(client)
