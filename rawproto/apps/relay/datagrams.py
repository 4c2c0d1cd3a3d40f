"""UDP as ends of a relay: one peer connected to, or many at one port, told apart by address.

Nobody says when a UDP peer has ended: a listener's peer is forgotten after some silence.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any

from rawproto.apps.relay.channels import never

__all__ = ["UDPChannel", "UDPPorts"]

_LARGEST = 65_535
_MOST_SENT = 65_507
_AT_ONCE = 64
_QUEUE = 64
_MOST_PEERS = 1024

SocketAddress = tuple[Any, ...]


class UDPChannel:
    """A connected UDP socket.

    Args:
        connected: the socket; it is the channel's from here on.
        name: as in `Channel`.
    """

    def __init__(self, connected: socket.socket, name: str) -> None:
        connected.setblocking(False)
        self.name = name
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self.gone = never

    async def receive(self) -> bytes | None:
        return await self._loop.sock_recv(self._socket, _LARGEST)

    async def send(self, data: bytes) -> None:
        for piece in _pieces(data):
            while True:
                try:
                    self._socket.send(piece)
                    break
                except BlockingIOError:
                    await _writable(self._loop, self._socket)

    async def send_eof(self) -> bool:
        return False

    async def close(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        self._socket.close()


def _pieces(data: bytes) -> list[bytes]:
    """What a stream gave may be longer than a datagram."""
    return [data[at : at + _MOST_SENT] for at in range(0, len(data) or 1, _MOST_SENT)]


async def _writable(loop: asyncio.AbstractEventLoop, waiting: socket.socket) -> None:
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(waiting, wake)
    try:
        await ready
    finally:
        loop.remove_writer(waiting)


class _Peer:
    """One address that sends to the port."""

    def __init__(self, ports: UDPPorts, address: SocketAddress, name: str) -> None:
        self.name = name
        self._ports = ports
        self.address = address
        self._came: deque[bytes] = deque(maxlen=_QUEUE)
        self._bell = asyncio.Event()
        self.gone = never

    def on_datagram(self, data: bytes) -> None:
        self._came.append(data)  # the oldest gives way
        self._bell.set()

    async def receive(self) -> bytes | None:
        while not self._came:
            self._bell.clear()
            try:
                await asyncio.wait_for(self._bell.wait(), self._ports.idle_s)
            except TimeoutError:
                self._ports.forget(self)  # what it sends later is for somebody who reads it
                return None
        return self._came.popleft()

    async def send(self, data: bytes) -> None:
        self._bell.set()  # an answer is no silence: the wait begins anew
        await self._ports.send(data, self.address)

    async def send_eof(self) -> bool:
        return False

    async def close(self) -> None:
        self._ports.forget(self)

    def abort(self) -> None:
        self._ports.forget(self)


class UDPPorts:
    """A bound UDP socket that gives a channel for each address it hears from.

    Args:
        bound: the socket; it is this one's from here on.
        idle_s: silence after which a peer counts as gone, in seconds.
    """

    def __init__(self, bound: socket.socket, idle_s: float) -> None:
        bound.setblocking(False)
        self.idle_s = idle_s
        self._socket = bound
        self._loop = asyncio.get_running_loop()
        self._peers: dict[SocketAddress, _Peer] = {}
        self._new: asyncio.Queue[_Peer] = asyncio.Queue()
        self._loop.add_reader(bound, self._readable)

    async def accept(self) -> _Peer:
        """The next address that was not heard from before."""
        return await self._new.get()

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                data, address = self._socket.recvfrom(_LARGEST)
            except OSError:
                return
            peer = self._peers.get(address)
            if peer is None:
                if len(self._peers) >= _MOST_PEERS:
                    continue
                host = f"[{address[0]}]" if ":" in address[0] else address[0]
                peer = self._peers[address] = _Peer(self, address, f"udp:{host}:{address[1]}")
                self._new.put_nowait(peer)
            peer.on_datagram(data)

    async def send(self, data: bytes, address: SocketAddress) -> None:
        for piece in _pieces(data):
            while True:
                try:
                    self._socket.sendto(piece, address)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.001)  # many senders, one socket: there is one writer slot

    def forget(self, peer: _Peer) -> None:
        """A peer is over; what it sends from now on begins a new channel."""
        if self._peers.get(peer.address) is peer:
            del self._peers[peer.address]

    def close(self) -> None:
        """Gives the port back."""
        self._loop.remove_reader(self._socket)
        self._socket.close()
