"""The best links that this process may have: for ICMP, and for one flow of UDP or TCP.

Raw sockets where there is privilege, with a filter so that only what is ours is copied
to us. Where there is none, the kernel's ICMP socket if the system lets users ping, and its
UDP socket; else an error that says how either could be had.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any, Literal

from rawproto.errors import PrivilegeError
from rawproto.link.dgram import DgramLink
from rawproto.link.join import JoinedLink
from rawproto.link.raw import RawLink
from rawproto.link.timestamps import ClockBridge
from rawproto.wire.address import family_of

if TYPE_CHECKING:
    from rawproto.link.udp import UDPLink

__all__ = ["DualLink", "ICMPLink", "open_flow_link", "open_icmp_link"]

_PROTOCOLS = {4: 1, 6: 58}
_TCP, _UDP = 6, 17


class DualLink(JoinedLink):
    """An IPv4 and an IPv6 link behind one descriptor.

    Args:
        ipv4: carries what goes to IPv4 addresses; owned from here on.
        ipv6: carries the rest; owned too.

    Attributes:
        identifier: the ICMP identifier that both must use, None for any.
    """

    def __init__(self, ipv4: RawLink | DgramLink, ipv6: RawLink | DgramLink) -> None:
        super().__init__(ipv4, ipv6, choose=lambda transmit: ":" in transmit.dst_addr)
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.identifier = ipv4.identifier or ipv6.identifier


ICMPLink = RawLink | DgramLink | DualLink


def open_icmp_link(
    family: Literal[4, 6] | None = None,
    *,
    identifier: int = 0,
    interface: str | None = None,
    src_addr: str | None = None,
    cuts_ipv6: bool = True,
    **options: Any,
) -> ICMPLink:
    """Opens the best link for ICMP that this process may have.

    Args:
        family: 4, 6, or None for both behind one descriptor.
        identifier: the ICMP identifier wanted; a raw socket gets only what answers to it, by
            a filter in the kernel, or everything for 0. Where the kernel keeps the
            identifiers, the link's `identifier` is what it became and must be used instead.
        interface: send and receive by this interface only.
        src_addr: where packets come from, if it is not the kernel's choice. A raw socket takes
            it from each header; to the kernel's sockets it must be said once.
        cuts_ipv6: whether the kernel's sockets may cut IPv6 packets that are larger than the
            MTU; raw ones never do.
        options: `timestamps`, `mark`, `broadcast`, `multicast_loop`, `receive_bytes`, as
            `RawLink` takes them.

    Raises:
        PrivilegeError: neither kind of socket may be opened; it says what would help.
        LinkError: no such interface, or no such family on this host.
    """
    options = {"bridge": ClockBridge(), "interface": interface, **options}
    if family is not None:
        return _open_one(family, identifier, src_addr, cuts_ipv6, options)
    ipv4 = _open_one(4, identifier, src_addr, cuts_ipv6, options)
    try:
        beside = ipv4 if isinstance(ipv4, DgramLink) else None
        return DualLink(ipv4, _open_one(6, identifier, src_addr, cuts_ipv6, options, beside))
    except BaseException:
        ipv4.close()
        raise


def _open_one(
    family: Literal[4, 6],
    identifier: int,
    src_addr: str | None,
    cuts_ipv6: bool,
    options: dict[str, Any],
    beside: DgramLink | None = None,
) -> RawLink | DgramLink:
    try:
        return RawLink(family, _PROTOCOLS[family], bpf=_filter(family, identifier), **options)
    except PrivilegeError as error:
        if error.capability != "CAP_NET_RAW":
            raise  # a datagram socket could not do it either
    if src_addr is not None and family_of(src_addr) != family:
        src_addr = None
    return DgramLink(
        family,
        identifier=identifier,
        src_addr=src_addr,
        beside=beside,
        cuts_ipv6=cuts_ipv6,
        **options,
    )


def _filter(family: int, identifier: int) -> bytes | None:
    if not identifier:
        return None
    from rawproto.filter.programs import icmp_probe_filter

    return icmp_probe_filter(family, [identifier]).to_bytes()


def open_flow_link(
    reserved: socket.socket, dst_port: int, *, interface: str | None = None
) -> RawLink | JoinedLink | UDPLink:
    """Opens the best link for a flow of UDP or TCP that this process may have.

    By it come the ICMP errors about what is sent, and what TCP answers; UDP's answers do
    only where the link is a `UDPLink`.

    Args:
        reserved: a socket bound to the flow's source, as `reserve_port` gives it. A
            `UDPLink` takes it over; for the others it must stay open.
        dst_port: of the flow.
        interface: send and receive by this interface only.

    Raises:
        PrivilegeError: TCP takes raw sockets, which may not be opened.
        LinkError: no such interface.
    """
    from rawproto.filter.programs import quoted_port_filter, tcp_answer_filter

    family: Literal[4, 6] = 6 if reserved.family == socket.AF_INET6 else 4
    is_tcp = reserved.type == socket.SOCK_STREAM
    options: dict[str, Any] = {"bridge": ClockBridge(), "interface": interface}
    bpf = quoted_port_filter(family, _TCP if is_tcp else _UDP, dst_port).to_bytes()
    try:
        errors = RawLink(family, _PROTOCOLS[family], bpf=bpf, **options)
    except PrivilegeError as refused:
        if is_tcp:
            remedy = f"{refused.remedy}; UDP would do without"
            raise PrivilegeError(
                "send TCP by hand", "", errno.EPERM, refused.capability, remedy
            ) from None
        from rawproto.link.udp import UDPLink

        return UDPLink(reserved, **options)
    if not is_tcp:
        return errors
    try:
        bpf = tcp_answer_filter(family, reserved.getsockname()[1], dst_port).to_bytes()
        segments = RawLink(family, _TCP, bpf=bpf, **options)
    except BaseException:
        errors.close()
        raise
    # Everything leaves by the first: a raw socket sends any header that it is given.
    return JoinedLink(errors, segments, choose=lambda transmit: 0)
