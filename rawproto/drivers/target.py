"""From what a user names to where packets go: address, scope, route and source."""

from __future__ import annotations

import errno
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from rawproto.drivers.names import is_address, resolve_all
from rawproto.errors import LinkError, UsageError
from rawproto.link.interfaces import split_scope
from rawproto.link.routes import Route, lookup

__all__ = [
    "Destination",
    "check_range",
    "find_destination",
    "is_multicast",
    "own_source",
    "scoped",
]

_THIS_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""What stands for this host where no other address does (RFC 1122 section 3.2.1.3)."""


@dataclass(slots=True, kw_only=True)
class Destination:
    """A host and the way there.

    Attributes:
        name: as the user gave it.
        dst_addr: without scope.
        scope: `eth0` of `fe80::1%eth0`, "" without one.
        interface: index of the interface that `scope` names, 0 without one.
        route: with the source address to use and the MTU.
    """

    name: str
    dst_addr: str
    scope: str
    interface: int
    route: Route


def find_destination(
    name: str,
    *,
    family: Literal[4, 6] | None = None,
    source: str = "",
    interface: str = "",
    dscp: int = 0,
    mark: int = 0,
) -> Destination:
    """Resolves a name and asks the kernel for the way: to the first address that has one.

    Args:
        name: host name or address, perhaps with a scope.
        family: 4 or 6, None for any.
        source: the address to send from, "" for the route's.
        interface: to leave by, "" for the route's.
        dscp: which routing rules may look at.
        mark: the firewall mark, which they may look at too.

    Raises:
        UsageError: no such host.
        LinkError: no route to any of its addresses, no such interface, no address to send from.
    """
    if family is None and source and not is_address(name):
        family = 6 if ":" in source else 4
    *others, last = resolve_all(name, family)
    for address in others:
        with suppress(LinkError):
            return _way_to(name, address, source, interface, dscp, mark)
    return _way_to(name, last, source, interface, dscp, mark)


def _way_to(
    name: str, address: str, source: str, interface: str, dscp: int, mark: int
) -> Destination:
    bare, _, scope = address.partition("%")
    bare = _THIS_HOST.get(bare, bare)
    if not scope and interface and _is_scoped(bare):
        scope = interface
    address = f"{bare}%{scope}" if scope else bare
    route = lookup(
        address, src_addr=source or None, interface=interface or None, mark=mark, dscp=dscp
    )
    if not route.src_addr:
        raise LinkError("route to", name, errno.EADDRNOTAVAIL)
    return Destination(
        name=name,
        dst_addr=bare,
        scope=scope,
        interface=split_scope(address)[1],
        route=route,
    )


def own_source(source: str, interface: str) -> tuple[str, str]:
    """(source without its scope, the interface to send by), once it is known as ours.

    Raises:
        LinkError: it is no address of this host, or needs an interface.
    """
    bare, _, scope = source.partition("%")
    interface = interface or scope
    # Only a link-local one needs an interface; with one, others of this host seem remote.
    try:
        local = lookup(scoped(bare, interface)).kind == "local"
    except LinkError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV):
            raise
        local = False
    if not local:
        raise LinkError("send from", source, errno.EADDRNOTAVAIL)
    return bare, interface


def check_range(name: str, value: float | None, least: float, most: float) -> None:
    """Raises UsageError where an option is out of range; None is in every range."""
    if value is not None and not least <= value <= most:
        raise UsageError(f"{name} {value:.15g}: must be {least:g} to {most:.15g}")


def is_multicast(address: str) -> bool:
    """Whether it names a group, of either family."""
    if ":" in address:
        return address.lower().startswith("ff")
    return 224 <= int(address.split(".")[0]) < 240


def scoped(address: str, interface: str) -> str:
    """An address as a socket wants it: with its interface where it means nothing without one."""
    return f"{address}%{interface}" if interface and _is_scoped(address) else address


def _is_scoped(address: str) -> bool:
    """Whether it means nothing without an interface (RFC 4007 section 4)."""
    return address.lower().startswith(("fe8", "fe9", "fea", "feb", "ff01", "ff02"))
