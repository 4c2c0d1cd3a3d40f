"""The filters of RPT's raw sockets: the kernel copies every packet of protocol 253 to each.

One socket takes what comes for its port, INITs apart from all else, so that a flood of
them fills no queue of data (docs/transport-spec.md sections 1 and 2 for the layout).
"""

from __future__ import annotations

from typing import Literal

from rawproto.filter.assembler import assemble
from rawproto.filter.instructions import Program

__all__ = ["rpt_filter"]

# A raw IPv4 socket sees the IP header first, an IPv6 one begins behind it.
_START = {4: "ldxb 4*([0]&0xf)", 6: "ldx #0"}
_PORT = """
        ldh [x + 2]             ; dst_port
        jne #{port}, drop
"""
_TYPES = {
    "init": "ldb [x + 0]\n and #0xf0\n jne #0x80, drop",
    "other": "ldb [x + 0]\n and #0xf0\n jeq #0x80, drop",
    "all": "",
}


def rpt_filter(
    family: Literal[4, 6], port: int | None, kinds: Literal["init", "other", "all"]
) -> Program:
    """For a raw socket of protocol 253.

    Args:
        family: of the socket.
        port: the destination port, None for any.
        kinds: INITs alone, everything but INITs, or both.
    """
    text = f"""
        {_START[family]}
        {_PORT.format(port=port) if port is not None else ""}
        {_TYPES[kinds]}
        ret #-1
    drop:
        ret #0
    """
    return assemble(text)
