"""Network interfaces: names, indexes, addresses with their scopes, MTU, MAC.

Names and addresses come through netifaces (`interfaces()` and `ifaddresses()` only:
its `gateways()` is wrong with several routing tables), which is imported when first
needed. What netifaces does not tell, MTU and the kind of hardware, is asked of
rtnetlink (RTM_GETLINK). Scopes are those of RFC 4007 and RFC 3927.

It knows no routes: which interface leads to a host is `link/routes.py`'s business.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from dataclasses import dataclass
from typing import Literal

from rawproto.errors import LinkError
from rawproto.link.netlink import NetlinkSocket, emit_attribute, parse_attributes

__all__ = [
    "Interface",
    "InterfaceAddress",
    "interface",
    "interface_index",
    "interface_mtu",
    "interfaces",
    "split_scope",
]

ARPHRD_ETHER = 1
ARPHRD_LOOPBACK = 772

IFF_UP = 0x1
IFF_LOOPBACK = 0x8
IFF_NOARP = 0x80

_RTM_GETLINK = 18
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU = 1, 3, 4
_INTERFACE = struct.Struct("=BxHiII")

Scope = Literal["host", "link", "global"]


@dataclass(slots=True, kw_only=True)
class InterfaceAddress:
    """An address of an interface.

    Attributes:
        addr: without its scope.
        prefix_length: in bits.
        scope: `host` for loopback, `link` for link-local ones, else `global`.
    """

    addr: str
    prefix_length: int
    scope: Scope


@dataclass(slots=True, kw_only=True)
class Interface:
    """A network interface as it is now.

    Attributes:
        name: `eth0`.
        index: the kernel's number for it, from 1.
        mtu: in bytes.
        flags: IFF_*.
        hardware_type: ARPHRD_*; 1 is Ethernet.
        mac_addr: "" where it has none of six bytes.
        addresses: of both families, IPv4 first.
    """

    name: str
    index: int
    mtu: int
    flags: int
    hardware_type: int
    mac_addr: str
    addresses: tuple[InterfaceAddress, ...] = ()

    @property
    def has_ethernet_header(self) -> bool:
        """Whether its frames begin with an Ethernet header (the loopback's do too)."""
        return self.hardware_type in (ARPHRD_ETHER, ARPHRD_LOOPBACK)


def interfaces() -> list[Interface]:
    """All of them with their addresses, by index. Raises LinkError."""
    import netifaces

    found = []
    for name in netifaces.interfaces():
        try:
            one = interface(name)
            families = netifaces.ifaddresses(name)
        except (LinkError, ValueError):
            continue  # gone since it was listed, or an alias such as eth0:1
        one.addresses = tuple(
            _read_address(entry)
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in families.get(family, ())
            if "addr" in entry
        )
        found.append(one)
    return sorted(found, key=lambda one: one.index)


def interface(name: str | int) -> Interface:
    """One interface by name or index, without its addresses.

    Raises:
        LinkError: there is none (ENODEV), or the kernel does not answer.
    """
    if isinstance(name, int):
        body = _INTERFACE.pack(0, 0, name, 0, 0)
    else:
        # The kernel takes longer names for another error than "no such device".
        label = name.encode()[:15] + b"\0"
        body = _INTERFACE.pack(0, 0, 0, 0, 0) + emit_attribute(_IFLA_IFNAME, label)
    try:
        with NetlinkSocket() as netlink:
            data = netlink.request(_RTM_GETLINK, body)[0][1]
    except OSError as error:
        raise LinkError("interface", str(name), error.errno) from None
    _, hardware_type, index, flags, _ = _INTERFACE.unpack_from(data)
    attributes = parse_attributes(data[_INTERFACE.size :])
    found = attributes[_IFLA_IFNAME].rstrip(b"\0").decode(errors="replace")
    if found != name and isinstance(name, str):
        raise LinkError("interface", name, errno.ENODEV)
    mac = attributes.get(_IFLA_ADDRESS, b"")
    return Interface(
        name=found,
        index=index,
        mtu=int.from_bytes(attributes[_IFLA_MTU], sys.byteorder),
        flags=flags,
        hardware_type=hardware_type,
        mac_addr=mac.hex(":") if len(mac) == 6 else "",
    )


def interface_index(name: str) -> int:
    """The index of an interface, which may be given as a number too (RFC 4007 section 11.2).

    Raises:
        LinkError: there is none (ENODEV).
    """
    try:
        return socket.if_nametoindex(name)
    except OSError:
        if name.isascii() and name.isdigit() and 0 < int(name) < 1 << 31:
            return int(name)
        raise LinkError("interface", name, errno.ENODEV) from None


def interface_mtu(name: str | int) -> int:
    """The MTU of an interface, in bytes. Raises LinkError."""
    return interface(name).mtu


def split_scope(address: str) -> tuple[str, int]:
    """`fe80::1%eth0` to (`fe80::1`, index of eth0); without a scope the index is 0.

    Raises:
        LinkError: the scope names no interface.
    """
    bare, percent, scope = address.partition("%")
    return bare, interface_index(scope) if percent else 0


def _read_address(entry: dict[str, str]) -> InterfaceAddress:
    """One entry of `netifaces.ifaddresses`."""
    import ipaddress

    addr = entry["addr"].partition("%")[0]
    # netifaces gives IPv6 masks as `ffff:ffff::/64` or, in older releases, without the length.
    mask = entry.get("netmask", "").partition("/")[0]
    ip = ipaddress.ip_address(addr)
    ones = int(ipaddress.ip_address(mask)).bit_count() if mask else ip.max_prefixlen
    scope: Scope = "host" if ip.is_loopback else "link" if ip.is_link_local else "global"
    return InterfaceAddress(addr=addr, prefix_length=ones, scope=scope)
