"""ICMP datagram sockets: echo requests without privilege (icmp(7)).

The kernel lays out the IP header (see `link/unprivileged.py`) and keeps the identifier and
the checksum of the echo for itself. Other messages than echo requests are refused. The
kernel cuts what is larger than the MTU, but for IPv4 with DF, which comes here whole, and for
IPv6 where it is told not to.

Replies come to the identifier that the socket is bound to.
"""

from __future__ import annotations

import errno
import socket
from typing import Literal

from rawproto.errors import LinkError
from rawproto.link.interfaces import split_scope
from rawproto.link.privileges import icmp_sockets_refused
from rawproto.link.timestamps import ClockBridge
from rawproto.link.unprivileged import UnprivilegedLink
from rawproto.machine import Transmit
from rawproto.wire.address import pack_address

__all__ = ["DgramLink"]

_ICMP, _ICMPV6 = 1, 58


class DgramLink(UnprivilegedLink):
    """Echo requests over an ICMP datagram socket. Needs a group in `ping_group_range`.

    Args:
        family: 4 or 6.
        identifier: the identifier wanted, 1 to 65535; 0, or one that is taken, gets another.
        src_addr: send from this address only. None takes IPv4's from each header; for IPv6
            the kernel heeds no header and no option, and takes the one that its routes name.
        interface: send and receive by this interface only.
        beside: a link of the other family, whose identifier this one is to share.
        cuts_ipv6: whether the kernel may cut IPv6 packets that are larger than the MTU.
        timestamps: whether the kernel stamps both ways.
        mark: firewall mark, which policy rules match; needs CAP_NET_ADMIN.
        broadcast: whether packets may go to a broadcast address.
        multicast_loop: whether this host hears what it sends to groups that it is in.
        receive_bytes: size of the receive buffer.
        bridge: brings the stamps to the monotonic clock; None makes one.

    Attributes:
        identifier: what the kernel puts into each echo request sent.

    Raises:
        PrivilegeError: the process may open neither these nor raw sockets.
        LinkError: no such interface, or `src_addr` is none of this host's.
    """

    _carries = "only echo requests"

    def __init__(
        self,
        family: Literal[4, 6],
        *,
        identifier: int = 0,
        src_addr: str | None = None,
        interface: str | None = None,
        beside: DgramLink | None = None,
        cuts_ipv6: bool = True,
        timestamps: bool = True,
        mark: int = 0,
        broadcast: bool = False,
        multicast_loop: bool = True,
        receive_bytes: int = 1 << 20,
        bridge: ClockBridge | None = None,
    ) -> None:
        sock = _open(family)
        try:
            super().__init__(
                sock,
                family,
                _ICMP if family == 4 else _ICMPV6,
                source=pack_address(split_scope(src_addr)[0]) if src_addr else None,
                interface=interface,
                cuts_ipv6=cuts_ipv6,
                timestamps=timestamps,
                mark=mark,
                broadcast=broadcast,
                multicast_loop=multicast_loop,
                receive_bytes=receive_bytes,
                bridge=bridge,
            )
            self._request = b"\x08\0" if family == 4 else b"\x80\0"
            self.identifier = self._take_identifier(src_addr, identifier, beside)
        except BaseException:
            sock.close()
            raise

    def _take_identifier(
        self, src_addr: str | None, identifier: int, beside: DgramLink | None
    ) -> int:
        """Binds to the identifier, or to any that is free: the one it got.

        One table holds those of both families, and sockets that allow it (SO_REUSEADDR, which
        these are born with) share one and steal each other's replies. So ours don't, but
        for the moment in which one joins the other.
        """
        pair = (self, beside) if beside is not None else (self,)
        for link in pair:
            link._allow_sharing(beside is not None)
        anywhere = "0.0.0.0" if self.family == 4 else "::"
        bare, scope = split_scope(src_addr or anywhere)
        rest = (0, scope) if self.family == 6 else ()
        try:
            try:
                self._socket.bind((bare, beside.identifier if beside else identifier, *rest))
            except OSError as error:
                if error.errno != errno.EADDRINUSE or beside is not None:
                    raise
                self._socket.bind((bare, 0, *rest))
        except OSError as error:
            raise LinkError("send from", src_addr or anywhere, error.errno) from None
        finally:
            for link in pair:
                link._allow_sharing(False)
        return int(self._socket.getsockname()[1])

    def _allow_sharing(self, allowed: bool) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, allowed)

    def _message(self, transmit: Transmit, start: int) -> tuple[bytes, int] | None:
        message = bytes(transmit.data[start:])
        return (message, 0) if message[:2] == self._request else None


def _open(family: int) -> socket.socket:
    kind, protocol = (socket.AF_INET, _ICMP) if family == 4 else (socket.AF_INET6, _ICMPV6)
    try:
        return socket.socket(kind, socket.SOCK_DGRAM, protocol)
    except PermissionError:
        raise icmp_sockets_refused() from None
    except OSError as error:
        raise LinkError("open ICMP socket", f"IPv{family}", error.errno) from None
