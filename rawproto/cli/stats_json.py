"""`decode --stats` as JSON Lines: a record for each row, `capture` first.

The types are `capture`, `protocol` (its `path` joined by `/`), `conversation`, `endpoint`
and `ping`. A TCP conversation has `tcp` beside its counts. `from_src` and `from_dst`
are the two directions, by who began it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

from rawproto.cli.render import json_line, milliseconds
from rawproto.packets.conversations import Conversation
from rawproto.packets.reassembly import Reassembler
from rawproto.packets.retransmissions import TCPConduct, TCPSideConduct
from rawproto.packets.statistics import ProtocolNode, Statistics, endpoints

__all__ = ["conversation_fields", "tell_json"]


def conversation_fields(each: Conversation) -> dict[str, object]:
    """A conversation's ends and counts."""
    return {
        "name": each.name,
        "protocol": each.protocol,
        "number": each.number,
        "src_addr": each.src_addr,
        "src_port": each.src_port,
        "dst_addr": each.dst_addr,
        "dst_port": each.dst_port,
        "first_ns": each.first_ns,
        "last_ns": each.last_ns,
        "from_src": {"packets": each.packets[0], "bytes": each.bytes[0]},
        "from_dst": {"packets": each.packets[1], "bytes": each.bytes[1]},
    }


def tell_json(statistics: Statistics, reassembler: Reassembler, stream: TextIO) -> None:
    """Writes all rows of all tables."""

    def write(kind: str, fields: dict[str, object]) -> None:
        stream.write(json_line(kind, fields))

    write(
        "capture",
        {
            "packets": statistics.packets,
            "bytes": statistics.bytes,
            "captured_bytes": statistics.captured_bytes,
            "first_ns": statistics.first_ns,
            "last_ns": statistics.last_ns,
            "damaged": statistics.damaged,
            "fragments": statistics.fragments,
            "not_reassembled": dict(reassembler.given_up),
            "not_in_tables": statistics.full,
        },
    )
    for path, node in _nodes(statistics.protocols, ()):
        write("protocol", {"path": "/".join(path), "packets": node.packets, "bytes": node.bytes})
    for table in statistics.tables.values():
        for each in table.all:
            fields = conversation_fields(each)
            if each.protocol == "tcp":
                fields["tcp"] = _conduct_fields(statistics.conduct[each.number])
            write("conversation", fields)
        for end in endpoints(table.all):
            write(
                "endpoint",
                {
                    "protocol": table.protocol,
                    "addr": end.addr,
                    "port": end.port,
                    "sent": {"packets": end.packets[0], "bytes": end.bytes[0]},
                    "received": {"packets": end.packets[1], "bytes": end.bytes[1]},
                },
            )
    for ping in statistics.pings.all:
        write(
            "ping",
            {
                "src_addr": ping.src_addr,
                "dst_addr": ping.dst_addr,
                "identifier": ping.identifier,
                "requests": ping.requests,
                "replies": ping.replies,
                "duplicates": ping.duplicates,
                "unasked": ping.unasked,
                "min_ms": milliseconds(ping.min_ns if ping.replies else None),
                "mean_ms": milliseconds(ping.mean_ns if ping.replies else None),
                "max_ms": milliseconds(ping.max_ns if ping.replies else None),
                "deviation_ms": milliseconds(ping.deviation_ns if ping.replies else None),
            },
        )


def _nodes(
    node: ProtocolNode, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], ProtocolNode]]:
    for name, inside in node.inside.items():
        yield (*path, name), inside
        yield from _nodes(inside, (*path, name))


def _conduct_fields(conduct: TCPConduct) -> dict[str, object]:
    return {
        "handshake_rtt_ms": milliseconds(conduct.handshake_rtt_ns),
        "resets": conduct.resets,
        "from_src": _side_fields(conduct.sides[0]),
        "from_dst": _side_fields(conduct.sides[1]),
    }


def _side_fields(side: TCPSideConduct) -> dict[str, object]:
    return {
        "segments": side.segments,
        "data_bytes": side.data_bytes,
        "retransmissions": side.retransmissions,
        "retransmitted_bytes": side.retransmitted_bytes,
        "out_of_order": side.out_of_order,
        "unseen": side.unseen,
        "keep_alives": side.keep_alives,
        "window_probes": side.window_probes,
    }
