"""Ends of a relay, opened: each connection made or accepted gives a channel.

A listener gives one channel after the other; anything else gives one each time it is asked,
and stdio one in all. Whom RPT trusts, and what TLS shows, is decided elsewhere (`Doors`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from rawproto.apps.relay.channels import Channel, RPTChannel, RPTDatagramChannel, SocketChannel
from rawproto.apps.relay.datagrams import UDPChannel, UDPPorts
from rawproto.apps.relay.ends import End
from rawproto.apps.relay.processes import ProcessChannel, StdioChannel
from rawproto.apps.relay.tls import TLSChannel
from rawproto.drivers.rpt.address import RPTAddress
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import LinkError, RawprotoError

__all__ = ["BROKEN", "Doors", "Listening", "Opener", "opener"]

BROKEN = (OSError, RawprotoError)
"""What a channel breaks with; `ssl.SSLError` and time-outs are `OSError` too."""

_BACKLOG = 512
_SHAKING = 64
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


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
        return await _RPTListener.start(end, doors, datagrams)
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

    async def open(self, peer: str) -> Channel:
        end = self._end
        if end.kind == "stdio":
            return StdioChannel()
        if end.kind == "exec":
            return await ProcessChannel.start(end.command, peer)
        async with asyncio.timeout(self._doors.timeout_s):
            if end.is_rpt:
                address = f"{end.kind}://{end.place}"
                connection = await self._doors.connect(address, self._datagrams)
                return (RPTDatagramChannel if self._datagrams else RPTChannel)(connection, end.kind)
            if end.kind == "unix":
                return SocketChannel(await _connect_unix(end.path), self.name)
            if end.kind == "udp":
                return UDPChannel(await _connect(end, socket.SOCK_DGRAM), self.name)
            channel = SocketChannel(await _connect(end, socket.SOCK_STREAM), self.name)
            if end.kind == "tcp":
                return channel
            return await _secured(channel, self._doors.tls_client(), server=False, host=end.host)

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


async def _connect(end: End, kind: socket.SocketKind) -> socket.socket:
    """A socket connected to the first of the host's addresses that takes it."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(end.host, end.port, type=kind)
    for last, (family, _, _, _, address) in enumerate(found, 1 - len(found)):
        made = socket.socket(family, kind)
        made.setblocking(False)
        try:
            await loop.sock_connect(made, address)
            return made
        except BaseException as error:
            made.close()
            if not isinstance(error, OSError) or not last:
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the name has no address")


async def _connect_unix(path: str) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, _unix_address(path))
    except BaseException:
        made.close()
        raise
    return made


def _unix_address(path: str) -> str:
    return "\0" + path[1:] if path.startswith("@") else path


class _SocketListener:
    """TCP, TLS and Unix sockets. TLS handshakes run beside each other."""

    once = False
    listens = True

    def __init__(self, end: End, doors: Doors) -> None:
        self._end = end
        self._context = doors.tls_server() if end.kind == "tls" else None
        self._timeout_s = doors.timeout_s
        self._socket = _bound_unix(end.path) if end.kind == "unix" else _bound(end, "tcp")
        self._socket.listen(_BACKLOG)
        self._socket.setblocking(False)
        self.name = _named(end, self._socket)
        self._ready: asyncio.Queue[Channel] = asyncio.Queue(1)
        self._shaking: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(_SHAKING)
        self._accepting: asyncio.Task[None] | None = None

    async def open(self, peer: str) -> Channel:
        if self._context is None:
            return await self._accept()
        if self._accepting is None:
            self._accepting = asyncio.create_task(self._accept_tls(self._context))
        return await self._ready.get()

    async def _accept(self) -> Channel:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(self._socket)
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    await asyncio.sleep(0.1)  # some session may end
                    continue
                if error.errno == errno.ECONNABORTED:
                    continue
                raise
            if self._end.kind == "unix":
                return SocketChannel(accepted, self.name)
            return SocketChannel(accepted, f"tcp:{_place(address)}")

    async def _accept_tls(self, context: ssl.SSLContext) -> None:
        while True:
            await self._room.acquire()
            task = asyncio.create_task(self._shake(await self._accept(), context))
            self._shaking.add(task)
            task.add_done_callback(self._shaking.discard)

    async def _shake(self, under: Channel, context: ssl.SSLContext) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                channel = await _secured(under, context, server=True, host=None)
        except OSError:
            return  # a client that speaks no TLS, or not ours, is nobody's session
        finally:
            self._room.release()
        await self._ready.put(channel)

    async def close(self) -> None:
        tasks = [*self._shaking, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()
        if self._end.kind == "unix" and not self._end.path.startswith("@"):
            with suppress(OSError):
                os.unlink(self._end.path)


class _UDPListener:
    once = False
    listens = True

    def __init__(self, end: End, doors: Doors) -> None:
        bound = _bound(end, "udp")
        self.name = _named(end, bound)
        self._ports = UDPPorts(bound, doors.idle_s)

    async def open(self, peer: str) -> Channel:
        return await self._ports.accept()

    async def close(self) -> None:
        self._ports.close()


class _RPTListener:
    once = False
    listens = True

    def __init__(self, carrier: str, datagrams: bool) -> None:
        self._carrier = carrier
        self._datagrams = datagrams
        self._accepted: asyncio.Queue[RPTConnection] = asyncio.Queue()
        self._server: Listening | None = None
        self.name = ""

    @classmethod
    async def start(cls, end: End, doors: Doors, datagrams: bool) -> _RPTListener:
        listener = cls(end.kind, datagrams)
        address = f"{end.kind}://{end.place}"
        listener._server = server = await doors.listen(address, datagrams, listener._handle)
        carrier, host, port = server.address
        listener.name = str(End(kind=carrier, listens=True, host=host, port=port))
        return listener

    async def _handle(self, connection: RPTConnection) -> None:
        self._accepted.put_nowait(connection)
        await connection.wait_closed()

    async def open(self, peer: str) -> Channel:
        connection = await self._accepted.get()
        return (RPTDatagramChannel if self._datagrams else RPTChannel)(connection, self._carrier)

    async def close(self) -> None:
        if self._server is not None:
            await self._server.close()


def _bound(end: End, protocol: str) -> socket.socket:
    """A socket at the end's port, of both families where no address was given."""
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    try:
        if not end.host:
            made = socket.socket(socket.AF_INET6, kind)
            address: Any = ("::", end.port)
        else:
            found = socket.getaddrinfo(end.host, end.port, type=kind, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            made = socket.socket(family, kind)
    except OSError as error:
        raise LinkError("listen on", str(end), error.errno, error.strerror) from None
    try:
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(end.host)))
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise LinkError("listen on", str(end), error.errno, error.strerror) from None
    return made


def _bound_unix(path: str) -> socket.socket:
    """A Unix socket at a path; one that is left over from a process that is gone is replaced."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.startswith("@") and _is_left_over(path):
            os.unlink(path)
        made.bind(_unix_address(path))
    except OSError as error:
        made.close()
        raise LinkError("listen on", f"unix:{path}", error.errno, error.strerror) from None
    return made


def _is_left_over(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        return trial.connect_ex(path) == errno.ECONNREFUSED


def _named(end: End, bound: socket.socket) -> str:
    if end.kind == "unix":
        return str(end)
    port = bound.getsockname()[1]
    return str(End(kind=end.kind, listens=True, host=end.host, port=port))


def _place(address: tuple[Any, ...]) -> str:
    host = address[0].removeprefix("::ffff:")
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
