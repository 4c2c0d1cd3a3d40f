"""decode as JSON Lines: one record a packet (`packets.json` has its form)."""

from __future__ import annotations

from typing import TextIO

from rawproto.cli.decode_files import Captures
from rawproto.cli.render import json_line
from rawproto.packets.json import packet_fields
from rawproto.wire.dissect import dissect

__all__ = ["tell_json"]


def tell_json(captures: Captures, stream: TextIO) -> None:
    """Writes every packet."""
    for found in captures:
        packet = found.packet
        fields = packet_fields(
            found.number,
            packet,
            dissect(packet.data, packet.link_type),
            interface=found.interface,
        )
        stream.write(json_line("packet", fields))
