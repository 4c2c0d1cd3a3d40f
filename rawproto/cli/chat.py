"""Talk in rooms over RPT: serve them, or join one.

examples:
  rawproto chat serve --listen rpt://0.0.0.0:4000 --history chat.db
  rawproto chat join rpt://10.0.0.2:4000 lobby --nick ada
  echo done | rawproto chat join rpt://10.0.0.2:4000 lobby --nick build
  rawproto chat join --stay --json rpt://10.0.0.2:4000 lobby --nick log < /dev/null

A line is a message; /msg NICK TEXT for one alone (a NICK with spaces in double quotes), /who,
/quit, and // for a line that begins with a slash. What was said while the connection was lost is
heard, and said, when it is back.

exit status: 0 left, 1 refused or not trusted, 2 usage or local error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    closing,
    contextmanager,
    suppress,
)
from typing import Any

from rawproto.apps.chat.client import ChatMember
from rawproto.apps.chat.hub import Rooms, SlowReaderError
from rawproto.apps.chat.service import ERRORS, ChatService
from rawproto.apps.chat.store import MOST_IN_MEMORY, Store
from rawproto.apps.siblings import Siblings
from rawproto.cli.chat_text import event_json, event_line
from rawproto.cli.render import Style
from rawproto.cli.rpt_dial import FAILURES, complain, connect_once
from rawproto.cli.rpt_options import Trust, add_client_options, add_server_options, capture_of
from rawproto.cli.serving import (
    add_listen_option,
    add_serving_options,
    answer_calls,
    serve_sessions,
)
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.stdio import read_lines
from rawproto.errors import ConnectionLostError, RefusedError, UnknownPeerError, UsageError
from rawproto.rpc import RPCError
from rawproto.transport.config import Config
from rawproto.wire.words import printable

__all__ = ["add_arguments", "run"]

_KEEP_ALIVE_NS = 5_000_000_000
_LONGEST_WAIT_S = 10.0
_MEMORY = "/dev/shm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `chat`."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    server = verbs.add_parser("serve", help="have rooms for others")
    add_listen_option(server)
    server.add_argument(
        "--history", metavar="FILE", help="keep what is said; else the last 500 events, in memory"
    )
    add_serving_options(server)
    add_server_options(server)
    member = verbs.add_parser("join", help="be in a room")
    member.add_argument("address", help="rpt://HOST:PORT or rpt+udp://HOST:PORT")
    member.add_argument("room")
    member.add_argument("--nick", required=True, metavar="NAME", help="a name; it is your key's")
    member.add_argument(
        "--history",
        type=int,
        default=50,
        metavar="N",
        help="messages from before that are shown (default: %(default)s)",
    )
    member.add_argument("--stay", action="store_true", help="go on listening when input has ended")
    member.add_argument("--json", action="store_true", help="print JSON Lines")
    member.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    member.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    add_client_options(member)


def run(arguments: argparse.Namespace) -> int:
    """Serves rooms, or is in one."""
    if arguments.what == "serve":
        asyncio.run(_serve(arguments))
        return 0
    if not 0 <= arguments.history <= 1000:
        raise UsageError("--history must be 0 to 1000")
    trust = Trust(arguments.address, accept_new=arguments.accept_new)
    while True:
        try:
            asyncio.run(_join(arguments, trust))
            return 0
        except UnknownPeerError as error:
            if not trust.ask(error.public_key):
                complain("chat", trust.name, error)
                return 1
        except (*FAILURES, RPCError) as error:
            if arguments.debug:
                raise
            complain("chat", trust.name, error)
            return 1


async def _serve(arguments: argparse.Namespace) -> None:
    with _history(arguments) as (path, most), closing(Siblings(arguments.workers)) as family:
        rooms = Rooms(path, most, family)

        async def use(connection: RPTConnection, name: str) -> None:
            service = ChatService(rooms.hub, rooms.store, connection.peer_key)
            await answer_calls(arguments, connection, service.methods, ERRORS)

        await serve_sessions(arguments, _config(arguments), use, rooms)


@contextmanager
def _history(arguments: argparse.Namespace) -> Iterator[tuple[str | None, int | None]]:
    """(the file that the processes share, how many events it remembers), nobody being there yet.

    Without `--history` one process needs no file, and several have one in memory.
    """
    with ExitStack() as stack:
        path, most = arguments.history, None
        if path is None and arguments.workers > 1:
            above = tempfile.TemporaryDirectory(
                prefix="rawproto-chat-", dir=_MEMORY if os.path.isdir(_MEMORY) else None
            )
            path, most = f"{stack.enter_context(above)}/history", MOST_IN_MEMORY
        if path is not None:
            with closing(Store(path)) as store:
                store.empty()
        yield path, most


def _config(arguments: argparse.Namespace) -> Config:
    return Config(congestion=arguments.congestion, keep_alive_ns=_KEEP_ALIVE_NS)


async def _join(arguments: argparse.Namespace, trust: Trust) -> None:
    """Is in a room until input ends or the user leaves; connects again where it is lost."""
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    style = Style(sys.stdout, "auto")

    def hear(event: dict[str, Any]) -> None:
        line = event_json(event) if arguments.json else event_line(event, arguments.nick, style)
        if line:
            sys.stdout.write(line)
            sys.stdout.flush()

    def note(words: str) -> None:
        sys.stderr.write(f"--- {printable(words)}\n")
        sys.stderr.flush()

    member = ChatMember(
        arguments.room, arguments.nick, history=arguments.history, hear=hear, complain=note
    )
    with capture_of(arguments) as capture:
        async with _typed(arguments) as lines:
            typing: asyncio.Task[None] | None = None
            failures = 0
            entered = False

            async def use(connection: RPTConnection) -> None:
                nonlocal typing, failures, entered
                if typing is None:
                    typing = asyncio.create_task(_type(member, lines, arguments, hear, note))
                being = asyncio.create_task(member.run(connection))
                try:
                    await asyncio.wait({being, typing}, return_when=asyncio.FIRST_COMPLETED)
                    entered, failures = True, 0
                    if being.done():
                        await being
                finally:
                    being.cancel()
                    with suppress(asyncio.CancelledError, *FAILURES, RPCError):
                        await being

            try:
                while typing is None or not typing.done():
                    try:
                        await connect_once(arguments, _config(arguments), trust, capture, use)
                    except (ConnectionLostError, RefusedError, SlowReaderError) as error:
                        if not entered:
                            raise
                        if typing is not None and typing.done():
                            break
                        note(f"{error}; trying again")
                        failures += 1
                        wait_s = min(2.0**failures / 4, _LONGEST_WAIT_S)
                        await asyncio.sleep(wait_s * random.uniform(0.5, 1))
                if typing is not None:
                    await typing
            finally:
                if typing is not None:
                    typing.cancel()


async def _type(
    member: ChatMember,
    lines: AsyncIterator[str],
    arguments: argparse.Namespace,
    hear: Callable[[dict[str, Any]], None],
    note: Callable[[str], None],
) -> None:
    """Does what is typed, until the user leaves."""
    async for line in lines:
        command, _, rest = line.partition(" ")
        if command == "/quit":
            break
        if command == "/who":
            try:
                hear({"sequence": 0, "kind": "here", "names": await member.who()})
            except (*FAILURES, RPCError) as error:
                note(str(error))
        elif command == "/msg":
            nick, _, text = (
                rest[1:].partition('" ') if rest.startswith('"') else rest.partition(" ")
            )
            if nick and text:
                await member.say(text, nick)
            else:
                note("/msg NICK TEXT")
        elif command.startswith("/") and not command.startswith("//"):
            note("/msg NICK TEXT, /who, /quit; // begins a line with a slash")
        elif line:
            await member.say(line.removeprefix("/"))
    else:
        if arguments.stay:
            await asyncio.Event().wait()
    await member.said()


def _typed(arguments: argparse.Namespace) -> AbstractAsyncContextManager[AsyncIterator[str]]:
    """The lines that come in: typed at a prompt of its own on a terminal, else as they are."""
    if sys.stdin.isatty() and sys.stdout.isatty() and not arguments.json:
        try:
            from prompt_toolkit import PromptSession
            from prompt_toolkit.patch_stdout import patch_stdout
        except ImportError:
            sys.stderr.write("--- for a line of your own: pip install 'rawproto[chat]'\n")
        else:
            return _prompted(PromptSession(erase_when_done=True), patch_stdout, arguments)
    return _piped()


@asynccontextmanager
async def _piped() -> AsyncIterator[AsyncIterator[str]]:
    async def lines() -> AsyncIterator[str]:
        async for line in read_lines():
            yield line.decode("utf-8", "replace").removesuffix("\r")

    yield lines()


@asynccontextmanager
async def _prompted(
    session: Any, patch_stdout: Any, arguments: argparse.Namespace
) -> AsyncIterator[AsyncIterator[str]]:
    async def lines() -> AsyncIterator[str]:
        while True:
            try:
                yield await session.prompt_async(f"{arguments.nick}> ")
            except EOFError:
                return

    with patch_stdout(raw=True):
        yield lines()
