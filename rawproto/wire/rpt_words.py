"""RPT's packets in a few words each, for one-line summaries (docs/transport-spec.md section 2).

::

    RPT init, xx-aesgcm, cid 1111111111111111 > 2222222222222222, token of 60 bytes
    RPT data, pn 7, cid > 3333333333333333

Connection IDs stand as addresses do, the sender's first; of a data packet only the receiver's
is there. What is sealed is not shown: `frame_words` is for who has the keys.
"""

from __future__ import annotations

from rawproto.wire.rpt import (
    VERSION_1,
    RPTInit,
    RPTLong,
    RPTReset,
    RPTRetry,
    RPTShort,
    RPTVersion,
)

__all__ = ["rpt_words"]

_MOST_VERSIONS = 8


def rpt_words(packet: RPTShort | RPTLong) -> str:
    """A packet without its length."""
    words = _short(packet) if isinstance(packet, RPTShort) else _long(packet)
    if packet.version != VERSION_1:
        words.insert(1, f"version {packet.version}")
    return ", ".join(words)


def _short(packet: RPTShort) -> list[str]:
    words = ["RPT data", f"pn {packet.packet_number}", f"cid > {packet.dst_cid:016x}"]
    if packet.key_phase:
        words.append("key phase 1")
    return words


def _long(packet: RPTLong) -> list[str]:
    suite = packet.value_names["suite"].get(packet.suite, f"suite {packet.suite:#04x}")
    name = packet.value_names["packet_type"][packet.packet_type]
    words = [f"RPT {name}"]
    if isinstance(packet, RPTReset):
        words.append(packet.value_names["code"].get(packet.code, f"code {packet.code}"))
    elif isinstance(packet, RPTVersion):
        known = " ".join(map(str, packet.versions[:_MOST_VERSIONS]))
        words.append(known + (" ..." if len(packet.versions) > _MOST_VERSIONS else ""))
    else:
        words.append(suite)
    words.append(f"cid {packet.src_cid:016x} > {packet.dst_cid:016x}")
    if isinstance(packet, RPTInit | RPTRetry) and packet.token:
        words.append(f"token of {len(packet.token)} bytes")
    return words
