"""What the tests of transports share: protocols that write down every call, and a joined pair."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from rawproto.drivers.rpt.transport import RPTTransport
from rawproto.drivers.rpt.transport_api import (
    TransportServer,
    create_rpt_connection,
    create_rpt_server,
)
from rawproto.transport.config import Config

__all__ = ["ADDRESS", "BufferedRecorder", "Joined", "Recorder", "joined", "run"]

ADDRESS = "rpt+udp://127.0.0.1:0"
_BUFFER_BYTES = 5000


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """In a loop of its own, 20 s at most, after which nothing of it is left."""
    gc.collect()
    before = os.listdir("/proc/self/fd"), threading.active_count()

    async def bounded() -> None:
        await asyncio.wait_for(coroutine, 20)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(bounded())
    assert (os.listdir("/proc/self/fd"), threading.active_count()) == before


class _Recorder(asyncio.BaseProtocol):
    """Writes down the calls; `until` waits for what comes of them."""

    transport: RPTTransport

    def __init__(self, *, keeps_open: bool = False) -> None:
        self.calls: list[str] = []
        self.data = bytearray()
        self.error: BaseException | None = None
        self._keeps_open = keeps_open
        self._changed = asyncio.Event()

    def note(self, call: str) -> None:
        if not (call == "data" and self.calls and self.calls[-1] == "data"):
            self.calls.append(call)
        self._changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._changed.clear()
            await self._changed.wait()

    async def lost(self) -> BaseException | None:
        """What `connection_lost` was called with, once it was."""
        await self.until(lambda: "lost" in self.calls)
        return self.error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, RPTTransport)
        self.transport = transport
        self.note("made")

    def eof_received(self) -> bool:
        self.note("eof")
        return self._keeps_open

    def pause_writing(self) -> None:
        self.note("pause")

    def resume_writing(self) -> None:
        self.note("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.error = exc
        self.note("lost")


class Recorder(_Recorder, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        assert data
        self.data += data
        self.note("data")


class BufferedRecorder(_Recorder, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        self._buffer = bytearray(_BUFFER_BYTES)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= _BUFFER_BYTES
        self.data += self._buffer[:nbytes]
        self.note("data")


@dataclass
class Joined:
    """A client and its counterpart, each with its transport."""

    server: TransportServer
    client: Recorder
    peer: Recorder

    @property
    def transport(self) -> RPTTransport:
        return self.client.transport


@asynccontextmanager
async def joined(
    client: Callable[[], Any] = Recorder,
    peer: Callable[[], Any] = Recorder,
    config: Config | None = None,
) -> AsyncIterator[Joined]:
    """Two transports over loopback. At the end whoever is left is aborted, and the port freed."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[Any] = loop.create_future()

    def accept() -> Any:
        accepted.set_result(peer())
        return accepted.result()

    server = await create_rpt_server(accept, ADDRESS, config=config)
    transport, protocol = await create_rpt_connection(client, str(server.address), config=config)
    try:
        await (await accepted).until(lambda: "made" in accepted.result().calls)
        yield Joined(server, protocol, accepted.result())
    finally:
        transport.abort()
        await protocol.lost()
        server.close()
        server.abort_clients()
        await server.wait_closed()
        for each in (protocol, accepted.result()):
            assert each.calls.count("made") == each.calls.count("lost") == 1
