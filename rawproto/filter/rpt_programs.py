"""The filters of RPT's sockets: which of all packets of protocol 253 a socket wants.

The kernel copies each of them to every raw socket. One takes what comes for its port,
INITs apart from all else, so that a flood of them fills no queue of data. Where a port has
N workers, a packet is for the worker whose number its connection ID has modulo N: that of
the listener, or of the client where there is none of the listener's yet::

    short, HANDSHAKE, ...   dst_cid, which this worker gave out
    INIT                    src_cid
    RESET(UNKNOWN)          all workers, where the kernel gives each a copy: it is about an ID
                            that a client gave out, of which only the first came with an INIT.
                            In UDP, where one worker gets it, src_cid, good for that first one

Read docs/transport-spec.md sections 1, 2 and 10.1. MOD is in classic BPF since Linux 3.7.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from rawproto.filter.assembler import assemble
from rawproto.filter.instructions import Program

__all__ = ["Share", "rpt_filter", "rpt_selector"]

# A raw IPv4 socket sees the IP header first, an IPv6 one begins behind it.
_START = {4: "ldxb 4*([0]&0xf)", 6: "ldx #0"}
_PORT = """
        ldh [x + 2]             ; dst_port
        jne #{port}, drop
"""
_NEXT = "\n"
_TYPES = {
    "init": "ldb [x + 0]\n and #0xf0\n jne #0x80, drop",
    "other": "ldb [x + 0]\n and #0xf0\n jeq #0x80, drop",
    "all": "",
}
# A has a connection ID of 64 bits modulo `workers`; it comes in two halves.
_RESIDUE = """
        ldb [x + 0]
        and #0xf0
        jeq #0x80, source       ; INIT
        jeq #0xb0, {reset}      ; RESET
        ld [x + 6]              ; dst_cid
        mod #{workers}
        mul #{carry}
        st M[0]
        ld [x + 10]
        ja both
    source:
        ld [x + 14]             ; src_cid
        mod #{workers}
        mul #{carry}
        st M[0]
        ld [x + 18]
    both:
        mod #{workers}
        ldx M[0]
        add x
        mod #{workers}
"""


class Share(NamedTuple):
    """One worker's part of a port.

    Attributes:
        worker: its number, from 0.
        workers: how many share the port.
    """

    worker: int
    workers: int

    def cid_of(self, bits: int) -> int:
        """A connection ID that brings its packets to this worker, from 64 random bits."""
        cid = bits - bits % self.workers + self.worker
        return cid if cid < 1 << 64 else cid - self.workers


def _residue(workers: int, reset: str) -> str:
    return _RESIDUE.format(workers=workers, carry=(1 << 32) % workers, reset=reset)


def rpt_filter(
    family: Literal[4, 6],
    port: int | None,
    kinds: Literal["init", "other", "all"],
    share: Share | None = None,
    but: Collection[int] = (),
) -> Program:
    """For a raw socket of protocol 253.

    Args:
        family: of the socket.
        port: the destination port, None for any.
        kinds: INITs alone, everything but INITs, or both.
        share: of the port, None for all of it.
        but: ports that are not wanted, where `port` is None; 200 at most.
    """
    ports = [_PORT.format(port=port)] if port is not None else ["ldh [x + 2]"]
    ports += [f"jeq #{each}, drop" for each in but]
    text = f"""
        {_START[family]}
        {_NEXT.join(ports)}
        {_TYPES[kinds]}
        {f"{_residue(share.workers, 'take')} jne #{share.worker}, drop" if share else ""}
    take:
        ret #-1
    drop:
        ret #0
    """
    return assemble(text)


def rpt_selector(workers: int) -> Program:
    """For a group of UDP sockets on one port: the number of the one that a datagram is for.

    SO_ATTACH_REUSEPORT_CBPF (socket(7)) shows it the payload; one that is too short goes to
    socket 0.
    """
    return assemble(f"ldx #0\n {_residue(workers, 'source')} ret a")
