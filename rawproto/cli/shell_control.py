"""-M, -S and -O of `shell`: one login for several processes, by the names that ssh has for it."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rawproto.apps.shell.control import visiting
from rawproto.apps.shell.faults import BROKEN
from rawproto.errors import RemoteProtocolError, UsageError
from rawproto.rpc import RPCPeer
from rawproto.wire.words import printable

__all__ = ["add_control_options", "check_control", "is_address", "visit"]

_ADDRESS = re.compile(r"([^/:]+@)?rpt(\+udp)?://")
_PATIENCE_S = 10.0


def add_control_options(parser: argparse.ArgumentParser) -> None:
    """The three."""
    parser.add_argument(
        "-S",
        dest="control",
        type=Path,
        metavar="PATH",
        help="a session over the connection of the master whose Unix socket this is",
    )
    parser.add_argument(
        "-M",
        dest="master",
        action="store_true",
        help="be that master: let later processes, by -S, share this connection",
    )
    parser.add_argument(
        "-O",
        dest="order",
        choices=("check", "exit"),
        help="with -S: ask the master whether it is there; have it end, with all its sessions",
    )


def is_address(word: str) -> bool:
    """Whether it is one, and no command's first word."""
    return _ADDRESS.match(word) is not None


def check_control(arguments: argparse.Namespace) -> None:
    """Raises UsageError where options do not go together."""
    if arguments.control is None:
        if arguments.master or arguments.order:
            raise UsageError(f"{'-M' if arguments.master else '-O'} needs -S PATH")
        return
    arguments.control = arguments.control.absolute()  # what is at a path is no abstract name
    if arguments.master:
        if arguments.order:
            raise UsageError("-M is a master, and -O asks one")
    elif arguments.no_session or arguments.local or arguments.remote or arguments.dynamic:
        raise UsageError("-N, -L, -R and -D are for who has a connection: the master, -M")
    elif arguments.user and arguments.address is None:
        raise UsageError("-l goes with ADDRESS: a master's user is the one that has logged in")


def visit(
    arguments: argparse.Namespace,
    wanted: str | None,
    run: Callable[[RPCPeer, str], Awaitable[None]],
) -> None:
    """Asks the master, or has a session over its connection.

    Args:
        arguments: checked.
        wanted: USER@ADDRESS that the master has to be connected to; None for whatever it is.
        run: has the session, and is told where.

    Raises:
        UsageError: no master is there, or one to somewhere else.
        LinkError, RPCError, ConnectionLostError, ProtocolError: it came to nothing.
    """
    asyncio.run(_visit(arguments, wanted, run))


async def _visit(
    arguments: argparse.Namespace,
    wanted: str | None,
    run: Callable[[RPCPeer, str], Awaitable[None]],
) -> None:
    async with visiting(arguments.control) as master:
        told: Any = await master.call("check", timeout_s=_PATIENCE_S)
        if not isinstance(told, dict) or not isinstance(name := told.get("name"), str):
            raise RemoteProtocolError(BROKEN, "what is there is no master")
        if wanted not in (None, name):
            raise UsageError(f"-S {arguments.control}: the master there is connected to {name}")
        if arguments.order == "check":
            sys.stderr.write(f"master of {printable(name)} is running (pid {told.get('pid')})\n")
        elif arguments.order == "exit":
            await master.call("exit", timeout_s=_PATIENCE_S)
            sys.stderr.write(f"master of {printable(name)} was told to end\n")
        else:
            await run(master, name)
