"""-L, -R and -D of `shell`: a proxy's entry, over the session's own connection."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from rawproto.apps.proxy.dynamic import DynamicForward
from rawproto.apps.proxy.forwards import LocalForward, PeerWay
from rawproto.apps.proxy.places import Forward, parse_bind, parse_forward, parse_remote
from rawproto.apps.proxy.remote import RemoteForwards
from rawproto.apps.relay.relay import Session
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.rpc import Method, RPCError, RPCPeer
from rawproto.wire.words import printable

__all__ = ["Forwards"]


class Forwards:
    """All of a command line's.

    Args:
        local: what stood behind -L.
        remote: behind -R.
        dynamic: behind -D.

    Raises:
        UsageError: one cannot be read.
    """

    def __init__(self, local: Sequence[str], remote: Sequence[str], dynamic: Sequence[str]) -> None:
        self._local = [parse_forward(text) for text in local]
        self._dynamic = [parse_bind(text) for text in dynamic]
        self._asked = [parse_remote(text) for text in remote]
        self._remote = RemoteForwards(self._asked, _ended)

    @property
    def methods(self) -> dict[str, Method]:
        """What the other side may call: to open what -R named, and nothing else."""
        return self._remote.methods if self._asked else {}

    @asynccontextmanager
    async def running(self, peer: RPCPeer) -> AsyncIterator[None]:
        """They stand while the block runs. Raises LinkError where a port cannot be had."""
        way = PeerWay(peer)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(way.close)
            for forward in self._local:
                stack.push_async_callback(LocalForward(forward, way, _ended).door.close)
            for place in self._dynamic:
                stack.push_async_callback(DynamicForward(place, way, _ended).door.close)
            if not self._asked:
                yield
                return
            standing = asyncio.create_task(self._remote.run(peer, _told))
            try:
                yield
            finally:
                standing.cancel()
                with suppress(asyncio.CancelledError, RPCError, ProtocolError, ConnectionLostError):
                    await standing

    def __str__(self) -> str:
        """For `~#`."""
        lines = [f" -L {each}\r\n" for each in self._local]
        lines += [f" -R {each}\r\n" for each in self._asked]
        lines += [f" -D {each}\r\n" for each in self._dynamic]
        return "".join(lines) or " nothing is forwarded\r\n"


def _ended(session: Session) -> None:
    """What was carried, is told by the server's log; here only what went wrong."""
    error = session.error
    if error is not None and not isinstance(error, asyncio.CancelledError):
        words = printable(str(error)) or type(error).__name__
        sys.stderr.write(f"rawproto shell: forward: {words}\r\n")


def _told(forward: Forward, port: int, error: RPCError | None) -> None:
    if error is not None:
        sys.stderr.write(f"rawproto shell: -R {forward}: {printable(str(error))}\r\n")
    elif not forward.bind.port and not forward.bind.path:
        sys.stderr.write(f"rawproto shell: -R {forward}: port {port} there\r\n")
