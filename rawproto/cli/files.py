"""Serve files over RPT; list, fetch, send, keep in step and remove them.

examples:
  rawproto files serve /srv/pub --listen rpt://0.0.0.0:4000            others may read
  rawproto files serve . --listen rpt://[::]:4000 --write --authorized keys
  rawproto files ls -l rpt://10.0.0.2:4000/dir
  rawproto files get rpt://10.0.0.2:4000/dir/big.iso                   into this directory
  rawproto files put *.log rpt://10.0.0.2:4000/logs/
  rawproto files sync ./site rpt://10.0.0.2:4000/site --delete         only what differs
  rawproto files rm -r rpt://10.0.0.2:4000/logs/old

What was broken off goes on where it was. A file has its name only once it is whole.

exit status: 0 all done, 1 something could not be, or no connection, 2 usage, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, closing, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from rawproto.apps.files.beneath import Root
from rawproto.apps.files.client import FileClient, local
from rawproto.apps.files.entries import Entry
from rawproto.apps.files.faults import ERRORS, FileError, VersionError
from rawproto.apps.files.plan import Progress, unread_words
from rawproto.cli.files_text import Meter, listed, listed_json, shown, summary, summary_json
from rawproto.cli.rpt_dial import dial
from rawproto.cli.rpt_options import add_client_options, add_server_options
from rawproto.cli.serving import (
    Log,
    add_listen_option,
    add_serving_options,
    allow_files,
    answer_calls,
    serve_sessions,
)
from rawproto.cli.sizes import size_of
from rawproto.drivers.rpt.address import host_and_port
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import ConnectionLostError, RefusedError, UsageError
from rawproto.identity.keys import fingerprint, state_directory
from rawproto.rpc import RPCError
from rawproto.transport.config import Config

if TYPE_CHECKING:
    from rawproto.apps.files.service import Crossing

__all__ = ["add_arguments", "run"]

_KEEP_ALIVE_NS = 10_000_000_000
# A server has as many of one connection's calls under way, and lets others wait.
_MOST_AT_ONCE = 16
_REMOTE = re.compile(
    r"((?:rpt(?:\+udp)?://)(?:\[[^\]]+\]|[^/:\[\]]*):\d{1,5})(?:/(.*))?", re.DOTALL
)


class Remote(NamedTuple):
    """A place on a server: where it is, the path there, and whether it must be a directory."""

    address: str
    path: str
    inside: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `files`."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    server = verbs.add_parser("serve", help="let others have a directory's files")
    server.add_argument("root", help="the directory; nothing outside of it can be reached")
    add_listen_option(server)
    server.add_argument("--write", action="store_true", help="let them change it, too")
    server.add_argument(
        "--quota", type=size_of, metavar="SIZE", help="what all files in it may hold, such as 10G"
    )
    add_serving_options(server)
    add_server_options(server)

    lister = verbs.add_parser("ls", help="what is there")
    lister.add_argument("place", metavar="ADDRESS/PATH")
    lister.add_argument("-l", dest="long", action="store_true", help="with size, time, permissions")
    lister.add_argument("-R", "--recursive", action="store_true", help="and what is in directories")
    getter = verbs.add_parser("get", help="fetch files and directories")
    getter.add_argument("places", nargs="+", metavar="ADDRESS/PATH", help="and where to, at last")
    putter = verbs.add_parser("put", help="send files and directories")
    putter.add_argument("places", nargs="+", metavar="PATH", help="and ADDRESS/PATH, at last")
    syncer = verbs.add_parser("sync", help="send only what differs, one of the two being remote")
    syncer.add_argument("source", metavar="FROM")
    syncer.add_argument("target", metavar="TO")
    syncer.add_argument("--delete", action="store_true", help="remove in TO what is not in FROM")
    remover = verbs.add_parser("rm", help="remove files")
    remover.add_argument("place", metavar="ADDRESS/PATH")
    remover.add_argument("-r", "--recursive", action="store_true", help="directories, too")
    for each in (getter, putter, syncer):
        each.add_argument(
            "--at-once",
            type=int,
            default=4,
            metavar="N",
            help="large files in flight (default: %(default)s)",
        )
        each.add_argument(
            "--tries",
            type=int,
            default=5,
            metavar="N",
            help="connections made before giving up (default: %(default)s)",
        )
        each.add_argument("-q", "--quiet", action="store_true", help="only say what goes wrong")
    for each in (lister, getter, putter, syncer, remover):
        each.add_argument("--json", action="store_true", help="print JSON Lines")
        each.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
        each.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
        add_client_options(each)


def run(arguments: argparse.Namespace) -> int:
    """Does what is asked for."""
    if arguments.what == "serve":
        asyncio.run(_serve(arguments))
        return 0
    for name, most in (("at_once", _MOST_AT_ONCE), ("tries", 100)):
        if not 1 <= getattr(arguments, name, 1) <= most:
            raise UsageError(f"--{name.replace('_', '-')} must be 1 to {most}")
    return {"ls": _ls, "rm": _rm, "get": _get, "put": _put, "sync": _sync}[arguments.what](
        arguments
    )


async def _serve(arguments: argparse.Namespace) -> None:
    from rawproto.apps.files.service import FileService  # clients start sooner without
    from rawproto.apps.siblings import Siblings

    if arguments.quota is not None and arguments.workers > 1:
        raise UsageError("--quota: one process counts it; leave out --workers")
    allow_files()
    log = Log(arguments.log)
    with closing(Root(arguments.root)) as root, closing(Siblings(arguments.workers)) as family:
        service = FileService(
            root,
            writable=arguments.write,
            quota_bytes=arguments.quota,
            siblings=family,
            note=lambda crossing: _tell_crossing(log, crossing),
        )

        async def use(connection: RPTConnection, name: str) -> None:
            await answer_calls(arguments, connection, service.methods, ERRORS)

        await serve_sessions(arguments, _config(arguments), use, service)


@lru_cache(maxsize=64)
def _whose(peer: tuple[str, int], key: bytes) -> tuple[str, str]:
    """(address, key) in words, once for all small files of a client."""
    return host_and_port(*peer), fingerprint(key)


def _tell_crossing(log: Log, crossing: Crossing) -> None:
    name, key = _whose(crossing.connection.peer_address, crossing.connection.peer_key)
    path, size, error = crossing.path, crossing.size_bytes, crossing.error
    words = f"{name} {key} {crossing.way} {path} {size} bytes {crossing.duration_s:.3f} s"
    log.write(
        "file",
        words + (f": {error}" if error else ""),
        {
            "peer": name,
            "key": key,
            "way": crossing.way,
            "path": path,
            "size_bytes": size,
            "duration_s": round(crossing.duration_s, 6),
            "error": error,
        },
    )


def _config(arguments: argparse.Namespace) -> Config:
    return Config(congestion=arguments.congestion, keep_alive_ns=_KEEP_ALIVE_NS)


def _remote(text: str) -> Remote | None:
    """A place on a server, None for one here."""
    found = _REMOTE.fullmatch(text)
    if found is None:
        return None
    path = found[2] or ""
    return Remote(found[1], path.strip("/"), path.endswith("/") or not path)


def _there(text: str) -> Remote:
    remote = _remote(text)
    if remote is None:
        raise UsageError(f"{text}: not ADDRESS/PATH, such as rpt://10.0.0.2:4000/dir")
    return remote


def _with(
    arguments: argparse.Namespace,
    address: str,
    work: Callable[[FileClient], Awaitable[None]],
    again: Callable[[ConnectionLostError | RefusedError], bool] = lambda error: False,
) -> int:
    """Connects to a server and works with it: the exit code."""
    arguments.address = address
    wrong: list[RPCError] = []

    async def use(connection: RPTConnection) -> None:
        client = FileClient(
            connection,
            memory=state_directory() / "sending",
            at_once=getattr(arguments, "at_once", 1),
        )
        try:
            async with client:
                await work(client)
            connection.abort()  # all was answered: no word of ours has to arrive any more
        except RPCError as error:
            if arguments.debug:
                raise
            wrong.append(error)

    code = dial("files", arguments, _config(arguments), use, again)
    tell_faults([str(error) for error in wrong])
    return 1 if wrong else code


def tell_faults(faults: list[str]) -> None:
    """Says what is wrong with files, here or in a server's words."""
    for fault in dict.fromkeys(faults):  # a directory's is that of each file in it
        sys.stderr.write(f"rawproto files: {shown(fault)}\n")


def _ls(arguments: argparse.Namespace) -> int:
    place = _there(arguments.place)
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    unread: list[str] = []

    async def work(client: FileClient) -> None:
        write = listed_json if arguments.json else listed
        async for some in client.entries(place.path, recursive=arguments.recursive):
            for entry in some:
                if entry.path or entry.kind != "directory":
                    sys.stdout.write(write(entry, place.path, long=arguments.long))
                if entry.kind == "unread":
                    tell_faults([unread_words(entry)])
                    unread.append(entry.path)

    return _with(arguments, place.address, work) or bool(unread)


def _rm(arguments: argparse.Namespace) -> int:
    place = _there(arguments.place)
    if not place.path:
        raise UsageError(f"{arguments.place}: name what is to be removed")

    async def work(client: FileClient) -> None:
        count = await client.remove(place.path, recursive=arguments.recursive)
        if arguments.json:
            sys.stdout.write(summary_json(Progress(removed=count), 0.0))

    return _with(arguments, place.address, work)


def _transfer(
    arguments: argparse.Namespace,
    address: str,
    work: Callable[[FileClient, Progress, bool], Awaitable[None]],
) -> int:
    """Runs a transfer, again and again where the connection is lost, and tells how it went.

    Args:
        arguments: those of the verb.
        address: of the server.
        work: does it; at further tries it is to leave out what stands already.
    """
    began = time.monotonic()
    progress = Progress()
    tries = 0

    async def once(client: FileClient) -> None:
        nonlocal progress
        progress = Progress()
        with Meter(progress, wanted=not (arguments.quiet or arguments.json)):
            await work(client, progress, tries > 0)

    def again(error: ConnectionLostError | RefusedError) -> bool:
        nonlocal tries
        if not tries and isinstance(error, RefusedError):
            return False  # later on, the server may be on its way up again
        tries += 1
        if tries >= arguments.tries:
            return False
        sys.stderr.write(f"rawproto files: {error}; trying again\n")
        time.sleep(min(2 ** (tries - 1), 10))
        return True

    code = _with(arguments, address, once, again)
    tell_faults(progress.faults)
    elapsed = time.monotonic() - began
    if arguments.json:
        sys.stdout.write(summary_json(progress, elapsed))
    elif not arguments.quiet and code == 0:
        sys.stdout.write(summary(progress, elapsed))
    return code or bool(progress.faults)


@contextmanager
def _stopping_no_other(count: int, progress: Progress) -> Iterator[None]:
    """Notes what is wrong with one of several things, as with a file in a directory."""
    try:
        yield
    except RPCError as error:
        if count == 1 or isinstance(error, VersionError):
            raise
        progress.faults.append(str(error))


def _get(arguments: argparse.Namespace) -> int:
    target = arguments.places.pop() if _remote(arguments.places[-1]) is None else "."
    if not arguments.places:
        raise UsageError(f"{target}: not ADDRESS/PATH, such as rpt://10.0.0.2:4000/dir")
    places = [_there(place) for place in arguments.places]
    if len({place.address for place in places}) > 1:
        raise UsageError("get: all from one server")
    if target.endswith("/"):
        os.makedirs(target, exist_ok=True)
    inside = os.path.isdir(target)
    if len(places) > 1 and not inside:
        raise UsageError(f"{target}: no directory, and several things to put there")

    async def work(client: FileClient, progress: Progress, again: bool) -> None:
        for place in places:
            name = place.path.rpartition("/")[2]
            root, here = local(os.path.join(target, name) if inside else target)
            with closing(root), _stopping_no_other(len(places), progress):
                # Nobody who serves says what may be done in a directory that somebody named.
                top = bool(name) or not inside
                await client.get(place.path, root, here, progress, again=again, top=top)

    return _transfer(arguments, places[0].address, work)


def _put(arguments: argparse.Namespace) -> int:
    if len(arguments.places) < 2:
        raise UsageError("put: what to send, and ADDRESS/PATH where to")
    place = _there(arguments.places.pop())
    for path in arguments.places:
        if not os.path.lexists(path):
            raise UsageError(f"{path}: no such file or directory")

    async def work(client: FileClient, progress: Progress, again: bool) -> None:
        inside = place.inside or len(arguments.places) > 1 or await _is_directory(client, place)
        for path in arguments.places:
            name = os.path.basename(os.path.abspath(path))
            there = f"{place.path}/{name}".strip("/") if inside else place.path
            root, name = local(os.path.realpath(path))  # a link that somebody names is followed
            with closing(root), _stopping_no_other(len(arguments.places), progress):
                await client.put(root, name, there, progress, again=again)

    return _transfer(arguments, place.address, work)


async def _is_directory(client: FileClient, place: Remote) -> bool:
    try:
        async with aclosing(client.entries(place.path)) as listing:
            some: list[Entry] = await anext(listing, [])
    except FileError:
        return False
    return some[:1] != [] and some[0].kind == "directory"


def _sync(arguments: argparse.Namespace) -> int:
    source, target = _remote(arguments.source), _remote(arguments.target)
    if (source is None) == (target is None):
        raise UsageError("sync: one of FROM and TO is ADDRESS/PATH, and the other is here")
    here = arguments.target if source is not None else arguments.source
    if source is None and not os.path.lexists(here):
        raise UsageError(f"{here}: no such file or directory")

    async def work(client: FileClient, progress: Progress, again: bool) -> None:
        root, name = local(os.path.realpath(here))
        options = {"sync": True, "delete": arguments.delete}
        with closing(root):
            if source is not None:
                await client.get(source.path, root, name, progress, **options)
            elif target is not None:
                await client.put(root, name, target.path, progress, **options)

    remote = source or target
    assert remote is not None
    return _transfer(arguments, remote.address, work)
