"""Runs a relay as the command line wants it: keys and trust for RPT, TLS, a line a session."""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from rawproto.apps.relay.balance import Balancer
from rawproto.apps.relay.ends import End
from rawproto.apps.relay.openers import Doors, Listening, Opener, opener
from rawproto.apps.relay.relay import Relay, Session
from rawproto.apps.relay.tls import client_context, server_context
from rawproto.cli.rpt_options import (
    Trust,
    add_client_options,
    authorize_of,
    capture_of,
    log_secrets,
    private_key,
    psk_of,
    trace,
)
from rawproto.cli.serving import Log, add_serving_options, ready, until_terminated
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.errors import RawprotoError, UsageError
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind
from rawproto.wire.words import printable

__all__ = ["add_relaying_options", "check_relaying", "run_relay"]

_KEEP_ALIVE_NS = 10_000_000_000


def add_relaying_options(parser: argparse.ArgumentParser) -> None:
    """For whoever joins connections to connections."""
    parser.add_argument(
        "-w",
        dest="timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long connecting may take (default: %(default)g)",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=1000,
        metavar="N",
        help="sessions at once; others wait (default: %(default)s)",
    )
    parser.add_argument(
        "--check",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how often each of several targets is tried, 0 for never (default: %(default)g)",
    )
    add_serving_options(parser)
    add_client_options(parser)


def check_relaying(arguments: argparse.Namespace) -> None:
    """Raises UsageError for a number out of range."""
    for name in ("timeout", "linger", "idle", "check", "grace"):
        value = getattr(arguments, name)
        if not 0 <= value <= 86400 or (value == 0 and name in ("timeout", "idle")):
            raise UsageError(f"a time of {value:g} seconds: out of range")
    if not 1 <= arguments.most <= 100_000:
        raise UsageError("--most must be 1 to 100000")


async def run_relay(
    arguments: argparse.Namespace, source: End, targets: tuple[End, ...], verb: str = "relay"
) -> int:
    """Relays until it is over: the exit code.

    Args:
        arguments: with those of `add_relaying_options`, and linger, idle, authorized, tls_*.
        source, targets: where from, and where to.
        verb: for what is said on stderr.
    """
    log = Log(arguments.log)
    async with AsyncExitStack() as stack:
        doors = _doors(arguments, stack)
        datagrams = source.datagrams or targets[0].datagrams
        near = await opener(source, doors, datagrams=datagrams)
        try:
            openers = [await opener(end, doors, datagrams=datagrams) for end in targets]
        except BaseException:
            await near.close()
            raise
        far: Opener = openers[0]
        if len(openers) > 1:
            far = Balancer(openers, arguments.check, lambda name, why: _tell_health(log, name, why))
        relay = Relay(
            near,
            far,
            lambda session: _tell(log, session, single=near.once),
            most=arguments.most,
            linger_s=arguments.linger,
        )
        for each in (near, *openers):
            if each.listens:
                ready(each.name)
        ended: list[Session | None] = []

        async def serve_all() -> None:
            ended.append(await relay.run())

        await until_terminated(serve_all(), relay.close, arguments.grace)
    last = ended[-1] if ended else None
    if last is None or last.error is None:
        return 0
    if arguments.debug:
        raise last.error
    target = last.far or ",".join(map(str, targets))
    sys.stderr.write(f"rawproto {verb}: {target}: {_words(last.error)}\n")
    return 1


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "connecting took too long"
    if isinstance(error, asyncio.CancelledError):
        return "stopped"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and not isinstance(error, RawprotoError) and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else str(error.strerror).lower()
    return printable(str(error)) or type(error).__name__


def _tell(log: Log, session: Session, *, single: bool) -> None:
    if single:
        return  # whoever runs one session sees how it ends
    carried, error = session.carried, session.error
    words = f"{session.near} -> {session.far or 'nowhere'}"
    words += f" up {carried.up_bytes} down {carried.down_bytes} bytes {session.duration_s:.3f} s"
    if error is not None:
        words += f": {_words(error)}"
    log.write(
        "session",
        words,
        {
            "near": session.near,
            "far": session.far or None,
            "up_bytes": carried.up_bytes,
            "down_bytes": carried.down_bytes,
            "duration_s": round(session.duration_s, 6),
            "error": None if error is None else _words(error),
        },
    )


def _tell_health(log: Log, name: str, error: Exception | None) -> None:
    why = None if error is None else _words(error)
    words = f"{name} is up again" if why is None else f"{name} is down: {why}"
    log.write("target", words, {"target": name, "up": why is None, "error": why})


def _doors(arguments: argparse.Namespace, stack: AsyncExitStack) -> Doors:
    """RPT and TLS as the options want them."""
    capture = stack.enter_context(capture_of(arguments))

    def config(datagrams: bool) -> Config:
        return Config(
            kind=Kind.DGRAM if datagrams else Kind.STREAM,
            congestion=arguments.congestion,
            keep_alive_ns=_KEEP_ALIVE_NS,
            max_streams=1,  # nobody would ever read another than stream 0
        )

    async def connect_to(address: str, datagrams: bool) -> RPTConnection:
        trust = Trust(address, accept_new=arguments.accept_new)
        connection = await connect(
            address,
            static=private_key(arguments),
            peer_key=trust.peer_key,
            trust=trust.judge,
            psk=psk_of(arguments),
            config=config(datagrams),
            capture=capture,
        )
        log_secrets(arguments, connection, capture)
        trace(arguments, connection)
        return connection

    async def listen_on(
        address: str, datagrams: bool, handle: Callable[[RPTConnection], Awaitable[None]]
    ) -> Listening:
        async def noted(connection: RPTConnection) -> None:
            log_secrets(arguments, connection, capture)
            trace(arguments, connection)
            await handle(connection)

        return await serve(
            address,
            noted,
            static=private_key(arguments),
            psk=psk_of(arguments),
            authorize=authorize_of(arguments),
            config=config(datagrams),
            capture=capture,
        )

    return Doors(
        connect=connect_to,
        listen=listen_on,
        tls_client=lambda: client_context(
            arguments.tls_ca,
            arguments.tls_cert,
            arguments.tls_key,
            insecure=arguments.tls_insecure,
        ),
        tls_server=lambda: server_context(arguments.tls_ca, arguments.tls_cert, arguments.tls_key),
        timeout_s=arguments.timeout,
        idle_s=arguments.idle,
    )
