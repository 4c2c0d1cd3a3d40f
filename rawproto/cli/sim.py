"""Simulate RPT flows over a link, in virtual time: the same for the same seed.

examples:
  rawproto sim                                        10 MB over 10 Mbit/s, 40 ms, one BDP of queue
  rawproto sim --rate 100mbit --rtt 50ms --loss 1%    loss each way
  rawproto sim --flows 4 --time 60 --congestion newreno
  rawproto sim --time 30 --congestion bbr,cubic --plot two.png    who gets what, over time
  rawproto sim --impair backward.loss=30%,forward.corrupt=1%   any harm that a lab's links know
  rawproto sim --qlog traces --pcap sim.pcapng        for qvis, and for decode or Wireshark

exit status: 0 everything arrived, 1 not, 2 usage error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from rawproto.cli.sim_plot import Plot
from rawproto.cli.sim_text import json_lines, report
from rawproto.errors import UsageError
from rawproto.impair import Impairment
from rawproto.lab.impairments import impairment, parse_change
from rawproto.sim.experiment import Experiment
from rawproto.sim.record import record_packets, trace_connections
from rawproto.transport.config import Config
from rawproto.transport.congestion import CONTROLLERS

__all__ = ["add_arguments", "run"]

_SIZE = 10_000_000
_PSK = bytes([7]) * 32
_LEAST_MTU, _MOST_MTU = 1220, 65_535
_MOST_FLOWS = 1000
_MOST_SECONDS = 86_400
_LEAST_QUEUE = 10
_UNITS = {"k": 10**3, "M": 10**6, "G": 10**9}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `sim`."""
    link = parser.add_argument_group("link")
    link.add_argument("--rate", default="10mbit", metavar="RATE", help="of both ways (10mbit)")
    link.add_argument("--rtt", default="40ms", metavar="TIME", help="without any queue (40ms)")
    link.add_argument("--loss", default="0%", metavar="SHARE", help="at random, each way (0%%)")
    link.add_argument(
        "--queue", metavar="N", help="packets, or bytes as 64KB, before the link (one BDP)"
    )
    link.add_argument("--mtu", type=int, default=1500, metavar="BYTES", help="of IP (1500)")
    link.add_argument(
        "--impair",
        default="",
        metavar="WORDS",
        help="more, as of a lab's link: jitter=5ms,forward.reorder=2%%,...",
    )

    flows = parser.add_argument_group("flows")
    flows.add_argument(
        "--flows", type=int, metavar="N", help="at once (1, or one for each controller)"
    )
    amount = flows.add_mutually_exclusive_group()
    amount.add_argument("--bytes", metavar="N", help="of each flow, such as 500k (10M)")
    amount.add_argument("--time", type=float, metavar="SECONDS", help="to send for, virtual")
    flows.add_argument(
        "--congestion",
        type=_controllers,
        default=[Config().congestion],
        metavar="NAME,...",
        help=f"the flows' congestion controllers, in turn: {', '.join(sorted(CONTROLLERS))} "
        f"({Config().congestion})",
    )
    flows.add_argument("--pinned", action="store_true", help="clients know the key: IK, not XX")
    flows.add_argument("--psk", action="store_true", help="both sides share a secret")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all chance (1)")
    parser.add_argument(
        "--limit", type=float, default=3600, metavar="SECONDS", help="virtual, then stop (3600)"
    )

    output = parser.add_argument_group("output")
    output.add_argument("--json", action="store_true", help="JSON Lines")
    output.add_argument(
        "--plot", type=Path, metavar="FILE", help="a picture over time, such as run.png or .svg"
    )
    output.add_argument(
        "--qlog", type=Path, metavar="DIR", help="a file for each connection's side"
    )
    output.add_argument("--pcap", type=Path, metavar="FILE", help="pcapng, the keys inside")


def run(arguments: argparse.Namespace) -> int:
    """Simulates and reports."""
    _check(arguments)
    plot = Plot(arguments.plot) if arguments.plot else None
    forward, backward = _links(arguments)
    size = None if arguments.time else _size(arguments.bytes)
    experiment = Experiment(
        arguments.seed,
        forward,
        backward,
        flows=arguments.flows or len(arguments.congestion),
        size=size,
        duration_ns=int((arguments.time or 0) * 1e9),
        mtu=arguments.mtu,
        configs=[Config(congestion=name) for name in arguments.congestion],
        pinned=arguments.pinned,
        psk=_PSK if arguments.psk else b"",
    )
    with ExitStack() as stack:
        if arguments.qlog:
            arguments.qlog.mkdir(parents=True, exist_ok=True)
            stack.callback(trace_connections(experiment.flows, arguments.qlog))
        if arguments.pcap:
            file = stack.enter_context(arguments.pcap.open("wb"))
            stack.enter_context(record_packets(experiment.network, experiment.flows, file))
        result = experiment.run(
            int(arguments.limit * 1e9),
            (lambda now_ns: plot.look(experiment, now_ns)) if plot else (lambda now_ns: None),
        )
    if plot:
        plot.draw(result, (forward, backward), _title(arguments, forward))
    if arguments.json:
        sys.stdout.write(json_lines(result, arguments.seed))
    else:
        sys.stdout.write(report(result, forward, arguments.seed))
    return 1 if any(flow.error for flow in result.flows) else 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises UsageError where a number makes no sense."""
    flows, controllers = arguments.flows, len(arguments.congestion)
    if flows is not None and flows < controllers:
        raise UsageError(f"--flows {flows}: less than the {controllers} of --congestion")
    if not 1 <= (flows or controllers) <= _MOST_FLOWS:
        raise UsageError(f"--flows {arguments.flows}: must be 1 to {_MOST_FLOWS}")
    if not _LEAST_MTU <= arguments.mtu <= _MOST_MTU:
        raise UsageError(f"--mtu {arguments.mtu}: must be {_LEAST_MTU} to {_MOST_MTU}")
    for name in ("time", "limit"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value <= _MOST_SECONDS:
            raise UsageError(f"--{name} {value:g}: must be above 0, {_MOST_SECONDS} at most")


def _controllers(text: str) -> list[str]:
    """The names of `--congestion`."""
    names = text.split(",")
    for name in names:
        if name not in CONTROLLERS:
            known = ", ".join(sorted(CONTROLLERS))
            raise argparse.ArgumentTypeError(f"{name!r} is none of {known}")
    return names


def _title(arguments: argparse.Namespace, link: Impairment) -> str:
    """What the picture is of, in the words of the options."""
    words = [f"{arguments.rate}, RTT {arguments.rtt}, queue of {link.queue_packets} packets"]
    if link.loss:
        words.append(f"{arguments.loss} lost each way")
    return ", ".join([*words, *filter(None, [arguments.impair]), f"seed {arguments.seed}"])


def _size(text: str | None) -> int:
    """A number of bytes: 1500, 100k, 1M, 2G, in powers of ten."""
    if text is None:
        return _SIZE
    digits, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 12:
        raise UsageError(f"--bytes {text}: must be a number such as 1500, 100k, 1M or 2G")
    size = int(digits) * _UNITS.get(unit, 1)
    if not size:
        raise UsageError(f"--bytes {text}: a flow has to send something")
    return size


def _links(arguments: argparse.Namespace) -> tuple[Impairment, Impairment]:
    """Both ways of the cable, in the words of a lab's links."""
    settings = {"rate": arguments.rate, "loss": arguments.loss, "delay": arguments.rtt}
    if arguments.queue:
        settings["queue"] = arguments.queue
    if arguments.impair:
        settings |= parse_change(f"all:{arguments.impair}").settings
    links = []
    for direction in ("forward", "backward"):
        link = impairment(settings, direction)
        delayed = f"{direction}.delay" in settings or "delay=" in arguments.impair
        if not delayed:
            link = replace(link, delay_ns=link.delay_ns // 2)
        if not arguments.queue and "queue=" not in arguments.impair:
            bdp = (link.rate_bps or 0) * 2 * link.delay_ns // (8 * 10**9)
            link = replace(link, queue_packets=max(bdp // arguments.mtu, _LEAST_QUEUE))
        if arguments.queue and 0 in (link.queue_packets, link.queue_bytes):
            raise UsageError(f"--queue {arguments.queue}: must hold a packet at least")
        links.append(replace(link, mtu=arguments.mtu))
    for link in links:
        link.check()
    return links[0], links[1]
