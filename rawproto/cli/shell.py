"""A login shell, or a command, on another host, over RPT; and `shell serve`, which lets users in.

examples:
  rawproto shell rpt://10.0.0.2:4022                  a login shell, as the user of the same name
  rawproto shell ada@rpt+udp://host:4022 uptime       a command as ada
  tar c dir | rawproto shell ada@rpt://host:4022 'cat > dir.tar'
  rawproto shell -t ada@rpt://host:4022 htop          a command with a terminal
  rawproto shell -N -L 8080:localhost:80 -D 1080 ada@rpt://host:4022        only forwards
  rawproto shell -M -S ~/.ada -N ada@rpt://host:4022  a login for others, by the same -S, to share
  rawproto shell -S ~/.ada uptime                     one of these: no handshake, no login
  rawproto shell serve --help                         the other side

It outlives a change of this host's address, and three minutes without a network. With a
terminal, ~. at the beginning of a line ends it, and ~? lists what else there is.

exit status: the command's, 128 + N where signal N ended it, 255 no connection or no login,
2 usage, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import os
import pwd
import sys
from collections.abc import Sequence
from contextlib import suppress

from rawproto.apps.shell.escapes import parse_escape
from rawproto.cli.rpt_dial import FAILURES, complain, dial
from rawproto.cli.rpt_options import add_client_options
from rawproto.cli.shell_control import add_control_options, check_control, is_address, visit
from rawproto.cli.shell_front import EndedError, Front
from rawproto.cli.shell_serve import __doc__ as serving_text
from rawproto.cli.shell_serve import (
    add_outage_option,
    add_serve_arguments,
    config_of,
    parsed,
    serve,
    words_of,
)
from rawproto.errors import RawprotoError, UsageError
from rawproto.rpc import RPCError

__all__ = ["add_arguments", "run"]

TROUBLE = 255


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `shell`."""
    parser.add_argument(
        "address",
        nargs="?",  # with -S the master knows it
        metavar="[USER@]ADDRESS",
        help="rpt:// or rpt+udp://HOST:PORT",
    )
    command = parser.add_argument(
        "command",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="for the user's shell there; a login shell if there is none",
    )
    command.required = False  # as argparse has it for REMAINDER alone, of those that may be empty
    _add_options(parser)


def add_whole_arguments(parser: argparse.ArgumentParser) -> None:
    """The same, and `serve` as the verb that it is: for completions and manual pages.

    A parser that is to read an address where that name stands cannot have it.
    """
    _add_options(parser)
    verbs = parser.add_subparsers(metavar="[USER@]ADDRESS [COMMAND ...]")
    server = verbs.add_parser("serve", help="let users log in here")
    server.description, _, server.epilog = (serving_text or "").partition("\n\n")
    add_serve_arguments(server)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-l", dest="user", metavar="USER", help="who to be there")
    parser.add_argument(
        "-t",
        dest="terminal",
        action="count",
        default=0,
        help="a terminal for a command, too; -tt even if this is none",
    )
    parser.add_argument("-T", dest="pipes", action="store_true", help="no terminal")
    parser.add_argument("-N", dest="no_session", action="store_true", help="forward, run nothing")
    for letter, where in (("-L", "there"), ("-R", "here")):
        parser.add_argument(
            letter,
            dest="local" if letter == "-L" else "remote",
            action="append",
            default=[],
            metavar="[BIND:]PORT:HOST:PORT",
            help=f"what connects {'here' if letter == '-L' else 'there'} goes to a place {where}"
            + ("" if letter == "-L" else "; [BIND:]PORT alone is a SOCKS5 proxy there"),
        )
    parser.add_argument(
        "-D",
        dest="dynamic",
        action="append",
        default=[],
        metavar="[BIND:]PORT",
        help="be a SOCKS5 proxy here, whose way out is there",
    )
    add_control_options(parser)
    parser.add_argument("-n", dest="no_input", action="store_true", help="read no input")
    parser.add_argument(
        "-e",
        dest="escape",
        default="~",
        metavar="CHAR",
        help="the escape character, ^X or none (default: %(default)s)",
    )
    parser.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    parser.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    add_outage_option(parser)
    add_client_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Serves, or is a session's near end."""
    if arguments.address == "serve" and arguments.control is None:
        return serve(parsed(arguments.command))
    _take_words(arguments)
    try:
        return _session(arguments)
    except BrokenPipeError:
        raise
    except (RawprotoError, OSError) as error:
        if arguments.debug:
            raise
        _say(words_of(error))
        return TROUBLE


def _say(words: str) -> None:
    with suppress(OSError):  # the terminal may be gone, which is what ended it
        sys.stderr.write(f"rawproto shell: {words}\n")


def _take_words(arguments: argparse.Namespace) -> None:
    """Address and command, of which the first may be left out with -S; options between them,
    as ssh takes them."""
    from rawproto.cli.main import Parser

    parser = Parser(prog="rawproto shell", allow_abbrev=False)
    words: Sequence[str] = arguments.command
    named = arguments.address is not None and (
        arguments.control is None or arguments.master or is_address(arguments.address)
    )
    if named and words and words[0].startswith("-") and words[0] != "-":
        _add_options(parser)
        parser.add_argument("command", nargs=argparse.REMAINDER)
        parser.add_argument("--debug", action="store_true")
        _, strange = parser.parse_known_args(words, arguments)
        if strange:
            parser.error(f"unknown option: {' '.join(strange)}")
    elif not named and arguments.address is not None:
        arguments.command = [arguments.address, *words]
        arguments.address = None
    if arguments.address is None and (arguments.control is None or arguments.master):
        parser.error("the following arguments are required: [USER@]ADDRESS")


def _session(arguments: argparse.Namespace) -> int:
    check_control(arguments)
    name = None if arguments.address is None else _place(arguments)
    front = Front(
        arguments,
        command=" ".join(arguments.command) or None,
        escape=parse_escape(arguments.escape),
    )
    try:
        if arguments.control is not None and not arguments.master:
            visit(arguments, name, front.visit)
        elif dial("shell", arguments, config_of(arguments), front.use):
            return TROUBLE
    except (RPCError, *FAILURES) as error:
        if arguments.debug:
            raise
        complain("shell", name or str(arguments.control), error)
        return TROUBLE
    except EndedError as end:
        if str(end):
            _say(str(end))
        return end.status
    return 0 if arguments.order else front.status


def _place(arguments: argparse.Namespace) -> str:
    """USER@ADDRESS, and each by itself in the arguments."""
    user, _, address = arguments.address.rpartition("@")
    if "://" in user:  # rpt://ada@host:4022
        scheme, _, user = user.partition("://")
        address = f"{scheme}://{address}"
    arguments.address = address
    arguments.user = arguments.user or user or _own_name()
    return f"{arguments.user}@{address}"


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise UsageError("this user has no name: say who to be, USER@ADDRESS") from None
