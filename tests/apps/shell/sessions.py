"""Clients of a real server of this user's, over loopback: `address` in conftest is where it is."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from rawproto.apps.shell.client import session
from rawproto.apps.shell.faults import ERRORS
from rawproto.apps.shell.service import STDERR, STDOUT
from rawproto.drivers.rpt.coroutines import connect
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.rpc import RPCError, RPCPeer

PRIVATE = bytes(range(32))
ME = pwd.getpwuid(os.geteuid()).pw_name
PATIENCE_S = 30
OVER = (ConnectionLostError, ProtocolError)


def met(
    address: str, client: Callable[[RPCPeer], Awaitable[Any]], *, private: bytes = PRIVATE
) -> Any:
    """What a client gets, on a connection of its own."""

    async def one() -> Any:
        async with (
            asyncio.timeout(PATIENCE_S),
            connect(address, static=private) as connection,
        ):
            peer = RPCPeer(connection, errors=ERRORS)
            try:
                return await client(peer)
            finally:
                await peer.close()

    return asyncio.run(one())


async def run(peer: RPCPeer, command: str, data: bytes = b"", **options: Any) -> tuple[Any, ...]:
    """(how it ended, stdout, stderr)."""
    took = {STDOUT: bytearray(), STDERR: bytearray()}

    async def take(channel: int, data: bytes) -> None:
        took[channel].extend(data)

    async with session(peer, take, command=command, **options) as one:
        sending = asyncio.create_task(one.send(data))
        ending = sending
        if not options.get("terminal"):
            ending = asyncio.create_task(_end(one, sending))
        ended = await one.run()
        ending.cancel()
    return ended, bytes(took[STDOUT]), bytes(took[STDERR])


async def _end(one: Any, sending: asyncio.Task[None]) -> None:
    with suppress(RPCError, *OVER):
        await sending
        await one.send_eof()
