"""Let users log in over RPT, by their keys, each as the user they are on this host.

examples:
  rawproto shell serve --listen rpt://0.0.0.0:4022
  rawproto shell serve --listen rpt+udp://[::]:4022 --authorized /etc/rawproto/shell

Whose key is in ~/.config/rawproto/authorized (lines of `rawproto keys show`, as a user's own
decision), or behind the user's name in --authorized (`ada,bob rpt-x25519 AAAA...`), may log in.

exit status: 0 on SIGTERM, 1 a process of it has failed, 2 usage or local error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pwd
import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rawproto.apps.shell.accounts import Admitted, load_admitted
from rawproto.apps.shell.faults import ERRORS
from rawproto.apps.shell.messages import Correspondent
from rawproto.apps.shell.porter import LOGIN_S, Porter
from rawproto.apps.shell.proof import public_half
from rawproto.apps.shell.service import ShellService
from rawproto.cli.rpt_options import add_options, private_key
from rawproto.cli.rpt_serve import listening
from rawproto.cli.serving import (
    Log,
    add_listen_option,
    add_serving_options,
    answer_calls,
    until_terminated,
)
from rawproto.drivers.rpt.address import host_and_port, parse_address
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.workers import MOST_WORKERS
from rawproto.errors import RawprotoError, UsageError
from rawproto.identity.keys import fingerprint
from rawproto.link.privileges import become_nobody
from rawproto.transport.config import Config
from rawproto.wire.words import printable

__all__ = ["add_outage_option", "add_serve_arguments", "config_of", "parsed", "serve", "words_of"]

_KEEP_ALIVE_NS = 15_000_000_000
_REFUSED = 262
_MOST_STRANGERS = 256
"""Connections on which nobody has logged in yet."""


def config_of(arguments: argparse.Namespace) -> Config:
    """The settings of a shell's connections, which outlive an outage. Raises UsageError."""
    if not 1 <= arguments.outage <= 86_400:
        raise UsageError("--outage must be 1 to 86400 seconds")
    outage_ns = int(arguments.outage * 1e9)
    return Config(
        congestion=arguments.congestion,
        keep_alive_ns=min(_KEEP_ALIVE_NS, outage_ns // 3),
        dead_path_ns=outage_ns,
        idle_timeout_ns=outage_ns,
    )


def add_outage_option(parser: argparse.ArgumentParser) -> None:
    """For both sides; who waits less decides."""
    parser.add_argument(
        "--outage",
        type=float,
        default=180.0,
        metavar="SECONDS",
        help="silence of the other side after which it counts as gone (default: %(default)g)",
    )


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `shell serve`."""
    add_listen_option(parser)
    parser.add_argument(
        "--authorized",
        dest="admitted",
        type=Path,
        metavar="FILE",
        help="users and keys that may log in besides those in users' own files",
    )
    parser.add_argument("--allow-root", action="store_true", help="let root log in, too")
    parser.add_argument("--no-forwards", action="store_true", help="refuse -L, -R and -D")
    parser.add_argument(
        "--as",
        dest="unprivileged",
        default="nobody",
        metavar="USER",
        help="who speaks with the network (default: %(default)s)",
    )
    parser.add_argument(
        "--most",
        type=int,
        default=1000,
        metavar="N",
        help="logins at once (default: %(default)s)",
    )
    add_outage_option(parser)
    add_serving_options(parser)
    add_options(parser)


def serve(arguments: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    _check(arguments)
    path: Path | None = arguments.admitted

    def admitted() -> Admitted:
        return frozenset() if path is None else load_admitted(path)

    admitted()  # what is wrong with it is told now
    porter = Porter(
        partial(_network, arguments),
        admitted,
        server=public_half(private_key(arguments)),
        ends=arguments.workers,
        allow_root=arguments.allow_root,
        most=arguments.most,
    )
    return porter.run()


def _check(arguments: argparse.Namespace) -> None:
    parse_address(arguments.address)
    config_of(arguments)
    if not 0 <= arguments.grace <= 86_400:
        raise UsageError("--grace must be 0 to 86400 seconds")
    if not 1 <= arguments.most <= 100_000:
        raise UsageError("--most must be 1 to 100000")
    if arguments.keylog or arguments.qlog:
        raise UsageError("--keylog and --qlog: who speaks with the network may write no files")
    os.environ.pop("RAWPROTO_KEYLOGFILE", None)
    arguments.authorized = None  # of the handshake: whose key it is, the login asks
    try:
        arguments.nobody = pwd.getpwnam(arguments.unprivileged)
    except KeyError:
        raise UsageError(f"--as {arguments.unprivileged}: no such user") from None
    if arguments.nobody.pw_uid == 0:
        raise UsageError("--as: not root")
    if not 1 <= arguments.workers <= MOST_WORKERS:
        raise UsageError(f"--workers must be 1 to {MOST_WORKERS}")


class _Life:
    """What each process that speaks with clients has: its way to the porter.

    Args:
        ends: of the pairs, by the process's number.

    Attributes:
        porter: the way.
    """

    porter: Correspondent

    def __init__(self, ends: Sequence[socket.socket]) -> None:
        self._ends = ends

    async def begin(self, number: int) -> None:
        self.porter = Correspondent(self._ends[number])

    def ending(self) -> None:
        pass

    async def end(self) -> None:
        self.porter.close()


def _network(arguments: argparse.Namespace, ends: Sequence[socket.socket]) -> int:
    """The life of the process that speaks with the network: its exit code."""
    try:
        return asyncio.run(_serve(arguments, ends))
    except (RawprotoError, OSError) as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"rawproto shell: {words_of(error)}\n")
        return 2


def words_of(error: RawprotoError | OSError) -> str:
    """An error in one line."""
    if isinstance(error, RawprotoError) or not error.strerror:
        return printable(str(error))
    return printable(f"{error.filename}: {error.strerror}" if error.filename else error.strerror)


async def _serve(arguments: argparse.Namespace, ends: Sequence[socket.socket]) -> int:
    orphaned = asyncio.Event()
    porter = os.pidfd_open(os.getppid())
    asyncio.get_running_loop().add_reader(porter, orphaned.set)
    bare_ip = parse_address(arguments.address).carrier == "rpt"
    nobody = arguments.nobody
    drop = partial(become_nobody, nobody.pw_uid, nobody.pw_gid, net_raw=bare_ip)
    life = _Life(ends)
    use = _Clients(arguments, life).use
    config = config_of(arguments)
    async with listening(arguments, config, use, arguments.workers, life, drop) as server:
        await until_terminated(orphaned.wait(), server.close, arguments.grace)
    return int(orphaned.is_set())


class _Clients:
    """Who is connected to one process."""

    def __init__(self, arguments: argparse.Namespace, life: _Life) -> None:
        self._arguments = arguments
        self._life = life
        self._log = Log(arguments.log)
        self._strangers: set[RPTConnection] = set()

    async def use(self, connection: RPTConnection) -> None:
        """Serves one, from its first call to its end."""
        strangers = self._strangers
        if len(strangers) >= _MOST_STRANGERS:
            connection.abort(_REFUSED, "too many logins at once")
            return
        strangers.add(connection)
        name = host_and_port(*connection.peer_address)
        key = fingerprint(connection.peer_key)

        def tell(kind: str, words: str, fields: dict[str, Any]) -> None:
            if service.user:
                strangers.discard(connection)
            self._log.write(kind, words, {"peer": name, "key": key, **fields})

        def refuse(why: str) -> None:
            if not connection.closed:
                connection.abort(_REFUSED, why)

        def late() -> None:
            if connection in strangers:
                refuse("nobody logged in")

        service = ShellService(
            self._life.porter,
            connection.peer_key,
            f"{name} {key}",
            tell,
            refuse,
            forwards=not self._arguments.no_forwards,
        )
        limit = asyncio.get_running_loop().call_later(LOGIN_S, late)
        try:
            await answer_calls(self._arguments, connection, service.methods, ERRORS)
        finally:
            limit.cancel()
            strangers.discard(connection)
            service.close(connection.error)


def parsed(words: Sequence[str]) -> argparse.Namespace:
    """The options of `shell serve`, behind whose name stands what it is."""
    from rawproto.cli.main import Parser  # which imports the verb, and with it this

    parser = Parser(
        prog="rawproto shell serve",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.description, _, parser.epilog = (__doc__ or "").partition("\n\n")
    add_serve_arguments(parser)
    parser.add_argument("--debug", action="store_true", help="show a traceback for an error")
    return parser.parse_args(words)
