"""Runs a relay as the command line wants it: keys and trust for RPT, TLS, a line a session."""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING

from rawproto.apps.relay.balance import Balancer
from rawproto.apps.relay.ends import End
from rawproto.apps.relay.openers import Doors, Listening, Opener, RPTListener, opener
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
from rawproto.drivers.rpt.address import RPTAddress
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import Life, Server, connect, serve
from rawproto.drivers.rpt.workers import MOST_WORKERS, WorkerServer
from rawproto.errors import RawprotoError, UsageError
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind
from rawproto.wire.words import printable

if TYPE_CHECKING:
    from rawproto.capture import Writer

__all__ = ["add_relaying_options", "check_relaying", "run_relay"]

_KEEP_ALIVE_NS = 10_000_000_000

Handler = Callable[[RPTConnection], Awaitable[None]]


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
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that share a listener's sessions (default: %(default)s)",
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
    if not 1 <= arguments.workers <= MOST_WORKERS:
        raise UsageError(f"--workers must be 1 to {MOST_WORKERS}")


def _check_sharing(arguments: argparse.Namespace, source: End, targets: tuple[End, ...]) -> None:
    """Raises UsageError where several workers could not share the work."""
    if not source.listens or source.kind == "udp" or any(each.listens for each in targets):
        raise UsageError(
            "--workers: they share what comes to rpt-, tcp-, tls- or unix-listen alone"
        )
    if arguments.pcap is not None:
        raise UsageError("--pcap: one capture cannot be written by several workers")


async def run_relay(
    arguments: argparse.Namespace,
    source: End,
    targets: tuple[End, ...],
    verb: str = "relay",
    shown: Callable[[str], str] = str,
) -> int:
    """Relays until it is over: the exit code.

    Args:
        arguments: with those of `add_relaying_options`, and linger, idle, authorized, tls_*.
        source, targets: where from, and where to.
        verb: for what is said on stderr.
        shown: what is said of the source once it listens, made of its name.
    """
    datagrams = source.datagrams or targets[0].datagrams

    async def over(near: Opener, doors: Doors, worker: int | None = None) -> Relay:
        return await _relay_over(arguments, near, targets, doors, worker, datagrams=datagrams)

    if arguments.workers > 1:
        _check_sharing(arguments, source, targets)
        await _run_workers(arguments, source, targets, over, shown, datagrams=datagrams)
        return 0
    async with AsyncExitStack() as stack:
        doors = _doors(arguments, (source, *targets), stack)
        near = await opener(source, doors, datagrams=datagrams)
        relay = await over(near, doors)
        if near.listens:
            ready(shown(near.name))
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


async def _relay_over(
    arguments: argparse.Namespace,
    near: Opener,
    targets: tuple[End, ...],
    doors: Doors,
    worker: int | None,
    *,
    datagrams: bool,
) -> Relay:
    """A relay from what an opener gives, with its targets open, or ready to be."""
    log = Log(arguments.log)
    try:
        openers = [await opener(end, doors, datagrams=datagrams) for end in targets]
    except BaseException:
        await near.close()
        raise
    for each in openers:
        if each.listens:
            ready(each.name)
    far: Opener = openers[0]
    if len(openers) > 1:
        # Each worker sees for itself which targets are well, so its number is told.
        tell = functools.partial(_tell_health, log, worker)
        far = Balancer(openers, arguments.check, tell)
    return Relay(
        near,
        far,
        lambda session: _tell(log, session, far.name, single=near.once),
        most=-(-arguments.most // arguments.workers),
        linger_s=arguments.linger,
    )


class _Shift:
    """A worker's relay: a `Life` around RPT's connections, or what a `WorkerServer` runs.

    Args:
        make: makes the relay, in the worker of a number.
    """

    def __init__(self, make: Callable[[int], Awaitable[Relay]]) -> None:
        self._make = make

    async def begin(self, number: int) -> None:
        self._relay = await self._make(number)
        self._running = asyncio.create_task(self._relay.run())

    def ending(self) -> None:
        pass

    async def end(self) -> None:
        await self.close()

    async def close(self, grace_s: float = 0.0) -> None:
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        await self._relay.close(grace_s)


async def _run_workers(
    arguments: argparse.Namespace,
    source: End,
    targets: tuple[End, ...],
    over: Callable[[Opener, Doors, int], Awaitable[Relay]],
    shown: Callable[[str], str],
    *,
    datagrams: bool,
) -> None:
    """Relays by several processes: RPT's port is shared by the kernel's filter, another listener
    as it is, from which whoever is free accepts."""
    async with AsyncExitStack() as stack:
        doors = _doors(arguments, (source, *targets), stack)
        server: Server | WorkerServer
        if source.is_rpt:
            near = RPTListener(source.kind, datagrams)
            begin = _serving(arguments, None, f"{source.kind}://{source.place}", datagrams)
            shift = _Shift(lambda number: over(near, doors, number))
            server = await begin(near.handle, arguments.workers, shift)
            name = str(near.named(server.address))
        else:
            shared = await opener(source, doors, datagrams=datagrams)
            stack.push_async_callback(shared.close)

            async def start(number: int) -> _Shift:
                shift = _Shift(lambda number: over(shared, doors, number))
                await shift.begin(number)
                return shift

            address = RPTAddress(f"{source.kind}-listen", source.host, source.port)
            server = WorkerServer(address, start, [ExitStack() for _ in range(arguments.workers)])
            await server.begin(4)
            name = shared.name
        ready(shown(name))
        await until_terminated(server.wait_closed(), server.close, arguments.grace)


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return "connecting took too long"
    if isinstance(error, asyncio.CancelledError):
        return "stopped"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {printable(error.verify_message.rstrip('.'))}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and not isinstance(error, RawprotoError) and error.errno:
        return os.strerror(error.errno).lower() if error.errno > 0 else str(error.strerror).lower()
    return printable(str(error)) or type(error).__name__


def _tell(log: Log, session: Session, target: str, *, single: bool) -> None:
    if single:
        return  # whoever runs one session sees how it ends
    carried, error = session.carried, session.error
    words = f"{session.near} -> {session.far or 'nowhere'}"
    words += f" up {carried.up_bytes} down {carried.down_bytes} bytes {session.duration_s:.3f} s"
    if error is not None:
        # The names of all that were tried, where none of them could be had.
        words += f": {_words(error)}" if session.far else f": {target}: {_words(error)}"
    log.write(
        "session",
        words,
        {
            "near": session.near,
            "far": session.far or None,
            "target": target,
            "up_bytes": carried.up_bytes,
            "down_bytes": carried.down_bytes,
            "duration_s": round(session.duration_s, 6),
            "error": None if error is None else _words(error),
        },
    )


def _tell_health(log: Log, worker: int | None, name: str, error: Exception | None) -> None:
    why = None if error is None else _words(error)
    words = f"{name} is up again" if why is None else f"{name} is down: {why}"
    fields = {"target": name, "up": why is None, "error": why}
    if worker is not None:
        words, fields = f"worker {worker}: {words}", {**fields, "worker": worker}
    log.write("target", words, fields)


def _config(arguments: argparse.Namespace, datagrams: bool) -> Config:
    return Config(
        kind=Kind.DGRAM if datagrams else Kind.STREAM,
        congestion=arguments.congestion,
        keep_alive_ns=_KEEP_ALIVE_NS,
        max_streams=1,  # nobody would ever read another than stream 0
    )


def _serving(
    arguments: argparse.Namespace, capture: Writer | None, address: str, datagrams: bool
) -> Callable[..., serve]:
    """How an RPT address is served, by a handler, workers and what these do besides."""

    def begin(handle: Handler, workers: int = 1, life: Life | None = None) -> serve:
        async def noted(connection: RPTConnection) -> None:
            log_secrets(arguments, connection, capture)
            trace(arguments, connection)
            await handle(connection)

        return serve(
            address,
            noted,
            static=private_key(arguments),
            psk=psk_of(arguments),
            authorize=authorize_of(arguments),
            config=_config(arguments, datagrams),
            capture=capture,
            workers=workers,
            life=life,
        )

    return begin


def _doors(arguments: argparse.Namespace, ends: Sequence[End], stack: AsyncExitStack) -> Doors:
    """RPT and TLS as the options want them."""
    capture = stack.enter_context(capture_of(arguments))

    async def connect_to(address: str, datagrams: bool) -> RPTConnection:
        trust = Trust(address, accept_new=arguments.accept_new)
        connection = await connect(
            address,
            static=private_key(arguments),
            peer_key=trust.peer_key,
            trust=trust.judge,
            psk=psk_of(arguments),
            config=_config(arguments, datagrams),
            capture=capture,
        )
        log_secrets(arguments, connection, capture)
        trace(arguments, connection)
        return connection

    async def listen_on(address: str, datagrams: bool, handle: Handler) -> Listening:
        return await _serving(arguments, capture, address, datagrams)(handle)

    @functools.cache  # the system's certificates take 25 ms to read
    def tls_client() -> ssl.SSLContext:
        return client_context(
            arguments.tls_ca,
            arguments.tls_cert,
            arguments.tls_key,
            insecure=arguments.tls_insecure,
        )

    if any(end.kind == "tls" and not end.listens for end in ends):
        tls_client()  # what is wrong with a file is told now, and not to each session
    return Doors(
        connect=connect_to,
        listen=listen_on,
        tls_client=tls_client,
        tls_server=lambda: server_context(arguments.tls_ca, arguments.tls_cert, arguments.tls_key),
        timeout_s=arguments.timeout,
        idle_s=arguments.idle,
    )
