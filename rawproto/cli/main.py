"""`rawproto VERB ...`: finds the verb's module, runs it, and words what goes wrong.

Each verb is a module of this package with `add_arguments(parser)` and
`run(arguments) -> exit code`; only the one that is asked for is imported, because
a ping must be on the wire within 100 ms of Enter. A user sees one line for an
error, and a traceback only with `--debug`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, NoReturn, TextIO

from rawproto import __version__
from rawproto.errors import RawprotoError

__all__ = ["VERBS", "main", "whole_parser"]

VERBS = {
    "ping": "measure round-trip times to one or many hosts",
    "traceroute": "trace the path to a host, all hops at once",
    "craft": "build packets from a line of text; show, write or send them",
    "layers": "the layers that craft builds, and their fields",
    "capture": "packets off the wire, to the terminal or to a file",
    "decode": "captures as lines, values, bytes or JSON; conversations and counts",
    "replay": "send the packets of a capture again, on time, with other addresses",
    "filter": "what a capture filter compiles to, and what it means",
    "listen": "accept encrypted connections over RPT, and join them to stdin and stdout",
    "connect": "connect stdin and stdout to a listener, encrypted, over RPT",
    "relay": "join two ends: RPT, TCP, UDP, Unix sockets, TLS, commands, stdio",
    "files": "serve, list, fetch, send, keep in step and remove files, over RPT",
    "http": "serve a directory or an application by HTTP over RPT; fetch; let browsers in",
    "shell": "a login shell, or a command, on another host, over RPT",
    "chat": "talk in rooms over RPT: serve them, or join one",
    "proxy": "reach what another host reaches: SOCKS5, HTTP, forwarded ports",
    "perf": "measure how fast RPT is between two hosts: bulk data, messages, latency",
    "keys": "make, show and trust the keys of RPT peers",
    "dissector": "show RPT in Wireshark and tshark",
    "sim": "RPT flows over a link in virtual time: goodput, losses, RTT, queue, fairness",
    "lab": "real hosts on this machine: namespaces, links, routes",
    "demo": "two hosts on this machine, packets between them, header by header",
}
"""Each verb with the line that help shows."""

USAGE_ERROR = 2
INTERRUPTED = 130


_VALUE = re.compile(
    r"argument (?P<option>\S+): (invalid (?P<kind>int|float) value: '(?P<value>.*)'"
    r"|expected one argument)",
    re.DOTALL,
)
"""argparse's words on a value that is none, in Python's terms."""
_NEGATIVE = re.compile(r"-[\d.]")


def _value_words(match: re.Match[str]) -> str:
    if match["kind"] is None:
        return f"{match['option']}: needs a value"
    number = "a whole number" if match["kind"] == "int" else "a number"
    return f"{match['option']} {match['value']}: must be {number}"


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and how to learn more."""

    def parse_known_args(self, words: Any = None, namespace: Any = None) -> Any:
        return super().parse_known_args(self._with_values(words or []), namespace)

    def _with_values(self, words: Sequence[str]) -> list[str]:
        """The words, with negative numbers joined to the options before them: where there is an
        option -4, argparse takes them for options else. Another command keeps its words."""
        if any(action.nargs == argparse.REMAINDER for action in self._actions):
            return list(words)
        joined: list[str] = []
        known = self._option_string_actions
        for word in words:
            before = joined[-1] if joined else ""
            takes_value = before in known and known[before].nargs is None
            if takes_value and word not in known and _NEGATIVE.match(word):
                joined[-1] = f"{before}={word}" if before.startswith("--") else before + word
            else:
                joined.append(word)
        return joined

    def parse_args(self, words: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        arguments: argparse.Namespace
        arguments, strange = self.parse_known_args(words)
        if strange:
            # The word behind an unknown option may be its value: whose it is, nobody knows.
            options = [word for word in strange if word.startswith("-") and word != "-"]
            blamed: argparse.ArgumentParser = self
            for action in self._actions:
                if isinstance(action, argparse._SubParsersAction):
                    blamed = action.choices[getattr(arguments, action.dest)]
            blamed.error(
                f"unknown {'option' if options else 'words'}: {' '.join(options or strange)}"
            )
        return arguments

    def error(self, message: str) -> NoReturn:
        message = _VALUE.sub(_value_words, message)
        sys.stderr.write(f"{self.prog}: {message} (see {self.prog} --help)\n")
        raise SystemExit(USAGE_ERROR)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line.

    Args:
        argv: the arguments without the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["help"]:
        words = [*words[1:], "--help"]
    verb = words[0] if words else ""
    if verb not in VERBS:
        _no_verb(words)
    for name in ("stdout", "stderr"):
        # Who called us closed it. Left so, the next socket would take its number.
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    try:
        return _run(verb, words[1:])
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        try:
            sys.stderr.flush()
        except OSError:  # its terminal is gone
            _drop(sys.stderr)


def whole_parser() -> argparse.ArgumentParser:
    """One parser with every verb in it, for completions and manual pages: imports them all."""
    parser = _top_level()
    parser.usage = None
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb, line in VERBS.items():
        _fill(verbs.add_parser(verb, help=line, **_SHAPE), verb, whole=True)
    return parser


_SHAPE: dict[str, Any] = {
    "formatter_class": argparse.RawDescriptionHelpFormatter,
    "allow_abbrev": False,
}


def _fill(parser: argparse.ArgumentParser, verb: str, *, whole: bool = False) -> ModuleType:
    """Gives a verb's words and options to its parser, and answers its module.

    Args:
        parser: is given them.
        verb: its name.
        whole: all that there is to say of it, for who reads and not for what parses.
    """
    module = importlib.import_module(f"rawproto.cli.{verb}")
    parser.description, _, parser.epilog = (module.__doc__ or "").partition("\n\n")
    add = module.add_arguments
    (getattr(module, "add_whole_arguments", add) if whole else add)(parser)
    told: dict[str, Any] = {"action": "store_true", "help": "show a traceback for an error"}
    parser.add_argument("--debug", **told)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                each.add_argument("--debug", default=argparse.SUPPRESS, **told)
    return module


def _run(verb: str, words: Sequence[str]) -> int:
    parser = Parser(prog=f"rawproto {verb}", **_SHAPE)
    module = _fill(parser, verb)
    arguments = parser.parse_args(words)
    try:
        code: int = module.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop(sys.stdout)
        return 141
    except (RawprotoError, OSError) as error:
        if arguments.debug:
            raise
        try:
            sys.stdout.flush()
        except OSError:
            _drop(sys.stdout)
        with suppress(OSError):
            sys.stderr.write(f"rawproto {verb}: {_words(error)}\n")
        return USAGE_ERROR
    return code


def _no_verb(words: Sequence[str]) -> NoReturn:
    """Help, the version, or what is wrong with what stands where the verb would."""
    parser = _top_level()
    parser.parse_known_args(words[:1])
    if not words:
        parser.error("no verb")
    if words[0].startswith("-"):
        parser.error(f"no option {words[0]} before the verb")
    from difflib import get_close_matches

    close = get_close_matches(words[0], VERBS, n=1)
    parser.error(f"no verb {words[0]!r}" + (f"; perhaps {close[0]}?" if close else ""))


def _drop(output: TextIO) -> None:
    """What cannot be written goes nowhere, or Python would try again at exit, and fail with 120."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _words(error: Exception) -> str:
    """An error in one line; ours have their words already."""
    if isinstance(error, OSError) and not isinstance(error, RawprotoError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def _top_level() -> argparse.ArgumentParser:
    lines = "\n".join(f"  {verb:<12} {line}" for verb, line in VERBS.items())
    parser = Parser(
        prog="rawproto",
        description="Packets built by hand, paths measured exactly.",
        epilog=f"verbs:\n{lines}\n\n`rawproto VERB --help` tells more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="rawproto [-h] [--version] VERB ...",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rawproto {__version__}")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
