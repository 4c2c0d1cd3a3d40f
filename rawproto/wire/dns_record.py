"""Questions and records of DNS messages, and the OPT record (read RFC 1035 section 4.1, RFC 6891).

::

    a question:   qname, qtype (16), qclass (16)
    a record:     name, rtype (16), rclass (16), ttl (32), rdlength (16), rdata
    an OPT record, in the same places:
                  the root, 41, udp_payload_size, extended_rcode (8) version (8) flags (16),
                  rdlength, options: code (16), length (16), data

What `rdata` says is in `dns_rdata`. Nothing here knows which section it stands in.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from rawproto.errors import TruncatedError
from rawproto.wire.dns_name import NameReader, NameWriter
from rawproto.wire.dns_rdata import RecordData, parse_rdata

__all__ = [
    "CLASS_NAMES",
    "TYPE_NAMES",
    "DNSQuestion",
    "DNSRecord",
    "EDNSOption",
    "OPTRecord",
    "parse_questions",
    "parse_records",
]

_QUESTION = struct.Struct("!HH")
_RECORD = struct.Struct("!HHIH")
_RDLENGTH = struct.Struct("!H")
_OPTION = struct.Struct("!HH")
_OPT = 41

TYPE_NAMES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    13: "HINFO",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    39: "DNAME",
    41: "OPT",
    43: "DS",
    46: "RRSIG",
    47: "NSEC",
    48: "DNSKEY",
    50: "NSEC3",
    52: "TLSA",
    64: "SVCB",
    65: "HTTPS",
    251: "IXFR",
    252: "AXFR",
    255: "ANY",
    257: "CAA",
}
"""Types of records and questions, by number."""

CLASS_NAMES = {1: "IN", 3: "CH", 4: "HS", 254: "NONE", 255: "ANY"}
"""Classes of records and questions, by number."""


@dataclass(slots=True, kw_only=True)
class DNSQuestion:
    """What is asked.

    Attributes:
        qname: the name, as text (see `dns_name`).
        qtype: named in `TYPE_NAMES`.
        qclass: named in `CLASS_NAMES`.
    """

    qname: str
    qtype: int = 1
    qclass: int = 1

    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "qtype": TYPE_NAMES,
        "qclass": CLASS_NAMES,
    }

    def write(self, writer: NameWriter) -> None:
        """Appends the question. Raises EmitError or struct.error."""
        writer.write(self.qname)
        writer.data += _QUESTION.pack(self.qtype, self.qclass)


@dataclass(slots=True, kw_only=True)
class DNSRecord:
    """A resource record.

    Attributes:
        name: whose record it is, as text.
        rclass: named in `CLASS_NAMES`.
        ttl: in seconds, how long it may be kept.
        rdata: what it says, which gives its type too.
    """

    name: str
    rclass: int = 1
    ttl: int = 0
    rdata: RecordData

    value_names: ClassVar[dict[str, dict[int, str]]] = {"rclass": CLASS_NAMES}

    @property
    def rtype(self) -> int:
        """Named in `TYPE_NAMES`."""
        return self.rdata.rtype

    def write(self, writer: NameWriter) -> None:
        """Appends the record. Raises EmitError or struct.error."""
        writer.write(self.name)
        writer.data += _RECORD.pack(self.rdata.rtype, self.rclass, self.ttl, 0)
        at = len(writer.data)
        self.rdata.write(writer)
        _RDLENGTH.pack_into(writer.data, at - 2, len(writer.data) - at)


@dataclass(slots=True, kw_only=True)
class EDNSOption:
    """An option of an OPT record: its code and its data."""

    code: int
    data: bytes = b""


@dataclass(slots=True, kw_only=True)
class OPTRecord:
    """The pseudo-record of EDNS (RFC 6891), which uses class and TTL for its own ends.

    Attributes:
        name: the root.
        udp_payload_size: the longest message over UDP that its sender takes, in bytes.
        extended_rcode: the upper 8 of 12 bits, the message's `rcode` is the lower 4.
        version: 0.
        flags: 16 bits: DO.
        options: in order.
    """

    name: str = "."
    udp_payload_size: int = 1232
    extended_rcode: int = 0
    version: int = 0
    flags: int = 0
    options: tuple[EDNSOption, ...] = ()

    rtype: ClassVar[int] = _OPT
    flag_names: ClassVar[dict[str, dict[int, str]]] = {"flags": {0x8000: "DO"}}

    def write(self, writer: NameWriter) -> None:
        """Appends the record. Raises EmitError or struct.error."""
        if self.version >> 8 or self.flags >> 16:
            raise struct.error
        ttl = self.extended_rcode << 24 | self.version << 16 | self.flags
        data = b"".join(
            [_OPTION.pack(each.code, len(each.data)) + each.data for each in self.options]
        )
        writer.write(self.name)
        writer.data += _RECORD.pack(_OPT, self.udp_payload_size, ttl, len(data)) + data


def parse_questions(names: NameReader, at: int, count: int) -> tuple[tuple[DNSQuestion, ...], int]:
    """`count` questions from `at` on: (questions, where they end). Raises WireError."""
    questions = []
    for _ in range(count):
        qname, at = names.read(at)
        qtype, qclass = _unpack(_QUESTION, names.data, at)
        at += _QUESTION.size
        questions.append(DNSQuestion(qname=qname, qtype=qtype, qclass=qclass))
    return tuple(questions), at


def parse_records(
    names: NameReader, at: int, count: int
) -> tuple[tuple[DNSRecord | OPTRecord, ...], int]:
    """`count` records from `at` on: (records, where they end). Raises WireError."""
    records: list[DNSRecord | OPTRecord] = []
    for _ in range(count):
        name, at = names.read(at)
        rtype, rclass, ttl, rdlength = _unpack(_RECORD, names.data, at)
        at += _RECORD.size
        end = at + rdlength
        if end > len(names.data):
            raise TruncatedError("dns", at, rdlength, len(names.data) - at)
        options = _parse_options(names.data[at:end]) if rtype == _OPT else None
        if options is None:
            rdata = parse_rdata(names, rtype, rclass, at, end)
            records.append(DNSRecord(name=name, rclass=rclass, ttl=ttl, rdata=rdata))
        else:
            records.append(
                OPTRecord(
                    name=name,
                    udp_payload_size=rclass,
                    extended_rcode=ttl >> 24,
                    version=ttl >> 16 & 0xFF,
                    flags=ttl & 0xFFFF,
                    options=options,
                )
            )
        at = end
    return tuple(records), at


def _parse_options(data: bytes) -> tuple[EDNSOption, ...] | None:
    """An OPT record's options; None where they don't fill its data."""
    options = []
    at, end = 0, len(data)
    while at < end:
        if end - at < 4:
            return None
        code, length = _OPTION.unpack_from(data, at)
        at += 4 + length
        if at > end:
            return None
        options.append(EDNSOption(code=code, data=data[at - length : at]))
    return tuple(options)


def _unpack(layout: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return layout.unpack_from(data, at)
    except struct.error:
        raise TruncatedError("dns", at, layout.size, len(data) - at) from None
