"""A receive ring: whole blocks of frames out of memory shared with the kernel (TPACKET_V3).

Read packet(7) and the kernel's Documentation/networking/packet_mmap.rst. The kernel fills
one block after the other and hands each over when it is full, or some milliseconds after
its first frame; then it wakes us once for all frames inside::

    | block 0 | block 1 | ... |         a block, all in the host's byte order:
         ^ next to be read
        0  version, offset to private     32  sec, nsec of the first frame
        8  status: 0 the kernel's         40  sec, nsec of the last frame
       12  number of frames               48  record, record, ...
       16  offset of the first record
       20  length of the block's used part
       24  sequence number (64 bits)

                                        a record:
        0  offset of the next record      26  offset of the network header
        4  seconds  \\                     28  (hash of the flow)
        8  nanoseconds \\  as a record     32  VLAN tag
       12  captured length } in a pcap    36  VLAN TPID
       16  length        /  file begins   48  sockaddr_ll: family, protocol, interface,
       20  status                             hardware type, packet type, address
       24  offset of the frame            ...  the frame

A block is copied out as it is and given back at once, so that a slow reader costs memory
of its own and no frames. `Record` names what stands in a record; nothing here looks into
a frame. Frames that come while all blocks are full are lost and counted. Beside it,
`link/trunk.py` has the older TPACKET_V2, which wakes us for every frame.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple, Self

from rawproto.errors import LinkError
from rawproto.filter.instructions import Program
from rawproto.link.interfaces import ARPHRD_ETHER
from rawproto.link.options import (
    PACKET_ADD_MEMBERSHIP,
    PACKET_MR_PROMISC,
    PACKET_STATISTICS,
    SOL_PACKET,
    attach_filter,
)
from rawproto.link.privileges import raw_socket_refused

__all__ = [
    "LARGEST_FRAME",
    "PACKET_OUTGOING",
    "VLAN_VALID",
    "Block",
    "PacketRing",
    "Record",
    "frame_of",
    "tag_of",
]

LARGEST_FRAME = 262_144
"""How many bytes of a frame are kept at most; what capture files may carry, too."""
PACKET_OUTGOING = 4

_ETH_P_ALL = 0x0003
_SIOCGIFNAME = 0x8910
_SIOCGIFHWADDR = 0x8927
_PACKET_RX_RING = 5
_PACKET_VERSION = 10
_TPACKET_V3 = 2
_MAP_POPULATE = 0x8000

_REQUEST = struct.Struct("@IIIIIII")
_STATISTICS = struct.Struct("@III")
_MEMBERSHIP = struct.Struct("@iHH8x")
_BLOCK = struct.Struct("@8xIIII8x8xII")
_RECORD = struct.Struct("@IIIIIIHH4xIH10x2x2siHBB8s")
_TAG = struct.Struct("!HH")
_KERNELS = bytes(4)
_USER, _VLAN_TPID_VALID = 1 << 0, 1 << 6
_DROP_ALL = struct.pack("@HBBI", 0x06, 0, 0, 0)

VLAN_VALID = 1 << 4
"""The bit of a record's status that says: the kernel took a VLAN tag out."""

_BLOCK_BYTES = 1 << 19
"""A block, with room for the largest frame. More of them are more often waited for."""
_FRAME_BYTES = 1 << 11
"""The kernel wants to be told, and in this version of the ring doesn't heed it."""


class Record(NamedTuple):
    """What the kernel says of a frame, from the record's first byte on.

    Attributes:
        following: where the next record begins, counted from this one.
        seconds: when, CLOCK_REALTIME.
        nanoseconds: likewise.
        captured: how many bytes of the frame are there.
        original: how many it had, without a VLAN tag that was taken out.
        status: TP_STATUS_*.
        frame: where the frame begins, counted from the record.
        network: where its network header begins, likewise.
        vlan_tag: as it was taken out, good where `status` has VLAN_VALID.
        vlan_tpid: the tag's EtherType, good where `status` says so.
        protocol: EtherType of what the frame carries, two bytes as on the wire.
        interface: index of the interface.
        hardware_type: ARPHRD_* of the interface.
        packet_type: PACKET_*: 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 from us.
        address_length: bytes of `address` that count.
        address: the sender's link-layer address, 8 bytes.
    """

    following: int
    seconds: int
    nanoseconds: int
    captured: int
    original: int
    status: int
    frame: int
    network: int
    vlan_tag: int
    vlan_tpid: int
    protocol: bytes
    interface: int
    hardware_type: int
    packet_type: int
    address_length: int
    address: bytes

    @classmethod
    def parse(cls, data: bytes, at: int) -> Record:
        """The record that begins at `at`."""
        return cls._make(_RECORD.unpack_from(data, at))


def frame_of(record: Record, data: bytes, at: int, snaplen: int) -> tuple[bytes, int]:
    """A frame with the VLAN tag that the kernel took out: what is there of it, its whole length.

    Args:
        record: what stands at `at`.
        data: the block's.
        at: where the record begins.
        snaplen: how many bytes are kept at most.
    """
    start = at + record.frame
    frame = data[start : start + record.captured]
    if not record.status & VLAN_VALID:
        return frame[:snaplen], record.original
    return b"".join((frame[:12], tag_of(record), frame[12:]))[:snaplen], record.original + 4


def tag_of(record: Record) -> bytes:
    """The VLAN tag of a record whose status has VLAN_VALID: TPID and tag."""
    tpid = record.vlan_tpid if record.status & _VLAN_TPID_VALID else 0x8100
    return _TAG.pack(tpid, record.vlan_tag)


class Block:
    """A block of frames, copied out of the ring; whoever reads it moves `at` and `left` on.

    Attributes:
        data: the block's used part, from its first byte on.
        at: where the next record begins.
        left: how many records are to be read.
        last_ns: when the last frame came, CLOCK_REALTIME in ns.
    """

    __slots__ = ("at", "data", "last_ns", "left")

    def __init__(self, data: bytes, at: int, left: int, last_ns: int) -> None:
        self.data = data
        self.at = at
        self.left = left
        self.last_ns = last_ns


class PacketRing:
    """Frames of one interface or of all, both ways. Needs CAP_NET_RAW.

    Args:
        interface: by name, None for all of the calling thread's network namespace.
        program: what a frame must pass, and how much of it is kept. It sees the frame from
            its link-layer header on, without the VLAN tag.
        promiscuous: indexes of the interfaces that shall also take in what is for others.
        buffer_bytes: size of the ring; how much it holds when nobody reads.
        retire_ms: how long a frame waits at most for the block to fill.

    Attributes:
        seen: how many frames have been taken so far.

    Raises:
        PrivilegeError: the process may not open packet sockets.
        LinkError: no such interface, no memory, a program that the kernel refuses.
    """

    def __init__(
        self,
        interface: str | None,
        program: Program,
        *,
        promiscuous: Iterable[int] = (),
        buffer_bytes: int = 32 << 20,
        retire_ms: int = 50,
    ) -> None:
        self.interface = interface
        self.seen = 0
        self._blocks = max(2, buffer_bytes // _BLOCK_BYTES)
        self._next = 0
        self._received = self._dropped = 0
        try:
            # Python binds a packet socket to an interface or not at all. So one that is for
            # all receives from the start, and the others nothing before they are bound.
            protocol = _ETH_P_ALL if interface is None else 0
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(protocol))
        except PermissionError:
            raise raw_socket_refused("open packet socket") from None
        except OSError as error:
            raise LinkError("open packet socket", "", error.errno) from None
        try:
            attach_filter(self._socket, program.to_bytes())
            # With the ring the kernel throws away what came before there was one.
            self._ring = self._map(retire_ms)
            for index in promiscuous:
                request = _MEMBERSHIP.pack(index, PACKET_MR_PROMISC, 0)
                self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            if interface is None:
                self._read_statistics()
                self._received = self._dropped = 0
            else:
                self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            if isinstance(error, LinkError):
                raise
            raise LinkError("capture on", interface or "any", error.errno) from None

    def _map(self, retire_ms: int) -> memoryview:
        size = self._blocks * _BLOCK_BYTES
        frames = size // _FRAME_BYTES
        request = _REQUEST.pack(_BLOCK_BYTES, self._blocks, _FRAME_BYTES, frames, retire_ms, 0, 0)
        self._socket.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        self._socket.setsockopt(SOL_PACKET, _PACKET_RX_RING, request)
        flags = mmap.MAP_SHARED | _MAP_POPULATE
        return memoryview(mmap.mmap(self._socket.fileno(), size, flags))

    def fileno(self) -> int:
        """Readable while blocks wait; in error when the interface went down."""
        return self._socket.fileno()

    def take(self) -> Block | None:
        """The next block, without waiting; None while there is none."""
        ring, start = self._ring, self._next * _BLOCK_BYTES
        status, count, first, length, seconds, nanoseconds = _BLOCK.unpack_from(ring, start)
        if not status & _USER:
            return None
        data = bytes(ring[start : start + length])
        ring[start + 8 : start + 12] = _KERNELS
        self._next = (self._next + 1) % self._blocks
        self.seen += count
        return Block(data, first, count, seconds * 1_000_000_000 + nanoseconds)

    def is_down(self) -> bool:
        """Whether the interface went down or away since this was last asked."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENETDOWN

    def device(self, index: int) -> tuple[str, int, str]:
        """(name, hardware type, MAC or "") of an interface, in the namespace of the ring.

        Raises:
            LinkError: it is gone.
        """
        descriptor = self._socket.fileno()
        try:
            answer = fcntl.ioctl(descriptor, _SIOCGIFNAME, struct.pack("@16si20x", b"", index))
            answer = fcntl.ioctl(descriptor, _SIOCGIFHWADDR, answer[:16] + bytes(24))
        except OSError as error:
            raise LinkError("interface", str(index), error.errno) from None
        name, hardware_type, address = struct.unpack("@16sH6s16x", answer)
        mac_addr = address.hex(":") if hardware_type == ARPHRD_ETHER else ""
        return name.rstrip(b"\0").decode(errors="replace"), hardware_type, mac_addr

    def stop(self) -> None:
        """Lets no more frames in; those that are in can still be taken."""
        attach_filter(self._socket, _DROP_ALL)

    @property
    def pending(self) -> int:
        """How many frames wait in the ring, those of the block that is being filled included."""
        self._read_statistics()
        return self._received - self._dropped - self.seen

    @property
    def received(self) -> int:
        """Frames that passed the program, those that were dropped then included."""
        self._read_statistics()
        return self._received

    @property
    def dropped(self) -> int:
        """Frames that passed the program and found no room in the ring."""
        self._read_statistics()
        return self._dropped

    def _read_statistics(self) -> None:
        if self._socket.fileno() < 0:
            return
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        received, dropped, _ = _STATISTICS.unpack(statistics)  # reading them sets them to 0
        self._received += received
        self._dropped += dropped

    def close(self) -> None:
        """Gives the descriptor and the memory back; the counts stay. May be called twice."""
        if self._socket.fileno() >= 0:
            self._read_statistics()
            self._ring.release()
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
