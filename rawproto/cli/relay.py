"""Join two ends, whatever they are: RPT, TCP, UDP, Unix sockets, TLS, commands, stdio.

examples:
  rawproto relay tcp-listen:127.0.0.1:8080 rpt:10.0.0.2:4000     this host's way into the tunnel
  rawproto relay rpt-listen:4000 tcp:127.0.0.1:80                and its other end
  rawproto relay rpt-listen:4000 tcp:a:80,tcp:b:80               the least busy that is well
  rawproto relay udp-listen:53 rpt:10.0.0.2:53                   datagrams stay whole
  rawproto relay rpt-listen:4000 exec:'sh -c "date; cat"'        a command for each client
  rawproto relay stdio: tls:example.net:443                      as openssl s_client

ends: rpt, rpt+udp, tcp, udp, tls HOST:PORT; each with -listen: [HOST:]PORT; unix, unix-listen
PATH or @NAME; exec COMMAND; stdio. A listener serves many at once, each with its own other
end. The end of one way is passed on, and the other way goes on.

exit status: 0 ended well, 1 broken or refused, 2 usage or local error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

from rawproto.apps.relay.balance import Balancer
from rawproto.apps.relay.ends import End, parse_end, parse_targets
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

__all__ = ["add_arguments", "run"]

_KEEP_ALIVE_NS = 10_000_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `relay`."""
    parser.add_argument("source", metavar="FROM", help="where sessions come from")
    parser.add_argument("target", metavar="TO", help="where they go; several with commas between")
    parser.add_argument(
        "-w",
        dest="timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long connecting may take (default: %(default)g)",
    )
    parser.add_argument(
        "-t",
        dest="linger",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="silence that ends a session when one way has ended and datagrams cannot say so "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "-T",
        dest="idle",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="silence after which a peer of udp-listen is forgotten (default: %(default)g)",
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
    tls = parser.add_argument_group("TLS")
    tls.add_argument("--tls-cert", metavar="FILE", help="this side's certificate, PEM")
    tls.add_argument("--tls-key", metavar="FILE", help="its key, if not in the same file")
    tls.add_argument("--tls-ca", metavar="FILE", help="trust these, and not the system's")
    tls.add_argument("--tls-insecure", action="store_true", help="take any certificate")
    add_client_options(parser)
    parser.add_argument(
        "--authorized",
        type=Path,
        metavar="FILE",
        help="admit only the RPT keys in it, a line each",
    )


def run(arguments: argparse.Namespace) -> int:
    """Relays until it is over."""
    source, targets = parse_end(arguments.source), parse_targets(arguments.target)
    _check(arguments, source, targets)
    return asyncio.run(_relay(arguments, source, targets))


def _check(arguments: argparse.Namespace, source: End, targets: tuple[End, ...]) -> None:
    if source.kind == "stdio" and targets[0].kind == "stdio":
        raise UsageError("stdio: cannot be both ends")
    if source.listens and targets[0].kind == "stdio":
        raise UsageError("stdio: serves one session, and a listener has many; put it first")
    listeners = [end for end in (source, *targets) if end.listens]
    if any(end.kind == "tls" for end in listeners) and arguments.tls_cert is None:
        raise UsageError("tls-listen needs --tls-cert FILE")
    if arguments.authorized is not None and not any(end.is_rpt for end in listeners):
        raise UsageError("--authorized is for rpt-listen")
    for name in ("timeout", "linger", "idle", "check", "grace"):
        value = getattr(arguments, name)
        if not 0 <= value <= 86400 or (value == 0 and name in ("timeout", "idle")):
            raise UsageError(f"a time of {value:g} seconds: out of range")
    if not 1 <= arguments.most <= 100_000:
        raise UsageError("--most must be 1 to 100000")


async def _relay(arguments: argparse.Namespace, source: End, targets: tuple[End, ...]) -> int:
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
    sys.stderr.write(f"rawproto relay: {last.far or arguments.target}: {_words(last.error)}\n")
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
