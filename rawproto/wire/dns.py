"""DNS messages (read RFC 1035 section 4 first; RFC 6891 for OPT).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-+-------+-+-+-+-+-+-+-+-------+
    |          identifier           |Q|opcode |A|T|R|R|Z|A|C| rcode |
    |                               |R|       |A|C|D|A| |D|D|       |
    +-------------------------------+-+-------+-+-+-+-+-+-+-+-------+
    |            qdcount            |            ancount            |
    +-------------------------------+-------------------------------+
    |            nscount            |            arcount            |
    +-------------------------------+-------------------------------+
    |        questions, answers, authorities, additionals ...       |
    +---------------------------------------------------------------+

How names are compressed is the writer's choice, which no field tells. A message
therefore remembers, for each of its names, where `parse` found a pointer, and
`emit` lays its fields out the same way again. `dataclasses.replace` and
`recomputed` make a message that remembers nothing: its names go out whole, or
with `compress=True` compressed in the way of RFC 1035.

It knows neither the two bytes of length that go before a message over TCP nor
who asks what: no cache, no resolver.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.dns_name import NameReader, NameWriter, Shape
from rawproto.wire.dns_record import (
    DNSQuestion,
    DNSRecord,
    OPTRecord,
    parse_questions,
    parse_records,
)
from rawproto.wire.layer import Layer

__all__ = ["DNSMessage"]

_HEADER = struct.Struct("!HHHHHH")


class _RemembersShapes(Layer):
    """Gives a message the slot for its memory, which is no field: `replace` leaves it behind."""

    __slots__ = ("_shapes",)

    _shapes: tuple[Shape | None, ...] | None


@dataclass(slots=True, kw_only=True)
class DNSMessage(_RemembersShapes):
    """A query or a response.

    Attributes:
        identifier: 16 bits, the same in the response.
        qr: false for a query, true for a response.
        opcode: 4 bits, 0 for a standard query.
        aa: an authoritative answer.
        tc: cut short; ask again over TCP.
        rd: recursion is desired.
        ra: recursion is available.
        z: must be zero.
        ad: the data is authentic (RFC 4035).
        cd: checking is disabled (RFC 4035).
        rcode: 4 bits, 0 for no error; `OPTRecord` may carry more.
        qdcount: of questions; None computes, as for the three that follow.
        ancount: of answers.
        nscount: of authorities.
        arcount: of additionals.
        questions: in order, as the sections that follow.
        answers: records that answer.
        authorities: records of who would know.
        additionals: records that may help, and the OPT record.
    """

    identifier: int = 0
    qr: bool = False
    opcode: int = 0
    aa: bool = False
    tc: bool = False
    rd: bool = True
    ra: bool = False
    z: bool = False
    ad: bool = False
    cd: bool = False
    rcode: int = 0
    qdcount: int | None = None
    ancount: int | None = None
    nscount: int | None = None
    arcount: int | None = None
    questions: tuple[DNSQuestion, ...] = ()
    answers: tuple[DNSRecord | OPTRecord, ...] = ()
    authorities: tuple[DNSRecord | OPTRecord, ...] = ()
    additionals: tuple[DNSRecord | OPTRecord, ...] = ()

    layer: ClassVar[str] = "dns"
    computed: ClassVar[tuple[str, ...]] = ("qdcount", "ancount", "nscount", "arcount")
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("identifier", 16),
        ("qr", 1),
        ("opcode", 4),
        ("aa", 1),
        ("tc", 1),
        ("rd", 1),
        ("ra", 1),
        ("z", 1),
        ("ad", 1),
        ("cd", 1),
        ("rcode", 4),
        ("qdcount", 16),
        ("ancount", 16),
        ("nscount", 16),
        ("arcount", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "opcode": {0: "QUERY", 1: "IQUERY", 2: "STATUS", 4: "NOTIFY", 5: "UPDATE"},
        "rcode": {
            0: "NOERROR",
            1: "FORMERR",
            2: "SERVFAIL",
            3: "NXDOMAIN",
            4: "NOTIMP",
            5: "REFUSED",
        },
    }

    def __post_init__(self) -> None:
        self._shapes = None  # type: ignore[misc] # mypy doesn't see the slots of a plain base

    @property
    def opt(self) -> OPTRecord | None:
        """The OPT record, None where the sender does no EDNS."""
        for each in self.additionals:
            if isinstance(each, OPTRecord):
                return each
        return None

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a message: (message, what follows its last record).

        Raises:
            TruncatedError: less is there than the counts say.
            MalformedError: a name that breaks the rules of `dns_name`.
        """
        try:
            identifier, bits, *counts = _HEADER.unpack_from(data)
        except struct.error:
            raise TruncatedError("dns", 0, 12, len(data)) from None
        names = NameReader(data)
        questions, at = parse_questions(names, 12, counts[0])
        answers, at = parse_records(names, at, counts[1])
        authorities, at = parse_records(names, at, counts[2])
        additionals, at = parse_records(names, at, counts[3])
        self = cls(
            identifier=identifier,
            qr=bool(bits & 0x8000),
            opcode=bits >> 11 & 15,
            aa=bool(bits & 0x0400),
            tc=bool(bits & 0x0200),
            rd=bool(bits & 0x0100),
            ra=bool(bits & 0x0080),
            z=bool(bits & 0x0040),
            ad=bool(bits & 0x0020),
            cd=bool(bits & 0x0010),
            rcode=bits & 15,
            qdcount=counts[0],
            ancount=counts[1],
            nscount=counts[2],
            arcount=counts[3],
            questions=questions,
            answers=answers,
            authorities=authorities,
            additionals=additionals,
        )
        self._shapes = tuple(names.shapes)  # type: ignore[misc]
        return self, data[at:]

    def emit(self, payload: bytes = b"", *, compress: bool | None = None) -> bytes:
        """The message's bytes.

        Args:
            payload: what is to follow.
            compress: whether names are compressed; None does as the message was found by
                `parse`, and does not where it was made by hand.

        Raises:
            EmitError: a field does not fit, or a name can't be written.
        """
        shapes = self._shapes if compress is None else None
        writer = NameWriter(compress=bool(compress), shapes=shapes)
        writer.data += self._header()
        for each in (*self.questions, *self.answers, *self.authorities, *self.additionals):
            try:
                each.write(writer)
            except (struct.error, TypeError):
                raise EmitError(type(each).__name__, each, "does not fit its layout") from None
        return bytes(writer.data) + payload

    def _header(self) -> bytes:
        sections = (self.questions, self.answers, self.authorities, self.additionals)
        counts = (self.qdcount, self.ancount, self.nscount, self.arcount)
        bits = (self.qr, self.aa, self.tc, self.rd, self.ra, self.z, self.ad, self.cd)
        places = (15, 10, 9, 8, 7, 6, 5, 4)
        try:
            if self.opcode >> 4 or self.rcode >> 4:
                raise struct.error
            word = self.opcode << 11 | self.rcode
            for bit, place in zip(bits, places, strict=True):
                word |= bool(bit) << place
            return _HEADER.pack(
                self.identifier,
                word,
                *(
                    len(section) if count is None else count
                    for section, count in zip(sections, counts, strict=True)
                ),
            )
        except (struct.error, TypeError):
            raise self.emit_error() from None
