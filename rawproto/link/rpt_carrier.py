"""RPT's carriers, and the one on bare IP (docs/transport-spec.md section 1).

::

    rpt://      IP header, ours (IP_HDRINCL, IPV6_HDRINCL), protocol 253 | RPT packet
    rpt+udp://  UDP datagram                                             | RPT packet

A carrier sends and receives RPT's bytes and tells the peer's address; of raw IP it lays
out the header, with DF set and the source address that the peer knows us by. It never
blocks. On raw IPv4 the kernel fills in total length and checksum (raw(7)). One that has a
single peer follows the way there: if this host gets another address, packets leave with it.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Literal, Protocol, cast

from rawproto.errors import LinkError
from rawproto.filter.instructions import Program
from rawproto.filter.rpt_programs import Share, rpt_filter
from rawproto.link.interfaces import split_scope
from rawproto.link.options import (
    IP_MTU_DISCOVER,
    IP_RECVERR,
    IPV6_HDRINCL,
    IPV6_MTU_DISCOVER,
    IPV6_RECVERR,
    PMTUDISC_PROBE,
    attach_filter,
    grow_buffers,
    keep_freed_memory,
)
from rawproto.link.privileges import raw_socket_refused
from rawproto.link.routes import lookup
from rawproto.link.rpt_errors import CarrierError, read_errors
from rawproto.link.rpt_ports import Lease, hold_port
from rawproto.link.rpt_volley import Volley, pack_target
from rawproto.link.rpt_way import Way
from rawproto.wire.address import unpack_ipv4
from rawproto.wire.ipv4 import DF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.rpt import IP_PROTOCOL

__all__ = [
    "Address",
    "Carrier",
    "Family",
    "RawCarrier",
    "alike",
    "family_number",
    "target_6",
    "wildcard",
]

Address = tuple[str, int]
"""A peer's IP address, perhaps with a scope, and the carrier's port; 0 on raw IP."""
Family = Literal[4, 6]

RECEIVE_BYTES, SEND_BYTES = 8 << 20, 4 << 20
_INIT_BYTES = 1 << 20
_INIT_BATCH = 16  # each costs more than a packet of data, which is to have its turn
_MAX_PEERS = 4096
ANCILLARY_BYTES = 256
LOW_BYTE = 0 if sys.byteorder == "little" else 3
_PKTINFO = struct.Struct("@16sI")


class Carrier(Protocol):
    """What drivers use. All sockets are non-blocking; errors are LinkErrors.

    Attributes:
        port: the RPT port.
        ceiling: the largest RPT packet that the interface takes, in bytes.
        udp: whether RPT stands in UDP.
        echoed: an ICMP error was met with in `receive`; `errors` tells which.
    """

    port: int
    ceiling: int
    udp: bool

    @property
    def echoed(self) -> bool: ...

    def filenos(self) -> list[int]:
        """The descriptors that become readable when something has arrived."""
        ...

    def receive(
        self, limit: int, descriptor: int | None = None
    ) -> list[tuple[bytes, Address, int]]:
        """At most `limit` packets that have arrived: (data, from where, ECN bits).

        Args:
            limit: for each socket; a few at a time of INITs that have a socket of their own.
            descriptor: the only one to read, of `filenos`; None for all.
        """
        ...

    def send(self, data: bytes, address: Address, ecn: int = 0) -> None:
        """Sends a packet with these ECN bits, 0 to 3.

        Raises:
            OSError: as the kernel has it (EAGAIN, EMSGSIZE, ...).
        """
        ...

    def send_many(self, packets: Sequence[bytes], address: Address, ecn: int = 0) -> int:
        """Sends packets in order, as many of them as one system call takes.

        Returns:
            How many were sent: 1 or more.

        Raises:
            OSError: the first one was not; see `send`.
        """
        ...

    def largest_to(self, addr: str) -> int:
        """The largest RPT packet that the interface towards a peer takes, in bytes."""
        ...

    def local_to(self, addr: str) -> str:
        """This host's address as a peer knows it."""
        ...

    def errors(self) -> list[CarrierError]:
        """ICMP errors that have come."""
        ...

    def moved(self) -> bool:
        """Whether packets have another source address since this was asked last."""
        ...

    def close(self) -> None:
        """Gives port and descriptors back."""
        ...


def alike(packets: Sequence[bytes]) -> int:
    """How many of the packets, from the first on, have its size."""
    size = len(packets[0])
    for count, packet in enumerate(packets):
        if len(packet) != size:
            return count
    return len(packets)


@lru_cache(64)
def _header_4(source: str, ecn: int) -> bytes:
    """An IPv4 header up to the destination: a flood of INITs wants one for each answer."""
    whole = IPv4Header(
        src_addr=source,
        dst_addr="0.0.0.0",
        protocol=IP_PROTOCOL,
        flags=DF,
        ecn=ecn,
        total_length=20,
        checksum=0,
    )
    return whole.emit()[:16]


def wildcard(family: Family) -> str:
    """The address of all addresses."""
    return "0.0.0.0" if family == 4 else "::"


def family_number(family: Family) -> socket.AddressFamily:
    """As socket(2) has it."""
    return socket.AF_INET if family == 4 else socket.AF_INET6


_Header = tuple[bytes, bytes, tuple[str, int], bytes]
_Read = Callable[[socket.socket, int, list[tuple[bytes, Address, int]]], None]


def _new_headers() -> list[dict[str, _Header]]:
    """By ECN bits and peer."""
    return [{}, {}, {}, {}]


class RawCarrier:
    """RPT on bare IP. Needs CAP_NET_RAW.

    Args:
        family: 4 or 6.
        addr: the address to bind to, "" for all.
        port: the RPT port, 0 for a free one.
        listens: takes INITs, on a socket of their own.
        refuses: takes the INITs for all ports and no port of its own.
        peer: whom it will talk to, which tells the interface; "" for anybody.
        share: takes no more than this worker's part of the port, which worker 0's carrier holds
            for all.

    Raises:
        PrivilegeError: raw sockets are not allowed.
        LinkError: the port is held, the address is not ours, or there is no way to `peer`.
    """

    udp = False

    def __init__(
        self,
        family: Family,
        addr: str = "",
        port: int = 0,
        *,
        listens: bool = False,
        refuses: bool = False,
        peer: str = "",
        share: Share | None = None,
    ) -> None:
        self._family = family
        self._header_bytes = 20 if family == 4 else 40
        self._way = Way(family, peer, addr) if peer else None
        self._moved = self.echoed = False
        mtu = 65_535
        if self._way is not None:
            addr, mtu = self._way.src_addr, self._way.mtu
        self._addr = addr
        self._lease: Lease | None = None
        self._sockets: list[socket.socket] = []
        self.ceiling = min(mtu, 65_535) - self._header_bytes
        self._headers = _new_headers()
        self._local: dict[str, str] = {}
        self._sources: dict[bytes, Address] = {}
        try:
            if not refuses and (share is None or not share.worker):
                self._lease = hold_port(family, port)
                port = self._lease.port
            self.port = port
            if refuses:
                program = rpt_filter(family, None, "init")
            else:
                program = rpt_filter(family, port, "other" if listens else "all", share)
            data = self._open(program)
            if refuses:
                grow_buffers(data, _INIT_BYTES, _INIT_BYTES)
            else:
                grow_buffers(data, RECEIVE_BYTES, SEND_BYTES)
                keep_freed_memory()
            if listens:
                inits = self._open(rpt_filter(family, port, "init", share))
                grow_buffers(inits, _INIT_BYTES, _INIT_BYTES)
        except BaseException:
            self.close()
            raise
        self._data, self._send_to = data.fileno(), data.sendto
        self._volley = Volley(data)
        self._size = 65_535 if mtu > 9216 else mtu + 64

    def _open(self, program: Program) -> socket.socket:
        try:
            sock = socket.socket(family_number(self._family), socket.SOCK_RAW, IP_PROTOCOL)
        except PermissionError:
            raise raw_socket_refused("open raw socket") from None
        except OSError as error:
            raise LinkError("open raw socket", "", error.errno) from None
        self._sockets.append(sock)
        sock.setblocking(False)
        attach_filter(sock, program.to_bytes())
        try:
            if self._family == 4:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_HDRINCL, 1)
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_HDRINCL, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
                if not self._addr:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            if self._addr:
                self._bind(sock, self._addr)
        except OSError as error:
            raise LinkError("bind", self._addr, error.errno) from None
        return sock

    def _bind(self, sock: socket.socket, addr: str) -> None:
        bare, scope = split_scope(addr)
        sock.bind((bare, 0) if self._family == 4 else (bare, 0, 0, scope))

    def _look(self, way: Way) -> None:
        """This host's addresses or routes have changed."""
        if not way.look():
            return
        try:
            for sock in self._sockets:
                self._bind(sock, way.src_addr)
        except OSError:
            way.src_addr = self._addr  # it is not ready to be used, and its notice will come
            return
        self._addr = way.src_addr
        self._headers = _new_headers()
        self.ceiling = min(way.mtu, 65_535) - self._header_bytes
        self._size = 65_535 if way.mtu > 9216 else way.mtu + 64
        self._moved = True

    def moved(self) -> bool:
        moved, self._moved = self._moved, False
        return moved

    def spare(self, ports: Collection[int]) -> None:
        """Of the INITs for all ports, those for these are dropped by the kernel from now on."""
        program = rpt_filter(self._family, None, "init", but=ports)
        attach_filter(self._sockets[0], program.to_bytes())

    def filenos(self) -> list[int]:
        watched = [] if self._way is None else [self._way.fileno()]
        return [sock.fileno() for sock in self._sockets] + watched

    def receive(
        self, limit: int, descriptor: int | None = None
    ) -> list[tuple[bytes, Address, int]]:
        packets: list[tuple[bytes, Address, int]] = []
        read = self._receive_4 if self._family == 4 else self._receive_6
        if descriptor == self._data:  # nearly always
            try:
                read(self._sockets[0], limit, packets)
            except BlockingIOError:
                pass
            except OSError:
                self._read_on(read, self._sockets[0], limit, packets)
            return packets
        if self._way is not None and descriptor in (None, self._way.fileno()):
            self._look(self._way)
        for sock in self._sockets:
            if descriptor is not None and sock.fileno() != descriptor:
                continue
            most = limit if sock is self._sockets[0] else min(limit, _INIT_BATCH)
            try:
                read(sock, most, packets)
            except BlockingIOError:
                continue
            except OSError:
                self._read_on(read, sock, most, packets)
        return packets

    def _read_on(
        self,
        read: _Read,
        sock: socket.socket,
        limit: int,
        packets: list[tuple[bytes, Address, int]],
    ) -> None:
        """Past an ICMP error's echo, or they who send those would have nothing else read."""
        self.echoed = True
        with suppress(OSError):
            read(sock, limit - len(packets), packets)

    def _receive_4(
        self, sock: socket.socket, limit: int, packets: list[tuple[bytes, Address, int]]
    ) -> None:
        receive, size, sources = sock.recv, self._size, self._sources
        for _ in range(limit):
            packet = receive(size)
            addresses = packet[12:20]
            source = sources.get(addresses) or self._new_source(addresses)
            packets.append((packet[(packet[0] & 15) << 2 :], source, packet[1] & 3))

    def _new_source(self, addresses: bytes) -> Address:
        """The sender, of an IPv4 header's two addresses."""
        if len(self._sources) >= _MAX_PEERS:
            self._sources.clear()
        addr = unpack_ipv4(addresses[:4])
        if not self._addr:
            self._note_local(addr, unpack_ipv4(addresses[4:]))
        source = self._sources[addresses] = addr, 0
        return source

    def _receive_6(
        self, sock: socket.socket, limit: int, packets: list[tuple[bytes, Address, int]]
    ) -> None:
        size = self._size
        for _ in range(limit):
            data, ancillary, _, (addr, _, _, scope) = sock.recvmsg(size, ANCILLARY_BYTES)
            if scope:
                addr = f"{addr}%{scope}"
            ecn = 0
            for _, kind, value in ancillary:
                if kind == socket.IPV6_TCLASS:
                    ecn = value[LOW_BYTE] & 3
                elif kind == socket.IPV6_PKTINFO:
                    packed, _ = _PKTINFO.unpack(value)
                    self._note_local(addr, socket.inet_ntop(socket.AF_INET6, packed))
            packets.append((data, (addr, 0), ecn))

    def _note_local(self, peer: str, local: str) -> None:
        """The address by which a peer knows us is the one to answer from."""
        known = self._local.get(peer)
        if known == local:
            return
        if known is not None:
            self._sources.clear()  # it comes to another address of ours: the last one counts
        elif len(self._local) >= _MAX_PEERS:
            # All are noted anew with the next packet that comes from them.
            self._local.clear()
            self._sources.clear()
        self._local[peer] = local
        for headers in self._headers:
            headers.pop(peer, None)

    def send(self, data: bytes, address: Address, ecn: int = 0) -> None:
        found = self._headers[ecn].get(address[0]) or self._make_header(address[0], ecn)
        head, tail, target, _ = found
        if tail:  # IPv6: we fill in the length ourselves
            self._send_to(b"%b%b%b%b" % (head, len(data).to_bytes(2, "big"), tail, data), target)
        else:
            self._send_to(head + data, target)

    def send_many(self, packets: Sequence[bytes], address: Address, ecn: int = 0) -> int:
        count = alike(packets)
        if count == 1:
            self.send(packets[0], address, ecn)
            return 1
        found = self._headers[ecn].get(address[0]) or self._make_header(address[0], ecn)
        head, tail, _, target = found
        if tail:
            head = b"%b%b%b" % (head, len(packets[0]).to_bytes(2, "big"), tail)
        return self._volley.send(target, head, packets[:count])

    def _make_header(self, peer: str, ecn: int) -> _Header:
        """The header for a peer: (in front of the length, behind it, whereto, that packed)."""
        bare, scope = split_scope(peer)
        packed = pack_target(family_number(self._family), bare, scope)
        source = split_scope(self.local_to(peer))[0]
        if self._family == 4:
            head = _header_4(source, ecn) + socket.inet_aton(bare)
            found = head, b"", (bare, 0), packed
        else:
            whole = IPv6Header(
                src_addr=source,
                dst_addr=bare,
                next_header=IP_PROTOCOL,
                traffic_class=ecn,
                payload_length=0,
            ).emit()
            found = whole[:4], whole[6:], cast("tuple[str, int]", target_6(peer)), packed
        headers = self._headers[ecn]
        if len(headers) >= _MAX_PEERS:
            headers.clear()
        headers[peer] = found
        return found

    def largest_to(self, addr: str) -> int:
        return min(lookup(addr).interface_mtu, 65_535) - self._header_bytes

    def local_to(self, addr: str) -> str:
        return self._addr or self._local.get(addr) or lookup(addr).src_addr

    def errors(self) -> list[CarrierError]:
        self.echoed = False
        return [
            each
            for sock in self._sockets
            for each in read_errors(sock, self._family, self._header_bytes)
        ]

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
        if self._lease is not None:
            self._lease.close()
        if self._way is not None:
            self._way.close()


def target_6(peer: str, port: int = 0) -> tuple[str, int, int, int]:
    """An IPv6 address, perhaps with a scope, as sendto(2) has it."""
    bare, scope = split_scope(peer)
    return bare, port, 0, scope
