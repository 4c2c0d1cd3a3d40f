"""A trunk: whole frames in and out of all interfaces of a namespace, as fast as Python can.

Beside `PacketLink`, which tells all about a frame, this one is for passing frames on:
one read of memory shared with the kernel for each that arrives (PACKET_RX_RING, see
packet(7) and the kernel's Documentation/networking/packet_mmap.rst), one system call
without a queueing discipline for each that leaves. It is a single socket however many
interfaces there are, since the kernel takes 10 ms and more to end one.

The ring, TPACKET_V2: slots of equal size, filled by the kernel one after the other::

    | slot 0 | slot 1 | ... |      a slot:  status  0 the kernel's, 1 ours
        ^ next to be read                   tp_len, tp_snaplen, tp_mac, tp_net
                                            tp_sec, tp_nsec, tp_vlan_tci, tp_vlan_tpid
                                            sockaddr_ll, with the index of the interface
                                            ... the frame, from tp_mac on

A frame that is longer than a slot, and frames that come while all slots are full, are
lost and counted. The VLAN tag that the kernel takes out is put back. Nothing here looks
into a frame.
"""

from __future__ import annotations

import mmap
import socket
import struct
from typing import Self

from rawproto.errors import LinkError
from rawproto.link.options import PACKET_IGNORE_OUTGOING, PACKET_STATISTICS, SOL_PACKET
from rawproto.link.privileges import raw_socket_refused

__all__ = ["Trunk"]

ETH_P_ALL = 0x0003

_PACKET_RX_RING = 5
_PACKET_VERSION = 10
_PACKET_QDISC_BYPASS = 20
_TPACKET_V2 = 1
_MAP_POPULATE = 0x8000

_USER, _VLAN_VALID, _VLAN_TPID_VALID = 1 << 0, 1 << 4, 1 << 6
_KERNELS = bytes(4)

# struct tpacket2_hdr without tp_net and padding; behind its 32 bytes, sll_ifindex
_SLOT = struct.Struct("@IIIH2xIIHH8xi")
_TAG = struct.Struct("!HH")
_REQUEST = struct.Struct("@IIII")
_STATISTICS = struct.Struct("@II")

_IN_FRONT = 96
"""Room for what stands before a frame's IP header in its slot: 80 bytes, and a VLAN tag."""
_MIN_BLOCK = 1 << 16


class Trunk:
    """The interfaces of the calling thread's network namespace. Needs CAP_NET_RAW.

    Args:
        mtu: frames that carry up to so many bytes are taken in; longer ones are lost.
        slots: how many frames wait for `receive` at most, a power of two, 64 or more.

    Raises:
        PrivilegeError: the process may not open packet sockets.
        LinkError: no memory for the ring.
    """

    def __init__(self, *, mtu: int = 1500, slots: int = 4096) -> None:
        self.mtu = mtu
        self._slot_bytes = 1 << (mtu + _IN_FRONT - 1).bit_length()
        self._slots = slots
        self._next = 0
        self._dropped = 0
        try:
            # It receives from now on. What comes before there is a ring the kernel throws away.
            kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(ETH_P_ALL))
        except PermissionError:
            raise raw_socket_refused("open trunk") from None
        try:
            self._socket.setblocking(False)
            for option in (PACKET_IGNORE_OUTGOING, _PACKET_QDISC_BYPASS):
                self._socket.setsockopt(SOL_PACKET, option, 1)
            self._ring = self._map()
        except OSError as error:
            self._socket.close()
            raise LinkError("open trunk", "", error.errno) from None
        self._send = self._socket.sendto

    def _map(self) -> memoryview:
        size = self._slots * self._slot_bytes
        block = max(_MIN_BLOCK, self._slot_bytes)
        request = _REQUEST.pack(block, size // block, self._slot_bytes, self._slots)
        self._socket.setsockopt(SOL_PACKET, _PACKET_VERSION, _TPACKET_V2)
        self._socket.setsockopt(SOL_PACKET, _PACKET_RX_RING, request)
        flags = mmap.MAP_SHARED | _MAP_POPULATE
        return memoryview(mmap.mmap(self._socket.fileno(), size, flags))

    def fileno(self) -> int:
        """Readable while frames wait."""
        return self._socket.fileno()

    def send(self, frame: bytes, interface: str) -> None:
        """Sends a frame at once.

        Raises:
            OSError: the kernel refuses; unadorned, because those that send much don't stop for it.
        """
        self._send(frame, (interface, 0))

    def receive(self, limit: int) -> list[tuple[int, int, bytes]]:
        """What has arrived, without a system call, oldest first.

        Args:
            limit: at most so many.

        Returns:
            (CLOCK_REALTIME in ns, index of the interface, frame).
        """
        ring, size, number = self._ring, self._slot_bytes, self._next
        unpack = _SLOT.unpack_from
        frames = []
        for _ in range(limit):
            start = number * size
            status, length, taken, mac, seconds, nanoseconds, tag, tpid, index = unpack(ring, start)
            if not status & _USER:
                break
            if taken == length:
                frame = bytes(ring[start + mac : start + mac + taken])
                if status & _VLAN_VALID:
                    tpid = tpid if status & _VLAN_TPID_VALID else 0x8100
                    frame = b"%b%b%b" % (frame[:12], _TAG.pack(tpid, tag), frame[12:])
                frames.append((seconds * 1_000_000_000 + nanoseconds, index, frame))
            else:
                self._dropped += 1
            ring[start : start + 4] = _KERNELS
            number = (number + 1) % self._slots
        self._next = number
        return frames

    @property
    def dropped(self) -> int:
        """Frames lost because the ring was full or they were too long."""
        statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        self._dropped += _STATISTICS.unpack(statistics)[1]  # reading it sets it to 0
        return self._dropped

    def close(self) -> None:
        """Gives the descriptor and the memory back."""
        self._ring.release()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
