"""What DNS records hold, by type (read RFC 1035 section 3.3; RFC 3596, RFC 2782, RFC 8659).

::

    A      address                      SOA    mname rname serial refresh retry expire minimum
    AAAA   address                      MX     preference exchange
    NS     nsdname                      TXT    strings, each with a length byte
    CNAME  cname                        SRV    priority weight port target
    PTR    ptrdname                     CAA    flags tag-length tag value

Fields have the names of the RFCs in small letters. Data of any other type, and
data that is not what its type says (empty in a dynamic update, cut short, a name
that leads nowhere), is kept as `UnknownData`, so that nothing on the wire is lost;
a pointer in it says what it said only while the message is laid out as it was.
OPT is no data but a record of its own kind, see `dns`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from rawproto.errors import EmitError, WireError
from rawproto.wire.address import pack_ipv4, pack_ipv6, unpack_ipv4, unpack_ipv6
from rawproto.wire.dns_name import NameReader, NameWriter

__all__ = [
    "AAAA",
    "CAA",
    "CNAME",
    "MX",
    "NS",
    "PTR",
    "SOA",
    "SRV",
    "TXT",
    "A",
    "RecordData",
    "UnknownData",
    "parse_rdata",
]

_SOA = struct.Struct("!IIIII")
_MX = struct.Struct("!H")
_SRV = struct.Struct("!HHH")

# Chaosnet and Hesiod give these types another meaning, or none.
_INTERNET_ONLY = frozenset({1, 28, 33})
_OTHER_CLASSES = frozenset({3, 4})


class RecordData:
    """The base of the data: each knows its type and its own bytes."""

    __slots__ = ()

    rtype: ClassVar[int] = 0

    def write(self, writer: NameWriter) -> None:
        """Appends the data, without its length. Raises EmitError or struct.error."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class UnknownData(RecordData):
    """Data of any other type, or such as is not what its type says."""

    rtype: int  # type: ignore[misc] # a field in place of the base's constant
    data: bytes = b""

    def write(self, writer: NameWriter) -> None:
        writer.data += self.data


@dataclass(slots=True, kw_only=True)
class A(RecordData):
    """An IPv4 address."""

    address: str

    rtype: ClassVar[int] = 1

    def write(self, writer: NameWriter) -> None:
        writer.data += pack_ipv4(self.address)


@dataclass(slots=True, kw_only=True)
class AAAA(RecordData):
    """An IPv6 address (RFC 3596)."""

    address: str

    rtype: ClassVar[int] = 28

    def write(self, writer: NameWriter) -> None:
        writer.data += pack_ipv6(self.address)


@dataclass(slots=True, kw_only=True)
class NS(RecordData):
    """A name server of the zone."""

    nsdname: str

    rtype: ClassVar[int] = 2

    def write(self, writer: NameWriter) -> None:
        writer.write(self.nsdname)


@dataclass(slots=True, kw_only=True)
class CNAME(RecordData):
    """The name that the owner is an alias of."""

    cname: str

    rtype: ClassVar[int] = 5

    def write(self, writer: NameWriter) -> None:
        writer.write(self.cname)


@dataclass(slots=True, kw_only=True)
class PTR(RecordData):
    """Another place in the name space, mostly the name of an address."""

    ptrdname: str

    rtype: ClassVar[int] = 12

    def write(self, writer: NameWriter) -> None:
        writer.write(self.ptrdname)


@dataclass(slots=True, kw_only=True)
class SOA(RecordData):
    """The start of a zone of authority; times in seconds.

    Attributes:
        mname: the primary name server.
        rname: the mailbox of who is responsible, its @ a dot.
        serial: of this version of the zone.
        refresh: how often secondaries ask.
        retry: how soon they ask again after a failure.
        expire: when they give up.
        minimum: how long a negative answer holds (RFC 2308).
    """

    mname: str
    rname: str
    serial: int = 0
    refresh: int = 0
    retry: int = 0
    expire: int = 0
    minimum: int = 0

    rtype: ClassVar[int] = 6

    def write(self, writer: NameWriter) -> None:
        writer.write(self.mname)
        writer.write(self.rname)
        writer.data += _SOA.pack(self.serial, self.refresh, self.retry, self.expire, self.minimum)


@dataclass(slots=True, kw_only=True)
class MX(RecordData):
    """A mail exchange; the lowest `preference` is tried first."""

    preference: int = 0
    exchange: str

    rtype: ClassVar[int] = 15

    def write(self, writer: NameWriter) -> None:
        writer.data += _MX.pack(self.preference)
        writer.write(self.exchange)


@dataclass(slots=True, kw_only=True)
class TXT(RecordData):
    """Texts, as bytes because RFC 1035 gives them no encoding; each at most 255 long."""

    strings: tuple[bytes, ...] = (b"",)

    rtype: ClassVar[int] = 16

    def write(self, writer: NameWriter) -> None:
        for each in self.strings:
            if len(each) > 255:
                raise EmitError("TXT.strings", each, "at most 255 bytes each")
            writer.data.append(len(each))
            writer.data += each


@dataclass(slots=True, kw_only=True)
class SRV(RecordData):
    """Where a service is (RFC 2782): the lowest `priority` first, by `weight` among equals."""

    priority: int = 0
    weight: int = 0
    port: int = 0
    target: str

    rtype: ClassVar[int] = 33

    def write(self, writer: NameWriter) -> None:
        writer.data += _SRV.pack(self.priority, self.weight, self.port)
        writer.write(self.target, compressible=False)


@dataclass(slots=True, kw_only=True)
class CAA(RecordData):
    """Which authority may issue certificates (RFC 8659).

    Attributes:
        flags: 8 bits; 128 is critical.
        tag: the property, e.g. `issue`.
        value: its value.
    """

    flags: int = 0
    tag: str
    value: bytes = b""

    rtype: ClassVar[int] = 257

    def write(self, writer: NameWriter) -> None:
        try:
            tag = self.tag.encode("ascii")
            writer.data += bytes((self.flags, len(tag))) + tag + self.value
        except ValueError:
            raise EmitError("CAA", self, "flags of 0 to 255, a tag of ASCII") from None


def parse_rdata(names: NameReader, rtype: int, rclass: int, at: int, end: int) -> RecordData:
    """The data of a record, from `at` to `end` of the message; never raises.

    Args:
        names: of the message; remembers the names that the data holds.
        rtype: type of the record.
        rclass: class of the record.
        at: where the data begins.
        end: where it ends, within the message.
    """
    before = len(names.shapes)
    if rtype not in _INTERNET_ONLY or rclass not in _OTHER_CLASSES:
        try:
            known, behind = _parse_known(names, rtype, at, end)
            if known is not None and behind == end:
                return known
        except (WireError, ValueError, struct.error):
            pass  # cut short, of the wrong size, or with a name that leads nowhere
    del names.shapes[before:]
    return UnknownData(rtype=rtype, data=names.data[at:end])


def _parse_known(names: NameReader, rtype: int, at: int, end: int) -> tuple[RecordData | None, int]:
    """(data, where it ended); (None, at) where no class is for it."""
    data = names.data
    if rtype == 1 and end - at == 4:
        return A(address=unpack_ipv4(data[at:end])), end
    if rtype == 28 and end - at == 16:
        return AAAA(address=unpack_ipv6(data[at:end])), end
    if rtype in (2, 5, 12):
        name, at = names.read(at)
        if rtype == 2:
            return NS(nsdname=name), at
        return (CNAME(cname=name) if rtype == 5 else PTR(ptrdname=name)), at
    if rtype == 6:
        mname, at = names.read(at)
        rname, at = names.read(at)
        serial, refresh, retry, expire, minimum = _SOA.unpack_from(data, at)
        soa = SOA(
            mname=mname,
            rname=rname,
            serial=serial,
            refresh=refresh,
            retry=retry,
            expire=expire,
            minimum=minimum,
        )
        return soa, at + _SOA.size
    if rtype == 15:
        (preference,) = _MX.unpack_from(data, at)
        exchange, at = names.read(at + 2)
        return MX(preference=preference, exchange=exchange), at
    if rtype == 16:
        strings = []
        while at < end:
            strings.append(data[at + 1 : at + 1 + data[at]])
            at += 1 + data[at]
        return TXT(strings=tuple(strings)), at
    if rtype == 33:
        priority, weight, port = _SRV.unpack_from(data, at)
        target, at = names.read(at + 6)
        return SRV(priority=priority, weight=weight, port=port, target=target), at
    if rtype == 257 and end - at >= 2:
        value = at + 2 + data[at + 1]
        if value <= end:
            tag = data[at + 2 : value].decode("ascii")
            return CAA(flags=data[at], tag=tag, value=data[value:end]), end
    return None, at
