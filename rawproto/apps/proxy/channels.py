"""A call that carries a connection: DATA both ways, and an end for each.

::

    caller                                        callee
      |-- REQUEST open {host, port} ---------------->|  resolves, judges, connects
      |<------------- ITEM {"address": [host, port]}-|  it stands
      |-- DATA ... ITEM null ----------------------->|  null: no more bytes this way
      |<---------------------- DATA ... ITEM null ---|
      |<------------------------------- RESULT null -|  once both ways have ended

Whatever breaks one side before that gives the call up, or answers an error, and the other side
resets what it holds: nobody takes a part for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from rawproto.apps.proxy.faults import TimedOutError
from rawproto.errors import ConnectionLostError, ProtocolError, RemoteProtocolError
from rawproto.rpc import MOST_DATA_BYTES, Call, RPCPeer

__all__ = ["CallChannel", "answered", "opened"]

_LONGEST = 64  # of an address


class CallChannel:
    """One side's end; see `relay.channels.Channel`.

    Args:
        call: that carries it.
        name: who is at the other side, for the log.
        called: whether this side made the call, and waits for what comes of it.
        address: what the far socket is bound to there.
    """

    def __init__(
        self, call: Call, name: str, *, called: bool, address: tuple[str, int] = ("", 0)
    ) -> None:
        self.name = name
        self.address = address
        self._call = call
        self._called = called
        self.gone = call.broken

    async def receive(self) -> bytes | None:
        try:
            item = await self._call.receive_part()
        except StopAsyncIteration:
            raise RemoteProtocolError(0, "the call ended before its connection did") from None
        if item is not None and not isinstance(item, bytes):
            raise RemoteProtocolError(0, "an item that is none of a connection's")
        return item

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), MOST_DATA_BYTES):  # nearly always once
            await self._call.send(data[at : at + MOST_DATA_BYTES])

    async def send_eof(self) -> bool:
        with suppress(ConnectionLostError, ProtocolError):
            await self._call.send(None)
        return True

    async def close(self) -> None:
        if self._called:
            await self._call.result()

    def abort(self) -> None:
        if self._called:  # else the method's error tells it
            self._call.give_up()


@asynccontextmanager
async def opened(
    peer: RPCPeer, params: dict[str, Any], name: str, timeout_s: float
) -> AsyncIterator[CallChannel]:
    """A connection that the other side makes; leaving the block early breaks it.

    Args:
        peer: the other side.
        params: of `open`.
        name: of the target, for the log.
        timeout_s: how long it may take until it stands.

    Raises:
        TargetError: it cannot be had.
        RPCError, ConnectionLostError, ProtocolError: the other side is of no use.
    """
    async with peer.open("open", params, timeout_s=None) as call:
        told = await answered(call, name, timeout_s)
        yield CallChannel(call, name, called=True, address=_address(told.get("address")))


async def answered(call: Call, name: str, timeout_s: float) -> dict[str, Any]:
    """The callee's first item, which says that it stands. Raises as `opened`."""
    try:
        async with asyncio.timeout(timeout_s):
            told = await anext(call, None)
    except TimeoutError:
        raise TimedOutError(f"{name}: no answer within {timeout_s:g} s") from None
    if not isinstance(told, dict):
        raise RemoteProtocolError(0, "the other side answered nonsense")
    return told


def _address(told: Any) -> tuple[str, int]:
    """What the other side says an address is; ("", 0) for a Unix socket, or nonsense."""
    match told:
        case [str(host), int(port)] if len(host) <= _LONGEST and 0 <= port <= 0xFFFF:
            return host, port
    return "", 0
