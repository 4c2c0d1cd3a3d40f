"""Read captures: one line a packet, its names and values, its bytes, or JSON.

examples:
  rawproto decode trace.pcap                    one line a packet, as from tcpdump -nr
  rawproto decode -v -c 1 trace.pcapng          every layer's names and values
  rawproto decode -x --filter 'port 53' a.pcap b.pcap.gz
  tcpdump -w - | rawproto decode -              as the packets come
  rawproto decode --json trace.pcap | jq 'select(.damage)'
  rawproto decode -enr trace.pcap tcp port 80   the words of tcpdump do, too
  rawproto decode --stats trace.pcap            conversations, endpoints, protocols
  rawproto decode --keylog keys trace.pcapng    RPT's packets opened, down to their frames

Checksums that are wrong are told behind the line, all verdicts under -v. Fragments are
put together, and the whole packet is shown with the one that completes it. A key log in a
pcapng file opens RPT's packets too; inside UDP they are known by a handshake or a key.
What a filter lets through goes to another file by `rawproto replay --filter EXPR -w OTHER FILE`.

exit code: 0 all was read, 2 a file is damaged (what came before it is shown) or an error
"""

from __future__ import annotations

import argparse
import os
import sys

from rawproto.cli.decode_files import Captures
from rawproto.cli.decode_rpt import RPTView, load_key_log
from rawproto.errors import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of tcpdump by their letters, and ours by their names."""
    parser.add_argument(
        "files", nargs="*", metavar="FILE", help="pcap or pcapng, gzipped or not; - is stdin"
    )
    parser.add_argument(
        "-r", dest="read", metavar="FILE", help="as tcpdump has it: other words are the filter then"
    )
    which = parser.add_argument_group("which packets")
    which.add_argument("--filter", metavar="EXPR", default="", help="as in pcap-filter(7)")
    which.add_argument("-c", dest="count", type=int, metavar="N", help="stop after N packets")

    how = parser.add_argument_group("what to show of them")
    how.add_argument("--json", action="store_true", help="JSON Lines")
    how.add_argument(
        "--keylog", metavar="FILE", help="secrets that RPT's verbs wrote, to open its packets with"
    )
    form = how.add_mutually_exclusive_group()
    form.add_argument(
        "--follow",
        metavar="SPEC",
        help="a conversation put together: tcp:0, udp:0, the first that a filter matches, or list",
    )
    form.add_argument("--stats", action="store_true", help="counts, conversations, RTTs")
    how.add_argument("-v", dest="verbose", action="store_true", help="every name and value")
    how.add_argument("-x", dest="hex", action="store_true", help="the bytes, coloured by layer")
    how.add_argument("--diagram", action="store_true", help="headers as the RFCs draw them")

    more = parser.add_argument_group("--follow and --stats")
    more.add_argument(
        "--as",
        dest="form",
        choices=("text", "hex", "raw"),
        help="how to show what was said; raw is one side's bytes and nothing else (text)",
    )
    more.add_argument(
        "--side", choices=("client", "server"), help="only what this side said (both; not raw)"
    )
    more.add_argument("--top", type=int, metavar="N", help="rows of a table; --json has all (20)")

    line = parser.add_argument_group("the line")
    line.add_argument(
        "-t",
        dest="time",
        action="count",
        default=0,
        help="no time; -tt since 1970, -ttt since the packet before, -tttt with the date, "
        "-ttttt since the first packet",
    )
    line.add_argument(
        "-#", "--number", dest="number", action="store_true", help="number the packets"
    )
    line.add_argument(
        "-S",
        dest="absolute",
        action="store_true",
        help="TCP's sequence numbers as they stand, not counted from a connection's first",
    )
    line.add_argument(
        "-e", dest="ethernet", action="store_true", help="MAC addresses and EtherType in front"
    )
    line.add_argument("-n", action="store_true", help="no names for addresses: there never are any")
    line.add_argument("-l", dest="flush", action="store_true", help="write line by line")
    line.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="(auto: on a terminal)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Reads every file to its end or its first damage."""
    if arguments.count is not None and arguments.count < 1:
        raise UsageError(f"-c {arguments.count}: must be 1 or more")
    if arguments.time > 5:
        raise UsageError("-t: five of them at most")
    _refuse_what_does_nothing(arguments)
    _tell_files_from_filter(arguments)
    arguments.form = arguments.form or "text"
    arguments.top = 20 if arguments.top is None else arguments.top
    if arguments.flush:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    key_log = load_key_log(arguments.keylog)
    captures = Captures(arguments.files, expression=arguments.filter, count=arguments.count)
    code = 0
    if arguments.follow is not None:
        from rawproto.cli import decode_follow

        code = decode_follow.run((found.packet for found in captures), arguments)
    elif arguments.stats:
        from rawproto.cli import decode_stats

        code = decode_stats.run((found.packet for found in captures), arguments)
    elif arguments.json:
        from rawproto.cli.decode_json import tell_json

        tell_json(captures, sys.stdout, RPTView(key_log))
    else:
        from rawproto.cli.decode_text import TextReport

        several = len(arguments.files) > 1
        TextReport(sys.stdout, arguments, RPTView(key_log), several=several).tell(captures)
    return 2 if captures.failed else code


def _tell_files_from_filter(arguments: argparse.Namespace) -> None:
    """Sorts words as tcpdump does after `-r`; without it, names a filter given in files' place."""
    files = arguments.files
    if arguments.read is not None:
        if files and arguments.filter:
            raise UsageError(f"--filter and {' '.join(files)}: give one filter")
        arguments.filter = arguments.filter or " ".join(files)
        arguments.files = [arguments.read]
        return
    if not files:
        raise UsageError("needs a FILE to read; - is standard input")
    known = [name == "-" or os.path.lexists(name) for name in files]
    # A filter ends the words, as with tcpdump; a file's name that is wrong is seldom one.
    words = files[len(known) - known[::-1].index(True) :] if True in known else files
    if words and _is_filter(" ".join(words)):
        raise UsageError(
            f"{words[0]}: no such file; a filter is given as --filter '{' '.join(words)}'"
        )


def _is_filter(words: str) -> bool:
    from rawproto.filter import FilterError, compile_filter

    try:
        compile_filter(words)
    except FilterError:
        return False
    return True


def _refuse_what_does_nothing(arguments: argparse.Namespace) -> None:
    """Raises UsageError for an option of one form that was given with another."""
    following, counting = arguments.follow is not None, arguments.stats
    for option, given, allowed, of in (
        ("--as", arguments.form, following, "--follow"),
        ("--side", arguments.side, following, "--follow"),
        ("--top", arguments.top is not None, counting, "--stats"),
        ("-v", arguments.verbose, not (following or counting), "single packets"),
        ("-x", arguments.hex, not (following or counting), "single packets"),
        ("--diagram", arguments.diagram, not (following or counting), "single packets"),
        ("-e", arguments.ethernet, not (following or counting), "single packets"),
    ):
        if given and not allowed:
            raise UsageError(f"{option} is an option of {of}")
