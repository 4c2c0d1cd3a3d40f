"""Ends of a relay, opened: each connection made or accepted gives a channel.

A listener gives one channel after the other; anything else gives one each time it is asked,
and stdio one in all. Whom RPT trusts, and what TLS shows, is decided elsewhere (`Doors`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from rawproto.apps.relay.channels import Channel, RPTChannel, RPTDatagramChannel, SocketChannel
from rawproto.apps.relay.datagrams import UDPChannel, UDPPorts
from rawproto.apps.relay.ends import End
from rawproto.apps.relay.processes import ProcessChannel, StdioChannel
from rawproto.apps.relay.sockets import (
    Acceptor,
    bound_socket,
    connected_host,
    connected_unix,
    named,
)
from rawproto.apps.relay.tls import TLSChannel
from rawproto.drivers.rpt.address import RPTAddress
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import RawprotoError

__all__ = ["BROKEN", "Doors", "Listening", "Opener", "RPTListener", "opener"]

BROKEN = (OSError, RawprotoError)
"""What a channel breaks with; `ssl.SSLError` and time-outs are `OSError` too."""

_SHAKING = 64
_RPT_SHAKING = 16
"""A listener has half-open handshakes of 32 with one prefix, and lets others wait."""


class Listening(Protocol):
    """What `rawproto.serve` gives."""

    address: RPTAddress

    async def close(self, grace_s: float = 0.0) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """What openers are given.

    Attributes:
        connect: makes an RPT connection to an address, of datagrams or of bytes.
        listen: serves an RPT address; the handler is called with each connection.
        tls_client: OpenSSL's settings for connecting.
        tls_server: likewise for listening.
        timeout_s: how long connecting may take.
        idle_s: silence after which a UDP peer counts as gone.
    """

    connect: Callable[[str, bool], Awaitable[RPTConnection]]
    listen: Callable[[str, bool, Callable[[RPTConnection], Awaitable[None]]], Awaitable[Listening]]
    tls_client: Callable[[], ssl.SSLContext]
    tls_server: Callable[[], ssl.SSLContext]
    timeout_s: float = 10.0
    idle_s: float = 60.0


class Opener(Protocol):
    """Gives channels.

    Attributes:
        name: as typed, with the port that a listener got.
        once: whether it gives only one channel by itself, being no listener.
        listens: whether others connect to it.
    """

    name: str
    once: bool
    listens: bool

    async def open(self, peer: str) -> Channel:
        """The next channel, to serve `peer`. Raises one of `BROKEN`."""
        ...

    async def close(self) -> None:
        """Gives what it holds back; channels stay as they are."""
        ...


async def opener(end: End, doors: Doors, *, datagrams: bool) -> Opener:
    """Makes ready to open an end.

    Args:
        end: which.
        doors: what it needs from outside.
        datagrams: whether RPT is to keep borders.

    Raises:
        LinkError: a port cannot be had.
    """
    if not end.listens:
        return _Connector(end, doors, datagrams)
    if end.is_rpt:
        return await RPTListener.start(end, doors, datagrams)
    if end.kind == "udp":
        return _UDPListener(end, doors)
    return _SocketListener(end, doors)


class _Connector:
    listens = False

    def __init__(self, end: End, doors: Doors, datagrams: bool) -> None:
        self.name = str(end)
        self.once = True
        self._end = end
        self._doors = doors
        self._datagrams = datagrams
        self._handshakes = asyncio.Semaphore(_RPT_SHAKING)

    async def open(self, peer: str) -> Channel:
        end = self._end
        if end.kind == "stdio":
            return StdioChannel()
        if end.kind == "exec":
            return await ProcessChannel.start(end.command, peer)
        if end.is_rpt:
            return await self._open_rpt()
        async with asyncio.timeout(self._doors.timeout_s):
            if end.kind == "unix":
                return SocketChannel(await connected_unix(end.path), self.name)
            if end.kind == "udp":
                return UDPChannel(
                    await connected_host(end.host, end.port, socket.SOCK_DGRAM), self.name
                )
            channel = SocketChannel(
                await connected_host(end.host, end.port, socket.SOCK_STREAM), self.name
            )
            if end.kind == "tcp":
                return channel
            return await _secured(channel, self._doors.tls_client(), server=False, host=end.host)

    async def _open_rpt(self) -> Channel:
        """Waits for its turn: all at once, a crowd's handshakes would take too long for each."""
        async with self._handshakes, asyncio.timeout(self._doors.timeout_s):
            address = f"{self._end.kind}://{self._end.place}"
            connection = await self._doors.connect(address, self._datagrams)
        kind = RPTDatagramChannel if self._datagrams else RPTChannel
        return kind(connection, self._end.kind)

    async def close(self) -> None:
        pass


async def _secured(
    under: Channel, context: ssl.SSLContext, *, server: bool, host: str | None
) -> Channel:
    channel = TLSChannel(under, context, server=server, hostname=host)
    try:
        await channel.handshake()
    except BaseException:
        under.abort()
        raise
    return channel


class _SocketListener:
    """TCP, TLS and Unix sockets. TLS handshakes run beside each other."""

    once = False
    listens = True

    def __init__(self, end: End, doors: Doors) -> None:
        self._context = doors.tls_server() if end.kind == "tls" else None
        self._timeout_s = doors.timeout_s
        self._acceptor = Acceptor(end)
        self.name = self._acceptor.name
        self._ready: asyncio.Queue[Channel] = asyncio.Queue(1)
        self._shaking: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_SHAKING)
        self._accepting: asyncio.Task[None] | None = None

    async def open(self, peer: str) -> Channel:
        if self._context is None:
            return await self._acceptor.accept()
        if self._accepting is None:
            self._accepting = asyncio.create_task(self._accept_tls(self._context))
        return await self._ready.get()

    async def _accept_tls(self, context: ssl.SSLContext) -> None:
        while True:
            await self._room.acquire()
            task = asyncio.create_task(self._shake(await self._acceptor.accept(), context))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake(self, under: Channel, context: ssl.SSLContext) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                channel = await _secured(under, context, server=True, host=None)
            try:
                await self._ready.put(channel)  # while sessions have no room, nor have handshakes
            except BaseException:
                channel.abort()
                raise
        except OSError:
            pass  # a client that speaks no TLS, or not ours, is nobody's session
        finally:
            self._room.release()

    async def close(self) -> None:
        tasks = [*self._shaking, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._acceptor.close()


class _UDPListener:
    once = False
    listens = True

    def __init__(self, end: End, doors: Doors) -> None:
        bound = bound_socket(end, socket.SOCK_DGRAM)
        self.name = named(end, bound)
        self._ports = UDPPorts(bound, doors.idle_s)

    async def open(self, peer: str) -> Channel:
        return await self._ports.accept()

    async def close(self) -> None:
        self._ports.close()


class RPTListener:
    """RPT connections, as whoever serves the port hands them in.

    Args:
        carrier: `"rpt"` or `"rpt+udp"`.
        datagrams: whether borders are kept.
    """

    once = False
    listens = True

    def __init__(self, carrier: str, datagrams: bool) -> None:
        self._carrier = carrier
        self._datagrams = datagrams
        self._accepted: asyncio.Queue[RPTConnection] = asyncio.Queue()
        self._server: Listening | None = None
        self.name = ""

    @classmethod
    async def start(cls, end: End, doors: Doors, datagrams: bool) -> RPTListener:
        listener = cls(end.kind, datagrams)
        address = f"{end.kind}://{end.place}"
        listener._server = server = await doors.listen(address, datagrams, listener.handle)
        listener.name = str(listener.named(server.address))
        return listener

    def named(self, address: RPTAddress) -> End:
        """The end that is served there."""
        return End(kind=address.carrier, listens=True, host=address.host, port=address.port)

    async def handle(self, connection: RPTConnection) -> None:
        """Queues a connection, and returns when it is over."""
        self._accepted.put_nowait(connection)
        await connection.wait_closed()

    async def open(self, peer: str) -> Channel:
        connection = await self._accepted.get()
        return (RPTDatagramChannel if self._datagrams else RPTChannel)(connection, self._carrier)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()
