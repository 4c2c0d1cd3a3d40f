"""UDP through a connection: DATAGRAM frames, told apart by association and address.

::

    DATAGRAM   association u32 | address as in SOCKS (RFC 1928 section 5) | data
    DATA       the same, of the call `associate`: for what does not fit a packet

The numbers are the client's choice. Datagrams that cannot be sent at once are lost, as
datagrams are: nobody waits for them, and none is kept.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress

from rawproto.apps.proxy.allow import AllowList
from rawproto.apps.proxy.faults import TargetError
from rawproto.apps.proxy.places import Place
from rawproto.apps.proxy.resolve import Resolve, judged, numbers
from rawproto.apps.proxy.socks import emit_address, parse_address
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import ConnectionLostError, ProtocolError, WireError
from rawproto.rpc import Call

__all__ = ["Association", "DatagramSwitch", "Passage", "Take"]

_NUMBER_BYTES = 4
_LARGEST = 65_535
_AT_ONCE = 64
_MOST_PEERS = 1024
_MOST_NAMES = 64
_NAME_S = 60.0
_WAITING = 8
_LARGE_WAITING = 16

Take = Callable[[Place, bytes], None]


class DatagramSwitch:
    """Hands a connection's datagrams to its associations. It alone receives them.

    Args:
        connection: of kind STREAM.
    """

    def __init__(self, connection: RPTConnection) -> None:
        self._connection = connection
        self._takers: dict[int, Take] = {}
        self._task = asyncio.create_task(self._run())

    def __len__(self) -> int:
        return len(self._takers)

    async def _run(self) -> None:
        with suppress(ConnectionLostError, ProtocolError):
            while True:
                self.on_datagram(await self._connection.receive_datagram())

    def on_datagram(self, data: bytes) -> None:
        """One came; what nobody waits for, or cannot be read, is lost."""
        taker = self._takers.get(int.from_bytes(data[:_NUMBER_BYTES], "big"))
        if taker is not None:
            with suppress(WireError):
                place, end = parse_address(data, _NUMBER_BYTES)
                taker(place, data[end:])

    def send(self, data: bytes) -> bool:
        """Sends one: whether it fits a packet; it may be lost then, too."""
        if len(data) > self._connection.max_datagram_bytes:
            return False
        with suppress(ConnectionLostError, ProtocolError):
            self._connection.send_datagram(data)
        return True

    def add(self, number: int, take: Take) -> None:
        """Datagrams of an association go to `take`. Raises ValueError: it has the number."""
        if number in self._takers:
            raise ValueError(f"association {number} is there already")
        self._takers[number] = take

    def remove(self, number: int) -> None:
        """They go nowhere any more."""
        self._takers.pop(number, None)

    async def close(self) -> None:
        """Hands nothing out any more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Passage:
    """One association's way through a connection, the same on both sides.

    Args:
        number: of the association.
        switch: of the connection.
        call: that keeps it.
        take: called with what comes, and from where (or where to).
    """

    def __init__(self, number: int, switch: DatagramSwitch, call: Call, take: Take) -> None:
        self._head = number.to_bytes(_NUMBER_BYTES, "big")
        self._number = number
        self._switch = switch
        self._call = call
        self._large: asyncio.Queue[bytes] = asyncio.Queue(_LARGE_WAITING)
        switch.add(number, take)

    def send(self, host: str, port: int, data: bytes) -> None:
        """Sends a datagram, or loses it."""
        whole = self._head + emit_address(host, port) + data
        if not self._switch.send(whole):
            with suppress(asyncio.QueueFull):
                self._large.put_nowait(whole)

    async def run(self) -> None:
        """Carries what is large until the call ends. Raises what ended it, if not well."""
        sending = asyncio.create_task(self._send_large())
        try:
            async for item in self._call:
                if isinstance(item, bytes) and item[:_NUMBER_BYTES] == self._head:
                    self._switch.on_datagram(item)
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)

    async def _send_large(self) -> None:
        with suppress(ConnectionLostError, ProtocolError):
            while True:
                await self._call.send(await self._large.get())

    def close(self) -> None:
        """Takes nothing any more."""
        self._switch.remove(self._number)


class Association:
    """The exit's side: sockets that send and receive for a client.

    Only who was sent to may answer. Args as of `ExitService` and `Passage`.
    """

    def __init__(
        self, number: int, switch: DatagramSwitch, allow: AllowList, resolve: Resolve, call: Call
    ) -> None:
        self._allow = allow
        self._resolve = resolve
        self._loop = asyncio.get_running_loop()
        self._sockets: dict[int, socket.socket] = {}
        self._heard: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._names: OrderedDict[Place, tuple[float, str | None]] = OrderedDict()
        self._waiting: dict[Place, list[bytes]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._passage = Passage(number, switch, call, self._take)
        self.run = self._passage.run

    def _take(self, place: Place, data: bytes) -> None:
        """The client sends to a place."""
        until_s, host = self._names.get(place, (0.0, None))
        if time.monotonic() < until_s:
            if host is not None:
                self._send(host, place.port, data)
        elif place in self._waiting:
            if len(self._waiting[place]) < _WAITING:
                self._waiting[place].append(data)
        elif len(self._waiting) < _MOST_NAMES:
            self._waiting[place] = [data]
            task = asyncio.create_task(self._ask(place))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def _ask(self, place: Place) -> None:
        host = None
        try:
            with suppress(TargetError, TimeoutError):
                async with asyncio.timeout(10):
                    host = (await judged(place, self._allow, self._resolve))[0]
        finally:
            waiting = self._waiting.pop(place)
        self._names[place] = (time.monotonic() + _NAME_S, host)
        if len(self._names) > _MOST_PEERS:
            self._names.popitem(last=False)
        if host is not None:
            for data in waiting:
                self._send(host, place.port, data)

    def _send(self, host: str, port: int, data: bytes) -> None:
        with suppress(OSError):
            family, _, _, _, address = numbers(host, port, socket.SOCK_DGRAM)[0]
            self._heard[address[:2]] = None
            self._heard.move_to_end(address[:2])
            if len(self._heard) > _MOST_PEERS:
                self._heard.popitem(last=False)
            self._socket(family).sendto(data, address)

    def _socket(self, family: int) -> socket.socket:
        made = self._sockets.get(family)
        if made is None:
            made = self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM)
            made.setblocking(False)
            made.bind(("", 0))
            self._loop.add_reader(made, self._readable, made)
        return made

    def _readable(self, made: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, address = made.recvfrom(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of one of the peers
            if address[:2] in self._heard:
                self._passage.send(address[0], address[1], data)

    async def close(self) -> None:
        """Gives the sockets back."""
        self._passage.close()
        for task in list(self._asking):
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)
        for made in self._sockets.values():
            self._loop.remove_reader(made)
            made.close()
