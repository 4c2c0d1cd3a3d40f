"""Measure how fast RPT is between two hosts: bulk data, messages, latency.

examples:
  rawproto perf serve rpt://0.0.0.0:4000                  on one host, until Ctrl-C
  rawproto perf serve --workers 4 rpt://0.0.0.0:4000      for many clients at once
  rawproto perf run rpt://10.0.0.2:4000                   10 seconds towards it
  rawproto perf run rpt://10.0.0.2:4000 --reverse --bytes 1G --streams 4
  rawproto perf run rpt+udp://[fd00::2]:4000 --latency    64 bytes there and back
  rawproto perf run rpt://10.0.0.2:4000 --messages 1000 --json

Lost counts packets, `retransmitted` the parts of streams that were sent again. CPU is that
of the whole process, on each side, by the packets that it sent or received.

exit status: 0 measured, 1 refused, lost or not trusted, 2 usage or local error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from rawproto.apps.perf import Interval, Plan, run_perf, serve_perf
from rawproto.cli.perf_text import heading, interval_line, served_line, summary_lines
from rawproto.cli.render import json_line
from rawproto.cli.rpt_dial import dial
from rawproto.cli.rpt_options import add_client_options, add_server_options
from rawproto.cli.rpt_serve import listening
from rawproto.cli.sizes import size_of
from rawproto.drivers.rpt.address import host_and_port
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import ConnectionLostError, ProtocolError, UsageError
from rawproto.transport.config import Config
from rawproto.wire.words import printable

__all__ = ["add_arguments", "run"]

_SECONDS = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `perf`."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    server = verbs.add_parser("serve", help="be the other end, for any number of clients")
    server.add_argument("address", help="rpt://ADDR:PORT or rpt+udp://ADDR:PORT; port 0: any")
    server.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes that share the port (default: %(default)s)",
    )
    add_server_options(server)
    client = verbs.add_parser("run", help="measure towards a server")
    client.add_argument("address", help="rpt://HOST:PORT or rpt+udp://HOST:PORT")
    length = client.add_mutually_exclusive_group()
    length.add_argument("--bytes", type=size_of, default=0, metavar="N", help="such as 100M")
    length.add_argument("--time", type=float, metavar="S", help=f"seconds (default: {_SECONDS:g})")
    client.add_argument("--reverse", action="store_true", help="the server sends")
    client.add_argument(
        "--streams", type=int, default=1, metavar="N", help="at once (default: %(default)s)"
    )
    client.add_argument(
        "--messages", type=size_of, default=0, metavar="SIZE", help="send messages of this size"
    )
    client.add_argument(
        "--latency",
        action="store_true",
        help="send a message of 64 bytes (or --messages) and wait for it to come back, in turn",
    )
    client.add_argument("--json", action="store_true", help="print JSON Lines")
    client.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    client.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    add_client_options(client)


def run(arguments: argparse.Namespace) -> int:
    """Serves, or measures and tells."""
    if arguments.what == "serve":
        asyncio.run(_serve(arguments))
        return 0
    seconds = arguments.time
    if seconds is None:
        seconds = 0.0 if arguments.bytes else _SECONDS
    plan = Plan(
        total_bytes=arguments.bytes,
        seconds=seconds,
        reverse=arguments.reverse,
        streams=arguments.streams,
        message_bytes=arguments.messages,
        latency=arguments.latency,
    )
    if (wrong := plan.check()) is not None:
        raise UsageError(wrong)

    async def use(connection: RPTConnection) -> None:
        _tell(arguments, connection, plan, await _measure(arguments, connection, plan))

    return dial("perf", arguments, Config(congestion=arguments.congestion), use)


async def _measure(
    arguments: argparse.Namespace, connection: RPTConnection, plan: Plan
) -> dict[str, Any]:
    if not arguments.json:
        sys.stdout.write(heading(connection, plan))

    def on_interval(interval: Interval) -> None:
        if not arguments.json:
            sys.stdout.write(interval_line(interval))
        else:
            seconds = interval.end_s - interval.start_s
            fields = {
                "start_s": round(interval.start_s, 6),
                "end_s": round(interval.end_s, 6),
                "bytes": interval.size,
                "goodput_bps": round(interval.size * 8 / seconds),
                "packets_lost": interval.lost,
                "rtt_ms": interval.rtt_ms,
            }
            sys.stdout.write(json_line("interval", fields))
        sys.stdout.flush()

    return await run_perf(connection, plan, on_interval)


def _tell(
    arguments: argparse.Namespace, connection: RPTConnection, plan: Plan, summary: dict[str, Any]
) -> None:
    if not arguments.json:
        sys.stdout.write(summary_lines(plan, summary))
        return
    asked = {
        "address": arguments.address,
        "congestion": arguments.congestion,
        "reverse": plan.reverse,
        "streams": plan.streams,
        "message_bytes": plan.message_bytes or None,
    }
    sys.stdout.write(json_line("summary", {**asked, **summary}))


async def _serve(arguments: argparse.Namespace) -> None:
    async def use(connection: RPTConnection) -> None:
        name = host_and_port(*connection.peer_address)
        try:
            sys.stderr.write(served_line(name, await serve_perf(connection)))
        except (ConnectionLostError, ProtocolError) as error:
            sys.stderr.write(f"{name}: {printable(str(error))}\n")
            raise

    config = Config(congestion=arguments.congestion)
    async with listening(arguments, config, use, arguments.workers) as server:
        await server.wait_closed()
