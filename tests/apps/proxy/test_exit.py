"""An exit against name servers that lie, clients that mean harm, and targets that break."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from rawproto.apps.proxy.channels import opened
from rawproto.apps.proxy.faults import (
    ERRORS,
    DeniedError,
    RefusedTargetError,
    TargetError,
    UnresolvedError,
)
from rawproto.apps.proxy.forwards import PeerWay
from rawproto.apps.proxy.places import Place, parse_forward
from rawproto.apps.proxy.remote import RemoteForwards
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.rpc import BadRequestError, Call, RPCError, RPCPeer
from tests.apps.proxy.doors import exit_peer, run, target


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


async def echoed(peer: RPCPeer, place: Place, data: bytes) -> bytes:
    async with opened(peer, place.params, str(place), 10) as channel:
        await channel.send(data)
        await channel.send_eof()
        answer = b""
        while (piece := await channel.receive()) is not None:
            answer += piece
        await channel.close()
        return answer


class ChangingResolver:
    """A name server that answers something else each time."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str) -> list[str]:
        self.asked += 1
        return self.answers.pop(0)


def test_name_that_changes_its_address_leads_nowhere_else() -> None:
    """Rebinding: what was judged is what is connected to, and each connection is judged anew."""

    async def scene() -> None:
        async with target(echo) as port:
            resolver = ChangingResolver(
                ["127.0.0.2"], ["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["::ffff:127.0.0.1"], []
            )
            rules = ("127.0.0.2:*", "evil.example:*")
            async with exit_peer(rules, resolver) as peer:
                place = Place("evil.example", port)
                # The target listens at 127.0.0.1 alone: 127.0.0.2 refuses, nothing else is tried.
                for error in (RefusedTargetError, DeniedError, RefusedTargetError, DeniedError):
                    with pytest.raises(error):
                        await echoed(peer, place, b"x")
                with pytest.raises(UnresolvedError):
                    await echoed(peer, place, b"x")
                assert resolver.asked == 5, "once for each"

    run(scene)


def test_address_of_a_name_is_reached_by_its_name_alone() -> None:
    async def scene() -> None:
        async with target(echo) as port:
            resolver = ChangingResolver(["127.0.0.1"])
            async with exit_peer([f"localhost:{port}"], resolver) as peer:
                assert await echoed(peer, Place("localhost", port), b"data") == b"data"
                for host in ("127.0.0.1", "::ffff:127.0.0.1", "::1", "0.0.0.0", "::"):
                    with pytest.raises(DeniedError):
                        await echoed(peer, Place(host, port), b"x")

    run(scene)


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0"])
def test_odd_ways_to_write_an_address_are_judged_as_what_they_are(host: str) -> None:
    async def scene() -> None:
        async with target(echo) as port, exit_peer(["*:*"]) as peer:
            with pytest.raises((DeniedError, UnresolvedError)):
                await echoed(peer, Place(host, port), b"x")

    run(scene)


def test_bytes_pass_both_ways_and_each_end_by_itself() -> None:
    async def sum_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"begins ")
        writer.write(b"%d" % len(await reader.read()))

    async def scene() -> None:
        async with target(sum_up) as port, exit_peer() as peer:
            data = os.urandom(700_000)
            assert await echoed(peer, Place("127.0.0.1", port), data) == b"begins 700000"

    run(scene)


def test_target_that_resets_is_no_good_end() -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(b"part")
        await writer.drain()
        writer.transport.abort()  # with bytes of ours unread: the kernel resets

    async def scene() -> None:
        async with target(broken) as port, exit_peer() as peer:
            with pytest.raises(TargetError):
                await echoed(peer, Place("127.0.0.1", port), bytes(5_000_000))

    run(scene)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("open", None),
        ("open", {"host": "a", "port": "x"}),
        ("open", {"path": "/nowhere"}),
        ("open", {"listener": 1}),
        ("listen", {"host": "localhost", "port": 1}),
        ("listen", {"host": "localhost", "port": 0, "listener": 1}),
        ("listen", {"host": "a", "port": 0, "listener": 1}),
        ("listen", {"host": "no address", "port": 0, "listener": 1}),
        ("listen", {"path": "/x", "listener": 1}),
        ("associate", {}),
        ("associate", {"association": -1}),
        ("associate", {"association": 1 << 32}),
    ],
)
def test_what_makes_no_sense_or_is_not_allowed_is_an_error_of_its_own(
    method: str, params: Any
) -> None:
    async def scene() -> None:
        async with target(echo) as port, exit_peer() as peer:
            with pytest.raises((BadRequestError, DeniedError)):
                await peer.call(method, params)
            assert await echoed(peer, Place("127.0.0.1", port), b"well") == b"well"

    run(scene)


def hostile_calls(peer: RPCPeer, port: int) -> list[Callable[[], Awaitable[None]]]:
    async def item() -> None:
        async with opened(peer, Place("127.0.0.1", port).params, "", 10) as channel:
            await channel._call.send({"no": "data"})
            while await channel.receive() is not None:
                pass

    async def silence() -> None:
        async with opened(peer, Place("127.0.0.1", port).params, "", 10):
            pass  # left at once

    async def half() -> None:
        async with peer.open("open", Place("127.0.0.1", port).params) as call:
            await call.end()  # an end that is not said as one
            await call.result()

    return [item, silence, half]


def test_hostile_callers_hurt_nobody_else_and_nothing_of_them_stays() -> None:
    async def scene() -> None:
        async with target(echo) as port, exit_peer() as peer:
            for hostile in hostile_calls(peer, port):
                with suppress(RPCError, ProtocolError):
                    await hostile()
            for _ in range(300):  # calls that come and go
                async with peer.open("open", Place("127.0.0.1", port).params):
                    pass
            assert await echoed(peer, Place("127.0.0.1", port), b"well") == b"well"

    run(scene)


def test_datagrams_that_are_none_are_lost_and_others_pass() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        got: asyncio.Queue[tuple[Place, bytes]] = asyncio.Queue()

        class Echo(asyncio.DatagramProtocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, address: Any) -> None:
                self.transport.sendto(data[::-1], address)

        server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        port = server.get_extra_info("sockname")[1]
        async with exit_peer() as peer:
            way = PeerWay(peer)
            async with way.associate(lambda *each: got.put_nowait(each)) as passage:
                for garbage in (b"", b"\0", bytes(4), bytes(8) + b"\x09", os.urandom(50)):
                    peer.connection.send_datagram(garbage)
                running = asyncio.create_task(passage.run())
                for size in (1, 1000, 20_000):  # the last does not fit a packet
                    passage.send("127.0.0.1", port, bytes(size))
                    assert await got.get() == (Place("127.0.0.1", port), bytes(size))
                passage.send("10.9.9.9", port, b"denied")
                passage.send("127.0.0.1", port, b"abc")
                assert (await got.get())[1] == b"cba"
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
            await way.close()
        server.close()

    run(scene)


def test_only_who_was_sent_to_may_answer_through_the_exit() -> None:
    """The exit's port hears everybody on its network."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        got: asyncio.Queue[tuple[Place, bytes]] = asyncio.Queue()
        server, stranger = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        with server, stranger:
            for each in (server, stranger):
                each.setblocking(False)
                each.bind(("127.0.0.1", 0))
            place = Place("127.0.0.1", server.getsockname()[1])
            async with exit_peer() as peer:
                way = PeerWay(peer)
                async with way.associate(lambda *each: got.put_nowait(each)) as passage:
                    passage.send(place.host, place.port, b"asked")
                    data, port = await loop.sock_recvfrom(server, 100)
                    assert data == b"asked"
                    await loop.sock_sendto(stranger, b"not asked", port)
                    await loop.sock_sendto(server, b"answer", port)
                    assert await got.get() == (place, b"answer")
                    assert got.empty()
                await way.close()

    run(scene)


def test_target_of_a_client_that_is_lost_sees_a_reset() -> None:
    async def scene() -> None:
        seen: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert await reader.readexactly(5) == b"begun"
            writer.write(b"heard")
            try:
                seen.set_result(await reader.read())
            except ConnectionResetError as error:
                seen.set_result(error)

        async with target(hold) as port, exit_peer() as peer:
            with suppress(ProtocolError, RPCError, ConnectionLostError):
                async with opened(peer, Place("127.0.0.1", port).params, "", 10) as channel:
                    await channel.send(b"begun")
                    assert await channel.receive() == b"heard"
                    peer.connection.abort()
            assert isinstance(await seen, ConnectionResetError)

    run(scene)


def test_exit_cannot_open_what_no_forward_names() -> None:
    """A hostile exit asks the entry to connect for it."""

    async def scene() -> None:
        connected: asyncio.Future[RPTConnection] = asyncio.get_running_loop().create_future()

        async def handle(connection: RPTConnection) -> None:
            connected.set_result(connection)
            await connection.wait_closed()

        server = await serve("rpt+udp://127.0.0.1:0", handle)
        async with target(echo) as port, connect(str(server.address)) as connection:
            remote = RemoteForwards([parse_forward(f"0:127.0.0.1:{port}")], lambda session: None)
            entry = RPCPeer(connection, remote.methods, errors=ERRORS)
            hostile = RPCPeer(await connected, errors=ERRORS)
            for params in (
                {"host": "127.0.0.1", "port": port},
                {"path": "/run/s"},
                {"listener": 1},
                {"listener": -1},
                {"listener": True},
                None,
            ):
                with pytest.raises(DeniedError):
                    await hostile.call("open", params)
            async with opened(hostile, {"listener": 0}, "", 10) as channel:
                await channel.send(b"named")
                assert await channel.receive() == b"named"
            for peer in (entry, hostile):
                await peer.close()
        await server.close()

    run(scene)


def test_exit_that_ends_a_call_before_its_connection_breaks_that_alone() -> None:
    async def scene() -> None:
        async def hasty(params: Any, call: Call) -> None:
            await call.send({"address": ["127.0.0.1", 1]})

        async def handle(connection: RPTConnection) -> None:
            peer = RPCPeer(connection, {"open": hasty}, errors=ERRORS)
            await connection.wait_closed()
            await peer.close()

        server = await serve("rpt+udp://127.0.0.1:0", handle)
        async with connect(str(server.address)) as connection:
            peer = RPCPeer(connection, errors=ERRORS)
            for _ in range(2):
                async with opened(peer, Place("127.0.0.1", 1).params, "", 10) as channel:
                    with pytest.raises(ProtocolError, match="before its connection"):
                        await channel.receive()
            await peer.close()
        await server.close()

    run(scene)
