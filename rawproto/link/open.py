"""The link for ICMP that this process may have, one family or both.

Raw sockets where there is privilege, ICMP datagram sockets where there is none but
the system lets users ping, else an error that says how either could be had.
"""

from __future__ import annotations

import errno
import select
from typing import Any, Literal, Self

from rawproto.errors import LinkError, PrivilegeError
from rawproto.link.base import Arrival, arrival_order
from rawproto.link.dgram import DgramLink
from rawproto.link.raw import RawLink
from rawproto.link.timestamps import ClockBridge
from rawproto.machine import Transmit
from rawproto.wire.address import family_of

__all__ = ["DualLink", "ICMPLink", "open_icmp_link"]

_PROTOCOLS = {4: 1, 6: 58}


class DualLink:
    """An IPv4 and an IPv6 link behind one epoll descriptor.

    Args:
        ipv4: carries what goes to IPv4 addresses; owned from here on.
        ipv6: carries the rest; owned too.

    Attributes:
        identifier: the ICMP identifier that both must use, None for any.
    """

    def __init__(self, ipv4: RawLink | DgramLink, ipv6: RawLink | DgramLink) -> None:
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        self.identifier = ipv4.identifier or ipv6.identifier
        self._epoll = select.epoll()
        self._by_descriptor = {link.fileno(): link for link in (ipv4, ipv6)}
        for descriptor in self._by_descriptor:
            self._epoll.register(descriptor, select.EPOLLIN)

    @property
    def dropped(self) -> int:
        """Packets that this host dropped, of both families."""
        return self.ipv4.dropped + self.ipv6.dropped

    def fileno(self) -> int:
        """The epoll descriptor, -1 when closed."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def send(self, transmit: Transmit) -> int:
        """Sends by the link of the address's family; see `link.base.Link.send`."""
        return (self.ipv6 if ":" in transmit.dst_addr else self.ipv4).send(transmit)

    def receive(self, limit: int = 64) -> list[Arrival]:
        """What has arrived by either; `limit` holds for each. See `link.base.Link.receive`."""
        if self._epoll.closed:
            raise LinkError("receive", "", errno.EBADF)
        # Asking epoll costs less than a receive that finds nothing.
        ready = [self._by_descriptor[fd] for fd, _ in self._epoll.poll(0)]
        for link in (self.ipv4, self.ipv6):
            if link.poll_timeout() is not None and link not in ready:
                ready.append(link)
        if len(ready) == 1:
            return ready[0].receive(limit)
        return sorted((each for link in ready for each in link.receive(limit)), key=arrival_order)

    def poll_timeout(self) -> int | None:
        """The earlier of the two."""
        times = (self.ipv4.poll_timeout(), self.ipv6.poll_timeout())
        return min((at for at in times if at is not None), default=None)

    def close(self) -> None:
        """Gives all three descriptors back."""
        self._epoll.close()
        self.ipv4.close()
        self.ipv6.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


ICMPLink = RawLink | DgramLink | DualLink


def open_icmp_link(
    family: Literal[4, 6] | None = None,
    *,
    identifier: int = 0,
    interface: str | None = None,
    src_addr: str | None = None,
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
        options: `timestamps`, `mark`, `broadcast`, `receive_bytes`, as `RawLink` takes them.

    Raises:
        PrivilegeError: neither kind of socket may be opened; it says what would help.
        LinkError: no such interface, or no such family on this host.
    """
    options = {"bridge": ClockBridge(), "interface": interface, **options}
    if family is not None:
        return _open_one(family, identifier, src_addr, options)
    ipv4 = _open_one(4, identifier, src_addr, options)
    try:
        beside = ipv4 if isinstance(ipv4, DgramLink) else None
        return DualLink(ipv4, _open_one(6, identifier, src_addr, options, beside))
    except BaseException:
        ipv4.close()
        raise


def _open_one(
    family: Literal[4, 6],
    identifier: int,
    src_addr: str | None,
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
    return DgramLink(family, identifier=identifier, src_addr=src_addr, beside=beside, **options)


def _filter(family: int, identifier: int) -> bytes | None:
    if not identifier:
        return None
    from rawproto.filter.programs import icmp_probe_filter

    return icmp_probe_filter(family, [identifier]).to_bytes()
