"""`rawproto decode --stats`: what a capture is made of, in tables or as JSON Lines."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable

from rawproto.capture.packet import CapturedPacket
from rawproto.cli.decode_follow import tell_reassembly
from rawproto.errors import UsageError
from rawproto.packets.reassembly import Reassembler
from rawproto.packets.statistics import Statistics
from rawproto.wire.dissect import dissect

__all__ = ["run"]


def run(packets: Iterable[CapturedPacket], arguments: argparse.Namespace) -> int:
    """Counts everything and shows it at the end.

    Args:
        packets: in the order of the capture.
        arguments: of `rawproto decode`: json, top, color.

    Raises:
        UsageError: `--top` is below 1.
    """
    if arguments.top < 1:
        raise UsageError(f"--top {arguments.top}: must be 1 or more")
    statistics, reassembler = Statistics(), Reassembler()
    last_ns = 0
    for packet in packets:
        found = dissect(packet.data, packet.link_type)
        last_ns = packet.time_ns
        whole = reassembler.whole(found, last_ns)
        statistics.add(found, whole, packet.original_length, last_ns)
    reassembler.end(last_ns)
    if arguments.json:
        from rawproto.cli.stats_json import tell_json

        tell_json(statistics, reassembler, sys.stdout)
    else:
        from rawproto.cli.render import Style
        from rawproto.cli.stats_text import tell_text

        tell_text(statistics, sys.stdout, Style(sys.stdout, arguments.color), arguments.top)
    tell_reassembly(reassembler)
    for name, count in statistics.full.items():
        sys.stdout.flush()
        sys.stderr.write(
            f"rawproto decode: {name}: the table is full, {count} packets are not in it\n"
        )
    return 0
