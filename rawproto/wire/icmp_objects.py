"""The objects of an ICMP extension structure (read RFC 4950, RFC 5837, RFC 8335).

An object is a header (length, class number, class type; drawn in `icmp_ext`)
and data::

    class 1, MPLS label stack (RFC 4950), one word a label:
    +---------------------------------------+-----+-+---------------+
    |                 label                 | exp |S|      ttl      |
    +---------------------------------------+-----+-+---------------+

    class 2, interface information (RFC 5837); the c_type says which parts follow:
    +---+---+-+-+-+-+
    |role|res|I|A|N|M|    I  if_index (32)
    +---+---+-+-+-+-+    A  family (16), reserved (16), address
                         N  length (8), name, zeros to 32 bits; the length counts all three
                         M  mtu (32)

    class 3, interface identification (RFC 8335): by c_type 1 a name padded with
    zeros, 2 an if_index, 3 family (16), address length (8), reserved (8), address.

An object whose fields would not give its bytes again (reserved bits set, odd
padding, a family other than IP) is kept as `UnknownObject`, so that nothing on
the wire is lost. No object knows the message that it came with.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from rawproto.errors import EmitError
from rawproto.wire.address import family_of, pack_address, unpack_ipv4, unpack_ipv6

__all__ = [
    "ICMPObject",
    "InterfaceIdentification",
    "InterfaceInformation",
    "MPLSLabel",
    "MPLSLabelStack",
    "RawObjects",
    "UnknownObject",
    "parse_objects",
]

_OBJECT = struct.Struct("!HBB")
_WORD = struct.Struct("!I")
_ADDRESS = struct.Struct("!HH")
_ADDRESS_AND_LENGTH = struct.Struct("!HBB")

# IANA's address family numbers, by the look of the address.
_FAMILY_NUMBER = {4: 1, 6: 2}
_ADDRESS_BYTES = {1: 4, 2: 16}
_NAME_BYTES = 63

_IF_INDEX, _IF_ADDR, _IF_NAME, _MTU = 8, 4, 2, 1


class ICMPObject:
    """The base of the objects: each knows its own bytes, header included."""

    __slots__ = ()

    def emit(self) -> bytes:
        """Length, class, type and data. Raises EmitError."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class UnknownObject(ICMPObject):
    """Any other object, well formed: `data` is what follows its header."""

    class_num: int = 0
    c_type: int = 0
    data: bytes = b""

    def emit(self) -> bytes:
        return _emit_object(self, self.class_num, self.c_type, self.data)


@dataclass(slots=True, kw_only=True)
class RawObjects(ICMPObject):
    """The rest of a structure from the first object that can't be read; emitted as it is."""

    data: bytes = b""

    def emit(self) -> bytes:
        return self.data


@dataclass(slots=True, kw_only=True)
class MPLSLabel:
    """One entry of a label stack (RFC 3032).

    Attributes:
        label: 20 bits.
        exp: 3 bits, which RFC 5462 renamed to traffic class.
        bottom_of_stack: true for the last.
        ttl: 0 to 255.
    """

    label: int = 0
    exp: int = 0
    bottom_of_stack: bool = True
    ttl: int = 0


@dataclass(slots=True, kw_only=True)
class MPLSLabelStack(ICMPObject):
    """Class 1, type 1: the labels that the packet arrived with, outermost first (RFC 4950)."""

    labels: tuple[MPLSLabel, ...] = ()

    def emit(self) -> bytes:
        data = b""
        for each in self.labels:
            try:
                if each.exp >> 3 or each.ttl >> 8:
                    raise struct.error
                bottom = bool(each.bottom_of_stack)
                data += _WORD.pack(each.label << 12 | each.exp << 9 | bottom << 8 | each.ttl)
            except (struct.error, TypeError):
                raise EmitError("MPLSLabelStack.labels", each, "does not fit its layout") from None
        return _emit_object(self, 1, 1, data)


@dataclass(slots=True, kw_only=True)
class InterfaceInformation(ICMPObject):
    """Class 2: an interface of the router that sends the error (RFC 5837).

    Attributes:
        role: what the interface is to the packet, named in `roles`.
        if_index: as in its SNMP tables; None where not told, as in all that follow.
        if_addr: IPv4 or IPv6.
        if_name: at most 63 bytes of UTF-8.
        mtu: in bytes.
    """

    role: int = 0
    if_index: int | None = None
    if_addr: str | None = None
    if_name: str | None = None
    mtu: int | None = None

    roles: ClassVar[dict[int, str]] = {
        0: "incoming",
        1: "incoming sub-interface",
        2: "outgoing",
        3: "next hop",
    }

    def emit(self) -> bytes:
        data = b""
        try:
            c_type = self.role << 6
            if self.if_index is not None:
                c_type |= _IF_INDEX
                data += _WORD.pack(self.if_index)
            if self.if_addr is not None:
                c_type |= _IF_ADDR
                address = pack_address(self.if_addr)
                data += _ADDRESS.pack(_FAMILY_NUMBER[family_of(self.if_addr)], 0) + address
            if self.if_name is not None:
                c_type |= _IF_NAME
                name = _pack_name(self.if_name)
                data += bytes((1 + len(name) + -(1 + len(name)) % 4,)) + name
                data += bytes(-len(data) % 4)
            if self.mtu is not None:
                c_type |= _MTU
                data += _WORD.pack(self.mtu)
        except (struct.error, TypeError):
            raise EmitError("InterfaceInformation", self, "does not fit its layout") from None
        return _emit_object(self, 2, c_type, data)


@dataclass(slots=True, kw_only=True)
class InterfaceIdentification(ICMPObject):
    """Class 3: the interface that an extended echo asks about, by one of three (RFC 8335).

    Attributes:
        if_name: at most 63 bytes of UTF-8.
        if_index: as the probed node counts its interfaces.
        if_addr: IPv4 or IPv6, of the interface.
    """

    if_name: str | None = None
    if_index: int | None = None
    if_addr: str | None = None

    def emit(self) -> bytes:
        if [self.if_name, self.if_index, self.if_addr].count(None) != 2:
            raise EmitError("InterfaceIdentification", self, "needs a name, an index or an address")
        if self.if_name is not None:
            name = _pack_name(self.if_name)
            return _emit_object(self, 3, 1, name + bytes(-len(name) % 4))
        if self.if_addr is not None:
            data = pack_address(self.if_addr)
            family = _FAMILY_NUMBER[family_of(self.if_addr)]
            return _emit_object(self, 3, 3, _ADDRESS_AND_LENGTH.pack(family, len(data), 0) + data)
        try:
            return _emit_object(self, 3, 2, _WORD.pack(self.if_index))
        except struct.error:
            raise EmitError(
                "InterfaceIdentification.if_index", self.if_index, "must be 0 to 4294967295"
            ) from None


def parse_objects(data: bytes) -> tuple[ICMPObject, ...]:
    """What follows a structure's header; never raises, emitting gives `data` again."""
    objects: list[ICMPObject] = []
    at, end = 0, len(data)
    while at < end:
        length, class_num, c_type = _OBJECT.unpack_from(data, at) if end - at >= 4 else (0, 0, 0)
        if not 4 <= length <= end - at:
            objects.append(RawObjects(data=data[at:]))
            break
        objects.append(_parse_object(class_num, c_type, data[at : at + length]))
        at += length
    return tuple(objects)


def _parse_object(class_num: int, c_type: int, whole: bytes) -> ICMPObject:
    data = whole[4:]
    known: ICMPObject | None = None
    try:
        if class_num == 1:
            known = _parse_labels(data)
        elif class_num == 2:
            known = _parse_information(c_type, data)
        elif class_num == 3:
            known = _parse_identification(c_type, data)
        if known is not None and known.emit() == whole:
            return known
    except (struct.error, ValueError):
        pass  # too short for what it claims, no UTF-8, no name that could be sent
    return UnknownObject(class_num=class_num, c_type=c_type, data=data)


def _parse_labels(data: bytes) -> MPLSLabelStack:
    return MPLSLabelStack(
        labels=tuple(
            MPLSLabel(
                label=word >> 12,
                exp=word >> 9 & 7,
                bottom_of_stack=bool(word >> 8 & 1),
                ttl=word & 0xFF,
            )
            for (word,) in _WORD.iter_unpack(data)
        )
    )


def _parse_information(c_type: int, data: bytes) -> InterfaceInformation:
    at = 0
    if_index = if_addr = if_name = mtu = None
    if c_type & _IF_INDEX:
        (if_index,) = _WORD.unpack_from(data, at)
        at += 4
    if c_type & _IF_ADDR:
        family, _ = _ADDRESS.unpack_from(data, at)
        end = at + 4 + _ADDRESS_BYTES.get(family, 0)
        if_addr = _unpack_address(family, data[at + 4 : end])
        at = end
    if c_type & _IF_NAME:
        length = (data[at : at + 1] or b"\x00")[0]
        if_name = data[at + 1 : at + length].rstrip(b"\x00").decode()
        at += length
    if c_type & _MTU:
        (mtu,) = _WORD.unpack_from(data, at)
    return InterfaceInformation(
        role=c_type >> 6, if_index=if_index, if_addr=if_addr, if_name=if_name, mtu=mtu
    )


def _parse_identification(c_type: int, data: bytes) -> InterfaceIdentification | None:
    if c_type == 1:
        return InterfaceIdentification(if_name=data.rstrip(b"\x00").decode())
    if c_type == 2:
        return InterfaceIdentification(if_index=_WORD.unpack(data)[0])
    if c_type == 3:
        family, length, _ = _ADDRESS_AND_LENGTH.unpack_from(data)
        return InterfaceIdentification(if_addr=_unpack_address(family, data[4 : 4 + length]))
    return None


def _unpack_address(family: int, data: bytes) -> str:
    if len(data) != _ADDRESS_BYTES.get(family):
        raise ValueError(f"address family {family} with {len(data)} bytes")
    return unpack_ipv4(data) if family == 1 else unpack_ipv6(data)


def _pack_name(name: str) -> bytes:
    try:
        data = name.encode()
    except (UnicodeEncodeError, AttributeError):
        raise EmitError("if_name", name, "not text that UTF-8 can carry") from None
    if len(data) > _NAME_BYTES or b"\x00" in data:
        raise EmitError("if_name", name, f"at most {_NAME_BYTES} bytes, none of them zero")
    return data


def _emit_object(which: ICMPObject, class_num: int, c_type: int, data: bytes) -> bytes:
    try:
        return _OBJECT.pack(4 + len(data), class_num, c_type) + data
    except struct.error:
        raise EmitError(type(which).__name__, which, "does not fit its layout") from None
