"""asyncio's four ways to a transport, over RPT: for clients and servers, protocols and streams.

    loop.create_connection    create_rpt_connection     (transport, protocol)
    loop.create_server        create_rpt_server         a TransportServer
    asyncio.open_connection   open_rpt_connection       (reader, writer)
    asyncio.start_server      start_rpt_server          a TransportServer

Each transport has a connection of its own and goes over its stream 0;
`create_stream_transport` takes any other stream. What a transport does is `transport`'s.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from rawproto.drivers.rpt.address import RPTAddress
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import Server, connect, serve
from rawproto.drivers.rpt.stream import RPTStream
from rawproto.drivers.rpt.transport import RPTTransport
from rawproto.errors import RawprotoError, UsageError
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind
from rawproto.wire.rpt import IP_PROTOCOL

if TYPE_CHECKING:
    from rawproto.capture import Writer

__all__ = [
    "TransportServer",
    "create_rpt_connection",
    "create_rpt_server",
    "create_stream_transport",
    "open_rpt_connection",
    "start_rpt_server",
]

_SECOND = 1_000_000_000
_CONFIG = Config(keep_alive_ns=10 * _SECOND, linger_ns=120 * _SECOND)
"""Silence ends nothing; and programs made for TCP rely on the kernel to send the rest for
minutes after they have closed, to a reader that is slow."""
_LIMIT_BYTES = 1 << 16

ProtocolT = TypeVar("ProtocolT", bound=asyncio.BaseProtocol)


def _checked(config: Config | None) -> Config:
    if config is not None and config.kind is not Kind.STREAM:
        raise UsageError("a transport carries bytes: the config's kind has to be STREAM")
    return config or _CONFIG


def create_stream_transport(
    protocol_factory: Callable[[], ProtocolT], stream: RPTStream
) -> tuple[RPTTransport, ProtocolT]:
    """Makes a transport of a stream; the connection stays its user's, who closes it.

    Args:
        protocol_factory: makes the protocol.
        stream: two-way, and read and written by nobody else.

    Raises:
        UsageError: the stream goes one way.
    """
    return _begin(protocol_factory, stream, owns_connection=False)


def _begin(
    protocol_factory: Callable[[], ProtocolT], stream: RPTStream, *, owns_connection: bool
) -> tuple[RPTTransport, ProtocolT]:
    protocol = protocol_factory()
    transport = RPTTransport(stream, protocol, owns_connection=owns_connection)
    transport.begin()
    return transport, protocol


async def create_rpt_connection(
    protocol_factory: Callable[[], ProtocolT],
    address: str,
    *,
    static: bytes | None = None,
    peer_key: bytes | None = None,
    trust: Callable[[bytes], RawprotoError | None] = lambda key: None,
    psk: bytes = b"",
    config: Config | None = None,
    family: Any = None,
    capture: Writer | None = None,
) -> tuple[RPTTransport, ProtocolT]:
    """Connects, and makes a transport of the connection: `loop.create_connection` for RPT.

    Args:
        protocol_factory: makes the protocol, once the connection is there.
        address: `rpt://host:port` or `rpt+udp://host:port`.
        static, peer_key, trust, psk, family, capture: as of `connect`.
        config: None for one that keeps alive every 10 s, and has `close()` try for two
            minutes to deliver what was written.

    Raises:
        As `connect` does, and whatever `protocol_factory` does.
    """
    connection = await connect(
        address,
        static=static,
        peer_key=peer_key,
        trust=trust,
        psk=psk,
        config=_checked(config),
        family=family,
        capture=capture,
    )
    try:
        return _begin(protocol_factory, connection.stream, owns_connection=True)
    except BaseException:
        connection.abort()
        raise


async def create_rpt_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    address: str,
    *,
    static: bytes | None = None,
    psk: bytes = b"",
    authorize: Callable[[bytes], bool] = lambda key: True,
    config: Config | None = None,
    capture: Writer | None = None,
) -> TransportServer:
    """Listens, with a protocol and a transport for each client: `loop.create_server` for RPT.

    Args:
        protocol_factory: makes the protocol of a client that came.
        address: `rpt://host:port` or `rpt+udp://host:port`, as of `serve`.
        static, psk, authorize, capture: as of `serve`.
        config: as of `create_rpt_connection`.

    Raises:
        As `serve` does.
    """
    server = TransportServer(protocol_factory)
    listening = serve(
        address,
        server._carry,
        static=static,
        psk=psk,
        authorize=authorize,
        config=_checked(config),
        capture=capture,
    )
    await server._listen(listening)
    return server


async def open_rpt_connection(
    address: str, *, limit: int = _LIMIT_BYTES, **options: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connects, and gives a reader and a writer: `asyncio.open_connection` for RPT.

    Args:
        address: `rpt://host:port` or `rpt+udp://host:port`.
        limit: of the reader's buffer, in bytes.
        options: of `create_rpt_connection`.

    Raises:
        As `connect` does.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit, loop)
    transport, protocol = await create_rpt_connection(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop), address, **options
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_rpt_server(
    client_connected_cb: Callable[
        [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None
    ],
    address: str,
    *,
    limit: int = _LIMIT_BYTES,
    **options: Any,
) -> TransportServer:
    """Listens, and gives each client's reader and writer away: `asyncio.start_server` for RPT.

    Args:
        client_connected_cb: a coroutine function, run in a task of its own, or a function.
        address: `rpt://host:port` or `rpt+udp://host:port`, as of `serve`.
        limit: of a reader's buffer, in bytes.
        options: of `create_rpt_server`.

    Raises:
        As `serve` does.
    """
    loop = asyncio.get_running_loop()

    def make_protocol() -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit, loop)
        return asyncio.StreamReaderProtocol(reader, client_connected_cb, loop=loop)

    return await create_rpt_server(make_protocol, address, **options)


class _ListeningSocket:
    """What libraries ask of a server's sockets. There is none: a port of RPT's has others."""

    type = socket.SOCK_STREAM
    proto = IP_PROTOCOL

    def __init__(self, address: RPTAddress) -> None:
        self.family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        self._name = address.host, address.port

    def getsockname(self) -> tuple[str, int]:
        return self._name


class TransportServer(asyncio.AbstractServer):
    """A listener whose clients are transports, as `asyncio.Server` is. Made by the functions here.

    `close()` lets nobody in any more; who is there stays, until he or `close_clients()` ends it.
    The port is free when `wait_closed()` returns, so that is when to listen on it again.
    """

    def __init__(self, protocol_factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._protocol_factory = protocol_factory
        self._loop = asyncio.get_running_loop()
        self._transports: set[RPTTransport] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._over = asyncio.Event()
        self._release: asyncio.Task[None] | None = None

    async def _listen(self, listening: serve) -> None:
        server = await listening
        assert isinstance(server, Server)
        self._server = server

    async def _carry(self, connection: RPTConnection) -> None:
        """The life of a client's connection."""
        transport, _ = _begin(self._protocol_factory, connection.stream, owns_connection=True)
        self._transports.add(transport)
        self._empty.clear()
        try:
            await connection.wait_closed()
        finally:
            self._transports.discard(transport)
            if not self._transports:
                self._empty.set()

    @property
    def address(self) -> RPTAddress:
        """Where it listens, with the port that it got."""
        return self._server.address

    @property
    def sockets(self) -> tuple[_ListeningSocket, ...]:
        """One that knows its `getsockname()`, while it listens."""
        return (_ListeningSocket(self.address),) if self.is_serving() else ()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it runs in."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it lets clients in."""
        return self._release is None

    async def start_serving(self) -> None:
        """Nothing: it serves from the start."""

    async def serve_forever(self) -> None:
        """Returns when it was closed; when it is cancelled, closes it."""
        try:
            await self.wait_closed()
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise

    def close(self) -> None:
        """Lets nobody in any more."""
        if self._release is None:
            self._server.refuse()
            self._release = self._loop.create_task(self._end())

    async def _end(self) -> None:
        try:
            await self._empty.wait()
        finally:  # also when the event loop ends: the clients are told
            await self._server.close()
            self._over.set()

    def close_clients(self) -> None:
        """Closes the transports that there are, each by its `close()`."""
        for transport in list(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        """Closes the transports that there are, each by its `abort()`."""
        for transport in list(self._transports):
            transport.abort()

    async def wait_closed(self) -> None:
        """Returns when it was closed, its clients have gone and the port is free."""
        await self._over.wait()
