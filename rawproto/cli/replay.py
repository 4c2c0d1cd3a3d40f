"""Send the packets of a capture again: as they came, faster, at a rate, or with other addresses.

examples:
  rawproto replay -i eth0 trace.pcap                     as they were captured, to the microsecond
  rawproto replay -i eth0 --speed 10 --max-gap 0.1 trace.pcapng
  rawproto replay -i eth0 --rate 5000 --loop 20 trace.pcap
  rawproto replay -i eth0 --bits 100M --loop 0 --duration 60 trace.pcap
  rawproto replay --rewrite 10.0.0.0/24=10.9.0.0/24 --port 80=8080 trace.pcap
  rawproto replay --dry-run --filter 'udp port 53' trace.pcap
  rawproto replay --rewrite 10.0.0.1=192.0.2.1 -w other.pcap trace.pcap

With -i, Ethernet frames leave by that interface as they are, and what was captured without
an Ethernet header gets one to its next hop. Without, the IP packets inside go where this
host's routes lead. A checksum that was right stays right under --rewrite and --port; one
that was wrong stays wrong, unless --mend is given.

exit code: 0 all sent, 1 some could not be, 2 error or a damaged file, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

from rawproto.capture import CapturedPacket
from rawproto.cli.decode_files import open_capture, unreadable
from rawproto.cli.file_filter import FileFilter
from rawproto.drivers.replay import Pace, PaperOutlet, Replay, ReplayResult, open_outlet
from rawproto.errors import UsageError, WireError
from rawproto.packets.rewrite import Rewrite
from rawproto.wire.words import printable

if TYPE_CHECKING:
    from rawproto.capture.reader import Reader

__all__ = ["add_arguments", "run"]

INTERRUPTED = 130
_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9}


_TCPREPLAY = {
    ("-x", "--multiplier"): "--speed X",
    ("-p", "--pps"): "--rate PPS",
    ("-M", "--mbps"): "--bits 10M",
    ("-t", "--topspeed"): "--fast",
    ("-l",): "--loop N",
    ("-L", "--limit"): "-c N",
    ("--intf1",): "-i NAME",
}
"""tcpreplay's options, and what they are called here."""


class _Elsewhere(argparse.Action):
    """Tells what another tool's option is called here."""

    def __init__(self, option_strings: list[str], dest: str, const: str, help: str) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs="?", const=const, help=help)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        _space: object,
        _values: object,
        option: str | None = None,
    ) -> None:
        parser.error(f"{option}: here it is {self.const}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which packets, when, with what changed."""
    parser.add_argument("file", metavar="FILE", help="pcap or pcapng, gzipped or not; - is stdin")
    parser.add_argument("-i", dest="interface", metavar="NAME", help="interface to send by")
    parser.add_argument("--filter", metavar="EXPR", default="", help="as in pcap-filter(7)")
    for names, ours in _TCPREPLAY.items():
        parser.add_argument(*names, action=_Elsewhere, const=ours, help=argparse.SUPPRESS)

    pace = parser.add_argument_group("when (as they were captured)")
    how = pace.add_mutually_exclusive_group()
    how.add_argument("--speed", type=float, metavar="X", help="so many times as fast")
    how.add_argument("--rate", type=float, metavar="PPS", help="packets a second")
    how.add_argument("--bits", metavar="BPS", help="bits a second; 10M is 10,000,000")
    how.add_argument("--fast", action="store_true", help="as fast as it goes")
    pace.add_argument("--max-gap", type=float, metavar="SECONDS", help="cut longer pauses to this")

    limits = parser.add_argument_group("how often")
    limits.add_argument(
        "--loop", type=int, default=1, metavar="N", help="times over (1); 0 is until a limit"
    )
    limits.add_argument("-c", dest="count", type=int, metavar="N", help="stop after N packets")
    limits.add_argument("--duration", type=float, metavar="SECONDS", help="stop after that")

    change = parser.add_argument_group("what to change; each may be given several times")
    change.add_argument(
        "--rewrite",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="an address or a network, wherever it stands in headers",
    )
    change.add_argument(
        "--port", action="append", default=[], metavar="OLD=NEW", help="of TCP and UDP"
    )
    change.add_argument(
        "--mac",
        action="append",
        default=[],
        metavar="OLD=NEW",
        help="a MAC; src=NEW and dst=NEW set whatever stands there",
    )
    change.add_argument("--mend", action="store_true", help="send wrong checksums right, too")

    output = parser.add_argument_group("output")
    dry = output.add_mutually_exclusive_group()
    dry.add_argument("--dry-run", action="store_true", help="show what would be sent, send nothing")
    dry.add_argument("-w", dest="write", metavar="FILE", help="write it to a capture instead")
    output.add_argument(
        "--json", action="store_true", help="the summary, and packets that are shown, as JSON Lines"
    )


def run(arguments: argparse.Namespace) -> int:
    """Sends until the capture ends, a limit is reached, or Ctrl-C or SIGTERM comes."""
    source = _Source(arguments)
    rewrite = Rewrite(
        addresses=arguments.rewrite,
        macs=arguments.mac,
        ports=arguments.port,
        mend_all=arguments.mend,
    )
    pace = Pace(
        speed=arguments.speed,
        rate_pps=arguments.rate,
        rate_bps=_bits(arguments.bits),
        fast=arguments.fast,
        max_gap_ns=_ns(arguments.max_gap, "--max-gap"),
    )
    if arguments.count is not None and arguments.count < 1:
        raise UsageError(f"-c {arguments.count}: must be 1 or more")
    if arguments.write is not None:
        if not arguments.write.lower().endswith((".pcap", ".cap", ".pcapng")):
            raise UsageError(f"-w {arguments.write}: name it .pcap or .pcapng")
        if _same_file(arguments.file, arguments.write):
            raise UsageError(f"-w {arguments.write}: is the capture that is read, write to another")
    dry = arguments.dry_run or arguments.write is not None
    frames = arguments.interface is not None or arguments.write is not None
    interrupted = False
    source.open()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        closing(source),
        closing(PaperOutlet(frames=frames) if dry else open_outlet(arguments.interface)) as outlet,
    ):
        replay = Replay(
            source.rounds(),
            pace,
            outlet,
            rewrite=rewrite or None,
            max_packets=arguments.count,
            max_ns=_ns(arguments.duration, "--duration"),
        )
        try:
            if dry:
                from rawproto.cli.replay_text import show, write

                if arguments.write is None:
                    show(replay, sys.stdout, as_json=arguments.json)
                else:
                    write(replay, arguments.write, lambda: source.first_ns)
            else:
                replay.run()
        except KeyboardInterrupt:
            interrupted = True
        finally:
            _tell(replay.result, arguments)
    if interrupted:
        return INTERRUPTED
    if source.damage is not None:
        sys.stderr.write(f"rawproto replay: {source.name}: {source.damage}\n")
        return 2
    return int(bool(replay.result.refused or replay.result.unsendable))


class _Source:
    """The capture, opened again for each round, so that memory stays the same.

    Attributes:
        name: of the file, for messages.
        first_ns: when its first packet was captured, 0 before that.
        damage: where reading ended early, None for nowhere.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        if arguments.loop < 0:
            raise UsageError(f"--loop {arguments.loop}: must be 0 or more")
        if arguments.file == "-" and arguments.loop != 1:
            raise UsageError("--loop: standard input can be read only once")
        if not arguments.loop and arguments.count is None and arguments.duration is None:
            raise UsageError("--loop 0: needs a limit, -c or --duration")
        self._name = arguments.file
        self.name = "standard input" if self._name == "-" else printable(self._name)
        self._loops = arguments.loop
        # Made at once, so that what is wrong with it shows before anything is sent.
        self._passes = FileFilter(arguments.filter) if arguments.filter else None
        self._opened: Reader | None = None
        self.first_ns = 0
        self.damage: WireError | None = None

    def open(self) -> None:
        """Opens it for the first round, so that nothing is written or sent where it cannot be.

        Raises:
            UsageError: it is no capture.
            OSError: it cannot be opened.
        """
        try:
            self._opened = open_capture(self._name)
        except WireError as error:
            raise UsageError(f"{self.name}: {unreadable(error)}") from None

    def close(self) -> None:
        """Gives back what was opened for a round that never began."""
        if self._opened is not None:
            self._opened.close()

    def rounds(self) -> Iterator[Iterator[CapturedPacket]]:
        """The packets of each round."""
        done = 0
        while not self._loops or done < self._loops:
            done += 1
            yield self._packets()

    def _packets(self) -> Iterator[CapturedPacket]:
        if self._opened is None:
            self.open()
        assert self._opened is not None
        opened, self._opened = self._opened, None
        with opened as reader:
            for packet in reader:
                if self._passes is not None and not self._passes(packet):
                    continue
                self.first_ns = packet.time_ns
                yield packet
                break
            # One after the other without a look at each, where all of them are wanted.
            yield from reader if self._passes is None else filter(self._passes, reader)
            self.damage = reader.damage


def _tell(result: ReplayResult, arguments: argparse.Namespace) -> None:
    """The summary: in text on stderr where stdout shows the packets."""
    from rawproto.cli.replay_text import record, text

    sys.stdout.flush()
    if arguments.json:
        from rawproto.cli.render import json_line

        sys.stdout.write(json_line("summary", record(result)))
        return
    if arguments.dry_run:
        verb = "would be sent"
    else:
        verb = "sent" if arguments.write is None else f"written to {printable(arguments.write)}"
    (sys.stdout if verb == "sent" else sys.stderr).write(text(result, verb=verb))


def _same_file(source: str, target: str) -> bool:
    """Whether both names are one file's, through whatever links; opening it to write ends it."""
    try:
        came = os.fstat(sys.stdin.fileno()) if source == "-" else os.stat(source)
        return os.path.samestat(came, os.stat(target))
    except OSError:  # one of them isn't there, or stdin is no file
        return False


def _bits(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text.rstrip("kMG")) * _UNITS.get(text[-1:], 1)
    except ValueError:
        raise UsageError(f"--bits {text}: must be a number, perhaps with k, M or G") from None


def _ns(seconds: float | None, option: str) -> int | None:
    if seconds is None:
        return None
    if not 0 <= seconds < 1e9:
        raise UsageError(f"{option} {seconds:g}: must be 0 or more seconds")
    return round(seconds * 1e9)
