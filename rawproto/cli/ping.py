"""Measure round-trip times to one or many hosts, as iputils' ping does but to the nanosecond.

examples:
  rawproto ping 10.0.0.2                    until Ctrl-C
  rawproto ping -c 5 -i 0.01 h2 h3          two hosts at once, a hundred probes a second
  rawproto ping -M do -s 1472 10.0.0.2      does a full packet fit?
  rawproto ping -R -c 1 10.0.0.2            the way there and back
  rawproto ping --json -c 3 10.0.0.2 | jq .rtt_ms

exit code: 0 all hosts answered, 1 some did not, 2 error, or a host that cannot be pinged at all
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, get_args

from rawproto import __version__
from rawproto.cli.signals import Wishes, deadly_ctrl_c
from rawproto.drivers.blocking import BlockingDriver
from rawproto.drivers.names import is_address
from rawproto.drivers.ping_session import PingOptions, PingSession
from rawproto.errors import RawprotoError, UsageError
from rawproto.link.privileges import drop_privileges
from rawproto.machine import Machine
from rawproto.probe.ping_events import Fragmentation, PingEvent

if TYPE_CHECKING:
    from rawproto.cli.ping_json import JSONReport
    from rawproto.cli.ping_text import TextReport
    from rawproto.probe.ping import Ping
    from rawproto.wire.ipv4_options import IPv4Option

__all__ = ["add_arguments", "run"]

ALL_ANSWERED, SOME_SILENT, SOME_REFUSED = 0, 1, 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of iputils' ping by their letters, and ours by their names."""
    parser.add_argument("hosts", nargs="+", metavar="HOST", help="name or address")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")

    pace = parser.add_argument_group("pace")
    pace.add_argument("-c", dest="count", type=int, metavar="COUNT", help="stop after COUNT probes")
    pace.add_argument(
        "-i",
        dest="interval",
        type=float,
        metavar="SECONDS",
        help="between probes to a host (1; at least 0.0001, without privilege 0.002; 0: with "
        "each answer)",
    )
    pace.add_argument(
        "-W", dest="timeout", type=float, metavar="SECONDS", help="a probe is lost after (10)"
    )
    pace.add_argument(
        "-w", dest="deadline", type=float, metavar="SECONDS", help="everything ends after"
    )
    pace.add_argument(
        "-f", dest="flood", action="store_true", help="flood: -i 0 unless given, a dot per probe"
    )
    pace.add_argument("-A", dest="adaptive", action="store_true", help="adaptive: with each answer")
    pace.add_argument(
        "-l", dest="preload", type=int, default=1, metavar="N", help="send N probes at once first"
    )

    packet = parser.add_argument_group("packet")
    packet.add_argument(
        "-s", dest="size", type=int, default=56, metavar="BYTES", help="of payload (56)"
    )
    packet.add_argument("-p", dest="pattern", metavar="HEX", help="what the payload repeats")
    packet.add_argument(
        "-e", dest="identifier", type=_number, metavar="ID", help="ICMP identifier (random)"
    )
    packet.add_argument("-t", dest="ttl", type=int, help="TTL or hop limit (64)")
    packet.add_argument(
        "-Q", dest="tos", type=_number, default=0, metavar="TOS", help="DSCP and ECN, e.g. 0xb8"
    )
    packet.add_argument(
        "-M",
        dest="fragmentation",
        choices=get_args(Fragmentation),
        default="want",
        help="do: never cut; want: cut here what the path cannot take (default); "
        "dont: let routers cut; probe: never cut, heed no path MTU",
    )
    packet.add_argument("-R", dest="record_route", action="store_true", help="record the route")
    packet.add_argument(
        "-T",
        dest="timestamp",
        metavar="KIND",
        help="IP timestamps: tsonly, tsandaddr, or tsprespec=ADDR[,ADDR...]",
    )
    packet.add_argument(
        "-F", "--flow-label", type=_number, default=0, metavar="LABEL", help="IPv6 flow label"
    )
    packet.add_argument(
        "-I", dest="interface", default="", metavar="NAME", help="interface or source address"
    )
    packet.add_argument("--source", default="", metavar="ADDR", help="address to send from")
    packet.add_argument(
        "-m", dest="mark", type=_number, default=0, metavar="MARK", help="firewall mark"
    )
    packet.add_argument(
        "-L", dest="looped", action="store_false", help="don't hear one's own multicast requests"
    )
    packet.add_argument(
        "-B", dest="sticky", action="store_true", help="keep the source address (always so)"
    )
    packet.add_argument(
        "-b", dest="broadcast", action="store_true", help="the address is a broadcast one, yes"
    )

    output = parser.add_argument_group("output")
    output.add_argument("-n", dest="numeric", action="store_true", help="no names for addresses")
    output.add_argument(
        "-H", dest="named", action="store_true", help="names, even where the hosts are addresses"
    )
    output.add_argument("-q", dest="quiet", action="store_true", help="the summary alone")
    output.add_argument(
        "-v", dest="verbose", action="store_true", help="the time each probe waited in this host"
    )
    output.add_argument("-a", dest="audible", action="store_true", help="a bell with each reply")
    output.add_argument("-D", dest="dates", action="store_true", help="the time before each line")
    output.add_argument(
        "-O", dest="outstanding", action="store_true", help="tell of a probe still unanswered"
    )
    output.add_argument("--json", action="store_true", help="JSON Lines")
    output.add_argument(
        "-V", action="version", version=f"rawproto {__version__}", help="the version, no ping"
    )
    output.add_argument("--pcap", metavar="FILE", help="write all packets to a pcapng file")


def run(arguments: argparse.Namespace) -> int:
    """Pings until the end or Ctrl-C; 0, 1 or 2, or an exception for 2."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    refused: list[tuple[str, RawprotoError]] = []

    def on_refused(host: str, error: RawprotoError) -> None:
        sys.stderr.write(f"rawproto ping: {error}\n")
        refused.append((host, error))

    options = _options(arguments)
    with deadly_ctrl_c():
        session = PingSession(arguments.hosts, options, pcap=arguments.pcap, on_refused=on_refused)
    with session:
        drop_privileges()
        report = _report(arguments, options, session.machine, refused)
        try:
            _pump(session, report)
        finally:
            report.end(session.link.dropped)
        if refused:
            return SOME_REFUSED
        return ALL_ANSWERED if _all_answered(session, arguments.count) else SOME_SILENT


def _report(
    arguments: argparse.Namespace,
    options: PingOptions,
    machine: Ping,
    refused: list[tuple[str, RawprotoError]],
) -> JSONReport | TextReport:
    """Either is loaded only where it is wanted."""
    if arguments.json:
        from rawproto.cli.ping_json import JSONReport

        return JSONReport(sys.stdout, machine, quiet=arguments.quiet, refused=refused)
    from rawproto.cli.ping_text import TextReport

    from_where = options.interface or options.source or arguments.sticky
    return TextReport(
        sys.stdout,
        machine,
        # A numeric address is shown as it was given, as in ping.
        numeric=arguments.numeric
        or (all(map(is_address, arguments.hosts)) and not arguments.named),
        quiet=arguments.quiet,
        verbose=arguments.verbose,
        dates=arguments.dates,
        dots=arguments.flood,
        audible=arguments.audible,
        pattern=options.pattern,
        via=options.interface if from_where else None,
    )


def _options(arguments: argparse.Namespace) -> PingOptions:
    interface, source = arguments.interface, arguments.source
    if is_address(interface):
        interface, source = "", source or interface
    interval = arguments.interval
    if interval is None and arguments.flood:
        interval = 0.0
    return PingOptions(
        count=arguments.count,
        family=arguments.family,
        interval_ms=1e3 * (interval or 1.0),
        # 0 asks for the default, as in ping.
        timeout_ms=arguments.timeout * 1e3 if arguments.timeout else None,
        deadline_ms=arguments.deadline * 1e3 if arguments.deadline else None,
        size=arguments.size,
        pattern=_pattern(arguments.pattern),
        ttl=arguments.ttl,
        tos=arguments.tos,
        flow_label=arguments.flow_label,
        source=source,
        interface=interface,
        fragmentation=arguments.fragmentation,
        flood=interval == 0,
        adaptive=arguments.adaptive,
        preload=arguments.preload,
        options=_header_options(arguments),
        broadcast=arguments.broadcast,
        multicast_loop=arguments.looped,
        identifier=arguments.identifier,
        mark=arguments.mark,
        report_outstanding=arguments.outstanding,
    )


def _is_ipv4(text: str) -> bool:
    return is_address(text) and ":" not in text


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number, nor one as 0xb8") from None


def _pattern(text: str | None) -> bytes:
    if text is None:
        return b""
    try:
        # A digit alone at the end is a byte of its own, as in ping.
        pattern = bytes.fromhex(text if len(text) % 2 == 0 else f"{text[:-1]}0{text[-1]}")
    except ValueError:
        raise UsageError(f"pattern {text}: must be hexadecimal digits") from None
    if not 1 <= len(pattern) <= 16:
        raise UsageError(f"pattern {text}: must be 1 to 16 bytes")
    return pattern


def _header_options(arguments: argparse.Namespace) -> tuple[IPv4Option, ...]:
    if arguments.record_route and arguments.timestamp:
        raise UsageError("-R and -T do not fit into one header")
    if arguments.record_route:
        from rawproto.wire.ipv4_options import RecordRoute

        return (RecordRoute(),)
    if not arguments.timestamp:
        return ()
    kind, _, addresses = arguments.timestamp.partition("=")
    hosts = addresses.split(",") if addresses else []
    from rawproto.wire.ipv4_options import Timestamp

    if kind == "tsonly" and not hosts:
        return (Timestamp(flag=0, entries=((None, 0),) * 9),)
    if kind == "tsandaddr" and not hosts:
        return (Timestamp(flag=1, entries=(("0.0.0.0", 0),) * 4),)
    if kind == "tsprespec" and 1 <= len(hosts) <= 4 and all(map(_is_ipv4, hosts)):
        return (Timestamp(flag=3, entries=tuple((host, 0) for host in hosts)),)
    raise UsageError(
        f"-T {arguments.timestamp}: must be tsonly, tsandaddr, or tsprespec= and 1 to 4 addresses"
    )


def _pump(session: PingSession, report: JSONReport | TextReport) -> None:
    """Runs the machine; Ctrl-C and SIGTERM end it, SIGQUIT asks for a status line."""
    machine: Machine[PingEvent] = session.machine
    wishes = Wishes(end=session.machine.stop, tell=lambda: report.status(sys.stderr))
    with (
        BlockingDriver(machine, session.link, report.tell, on_wake=wishes.grant) as driver,
        wishes.noted(driver.wake, driver.wake_descriptor),
    ):
        # Within: who reads the first line may wish for the end at once.
        report.begin()
        driver.run()


def _all_answered(session: PingSession, count: int | None) -> bool:
    """Every host answered; with a deadline, as often as was asked."""
    least = 1
    if count is not None and session.machine.config.deadline_ns is not None:
        least = count
    machine = session.machine
    return all(machine.statistics(target).received >= least for target in machine.targets)
