"""RPT in UDP, which needs no privilege and crosses NATs (docs/transport-spec.md section 1).

The bytes of RPT are those of bare IP. ECN bits go by IP_TOS and IPV6_TCLASS, both ways.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Sequence

from rawproto.errors import LinkError
from rawproto.filter.rpt_programs import Share, rpt_selector
from rawproto.link.options import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IP_RECVERR,
    IPV6_MTU_DISCOVER,
    IPV6_RECVERR,
    PMTUDISC_PROBE,
    attach_selector,
    grow_buffers,
    keep_freed_memory,
)
from rawproto.link.routes import lookup
from rawproto.link.rpt_carrier import (
    ANCILLARY_BYTES,
    LOW_BYTE,
    RECEIVE_BYTES,
    SEND_BYTES,
    Address,
    Family,
    alike,
    family_number,
    target_6,
    wildcard,
)
from rawproto.link.rpt_errors import CarrierError, read_errors
from rawproto.link.rpt_way import Way

__all__ = ["UDPCarrier"]

# udp(7): the kernel cuts what one call sends into datagrams. They may not make more than one
# would without that; devices that cannot take checksums refuse, older kernels know nothing of it.
# Neither of these is an ICMP error's, which whatever is sent next would be told.
_UDP_SEGMENT = 103
_SEGMENTED_BYTES = 65_000
_NOT_SEGMENTED = (errno.EIO, errno.EINVAL)
_U16 = struct.Struct("=H")
_PKTINFO_4, _PKTINFO_6 = struct.Struct("=I4s4x"), struct.Struct("=16sI")
_MULTICAST_6 = 0xFF
_MAX_PEERS = 4096
_ECN_OPTION = {
    4: (socket.IPPROTO_IP, socket.IP_TOS),
    6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
}


class UDPCarrier:
    """RPT in UDP. Needs no privilege.

    Args:
        family: 4 or 6.
        addr: the address to bind to, "" for all.
        port: of UDP and of RPT, 0 for a free one.
        peer: whom it will talk to, which tells the interface; "" for anybody.
        share: takes no more than this worker's part of the port, once the carriers of all
            workers are open; they are opened in turn.

    Raises:
        LinkError: the port is in use, the address is not ours, or there is no way to `peer`.
    """

    udp = True

    def __init__(
        self,
        family: Family,
        addr: str = "",
        port: int = 0,
        *,
        peer: str = "",
        share: Share | None = None,
    ) -> None:
        self._family = family
        self._addr = addr
        self._header_bytes = 28 if family == 4 else 48
        try:
            self._socket = sock = socket.socket(family_number(family), socket.SOCK_DGRAM)
        except OSError as error:
            raise LinkError("open UDP socket", "", error.errno) from None
        try:
            self._way = Way(family, peer, addr) if peer else None
        except BaseException:
            sock.close()
            raise
        self._moved = self.echoed = False
        mtu = 65_535 if self._way is None else self._way.mtu
        self.ceiling = min(mtu, 65_535) - self._header_bytes
        self._size = 65_535 if mtu > 9216 else mtu + 64
        self._segments = True
        self._ecn = 0  # of what leaves; it seldom changes
        self._ecn_option = _ECN_OPTION[family]
        # Peers know us by the address that they write to, and what stands between, a NAT or a
        # firewall, by no other; the kernel would choose. By peer: (as it came, as it is sent).
        self._local: dict[Address, tuple[bytes, list[tuple[int, int, bytes]]]] = {}
        self._anyhow = not (addr or peer)
        sock.setblocking(False)
        worker, workers = share or Share(0, 1)
        try:
            # Worker 0 lets others share only when it is bound: so it is refused a port that
            # another listener has, workers or not.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, worker > 0)
            if family == 4:
                sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
                sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
                sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, self._anyhow)
                sock.bind((addr or wildcard(4), port))
            else:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
                sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, self._anyhow)
                sock.bind(target_6(addr or wildcard(6), port))
            grow_buffers(sock, RECEIVE_BYTES, SEND_BYTES)
            keep_freed_memory()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, workers > 1)
            if 0 < worker == workers - 1:
                attach_selector(sock, rpt_selector(workers).to_bytes())
        except OSError as error:
            self.close()
            raise LinkError("bind UDP port", f"{addr} {port}".strip(), error.errno) from None
        self.port = int(sock.getsockname()[1])

    def filenos(self) -> list[int]:
        watched = [] if self._way is None else [self._way.fileno()]
        return [self._socket.fileno(), *watched]

    def _look(self, way: Way) -> None:
        """This host's addresses or routes have changed; the kernel has followed already."""
        if way.look():
            self.ceiling = min(way.mtu, 65_535) - self._header_bytes
            self._size = 65_535 if way.mtu > 9216 else way.mtu + 64
            self._moved = True

    def moved(self) -> bool:
        moved, self._moved = self._moved, False
        return moved

    def receive(
        self, limit: int, descriptor: int | None = None
    ) -> list[tuple[bytes, Address, int]]:
        packets: list[tuple[bytes, Address, int]] = []
        if self._way is not None and descriptor in (None, self._way.fileno()):
            self._look(self._way)
        low = 0 if self._family == 4 else LOW_BYTE  # IP_TOS is a byte, IPV6_TCLASS an int
        receive, size, anyhow = self._socket.recvmsg, self._size, self._anyhow
        for _ in range(limit):
            try:
                data, ancillary, _, source = receive(size, ANCILLARY_BYTES)
            except BlockingIOError:
                break
            except OSError:
                self.echoed = True
                continue
            addr = source[0]
            if self._family == 6 and source[3]:
                addr = f"{addr.partition('%')[0]}%{source[3]}"
            peer = addr, source[1]
            ecn = ancillary[-1][2][low] & 3 if ancillary else 0  # behind PKTINFO
            if anyhow and len(ancillary) > 1:
                known = self._local.get(peer)
                if known is None or known[0] != ancillary[0][2]:
                    self._note_local(peer, ancillary[0][2])
            packets.append((data, peer, ecn))
        return packets

    def _note_local(self, peer: Address, came: bytes) -> None:
        """The address by which a peer knows us is the one to answer from."""
        if len(self._local) >= _MAX_PEERS:
            self._local.clear()  # all are noted anew with the next packet that comes from them
        if self._family == 4:
            answer = _PKTINFO_4.pack(0, came[4:8])
            self._local[peer] = came, [(socket.IPPROTO_IP, IP_PKTINFO, answer)]
        elif came[0] != _MULTICAST_6:
            answer = _PKTINFO_6.pack(came[:16], 0)
            self._local[peer] = came, [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, answer)]

    def send(self, data: bytes, address: Address, ecn: int = 0) -> None:
        self._mark(ecn)
        known = self._local.get(address)
        if known is None:
            self._socket.sendto(data, self._target(address))
        else:
            self._socket.sendmsg((data,), known[1], 0, self._target(address))

    def send_many(self, packets: Sequence[bytes], address: Address, ecn: int = 0) -> int:
        size = len(packets[0])
        count = min(alike(packets), _SEGMENTED_BYTES // size) if self._segments else 1
        if count > 1:
            self._mark(ecn)
            known = self._local.get(address)
            ancillary = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _U16.pack(size))]
            if known is not None:
                ancillary += known[1]
            try:
                self._socket.sendmsg(packets[:count], ancillary, 0, self._target(address))
                return count
            except OSError as error:
                if error.errno not in _NOT_SEGMENTED:
                    raise
        self.send(packets[0], address, ecn)  # EMSGSIZE shows that it was the size
        self._segments &= count <= 1
        return 1

    def _mark(self, ecn: int) -> None:
        if ecn != self._ecn:
            self._socket.setsockopt(*self._ecn_option, ecn)
            self._ecn = ecn

    def _target(self, address: Address) -> tuple[str, int] | tuple[str, int, int, int]:
        return address if self._family == 4 else target_6(*address)

    def largest_to(self, addr: str) -> int:
        return min(lookup(addr).interface_mtu, 65_535) - self._header_bytes

    def local_to(self, addr: str) -> str:
        return self._addr or lookup(addr).src_addr

    def errors(self) -> list[CarrierError]:
        self.echoed = False
        return read_errors(self._socket, self._family, 0)

    def close(self) -> None:
        self._socket.close()
        if self._way is not None:
            self._way.close()
