"""Trace the path to a host: one flow of probes, all hops at once, stamped by the kernel.

examples:
  rawproto traceroute 10.0.0.2              UDP, as traceroute does by default
  rawproto traceroute -I -q 1 host          echo requests, one to each hop
  rawproto traceroute -T -p 443 host        TCP, through what lets only that pass
  rawproto traceroute --mtu host            where the path is narrow
  rawproto traceroute --json host | jq .

marks behind a time: !H !N !P !X !S !F-MTU host, network, protocol unreachable, prohibited,
source route failed, too big; !p port unreachable by another than the target; !<code> others

exit code: 0 traced, 2 error, 130 Ctrl-C (after what is known by then)
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import TYPE_CHECKING, get_args

from rawproto.cli.signals import Wishes, deadly_ctrl_c
from rawproto.drivers.blocking import BlockingDriver
from rawproto.drivers.names import is_address
from rawproto.drivers.trace_session import TraceOptions, TraceSession
from rawproto.errors import UsageError
from rawproto.link.privileges import drop_privileges, net_raw_remedy
from rawproto.machine import Machine
from rawproto.probe.trace_events import TraceEvent, TraceMethod

if TYPE_CHECKING:
    from rawproto.cli.trace_json import JSONReport
    from rawproto.cli.trace_text import TextReport

__all__ = ["add_arguments", "run"]

INTERRUPTED = 130
"""As a traceroute ends that Ctrl-C kills, so that a loop around it ends too."""

_MISSING = {
    "udp": "no -T, no NAT seen, no ICMP errors in --pcap, and routers that quote only 8 bytes "
    "of a probe are asked one by one",
    "icmp": "no -T, no NAT seen, no ICMP errors in --pcap",
}
"""What a trace through a socket of the kernel's own goes without, by its method."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of traceroute by their letters, and ours by their names."""
    parser.add_argument("host", metavar="HOST", help="name or address")
    parser.add_argument(
        "size", nargs="?", type=int, metavar="BYTES", help="of a whole probe (60; IPv6 80)"
    )
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    family.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")

    probes = parser.add_argument_group("probes")
    method = probes.add_mutually_exclusive_group()
    for letter, name in (("-I", "icmp"), ("-U", "udp"), ("-T", "tcp")):
        method.add_argument(
            letter, dest="method", action="store_const", const=name, help=f"--method {name}"
        )
    method.add_argument(
        "--method", dest="method", choices=get_args(TraceMethod), help="what to send (udp)"
    )
    probes.add_argument(
        "-p", dest="port", type=int, help="destination port of all (UDP 33434, TCP 80)"
    )
    probes.add_argument(
        "--sport", type=int, default=0, metavar="PORT", help="source port of all (any free)"
    )
    probes.add_argument(
        "-s", dest="source", default="", metavar="ADDR", help="address to send from"
    )
    probes.add_argument("-i", dest="interface", default="", metavar="NAME", help="to send by")
    probes.add_argument("-t", dest="tos", type=int, default=0, help="TOS or traffic class")
    probes.add_argument(
        "-l", dest="flow_label", type=lambda text: int(text, 0), default=0, help="IPv6 flow label"
    )
    probes.add_argument("--mtu", action="store_true", help="find the path's MTU, and who limits it")

    pace = parser.add_argument_group("pace")
    pace.add_argument("-f", dest="first", type=int, default=1, metavar="TTL", help="first hop (1)")
    pace.add_argument("-m", dest="last", type=int, default=30, metavar="TTL", help="last hop (30)")
    pace.add_argument("-q", dest="queries", type=int, default=3, metavar="N", help="a hop (3)")
    pace.add_argument(
        "-N", dest="window", type=int, default=32, metavar="N", help="probes under way (32)"
    )
    pace.add_argument(
        "-w",
        dest="wait",
        default="5,3,2",
        metavar="MAX,HERE,NEAR",
        help="seconds to wait when nothing is known; round trips of the same, of a farther hop",
    )
    pace.add_argument(
        "-z",
        dest="gap",
        type=float,
        default=0.0,
        metavar="GAP",
        help="between probes, seconds; above 10, ms (0)",
    )

    output = parser.add_argument_group("output")
    output.add_argument("-n", dest="numeric", action="store_true", help="no names for addresses")
    output.add_argument("--json", action="store_true", help="JSON Lines")
    output.add_argument("--pcap", metavar="FILE", help="write all packets to a pcapng file")


def run(arguments: argparse.Namespace) -> int:
    """Traces to the end or Ctrl-C."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    options = _options(arguments)
    with deadly_ctrl_c():
        session = TraceSession(arguments.host, options, pcap=arguments.pcap)
    with session:
        drop_privileges()
        method = session.machine.config.method
        if not session.privileged:
            sys.stderr.write(
                f"rawproto traceroute: without CAP_NET_RAW, by the kernel's {method.upper()} "
                f"socket: {_MISSING[method]}; to have all, {net_raw_remedy()}\n"
            )
        report: JSONReport | TextReport
        if arguments.json:
            from rawproto.cli.trace_json import JSONReport

            report = JSONReport(sys.stdout, session.destination.name)
        else:
            from rawproto.cli.trace_text import TextReport

            report = TextReport(
                sys.stdout, session.machine, arguments.host, numeric=arguments.numeric
            )
        machine: Machine[TraceEvent] = session.machine
        code = 0

        def end() -> None:
            nonlocal code
            code = INTERRUPTED
            session.machine.stop(time.monotonic_ns())

        wishes = Wishes(end=end, tell=report.refresh)

        def look() -> None:
            wishes.grant()
            report.refresh()

        with (
            BlockingDriver(machine, session.link, report.tell, on_wake=look) as driver,
            wishes.noted(driver.wake, driver.wake_descriptor),
        ):
            report.begin(driver.wake)
            driver.run()
            report.end()
        if session.machine.failure is not None:
            raise session.machine.failure
    return code


def _options(arguments: argparse.Namespace) -> TraceOptions:
    try:
        longest, *times = [float(word) for word in re.split("[,/]", arguments.wait)]
        here, near = [*times, *(3.0, 2.0)[len(times) :]]
    except ValueError:
        raise UsageError(f"-w {arguments.wait}: must be MAX[,HERE[,NEAR]]") from None
    interface, source = arguments.interface, arguments.source
    if is_address(interface):
        interface, source = "", source or interface
    return TraceOptions(
        method=arguments.method or "udp",
        family=arguments.family,
        first_ttl=arguments.first,
        max_ttl=arguments.last,
        queries=arguments.queries,
        window=arguments.window,
        wait_ms=longest * 1e3,
        here_times=here,
        near_times=near,
        # As traceroute has it: nobody waits for more than ten seconds between two probes.
        send_gap_ms=arguments.gap * (1 if arguments.gap > 10 else 1e3),
        port=arguments.port,
        source_port=arguments.sport,
        source=source,
        interface=interface,
        size=arguments.size,
        tos=arguments.tos,
        flow_label=arguments.flow_label,
        find_mtu=arguments.mtu,
    )
