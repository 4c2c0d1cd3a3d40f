"""UDP ends: what is longer than a datagram, and a peer that was forgotten and speaks again."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, closing

from rawproto.apps.relay.datagrams import UDPChannel, UDPPorts


def udp(stack: ExitStack) -> socket.socket:
    made = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    made.bind(("127.0.0.1", 0))
    made.settimeout(10)
    return made


def test_piece_of_a_stream_that_no_datagram_holds_is_several() -> None:
    """64 KiB at once from a pipe or TCP broke the session: message too long."""
    data = bytes(range(256)) * 256

    async def scene(stack: ExitStack) -> None:
        server, client, bound = udp(stack), udp(stack), udp(stack)
        client.connect(server.getsockname())
        channel = UDPChannel(client, "")
        await channel.send(data)
        assert server.recv(65_536) + server.recv(65_536) == data
        await channel.send(b"")
        assert server.recv(10) == b""
        ports = stack.enter_context(closing(UDPPorts(bound, 60.0)))
        server.sendto(b"first", bound.getsockname())
        peer = await asyncio.wait_for(ports.accept(), 10)
        await peer.send(data)
        assert server.recv(65_536) + server.recv(65_536) == data

    with ExitStack() as stack:
        asyncio.run(scene(stack))


def test_peer_that_was_silent_for_long_and_speaks_again_is_heard() -> None:
    """Its session still waited for the other side's end, and what it said went nowhere."""

    async def scene(stack: ExitStack) -> None:
        bound, client = udp(stack), udp(stack)
        ports = stack.enter_context(closing(UDPPorts(bound, 0.01)))
        client.sendto(b"first", bound.getsockname())
        first = await ports.accept()
        assert await first.receive() == b"first"
        assert await first.receive() is None
        ports.idle_s = 10.0
        client.sendto(b"second", bound.getsockname())
        second = await asyncio.wait_for(ports.accept(), 10)
        await first.send(b"the other side's last words")
        await first.close()
        client.sendto(b"third", bound.getsockname())
        assert [await second.receive(), await second.receive()] == [b"second", b"third"]
        assert client.recv(100) == b"the other side's last words"

    with ExitStack() as stack:
        asyncio.run(scene(stack))
