"""What is said to packets that belong to nobody, without keeping anything (specification 12.7)."""

from __future__ import annotations

from typing import Any

from rawproto.errors import WireError
from rawproto.transport.constants import MIN_INIT_BYTES, ResetCode
from rawproto.wire.rpt import RPTInit, RPTLong, RPTReset, parse_rpt

__all__ = ["is_unicast", "refusal", "returned"]


def refusal(data: bytes, addr: str) -> tuple[int, bytes] | None:
    """For whoever refuses ports that nobody holds (section 12.7).

    Args:
        data: a packet that came.
        addr: from where.

    Returns:
        The port that it is for and the RESET that refuses it; None if it is no INIT.
    """
    try:
        packet, behind = parse_rpt(data)
    except WireError:
        return None
    if not isinstance(packet, RPTInit) or behind or len(data) < MIN_INIT_BYTES:
        return None
    if not RPTLong.verify(data) or not is_unicast(addr):
        return None
    return packet.dst_port, RPTReset(**returned(packet), code=ResetCode.PORT).emit()


def is_unicast(addr: str) -> bool:
    """Of an address as the kernel writes it: a flood of INITs asks this for each."""
    if ":" in addr:
        return not addr.startswith("ff") and addr.partition("%")[0] != "::"
    return 0 < int(addr.partition(".")[0]) < 224  # what is above is multicast or reserved


def returned(packet: RPTLong) -> dict[str, Any]:
    """What an answer repeats of a packet, exchanged (section 2.2.5)."""
    return {
        "suite": packet.suite,
        "dst_port": packet.src_port,
        "src_port": packet.dst_port,
        "dst_cid": packet.src_cid,
        "src_cid": packet.dst_cid,
    }
