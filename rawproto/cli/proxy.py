"""Reach what another host reaches: SOCKS5, HTTP, forwarded ports, through an exit there.

examples:
  rawproto proxy exit --listen rpt://0.0.0.0:4000 --authorized keys --allow 10.0.0.0/8:80,443
  rawproto proxy exit --listen rpt+udp://[::]:4000 --authorized keys --allow '*:*' --allow \
localhost:5432 --allow-remote 8000-8100
  rawproto proxy entry --socks 1080 --http 3128 rpt://10.0.0.2:4000
  curl -x socks5h://127.0.0.1:1080 http://intranet/
  rawproto proxy entry -L 5432:localhost:5432 -R 8000:localhost:3000 rpt://a:4000 rpt://b:4000

An exit reaches what --allow names, and nothing else. It resolves names, and connects to the
address that it has judged. *:PORTS are all addresses but those of this host and the cable: the
loopback and link-local ones take rules of their own. An entry with several exits takes the
least busy that is well, and stays up while none is.

exit status: 0 ended by SIGTERM, 2 usage or local error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Protocol

from rawproto.apps.proxy.allow import AllowList, parse_rule
from rawproto.apps.proxy.door import Door
from rawproto.apps.proxy.dynamic import DynamicForward
from rawproto.apps.proxy.exits import Exit, Exits
from rawproto.apps.proxy.faults import ERRORS
from rawproto.apps.proxy.forwards import LocalForward
from rawproto.apps.proxy.places import Forward, Place, parse_bind, parse_forward, parse_remote
from rawproto.apps.proxy.remote import RemoteForwards
from rawproto.apps.proxy.service import ExitService
from rawproto.apps.relay.relay import Session
from rawproto.cli.rpt_options import (
    Trust,
    add_client_options,
    add_server_options,
    capture_of,
    log_secrets,
    private_key,
    psk_of,
    trace,
)
from rawproto.cli.serving import (
    Log,
    add_listen_option,
    add_serving_options,
    answer_calls,
    ready,
    serve_sessions,
    until_terminated,
)
from rawproto.drivers.rpt.address import parse_address
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect
from rawproto.errors import UsageError
from rawproto.rpc import RPCError
from rawproto.transport.config import KIB, MIB, Config
from rawproto.wire.words import printable

__all__ = ["add_arguments", "run"]

_KEEP_ALIVE_NS = 5_000_000_000
_MOST_LOGIN_BYTES = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `proxy`."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    _add_exit_options(verbs.add_parser("exit", help="connect for others"))
    _add_entry_options(verbs.add_parser("entry", help="let this host's programs in"))


def _add_exit_options(parser: argparse.ArgumentParser) -> None:
    add_listen_option(parser)
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="RULE",
        help="what may be reached: HOST:PORTS, NET:PORTS, *:PORTS or unix:PATH, where PORTS is "
        "such as 80,443,8000-8100 or *; may be repeated",
    )
    parser.add_argument(
        "--allow-remote",
        action="append",
        default=[],
        metavar="RULE",
        help="where -R may listen: PORTS (of the loopback), ADDR:PORTS, *:PORTS or unix:PATH",
    )
    _add_timeout(parser)
    add_serving_options(parser)
    add_server_options(parser)


def _add_entry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", nargs="+", help="of exits: rpt://HOST:PORT, rpt+udp://HOST:PORT")
    for option, words in (
        ("--socks", "be a SOCKS5 proxy at [BIND:]PORT or a path"),
        ("--http", "be an HTTP proxy there"),
    ):
        parser.add_argument(option, action="append", default=[], metavar="BIND", help=words)
    parser.add_argument(
        "-L",
        dest="local",
        action="append",
        default=[],
        metavar="FORWARD",
        help="listen here, connect there: [BIND:]PORT:HOST:PORT; a path for either end",
    )
    parser.add_argument(
        "-R",
        dest="remote",
        action="append",
        default=[],
        metavar="FORWARD",
        help="listen there, connect here, likewise; [BIND:]PORT alone is a SOCKS5 proxy there",
    )
    parser.add_argument(
        "--login",
        type=Path,
        metavar="FILE",
        help="ask --socks and --http clients for what it has in its first line: NAME:PASSWORD",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=500,
        metavar="N",
        help="sessions at once of each listener; others wait (default: %(default)s)",
    )
    _add_timeout(parser)
    add_serving_options(parser)
    add_client_options(parser)
    parser.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    parser.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-w",
        dest="timeout",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="how long connecting to a target may take (default: %(default)g)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs either half until it is ended."""
    if not 0 < arguments.timeout <= 3600 or not 0 <= arguments.grace <= 86400:
        raise UsageError("-w and --grace are seconds")
    if arguments.what == "exit":
        asyncio.run(_exit(arguments))
    else:
        asyncio.run(_entry(arguments))
    return 0


# --- the exit ------------------------------------------------------------------------------------


async def _exit(arguments: argparse.Namespace) -> None:
    if arguments.authorized is None:
        raise UsageError("proxy exit needs --authorized FILE: it connects for whoever may come")
    if not arguments.allow and not arguments.allow_remote:
        raise UsageError("proxy exit needs --allow: it reaches nothing else")
    allow = AllowList([parse_rule(text) for text in arguments.allow])
    remote = AllowList([parse_rule(text, "localhost") for text in arguments.allow_remote])
    log = Log(arguments.log)

    async def serve(connection: RPTConnection, name: str) -> None:
        service = ExitService(allow, remote, timeout_s=arguments.timeout, tell=partial(_tell, log))
        try:
            await answer_calls(arguments, connection, service.methods, ERRORS)
        finally:
            await service.close()

    await serve_sessions(arguments, _config(arguments), serve)


def _config(arguments: argparse.Namespace) -> Config:
    """Many streams, of which some are not read for long: none takes the room of the others."""
    return Config(
        congestion=arguments.congestion,
        keep_alive_ns=_KEEP_ALIVE_NS,
        max_streams=512,
        window_bytes=32 * KIB,
        max_window_bytes=16 * MIB,
        shared_window_bytes=128 * MIB,
        send_buffer_bytes=256 * KIB,
        datagram_queue=1024,
    )


def _tell(log: Log, session: Session) -> None:
    carried = session.carried
    given_up = isinstance(session.error, asyncio.CancelledError)
    error = "given up" if given_up else None if session.error is None else str(session.error)
    words = f"{session.near} -> {session.far} up {carried.up_bytes} down {carried.down_bytes} bytes"
    words += f" {session.duration_s:.3f} s" + (f": {error}" if error else "")
    fields = {
        "near": session.near,
        "far": session.far,
        "up_bytes": carried.up_bytes,
        "down_bytes": carried.down_bytes,
        "duration_s": round(session.duration_s, 6),
        "error": error,
    }
    log.write("connection", words, fields)


# --- the entry -----------------------------------------------------------------------------------


class _Listener(Protocol):
    door: Door


async def _entry(arguments: argparse.Namespace) -> None:
    local = [parse_forward(text) for text in arguments.local]
    remote = [parse_remote(text) for text in arguments.remote]
    socks, http = map(parse_bind, arguments.socks), map(parse_bind, arguments.http)
    if not (arguments.socks or arguments.http or local or remote):
        raise UsageError("proxy entry needs --socks, --http, -L or -R: it does nothing else")
    if not 1 <= arguments.most <= 100_000:
        raise UsageError("--most must be 1 to 100000")
    login = None if arguments.login is None else _login(arguments.login)
    for address in arguments.address:
        parse_address(address)
    log = Log(arguments.log)
    tell = partial(_tell, log)
    async with AsyncExitStack() as stack:
        dials = _dials(arguments, stack)
        listeners: list[_Listener] = []

        async def close(grace_s: float) -> None:
            await asyncio.gather(*[each.door.close(grace_s) for each in listeners])

        way = Exits(
            [
                Exit(
                    str(parse_address(address)),
                    dial,
                    RemoteForwards(remote, tell, arguments.timeout),
                    tell=partial(_tell_exit, log),
                    told=partial(_tell_remote, log),
                    timeout_s=arguments.timeout + 5.0,
                )
                for address, dial in dials
            ]
        )
        stack.push_async_callback(way.close)
        stack.push_async_callback(close, 0.0)
        bound: list[tuple[str, Place]] = []

        def add(kind: str, listener: _Listener) -> None:
            listeners.append(listener)
            bound.append((kind, listener.door.bound))

        for place in socks:
            add("socks5", DynamicForward(place, way, tell, login=login, most=arguments.most))
        for place in http:
            add("http", _http_door(place, way, tell, login, arguments.most))
        for forward in local:
            add("tcp", LocalForward(forward, way, tell, most=arguments.most))
        for kind, place in bound:
            ready(_named(kind, place))
        await until_terminated(asyncio.Event().wait(), close, arguments.grace)


def _http_door(
    place: Place,
    way: Exits,
    tell: Callable[[Session], None],
    login: tuple[bytes, bytes] | None,
    most: int,
) -> _Listener:
    try:
        from rawproto.apps.proxy.http import HTTPDoor
    except ImportError:
        raise UsageError("--http needs h11: pip install 'rawproto[http]'") from None
    return HTTPDoor(place, way, tell, login=login, most=most)


def _named(kind: str, place: Place) -> str:
    if place.path:
        return f"{kind}+unix:{place.path}"
    host = {"localhost": "127.0.0.1", "*": "[::]"}.get(place.host)
    return f"{kind}://{host}:{place.port}" if host else f"{kind}://{place}"


def _login(path: Path) -> tuple[bytes, bytes]:
    name, colon, password = path.read_bytes().partition(b"\n")[0].rstrip(b"\r").partition(b":")
    if not colon or not 1 <= len(name) <= _MOST_LOGIN_BYTES or len(password) > _MOST_LOGIN_BYTES:
        raise UsageError(f"{path}: its first line has to be NAME:PASSWORD")
    return name, password


def _dials(
    arguments: argparse.Namespace, stack: AsyncExitStack
) -> list[tuple[str, Callable[[], Awaitable[RPTConnection]]]]:
    """How to connect to each exit."""
    capture = stack.enter_context(capture_of(arguments))
    static, psk = private_key(arguments), psk_of(arguments)

    async def dial(address: str, trust: Trust) -> RPTConnection:
        connection = await connect(
            address,
            static=static,
            peer_key=trust.peer_key,
            trust=trust.judge,
            psk=psk,
            config=_config(arguments),
            family=arguments.family,
            capture=capture,
        )
        log_secrets(arguments, connection, capture)
        trace(arguments, connection)
        return connection

    return [
        (address, partial(dial, address, Trust(address, accept_new=arguments.accept_new)))
        for address in arguments.address
    ]


def _tell_exit(log: Log, name: str, error: Exception | None) -> None:
    why = None if error is None else printable(str(error)) or type(error).__name__
    words = f"{name} is up" if why is None else f"{name} is down: {why}"
    log.write("exit", words, {"exit": name, "up": why is None, "error": why})


def _tell_remote(log: Log, forward: Forward, port: int, error: RPCError | None) -> None:
    why = None if error is None else printable(str(error))
    at = forward.bind.path or f"{forward.bind.host}:{port or forward.bind.port}"
    words = f"-R {forward}: " + (f"the exit listens at {at}" if why is None else why)
    log.write("remote", words, {"forward": str(forward), "port": port, "error": why})
