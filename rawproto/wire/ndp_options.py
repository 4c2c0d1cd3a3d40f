"""Options of neighbour discovery (read RFC 4861 section 4.6; RFC 8106 section 5.1).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------+---------------+-------------------------------+
    |     kind      |    length     |          data ...             |
    +---------------+---------------+-------------------------------+

The length counts the whole option in units of 8 bytes. An option whose fields
would not give its bytes again (odd length, reserved bits set) is kept as
`UnknownNDPOption`, and from the first that can't be read on the rest is kept as
`RawOptions`, so that nothing on the wire is lost.

RFC 4861 calls the kind "Type"; here it is `kind`, as in the options of IPv4 and TCP.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from rawproto.errors import EmitError
from rawproto.wire.address import pack_ipv6, pack_mac, unpack_ipv6, unpack_mac
from rawproto.wire.options import Option, RawOptions

__all__ = [
    "MTUOption",
    "NDPOption",
    "PrefixInformation",
    "RawOptions",
    "RecursiveDNSServer",
    "RedirectedHeader",
    "SourceLinkLayerAddress",
    "TargetLinkLayerAddress",
    "UnknownNDPOption",
    "emit_options",
    "parse_options",
]

_PREFIX = struct.Struct("!BBIII16s")
_MTU = struct.Struct("!HI")
_SERVERS = struct.Struct("!HI")


NDPOption = Option
"""Any of them."""


@dataclass(slots=True, kw_only=True)
class SourceLinkLayerAddress(NDPOption):
    """Kind 1: the sender's MAC address."""

    mac_addr: str = "00:00:00:00:00:00"

    def emit(self) -> bytes:
        return _emit_option(self, 1, pack_mac(self.mac_addr))


@dataclass(slots=True, kw_only=True)
class TargetLinkLayerAddress(NDPOption):
    """Kind 2: the target's MAC address."""

    mac_addr: str = "00:00:00:00:00:00"

    def emit(self) -> bytes:
        return _emit_option(self, 2, pack_mac(self.mac_addr))


@dataclass(slots=True, kw_only=True)
class PrefixInformation(NDPOption):
    """Kind 3: a prefix of the link.

    Attributes:
        prefix: IPv6; its bits behind `prefix_length` mean nothing.
        prefix_length: 0 to 128.
        on_link: the L flag: addresses of the prefix are neighbours.
        autonomous: the A flag: hosts may make their own address of it.
        router_address: the R flag (RFC 6275): `prefix` is the router's whole address.
        valid_lifetime_s: 0xFFFFFFFF for ever.
        preferred_lifetime_s: likewise.
    """

    prefix: str = "::"
    prefix_length: int = 64
    on_link: bool = True
    autonomous: bool = True
    router_address: bool = False
    valid_lifetime_s: int = 2592000
    preferred_lifetime_s: int = 604800

    def emit(self) -> bytes:
        flags = bool(self.on_link) << 7 | bool(self.autonomous) << 6
        flags |= bool(self.router_address) << 5
        try:
            data = _PREFIX.pack(
                self.prefix_length,
                flags,
                self.valid_lifetime_s,
                self.preferred_lifetime_s,
                0,
                pack_ipv6(self.prefix),
            )
        except struct.error:
            raise _does_not_fit(self) from None
        return _emit_option(self, 3, data)


@dataclass(slots=True, kw_only=True)
class RedirectedHeader(NDPOption):
    """Kind 4: as much of the redirected packet as fits, padded with zeros to 8 bytes."""

    original_datagram: bytes = b""

    def emit(self) -> bytes:
        padding = bytes(-len(self.original_datagram) % 8)
        return _emit_option(self, 4, bytes(6) + self.original_datagram + padding)


@dataclass(slots=True, kw_only=True)
class MTUOption(NDPOption):
    """Kind 5: the link's MTU, in bytes."""

    mtu: int = 1500

    def emit(self) -> bytes:
        try:
            return _emit_option(self, 5, _MTU.pack(0, self.mtu))
        except struct.error:
            raise _does_not_fit(self) from None


@dataclass(slots=True, kw_only=True)
class RecursiveDNSServer(NDPOption):
    """Kind 25 (RFC 8106): resolvers, `lifetime_s` 0xFFFFFFFF for ever."""

    lifetime_s: int = 0xFFFFFFFF
    addresses: tuple[str, ...] = ()

    def emit(self) -> bytes:
        servers = b"".join(map(pack_ipv6, self.addresses))
        try:
            return _emit_option(self, 25, _SERVERS.pack(0, self.lifetime_s) + servers)
        except struct.error:
            raise _does_not_fit(self) from None


@dataclass(slots=True, kw_only=True)
class UnknownNDPOption(NDPOption):
    """Any other option, well formed: `data` is what follows kind and length, 8n - 2 bytes."""

    kind: int = field()
    data: bytes = bytes(6)

    def emit(self) -> bytes:
        return _emit_option(self, self.kind, self.data)


def parse_options(data: bytes) -> tuple[NDPOption, ...]:
    """What follows a message's fixed part; never raises, emitting gives `data` again."""
    options: list[NDPOption] = []
    at, end = 0, len(data)
    while at < end:
        length = data[at + 1] * 8 if at + 1 < end else 0
        if not 0 < length <= end - at:
            options.append(RawOptions(data=data[at:]))
            break
        options.append(_parse_option(data[at : at + length]))
        at += length
    return tuple(options)


def emit_options(options: tuple[NDPOption, ...]) -> bytes:
    """Options to the bytes behind a message's fixed part. Raises EmitError."""
    return b"".join([option.emit() for option in options])


def _parse_option(whole: bytes) -> NDPOption:
    kind, data = whole[0], whole[2:]
    known: NDPOption | None = None
    try:
        if kind == 1:
            known = SourceLinkLayerAddress(mac_addr=unpack_mac(data))
        elif kind == 2:
            known = TargetLinkLayerAddress(mac_addr=unpack_mac(data))
        elif kind == 3:
            length, flags, valid, preferred, _, prefix = _PREFIX.unpack(data)
            known = PrefixInformation(
                prefix=unpack_ipv6(prefix),
                prefix_length=length,
                on_link=bool(flags & 0x80),
                autonomous=bool(flags & 0x40),
                router_address=bool(flags & 0x20),
                valid_lifetime_s=valid,
                preferred_lifetime_s=preferred,
            )
        elif kind == 4:
            known = RedirectedHeader(original_datagram=data[6:])
        elif kind == 5:
            known = MTUOption(mtu=_MTU.unpack(data)[1])
        elif kind == 25:
            servers = data[6:]
            known = RecursiveDNSServer(
                lifetime_s=_SERVERS.unpack_from(data)[1],
                addresses=tuple(
                    unpack_ipv6(servers[at : at + 16]) for at in range(0, len(servers), 16)
                ),
            )
        if known is not None and known.emit() == whole:
            return known
    except (struct.error, ValueError):
        pass  # not the size that its kind has
    return UnknownNDPOption(kind=kind, data=data)


def _emit_option(option: NDPOption, kind: int, data: bytes) -> bytes:
    units, rest = divmod(2 + len(data), 8)
    try:
        if rest:
            raise ValueError
        return bytes((kind, units)) + data
    except (ValueError, TypeError):
        raise _does_not_fit(option) from None


def _does_not_fit(option: NDPOption) -> EmitError:
    return EmitError(type(option).__name__, option, "does not fit its layout")
