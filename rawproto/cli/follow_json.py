"""A conversation as JSON Lines: what was said in order, gaps, and how it ended.

::

    {"type": "conversation", "name": "tcp:0", "src_addr": "10.0.0.1", "src_port": 40000, ...}
    {"type": "data", "side": "client", "time_ns": ..., "offset": 0, "length": 70, "data": "47.."}
    {"type": "gap", "side": "server", "time_ns": ..., "offset": 940, "length": 1460}
    {"type": "end", "name": "tcp:0", "client": {"bytes": 70, "fin": true, ...}, "server": {...}}
"""

from __future__ import annotations

from typing import TextIO

from rawproto.cli.render import json_line
from rawproto.packets.conversations import Conversation
from rawproto.packets.streams import StreamData, StreamGap, StreamSide, TCPStream

__all__ = ["FollowJSON"]

_SIDES = ("client", "server")


class FollowJSON:
    """Writes what is told."""

    def __init__(self, stream: TextIO, sides: tuple[int, ...]) -> None:
        """
        Args:
            stream: where to.
            sides: whose bytes to write.
        """
        self._stream = stream
        self._sides = sides

    def begin(self, conversation: Conversation) -> None:
        self._write(
            "conversation",
            {
                "name": conversation.name,
                "src_addr": conversation.src_addr,
                "src_port": conversation.src_port,
                "dst_addr": conversation.dst_addr,
                "dst_port": conversation.dst_port,
            },
        )

    def tell(self, event: StreamData | StreamGap) -> None:
        if event.side not in self._sides:
            return
        fields: dict[str, object] = {
            "side": _SIDES[event.side],
            "time_ns": event.time_ns,
            "offset": event.offset,
        }
        if isinstance(event, StreamGap):
            self._write("gap", {**fields, "length": event.length})
        else:
            self._write("data", {**fields, "length": len(event.data), "data": event.data.hex()})

    def end(self, conversation: Conversation, stream: TCPStream | None) -> None:
        record: dict[str, object] = {"name": conversation.name}
        for side, name in enumerate(_SIDES):
            more = _fields(stream.sides[side]) if stream else {}
            record[name] = {"packets": conversation.packets[side], **more}
        self._write("end", record)

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        self._stream.write(json_line(kind, fields))


def _fields(side: StreamSide) -> dict[str, object]:
    return {
        "bytes": side.offset - side.missing_bytes,
        "missing_bytes": side.missing_bytes,
        "retransmitted_bytes": side.retransmitted_bytes,
        "conflicting_bytes": side.conflicting_bytes,
        "early_segments": side.early_segments,
        "keep_alives": side.keep_alives,
        "strays": side.strays,
        "syn": side.syn,
        "fin": side.fin_at is not None,
        "rst": side.rst,
    }
