"""Packet sockets: frames as the device has them (packet(7), IEEE 802.3).

Two uses of one socket. For captures it gives `Frame`: every frame that passes an
interface, ours too, with direction, kernel stamp and the VLAN tag that the kernel
takes out put back. As a link it carries IP packets to a resolved next hop under an
Ethernet header of our own, and so sends what a raw socket would rewrite: wrong
checksums, forced lengths, an identification of 0.

The next hop and its MAC are looked up when the first packet goes there, in the
network namespace of the calling thread, which may wait up to a second for an
answer; `resolve` does it ahead.

Not everything passes: IPv4 packets to this host's own addresses are refused, for the
kernel takes none for its own that come in by the loopback from outside; fragments
come in as frames only.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
import time
from dataclasses import dataclass
from typing import Any, Literal

from rawproto.errors import LinkError
from rawproto.link.decapsulate import datagram_from_packet
from rawproto.link.interfaces import interface as find_interface
from rawproto.link.options import (
    ACCEPT_ALL,
    PACKET_ADD_MEMBERSHIP,
    PACKET_AUXDATA,
    PACKET_IGNORE_OUTGOING,
    PACKET_MR_PROMISC,
    PACKET_STATISTICS,
    SO_TIMESTAMPING,
    SOL_PACKET,
    attach_filter,
)
from rawproto.link.privileges import raw_socket_refused
from rawproto.link.routes import PATIENCE_NS, lookup, resolve_neighbor
from rawproto.link.sockets import SocketLink
from rawproto.link.timestamps import Ancillary, ClockBridge, unpack_stamp
from rawproto.machine import Datagram, StampSource, Transmit
from rawproto.wire.ethernet import EthernetHeader

__all__ = ["ETH_P_ALL", "ETH_P_IP", "ETH_P_IPV6", "Frame", "PacketLink"]

ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD

_SIOCGIFINDEX = 0x8933
_PACKET_OTHERHOST, _PACKET_OUTGOING = 3, 4
_MEMBERSHIP = struct.Struct("@iHH8x")
_STATISTICS = struct.Struct("@II")
# status, length on the wire, length captured, mac and net offsets, tag, TPID
_AUXDATA = struct.Struct("@IIIHHHH")
_CHECKSUM_NOT_READY, _VLAN_VALID, _VLAN_TPID_VALID = 1 << 3, 1 << 4, 1 << 6
_TAG = struct.Struct("!HH")
_HOP_LIFE_NS = 60 * 10**9
_MAX_HOPS = 4096

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class Frame:
    """One frame that passed an interface.

    Attributes:
        data: from the link-layer header on, VLAN tag included, perhaps cut short.
        length: how long it was, in bytes.
        interface: index of the interface.
        direction: whether it came in or went out.
        packet_type: PACKET_*: 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 from us.
        hardware_type: ARPHRD_* of the interface; says what `data` begins with.
        ethertype: what is in it, behind VLAN tags that the kernel took out.
        real_ns: when, CLOCK_REALTIME in ns, as capture files want it.
        stamp_source: who took `real_ns`.
        checksum_ready: False where the device was to fill in the transport checksum.
    """

    data: bytes
    length: int
    interface: int
    direction: Literal["in", "out"]
    packet_type: int
    hardware_type: int
    ethertype: int
    real_ns: int
    stamp_source: StampSource
    checksum_ready: bool


class PacketLink(SocketLink):
    """A packet socket on one interface or on all. Needs CAP_NET_RAW.

    Args:
        interface: by name, None for all.
        ethertype: receive only this kind; 0 receives nothing.
        bpf: classic BPF that a frame must pass, as bytes in the host's order; it sees the
            frame from its link-layer header on, without the VLAN tag.
        timestamps: whether the kernel stamps both ways.
        promiscuous: also receive what is for other hosts; needs an interface.
        ignore_outgoing: don't receive what this host sends.
        receive_bytes: size of the receive buffer.
        bridge: brings the stamps to the monotonic clock; None makes one.

    Raises:
        PrivilegeError: the process may not open packet sockets.
        LinkError: no such interface, a filter that the kernel refuses.
    """

    def __init__(
        self,
        interface: str | None = None,
        *,
        ethertype: int = ETH_P_ALL,
        bpf: bytes | None = None,
        timestamps: bool = True,
        promiscuous: bool = False,
        ignore_outgoing: bool = False,
        receive_bytes: int = 8 << 20,
        bridge: ClockBridge | None = None,
    ) -> None:
        self.interface = interface
        self._device = find_interface(interface) if interface is not None else None
        self._indexes: dict[str, int] = {}
        # dst_addr -> (good until, header in front, sockaddr_ll)
        self._hops: dict[str, tuple[int, bytes, tuple[Any, ...]]] = {}
        # Python binds a packet socket to an interface or not at all, so one that is for all
        # receives from the start; the others receive nothing before their filter stands.
        sock = _open(ethertype if interface is None else 0)
        try:
            super().__init__(
                sock, timestamps=timestamps, receive_bytes=receive_bytes, bridge=bridge
            )
            sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
            if ignore_outgoing:
                sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
            if bpf is not None or interface is None:
                # What came in before these options held is thrown away with it.
                attach_filter(sock, bpf or ACCEPT_ALL)
            if promiscuous and self._device is not None:
                request = _MEMBERSHIP.pack(self._device.index, PACKET_MR_PROMISC, 0)
                sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
            if interface is not None:
                sock.bind((interface, ethertype))
        except OSError as error:
            sock.close()
            if isinstance(error, LinkError):
                raise
            raise LinkError("open packet socket", interface or "", error.errno) from None

    @property
    def dropped(self) -> int:
        """Frames that the kernel dropped for want of room in the receive buffer."""
        try:
            statistics = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        except OSError:  # closed
            return self._dropped
        self._dropped += _STATISTICS.unpack(statistics)[1]  # reading it sets it to 0
        return self._dropped

    # -- frames ------------------------------------------------------------------------------

    def send_frame(self, frame: bytes, *, token: int = 0) -> int:
        """Sends a whole frame by the link's interface: when the call was entered, monotonic ns.

        Raises:
            LinkError: the link has no interface, or the kernel refuses.
        """
        if self._device is None:
            raise LinkError("send frame", "", errno.ENXIO, "needs an interface to send by")
        by = Transmit(data=frame, dst_addr=self._device.name, token=token)
        return self._emit(frame, None, by)

    def receive_frames(self, limit: int = 64) -> list[Frame]:
        """The frames that have arrived or left, oldest first, without blocking.

        Raises:
            LinkError: the interface is down or gone.
        """
        frames: list[Frame] = []
        buffers = [self._buffer]
        for _ in range(limit):
            try:
                size, ancillary, _, address = self._socket.recvmsg_into(buffers, 256)
            except BlockingIOError:
                break
            except OSError as error:
                self._failure = self._receive_failed(error)
                continue
            frames.append(self._read_frame(size, ancillary, address))
        if not frames:
            self._raise_failure()
        return frames

    def _receive_failed(self, error: OSError) -> LinkError:
        return LinkError("receive from", self.interface or "", error.errno)

    def _read_frame(self, size: int, ancillary: Ancillary, address: tuple[Any, ...]) -> Frame:
        name, ethertype, packet_type, hardware_type = address[:4]
        frame = _new(Frame)
        frame.data = bytes(self._view[:size])
        frame.length = size
        frame.interface = self._device.index if self._device else self._index(name)
        frame.direction = "out" if packet_type == _PACKET_OUTGOING else "in"
        frame.packet_type = packet_type
        frame.hardware_type = hardware_type
        frame.ethertype = ethertype
        frame.real_ns = 0
        frame.stamp_source = "kernel"
        frame.checksum_ready = True
        for level, kind, value in ancillary:
            if kind == SO_TIMESTAMPING and level == socket.SOL_SOCKET:
                frame.real_ns = unpack_stamp(value)
            elif kind == PACKET_AUXDATA and level == SOL_PACKET:
                status, frame.length, _, _, _, tag, tpid = _AUXDATA.unpack_from(value)
                frame.checksum_ready = not status & _CHECKSUM_NOT_READY
                if status & _VLAN_VALID:
                    tpid = tpid if status & _VLAN_TPID_VALID else 0x8100
                    data = frame.data
                    frame.data = b"%b%b%b" % (data[:12], _TAG.pack(tpid, tag), data[12:])
                    frame.length += 4
        if not frame.real_ns:
            frame.real_ns = time.time_ns()
            frame.stamp_source = "user"
        return frame

    def _index(self, name: str) -> int:
        """The index of an interface, asked of the socket: its namespace is the one that counts."""
        index = self._indexes.get(name)
        if index is None:
            try:
                request = struct.pack("16s16x", name.encode())
                answer = fcntl.ioctl(self._socket.fileno(), _SIOCGIFINDEX, request)
                (index,) = struct.unpack_from("@i", answer, 16)
            except OSError:  # gone
                return 0
            self._indexes[name] = index
        return index

    # -- a link of IP packets ------------------------------------------------------------------

    def send(self, transmit: Transmit, *, patience_ns: int = PATIENCE_NS) -> int:
        """Sends one IP packet under an Ethernet header to its next hop; see `link.base.Link.send`.

        Args:
            transmit: the packet.
            patience_ns: how long the next hop may take to tell its MAC.

        Raises:
            LinkError: no way, nobody answers for the next hop, or the kernel refuses.
        """
        hop = self._hops.get(transmit.dst_addr)
        if hop is None or hop[0] < self._bridge.sample():
            hop = self.resolve(transmit.dst_addr, patience_ns=patience_ns)
        return self._emit(hop[1] + transmit.data, hop[2], transmit)

    def resolve(
        self, dst_addr: str, *, patience_ns: int = PATIENCE_NS
    ) -> tuple[int, bytes, tuple[Any, ...]]:
        """Finds out the next hop to `dst_addr` and its MAC, for `send` to use for a minute.

        Args:
            dst_addr: where a packet is to go in the end.
            patience_ns: how long the next hop may take to answer.

        Returns:
            (good until, monotonic ns; what goes in front of the packet; its sockaddr_ll).

        Raises:
            LinkError: no way, or nobody answers for the next hop.
        """
        route = lookup(dst_addr, interface=self._device.index if self._device else None)
        if route.kind == "local" and ":" not in dst_addr:
            raise LinkError(
                "send to",
                dst_addr,
                errno.EOPNOTSUPP,
                "this host's own IPv4 addresses can't be reached through a packet socket",
            )
        device = find_interface(route.interface_index)
        ethertype = ETH_P_IPV6 if ":" in dst_addr else ETH_P_IP
        header = b""
        if device.has_ethernet_header:
            header = EthernetHeader(
                dst_addr=resolve_neighbor(route.next_hop, device.index, timeout_ns=patience_ns),
                src_addr=device.mac_addr,
                ethertype=ethertype,
            ).emit()
        if len(self._hops) >= _MAX_HOPS:
            self._hops.clear()
        hop = (self._bridge.sample() + _HOP_LIFE_NS, header, (device.name, ethertype))
        self._hops[dst_addr] = hop
        return hop

    def _emit(self, frame: bytes, address: tuple[Any, ...] | None, transmit: Transmit) -> int:
        entered_ns = self._bridge.sample()
        try:
            if address is None:
                self._socket.send(frame)
            else:
                self._socket.sendto(frame, address)
        except OSError as error:
            raise self._refused(error, transmit) from None
        if self._timestamps:
            self._stamps.sent(transmit.token, entered_ns)
        return entered_ns

    def _read_datagram(
        self, size: int, ancillary: Ancillary, address: tuple[Any, ...]
    ) -> Datagram | None:
        name, ethertype, packet_type, _ = address[:4]
        if packet_type in (_PACKET_OTHERHOST, _PACKET_OUTGOING):
            return None
        if ethertype not in (ETH_P_IP, ETH_P_IPV6):
            return None
        start = 14 if address[3] in (1, 772) else 0
        received_ns, stamp_source = self._received_at(ancillary)
        return datagram_from_packet(
            bytes(self._view[start:size]),
            received_ns,
            interface=self._device.index if self._device else self._index(name),
            stamp_source=stamp_source,
        )


def _open(ethertype: int) -> socket.socket:
    try:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
    except PermissionError:
        raise raw_socket_refused("open packet socket") from None
    except OSError as error:
        raise LinkError("open packet socket", "", error.errno) from None
