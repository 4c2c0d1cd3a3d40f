"""decode as JSON Lines: one record a packet (`packets.json` has its form)."""

from __future__ import annotations

from typing import TextIO

from rawproto.cli.decode_files import Captures
from rawproto.cli.decode_rpt import RPTView, opened_fields
from rawproto.cli.render import json_line
from rawproto.packets.json import packet_fields, trouble_fields
from rawproto.packets.reassembly import Reassembler
from rawproto.wire.dissect import dissect

__all__ = ["tell_json"]


def tell_json(captures: Captures, stream: TextIO, rpt: RPTView) -> None:
    """Writes every packet, RPT's opened, and which of them stayed in fragments."""
    reassembler = Reassembler()
    time_ns = 0

    def tell_troubles() -> None:
        while trouble := reassembler.poll_trouble():
            stream.write(json_line("fragment_trouble", trouble_fields(trouble)))

    for found in captures:
        packet = found.packet
        time_ns = packet.time_ns
        seen = dissect(packet.data, packet.link_type)
        reading = rpt.look(found, seen)
        fields = packet_fields(
            found.number,
            packet,
            seen,
            interface=found.interface,
            whole=reassembler.add(seen, time_ns),
        )
        if reading is not None:
            fields["rpt"] = opened_fields(reading)
        stream.write(json_line("packet", fields))
        if seen.fragment:
            tell_troubles()
    reassembler.end(time_ns)
    tell_troubles()
