"""Listens as every verb does: keys, whom to admit, what to write down, and the line when ready."""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from rawproto.cli.rpt_options import (
    authorize_of,
    capture_of,
    log_secrets,
    private_key,
    psk_of,
    trace,
)
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import Life, Server, serve
from rawproto.drivers.rpt.workers import WorkerServer
from rawproto.errors import UsageError
from rawproto.transport.config import Config

__all__ = ["listening"]


@asynccontextmanager
async def listening(
    arguments: argparse.Namespace,
    config: Config,
    use: Callable[[RPTConnection], Awaitable[None]],
    workers: int = 1,
    life: Life | None = None,
    opened: Callable[[], None] = lambda: None,
) -> AsyncIterator[Server | WorkerServer]:
    """Serves `arguments.address` until the block ends.

    Args:
        arguments: with those of `add_server_options`.
        config: of the connections.
        use: does what a connection is for; it is closed well when that returns.
        workers: processes that do it.
        life: what each of them has around its clients.
        opened: called once the sockets are open, before there are workers.
    """
    if workers > 1 and arguments.pcap is not None:  # before anything is written over
        raise UsageError("--pcap: one capture cannot be written by several workers")
    with capture_of(arguments) as capture:

        async def handle(connection: RPTConnection) -> None:
            log_secrets(arguments, connection, capture)
            trace(arguments, connection)
            await use(connection)

        listener = serve(
            arguments.address,
            handle,
            static=private_key(arguments),
            psk=psk_of(arguments),
            authorize=authorize_of(arguments),
            config=config,
            capture=capture,
            workers=workers,
            life=life,
            opened=opened,
        )
        async with listener as server:
            sys.stderr.write(f"listening {server.address}\n")
            sys.stderr.flush()
            yield server
