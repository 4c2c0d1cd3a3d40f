"""SOCKS5: each request is opened at the way's far side.

CONNECT, and UDP ASSOCIATE where the way has it (`exits.Exits`). Names go there as they are. Who
takes longer than 10 s to say what it wants is sent away. `DynamicForward` does so for programs of
this host; `remote` for those of the other, with a way that leads nowhere.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from rawproto.apps.proxy.allow import plain_address
from rawproto.apps.proxy.associations import Passage
from rawproto.apps.proxy.door import Door, Visit, take_leave
from rawproto.apps.proxy.faults import socks_reply
from rawproto.apps.proxy.forwards import Tell, Way, accounted
from rawproto.apps.proxy.places import Place
from rawproto.apps.proxy.socks import (
    CONNECT,
    Negotiation,
    emit_datagram,
    emit_reply,
    parse_datagram,
)
from rawproto.apps.relay.channels import Channel, SocketChannel
from rawproto.apps.relay.join import join
from rawproto.apps.relay.openers import BROKEN
from rawproto.apps.relay.relay import Session
from rawproto.errors import ConnectionLostError, ProtocolError, WireError
from rawproto.rpc import UnknownMethodError

__all__ = ["DynamicForward", "Socks"]

_PATIENCE_S = 10.0
_LARGEST = 65_535
_AT_ONCE = 64


class Socks:
    """Connects to what clients ask for.

    Args:
        way: to where the targets are.
        tell: hears of sessions.
        login: name and password that clients must know, None for nobody is asked.
    """

    def __init__(self, way: Way, tell: Tell, login: tuple[bytes, bytes] | None = None) -> None:
        self._way = way
        self._tell = tell
        self._login = login

    async def serve(self, channel: Channel, greeted: Callable[[], None]) -> None:
        """Serves a client.

        Args:
            channel: to it.
            greeted: called once it has said what it wants.
        """
        negotiation = Negotiation(self._login)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                while negotiation.request is None:
                    data = await channel.receive()
                    if data is None:
                        return
                    answer = negotiation.receive(data)
                    if negotiation.refused:
                        await take_leave(channel, answer)
                        return
                    await channel.send(answer)
        except (OSError, WireError, ConnectionLostError, ProtocolError):
            return  # time is up, it left, or it speaks something else
        greeted()
        request = negotiation.request

        async def run(session: Session) -> None:
            if request.command == CONNECT:
                await self._connect(session, channel, request.place, negotiation.rest)
            elif isinstance(channel, SocketChannel):
                await self._associate(session, channel, request.place)
            else:  # datagrams would have to come to where the client is
                await _refuse(channel, UnknownMethodError("no datagrams"))

        await accounted(channel, str(request.place), self._tell, run)

    async def _connect(self, session: Session, channel: Channel, place: Place, rest: bytes) -> None:
        stands = False
        try:
            async with self._way.open(place) as far:
                stands = True
                await channel.send(emit_reply(0, *far.address))
                if rest:
                    await far.send(rest)
                await join(channel, far, session.carried, 0)
        except BROKEN as error:
            if not stands:
                await _refuse(channel, error)
            raise

    async def _associate(self, session: Session, channel: SocketChannel, place: Place) -> None:
        """Datagrams go through for as long as the connection stands."""
        port = _DatagramPort(channel.socket, place.port)
        stands = False
        try:
            async with self._way.associate(port.deliver) as passage:
                stands = True
                port.begin(passage)
                await channel.send(emit_reply(0, *port.address))
                await _either(passage.run(), _ended(channel))
        except BROKEN as error:
            if not stands:
                await _refuse(channel, error)
            raise
        finally:
            port.close()
            session.carried.up_bytes, session.carried.down_bytes = port.up_bytes, port.down_bytes
        await channel.close()


class DynamicForward:
    """-D, --socks: listens here, connects to what clients ask for.

    Args:
        bind: where.
        way: to where the targets are.
        tell: hears of sessions.
        login: name and password that clients must know, None for nobody is asked.
        most: sessions at once.

    Attributes:
        door: what listens.

    Raises:
        LinkError: the port cannot be had.
    """

    def __init__(
        self,
        bind: Place,
        way: Way,
        tell: Tell,
        *,
        login: tuple[bytes, bytes] | None = None,
        most: int = 500,
    ) -> None:
        self._socks = Socks(way, tell, login)
        self.door = Door(bind, self._serve, most=most)

    async def _serve(self, visit: Visit) -> None:
        await self._socks.serve(visit.channel, visit.greeted)


class _DatagramPort:
    """Where a client's datagrams come to: from its address, and one port of it.

    Args:
        control: its TCP connection.
        port: the one it said that it sends from, 0 if that is the one of the first datagram.

    Attributes:
        address: of the port.
        up_bytes: sent for the client.
        down_bytes: and to it.
    """

    def __init__(self, control: socket.socket, port: int) -> None:
        self._client: str = control.getpeername()[0]
        self._client_port = port
        self._peer: Any = None
        self._loop = asyncio.get_running_loop()
        self._passage: Passage | None = None
        self.up_bytes = self.down_bytes = 0
        self._socket = socket.socket(control.family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind((control.getsockname()[0], 0))
        host, own_port = self._socket.getsockname()[:2]
        # Who came by IPv4 to a door of both families can send by that alone.
        self.address = (str(plain_address(host)), int(own_port))

    def begin(self, passage: Passage) -> None:
        """Passes on what comes."""
        self._passage = passage
        self._loop.add_reader(self._socket, self._readable)

    def _readable(self) -> None:
        assert self._passage is not None
        for _ in range(_AT_ONCE):
            try:
                data, sender = self._socket.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error: the client has closed its port
            if sender[0] != self._client or self._client_port not in (0, sender[1]):
                continue  # not our client
            self._client_port, self._peer = sender[1], sender
            with suppress(WireError):
                place, data = parse_datagram(data)
                self.up_bytes += len(data)
                self._passage.send(place.host, place.port, data)

    def deliver(self, place: Place, data: bytes) -> None:
        """Something came from a place, for the client."""
        if self._peer is not None:
            self.down_bytes += len(data)
            with suppress(OSError):
                self._socket.sendto(emit_datagram(place, data), self._peer)

    def close(self) -> None:
        """Gives the port back."""
        self._loop.remove_reader(self._socket)
        self._socket.close()


async def _ended(channel: Channel) -> None:
    while await channel.receive() is not None:
        pass


async def _either(*runs: Coroutine[Any, Any, None]) -> None:
    """Runs until one of them ends. Raises what it did."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refuse(channel: Channel, error: Exception) -> None:
    await take_leave(channel, emit_reply(socks_reply(error)))
