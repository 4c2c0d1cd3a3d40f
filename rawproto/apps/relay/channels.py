"""What an open end of a relay can do, and the ends that are sockets or RPT connections.

A channel carries bytes or, with borders, datagrams. Its sending side may end before its
receiving side does. Whoever sends waits while the other side is slow.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Protocol

from rawproto.drivers.rpt.address import host_and_port
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import ConnectionLostError, ProtocolError

__all__ = ["Channel", "RPTChannel", "RPTDatagramChannel", "SocketChannel"]

PIECE_BYTES = 1 << 16
_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time, so that closing resets


class Channel(Protocol):
    """An open end.

    Attributes:
        name: who is at the other side, for the log.
    """

    name: str

    async def receive(self) -> bytes | None:
        """What came: some bytes, or one datagram; None at the end. Raises what broke it."""
        ...

    async def send(self, data: bytes) -> None:
        """Sends it; returns when more may be sent. Raises what broke it."""
        ...

    async def send_eof(self) -> bool:
        """Nothing more is sent: whether the other side hears of that and can go on sending."""
        ...

    async def gone(self) -> None:
        """Returns when the other side is known to take no more; perhaps never."""
        ...

    async def close(self) -> None:
        """Ends it well."""
        ...

    def abort(self) -> None:
        """Ends it so that the other side sees that something broke."""
        ...


async def never() -> None:
    """For `Channel.gone` where only sending shows it."""
    await asyncio.get_running_loop().create_future()


class SocketChannel:
    """A connected stream socket.

    Args:
        connected: TCP or Unix; it is the channel's from here on.
        name: as in `Channel`.

    Attributes:
        socket: as given.
    """

    def __init__(self, connected: socket.socket, name: str) -> None:
        connected.setblocking(False)
        if connected.family != socket.AF_UNIX:
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.name = name
        self.socket = connected
        self._loop = asyncio.get_running_loop()
        self.gone = never

    async def receive(self) -> bytes | None:
        return await self._loop.sock_recv(self.socket, PIECE_BYTES) or None

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def send_eof(self) -> bool:
        with suppress(OSError):  # the other side may have gone meanwhile
            self.socket.shutdown(socket.SHUT_WR)
        return True

    async def close(self) -> None:
        self.socket.close()

    def abort(self) -> None:
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            self.socket.close()


class RPTChannel:
    """Stream 0 of a connection.

    Args:
        connection: of kind STREAM; it is the channel's from here on.
        carrier: `"rpt"` or `"rpt+udp"`, for its name.
    """

    def __init__(self, connection: RPTConnection, carrier: str) -> None:
        self.name = f"{carrier}:{host_and_port(*connection.peer_address)}"
        self.connection = connection
        self._stream = connection.stream
        self.gone = connection.wait_closed

    async def receive(self) -> bytes | None:
        return await self._stream.receive(PIECE_BYTES) or None

    async def send(self, data: bytes) -> None:
        await self._stream.send(data)

    async def send_eof(self) -> bool:
        with suppress(ConnectionLostError, ProtocolError):
            await self._stream.send_eof()
        return True

    async def close(self) -> None:
        with suppress(ConnectionLostError, ProtocolError):
            await self.connection.close()

    def abort(self) -> None:
        self.connection.abort(_BROKEN, "the other end of the relay broke")


_BROKEN = 259  # an application's code for CLOSE


class RPTDatagramChannel(RPTChannel):
    """The datagrams of a connection of kind DGRAM; its stream 0 only says when a side has ended.

    A datagram that is too large, or comes while too many wait, is lost, as datagrams are.
    """

    def __init__(self, connection: RPTConnection, carrier: str) -> None:
        super().__init__(connection, carrier)
        self._ended = asyncio.ensure_future(self._end())

    async def _end(self) -> None:
        with suppress(ConnectionLostError, ProtocolError):
            while await self._stream.receive():
                pass

    async def receive(self) -> bytes | None:
        coming = asyncio.ensure_future(self.connection.receive_datagram())
        try:
            await asyncio.wait({coming, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done() and not coming.exception():
                return coming.result()
        finally:
            coming.cancel()
            with suppress(asyncio.CancelledError, ConnectionLostError, ProtocolError):
                await coming
        if self.connection.error is not None:
            raise self.connection.error
        return self.connection.machine.datagrams.receive()  # what came along with the end

    async def send(self, data: bytes) -> None:
        if len(data) <= self.connection.max_datagram_bytes:
            self.connection.send_datagram(data)

    async def close(self) -> None:
        self._ended.cancel()
        await super().close()

    def abort(self) -> None:
        self._ended.cancel()
        super().abort()
