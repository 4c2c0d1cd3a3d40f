"""Capture packets: behind a filter in the kernel, to the terminal or to a file.

examples:
  rawproto capture                              everything, a line a packet
  rawproto capture -i eth0 'tcp port 80'        what passes a filter, see pcap-filter(7)
  rawproto capture -i any port 53 -w dns.pcapng until Ctrl-C, with interfaces and directions
  rawproto capture -w - | rawproto decode -v -  into a pipe, as it comes: every name and value
  rawproto capture -w ring.pcapng --rotate-size 100M --keep 10
  rawproto capture --list                       the interfaces

A file is pcap or pcapng by its name. Names are never looked up: that would be traffic, too.

exit code: 0 captured, also when ended by Ctrl-C or SIGTERM, as tcpdump has it; 2 error, the
file holds what was captured by then
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING

from rawproto.cli.render import counted
from rawproto.cli.signals import Wishes
from rawproto.drivers.capture_source import ANY, CaptureOptions, CaptureSource
from rawproto.errors import UsageError
from rawproto.link.privileges import drop_privileges
from rawproto.link.ring import LARGEST_FRAME

if TYPE_CHECKING:
    from collections.abc import Callable

    from rawproto.filter import Names

__all__ = ["add_arguments", "run"]

ERROR = 2
_SIZE = re.compile(r"(?P<number>\d+)(?P<unit>[kKMG]?)B?")
_UNITS = {"": 1, "k": 1000, "K": 1000, "M": 1000**2, "G": 1000**3}
_MAX_SECONDS = 10**9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of tcpdump by their letters, and ours by their names."""
    parser.add_argument(
        "filter", nargs="*", metavar="FILTER", help="what to capture, as in pcap-filter(7)"
    )
    parser.add_argument(
        "-i",
        dest="interfaces",
        action="append",
        metavar="NAME",
        help="an interface, several times for several; any for all (any)",
    )
    parser.add_argument("-c", dest="count", type=int, metavar="N", help="end after N packets")
    parser.add_argument(
        "-s",
        dest="snaplen",
        type=int,
        default=0,
        metavar="BYTES",
        help=f"keep so much of each packet ({LARGEST_FRAME})",
    )
    parser.add_argument(
        "-p",
        dest="promiscuous",
        action="store_false",
        help="not promiscuous; any never is",
    )
    parser.add_argument(
        "-n", action="count", help="no names for addresses: there never are, so this is ignored"
    )
    parser.add_argument("-l", dest="flush", action="store_true", help="show line by line")
    parser.add_argument(
        "-U", action="store_true", help="write as packets come: it always does, so this is ignored"
    )
    parser.add_argument(
        "-B", dest="buffer", type=_size, default="32M", metavar="SIZE", help="of the ring (32M)"
    )
    parser.add_argument(
        "--time", dest="seconds", type=_seconds, metavar="SECONDS", help="end after so long"
    )
    parser.add_argument(
        "-D", "--list", action="store_true", help="show the interfaces, and capture nothing"
    )
    parser.add_argument("--json", action="store_true", help="JSON Lines, of packets or interfaces")

    file = parser.add_argument_group("file")
    file.add_argument(
        "-w", dest="path", metavar="FILE", help="write the packets to a file, - for a pipe"
    )
    file.add_argument("--format", choices=("pcap", "pcapng"), help="else the file's name tells it")
    file.add_argument("--comment", default="", metavar="TEXT", help="about the capture (pcapng)")
    file.add_argument(
        "--rotate-size", type=_size, metavar="SIZE", help="a new file when one is so large: 100M"
    )
    file.add_argument(
        "--rotate-seconds", type=_seconds, metavar="SECONDS", help="a new file after so long"
    )
    file.add_argument("--keep", type=int, metavar="N", help="remove all but the last N files")


def run(arguments: argparse.Namespace) -> int:
    """Captures to the end, Ctrl-C or SIGTERM."""
    if arguments.list:
        from rawproto.cli.capture_list import print_interfaces

        print_interfaces(sys.stdout, as_json=arguments.json)
        return 0
    options = CaptureOptions(
        interfaces=tuple(dict.fromkeys(arguments.interfaces or (ANY,))),
        filter=" ".join(arguments.filter) or None,
        # As tcpdump has it, 0 is all.
        snaplen=arguments.snaplen or LARGEST_FRAME,
        promiscuous=arguments.promiscuous,
        buffer_bytes=arguments.buffer,
        names=_names(arguments.filter),
    )
    if arguments.count is not None and arguments.count < 1:
        raise UsageError(f"-c {arguments.count}: must be 1 or more")
    if arguments.path is None:
        for option in ("format", "comment", "rotate_size", "rotate_seconds", "keep"):
            if getattr(arguments, option):
                raise UsageError(f"--{option.replace('_', '-')}: needs a file, -w FILE")
        return _show(arguments, options)
    if arguments.json:
        raise UsageError("--json: is for the terminal, not beside -w")
    return _write(arguments, options)


def _names(words: list[str]) -> Names | None:
    """Who knows the names in a filter."""
    if not words:
        return None
    from rawproto.cli.filter import SystemNames

    return SystemNames()


def _show(arguments: argparse.Namespace, options: CaptureOptions) -> int:
    """Packets as lines."""
    from rawproto.cli.capture_text import JSONLines, TextLines

    if arguments.flush:
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with CaptureSource(options) as source:
        drop_privileges()
        _announce(options)
        report = (JSONLines if arguments.json else TextLines)(sys.stdout, source)
        deadline_ns = None
        if arguments.seconds is not None:
            deadline_ns = time.monotonic_ns() + arguments.seconds
        turn = _Turn(source)
        failure: Exception | None = None
        try:
            with turn.wishes.noted(turn.wake):
                for block in source.blocks(deadline_ns):
                    if block is None:
                        sys.stdout.flush()
                    else:
                        report.tell(block, arguments.count)
                    if report.count == arguments.count:
                        break
                    turn()
        except (KeyboardInterrupt, OSError) as error:
            failure = error if isinstance(error, OSError) else None
        sys.stdout.flush()
        _sum_up(report.count, source)
        if failure is not None:
            raise failure
    return 0


def _write(arguments: argparse.Namespace, options: CaptureOptions) -> int:
    """Packets into a file."""
    from rawproto.cli.capture_text import Progress
    from rawproto.drivers.capture_session import CaptureFileOptions, CaptureSession

    file = CaptureFileOptions(
        path=arguments.path,
        format=arguments.format,
        comment=arguments.comment,
        rotate_bytes=arguments.rotate_size,
        rotate_ns=arguments.rotate_seconds,
        keep=arguments.keep,
        count=arguments.count,
        duration_ns=arguments.seconds,
    )
    with CaptureSession(options, file) as session:
        if not (file.rotate_bytes or file.rotate_ns):
            # Else files are still to be opened, where perhaps only root may.
            drop_privileges()
        _announce(options)
        progress = Progress(sys.stderr, session)
        turn = _Turn(session.source, progress.refresh, progress.tell)
        try:
            with turn.wishes.noted(turn.wake):
                session.run(turn)
        finally:
            progress.end()
            _sum_up(session.captured, session.source)
        if session.failure is not None:
            sys.stderr.write(
                f"rawproto capture: {session.failure.filename or 'output'}: "
                f"{session.failure.strerror}; {session.lost} packets lost, "
                f"what was captured before is in the file\n"
            )
            return ERROR
    return 0


class _Turn:
    """Between two blocks: grants what signals wished for, and says what is to be said.

    Args:
        source: what a wish for the end ends.
        refresh: called each time.
        tell: called when somebody wished for a word (Ctrl-\\).
    """

    def __init__(
        self,
        source: CaptureSource,
        refresh: Callable[[], None] = lambda: None,
        tell: Callable[[], None] = lambda: None,
    ) -> None:
        self.wishes = Wishes(end=source.finish, tell=tell)
        self._source = source
        self._refresh = refresh
        self._unseen = 0

    def __call__(self) -> None:
        self._unseen = 0
        self.wishes.grant()
        self._refresh()

    def wake(self) -> None:
        """For signal handlers. Who asks twice, while a write to a pipe hangs, gets it at once."""
        self._unseen += 1
        if self._unseen > 1:
            raise KeyboardInterrupt
        self._source.wake()


def _announce(options: CaptureOptions) -> None:
    sys.stderr.write(
        f"listening on {', '.join(options.interfaces)}, snapshot length {options.snaplen} bytes\n"
    )
    sys.stderr.flush()


def _sum_up(captured: int, source: CaptureSource) -> None:
    """The three lines that tcpdump's users know, loss last."""
    ring = source.ring
    sys.stderr.write(
        f"{counted(captured, 'packet')} captured\n"
        f"{counted(ring.received, 'packet')} received by filter\n"
        f"{counted(ring.dropped, 'packet')} dropped by kernel\n"
    )


def _size(text: str) -> int:
    """`100M` in bytes; powers of ten."""
    match = _SIZE.fullmatch(text)
    if match is None or not 0 < int(match["number"]) < 1 << 40:
        raise argparse.ArgumentTypeError(f"{text}: must be a size such as 500k, 100M or 2G")
    return int(match["number"]) * _UNITS[match["unit"]]


def _seconds(text: str) -> int:
    """Seconds, perhaps with a fraction, in ns."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text}: must be seconds above 0")
    return max(1, round(seconds * 1e9))
