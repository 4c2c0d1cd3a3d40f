"""What every server's command line has: a ready line, a line a session, a graceful end.

SIGTERM stops taking anybody in, lets sessions end by themselves for `--grace` seconds, and
exits with 0, as systemd wants it; so does SIGHUP, which comes when the terminal goes, but not
under nohup. Ctrl-C ends at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from rawproto.cli.render import json_line
from rawproto.cli.rpt_serve import listening
from rawproto.drivers.rpt.address import host_and_port
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import Life
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.identity.keys import fingerprint
from rawproto.rpc import Method, RPCError, RPCPeer
from rawproto.transport.config import Config
from rawproto.wire.words import printable

__all__ = ["Log", "add_listen_option", "add_serving_options", "allow_files", "answer_calls"]
__all__ += ["ready", "serve_sessions", "until_terminated"]

_MOST_FILES = 1 << 16
_COMMANDS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What commands a terminal or turns a line's order, beside what JSON escapes anyway."""


def add_listen_option(parser: argparse.ArgumentParser) -> None:
    """Where a server of RPT connections listens, and by how many processes."""
    parser.add_argument(
        "--listen",
        dest="address",
        required=True,
        metavar="ADDRESS",
        help="rpt://ADDR:PORT or rpt+udp://ADDR:PORT; port 0: any",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that serve (default: %(default)s)",
    )


def add_serving_options(parser: argparse.ArgumentParser) -> None:
    """For whoever serves."""
    group = parser.add_argument_group("serving")
    group.add_argument(
        "--grace",
        type=_grace,
        default=5.0,
        metavar="SECONDS",
        help="on SIGTERM or SIGHUP, how long sessions may go on (default: %(default)g)",
    )
    group.add_argument(
        "--log",
        choices=("text", "json", "none"),
        default="text",
        help="a line a session on stderr (default: %(default)s)",
    )


def _grace(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError("must be 0 to 86400 seconds")
    return value


def ready(address: object) -> None:
    """Says that an address can be connected to now."""
    sys.stderr.write(f"listening {address}\n")
    sys.stderr.flush()


def allow_files() -> None:
    """Lets this process have as many files open as it may: a shell's 1024 are few for a server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Log:
    """Lines about sessions, on stderr.

    Args:
        form: `"text"`, `"json"` or `"none"`.
    """

    def __init__(self, form: str) -> None:
        self._form = form

    def write(self, kind: str, words: str, fields: dict[str, Any]) -> None:
        """One line: `words` for people, or `kind` and `fields` for programs."""
        if self._form == "none":
            return
        now = time.time()
        if self._form == "text":
            line = f"{_stamp(int(now))} {printable(words)}\n"
        else:
            record = json_line(kind, {"time": round(now, 6), **fields})
            line = _COMMANDS.sub(lambda found: json.dumps(found[0])[1:-1], record)
        with suppress(OSError):  # a terminal that has gone is no reason to end a session
            sys.stderr.write(line)
            sys.stderr.flush()


@lru_cache(maxsize=1)
def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


async def answer_calls(
    arguments: argparse.Namespace,
    connection: RPTConnection,
    methods: Mapping[str, Method],
    errors: Sequence[type[RPCError]],
) -> None:
    """Answers a client's calls until its connection is over. Raises what ended it, if not well.

    A method that failed by our fault, and not the client's, is told in the log.
    """
    log = Log(arguments.log)

    def tell(method: str, error: Exception) -> None:
        words = f"{type(error).__name__}: {error}"
        log.write("failure", f"{method} failed: {words}", {"method": method, "error": words})
        if arguments.debug:
            traceback.print_exception(error)

    peer = RPCPeer(connection, methods, errors=errors, on_failure=tell)
    try:
        await connection.wait_closed()
    finally:
        await peer.close()
    if connection.error is not None:
        raise connection.error


async def serve_sessions(
    arguments: argparse.Namespace,
    config: Config,
    use: Callable[[RPTConnection, str], Awaitable[None]],
    life: Life | None = None,
) -> None:
    """Serves `--listen` until it is told to end, with a line in the log for each session.

    Args:
        arguments: with those of `add_listen_option`, `add_serving_options`, `add_server_options`.
        config: of the connections.
        use: does what a connection is for; is given whose it is, too.
        life: what each of them has around its clients.
    """
    log = Log(arguments.log)

    async def session(connection: RPTConnection) -> None:
        name = host_and_port(*connection.peer_address)
        key = fingerprint(connection.peer_key)
        began = time.monotonic()
        error: Exception | None = None
        try:
            await use(connection, name)
        except (ConnectionLostError, ProtocolError) as lost:
            error = lost
            raise
        finally:
            duration = time.monotonic() - began
            words = f"{name} {key} {duration:.3f} s" + (f": {error}" if error else "")
            fields = {"peer": name, "key": key, "duration_s": round(duration, 6)}
            log.write("session", words, {**fields, "error": str(error) if error else None})

    async with listening(arguments, config, session, arguments.workers, life) as server:
        await until_terminated(server.wait_closed(), server.close, arguments.grace)


async def until_terminated(
    run: Awaitable[Any], close: Callable[[float], Awaitable[None]], grace_s: float
) -> None:
    """Runs a server until it ends by itself, or SIGTERM or SIGHUP says so; then closes it.

    Args:
        run: serves.
        close: stops taking anybody in, and ends sessions after so many seconds.
        grace_s: how many.
    """
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(run)
    terminated = False

    def terminate() -> None:
        nonlocal terminated
        terminated = True
        serving.cancel()

    heard = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # else nohup
        heard.append(signal.SIGHUP)
    for number in heard:
        loop.add_signal_handler(number, terminate)
    grace = 0.0
    try:
        await serving
    except asyncio.CancelledError:
        if not terminated:
            raise
        grace = grace_s
    finally:
        await close(grace)
        for number in heard:
            loop.remove_signal_handler(number)
