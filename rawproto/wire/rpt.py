"""RPT/1 packets (read docs/transport-spec.md section 2).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-+-+-----+-----+---------------+-------------------------------+
    |0|K| 0 0 |version|  ack_every  |           dst_port            |  short: data
    +-+-+-----+-----+---------------+-------------------------------+
    |           src_port            |        dst_cid (64) ...       |
    +-------------------------------+-------------------------------+
    |  ...  packet_number (32)      |       sealed frames ...       |
    +-------------------------------+-------------------------------+

    +-+-----+-------+---------------+-------------------------------+
    |1|type |version|     suite     |           dst_port            |  long: set-up
    +-+-----+-------+---------------+-------------------------------+
    |           src_port            |        dst_cid (64) ...       |
    +-------------------------------+-------------------------------+
    |        src_cid (64) ...       |            length             |
    +-------------------------------+-------------------------------+
    |                  body, `length` bytes; CRC-32                 |
    +---------------------------------------------------------------+

It has no keys: what stands behind a short header is bytes here, `rpt_frames` reads
them once they are opened. The transport's hot path packs and unpacks with `SHORT` and
`LONG` themselves, without an object per packet.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar, Self
from zlib import crc32

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.layer import Layer

__all__ = [
    "HANDSHAKE",
    "INIT",
    "IP_PROTOCOL",
    "KEY_PHASE",
    "LONG",
    "LONG_FORM",
    "RESET",
    "RETRY",
    "SHORT",
    "VERSION",
    "VERSION_1",
    "RPTHandshake",
    "RPTInit",
    "RPTLong",
    "RPTReset",
    "RPTRetry",
    "RPTShort",
    "RPTVersion",
    "parse_rpt",
]

IP_PROTOCOL = 253
"""The first of RFC 3692's two protocol numbers for experiments."""
VERSION_1 = 1

SHORT = struct.Struct("!BBHHQI")
"""flags, ack_every, dst_port, src_port, dst_cid, packet_number: 18 bytes."""
LONG = struct.Struct("!BBHHQQH")
"""flags, suite, dst_port, src_port, dst_cid, src_cid, length: 24 bytes."""

LONG_FORM, KEY_PHASE = 0x80, 0x40
"""Bits of `flags`."""
INIT, RETRY, HANDSHAKE, RESET, VERSION = range(5)
"""The types of long packets."""

_CRC = struct.Struct("!I")
_TAG_BYTES = 16

_new = object.__new__


@dataclass(slots=True, kw_only=True)
class RPTShort(Layer):
    """The header of a data packet; its payload is the sealed frames (section 2.1).

    Attributes:
        key_phase: 0 or 1.
        reserved: 2 bits, 0.
        version: 4 bits, 1.
        ack_every: how many ack-eliciting packets the receiver may take for one ACK.
        dst_port: 1 to 65535.
        src_port: likewise.
        dst_cid: connection ID that the receiver gave out, 64 bits.
        packet_number: the low 32 of its 62 bits.
    """

    key_phase: int = 0
    reserved: int = 0
    version: int = VERSION_1
    ack_every: int = 1
    dst_port: int = 0
    src_port: int = 0
    dst_cid: int = 0
    packet_number: int = 0

    layer: ClassVar[str] = "rpt"
    ip_protocol: ClassVar[int | None] = IP_PROTOCOL
    form: ClassVar[int] = 0
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("form", 1),
        ("key_phase", 1),
        ("reserved", 2),
        ("version", 4),
        ("ack_every", 8),
        ("dst_port", 16),
        ("src_port", 16),
        ("dst_cid", 64),
        ("packet_number", 32),
    )

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a header: (header, sealed frames).

        Raises:
            TruncatedError: no room for header and tag.
            MalformedError: a long packet.
        """
        if len(data) < SHORT.size + _TAG_BYTES:
            raise TruncatedError("rpt", 0, SHORT.size + _TAG_BYTES, len(data))
        self = _new(cls)
        flags, self.ack_every, self.dst_port, self.src_port, self.dst_cid, self.packet_number = (
            SHORT.unpack_from(data)
        )
        if flags & LONG_FORM:
            raise MalformedError("rpt", 0, "a long packet")
        self.key_phase = flags >> 6
        self.reserved = flags >> 4 & 3
        self.version = flags & 0x0F
        return self, data[SHORT.size :]

    def emit(self, payload: bytes = b"") -> bytes:
        """Header and sealed frames. Raises EmitError."""
        for name, limit in (("key_phase", 2), ("reserved", 4), ("version", 16)):
            if not 0 <= getattr(self, name) < limit:
                raise self.emit_error()
        flags = self.key_phase << 6 | self.reserved << 4 | self.version
        try:
            return (
                SHORT.pack(
                    flags,
                    self.ack_every,
                    self.dst_port,
                    self.src_port,
                    self.dst_cid,
                    self.packet_number,
                )
                + payload
            )
        except struct.error:
            raise self.emit_error() from None


@dataclass(slots=True, kw_only=True)
class RPTLong(Layer):
    """What every long packet begins and ends with (section 2.2); a type adds its body.

    Attributes:
        version: 4 bits, 1.
        suite: pattern and cipher of the handshake (section 3.1).
        dst_port: 1 to 65535.
        src_port: likewise.
        dst_cid: connection ID of the receiver, or the client's random one, 64 bits.
        src_cid: connection ID of the sender.
        length: of the body, in bytes; None computes.
        checksum: CRC-32 of header and body; None computes.
    """

    version: int = VERSION_1
    suite: int = 0
    dst_port: int = 0
    src_port: int = 0
    dst_cid: int = 0
    src_cid: int = 0
    length: int | None = None
    checksum: int | None = None

    layer: ClassVar[str] = "rpt"
    ip_protocol: ClassVar[int | None] = IP_PROTOCOL
    form: ClassVar[int] = 1
    packet_type: ClassVar[int] = -1
    computed: ClassVar[tuple[str, ...]] = ("length", "checksum")
    layout: ClassVar[tuple[tuple[str, int], ...]] = (
        ("form", 1),
        ("packet_type", 3),
        ("version", 4),
        ("suite", 8),
        ("dst_port", 16),
        ("src_port", 16),
        ("dst_cid", 64),
        ("src_cid", 64),
        ("length", 16),
    )
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        "packet_type": {
            INIT: "init",
            RETRY: "retry",
            HANDSHAKE: "handshake",
            RESET: "reset",
            VERSION: "version",
        },
        "suite": {
            pattern << 4 | cipher: f"{name}-{cipher_name}"
            for pattern, name in enumerate(("xx", "ik", "xxpsk3", "ikpsk2"))
            for cipher, cipher_name in ((1, "aesgcm"), (2, "chachapoly"))
        },
    }

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads a packet of this type: (packet, what stands behind it).

        Raises:
            TruncatedError: fewer bytes than the header or `length` ask for.
            MalformedError: another type, or a body that contradicts itself.
        """
        if len(data) < LONG.size:
            raise TruncatedError("rpt", 0, LONG.size, len(data))
        self = _new(cls)
        flags, self.suite, self.dst_port, self.src_port, self.dst_cid, self.src_cid, length = (
            LONG.unpack_from(data)
        )
        if flags >> 4 != 8 | cls.packet_type:
            raise MalformedError("rpt", 0, f"not of type {cls.packet_type}")
        end = LONG.size + length
        if len(data) < end + _CRC.size:
            raise TruncatedError("rpt", 0, end + _CRC.size, len(data))
        self.version = flags & 0x0F
        self.length = length
        (self.checksum,) = _CRC.unpack_from(data, end)
        self._read(data[LONG.size : end])
        return self, data[end + _CRC.size :]

    def emit(self, payload: bytes = b"") -> bytes:
        """The packet, `payload` behind it (none belongs there). Raises EmitError."""
        body = self._write()
        length = len(body) if self.length is None else self.length
        if not 0 <= self.version < 16:
            raise self.emit_error()
        flags = LONG_FORM | self.packet_type << 4 | self.version
        try:
            packet = (
                LONG.pack(
                    flags,
                    self.suite,
                    self.dst_port,
                    self.src_port,
                    self.dst_cid,
                    self.src_cid,
                    length,
                )
                + body
            )
            checksum = crc32(packet) if self.checksum is None else self.checksum
            return packet + _CRC.pack(checksum) + payload
        except struct.error:
            if self.checksum is not None and not 0 <= self.checksum < 1 << 32:
                field = f"{type(self).__name__}.checksum"
                raise EmitError(field, self.checksum, f"must be 0 to {(1 << 32) - 1}") from None
            raise self.emit_error() from None

    @staticmethod
    def verify(data: bytes) -> bool:
        """Whether the CRC-32 at the end of a packet is right; `data` is all of it."""
        return len(data) >= LONG.size + _CRC.size and crc32(data[:-4]) == _CRC.unpack(data[-4:])[0]

    def _read(self, body: bytes) -> None:
        raise NotImplementedError

    def _write(self) -> bytes:
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class RPTInit(RPTLong):
    """A client's first packet (section 2.3).

    Attributes:
        token: from a RETRY, up to 255 bytes.
        message: Noise message 1.
        padding: what fills the packet up, zeros.
    """

    token: bytes = b""
    message: bytes = b""
    padding: bytes = b""

    packet_type: ClassVar[int] = INIT
    behind: ClassVar[tuple[tuple[str, int], ...]] = (
        ("token_length", 8),
        ("token", 0),
        ("message_length", 16),
        ("message", 0),
        ("padding", 0),
        ("checksum", 32),
    )

    @property
    def token_length(self) -> int:
        """Bytes of the token."""
        return len(self.token)

    @property
    def message_length(self) -> int:
        """Bytes of the message."""
        return len(self.message)

    def _read(self, body: bytes) -> None:
        token_end = 1 + body[0] if body else 1
        if len(body) < token_end + 2:
            raise MalformedError("rpt", LONG.size, "the body ends within the token")
        message_end = token_end + 2 + int.from_bytes(body[token_end : token_end + 2], "big")
        if len(body) < message_end:
            raise MalformedError("rpt", LONG.size + token_end, "the body ends within the message")
        self.token = body[1:token_end]
        self.message = body[token_end + 2 : message_end]
        self.padding = body[message_end:]

    def _write(self) -> bytes:
        return self.prologue_body() + self.message + self.padding

    def prologue_body(self) -> bytes:
        """The body as far as the Noise message: token and the lengths (section 3.2.1)."""
        if len(self.token) > 0xFF:
            raise EmitError("RPTInit.token", self.token, "more than 255 bytes")
        if len(self.message) > 0xFFFF:
            raise EmitError("RPTInit.message", self.message, "more than 65535 bytes")
        return b"%c%b%b" % (len(self.token), self.token, len(self.message).to_bytes(2, "big"))


@dataclass(slots=True, kw_only=True)
class RPTRetry(RPTLong):
    """A listener's demand to prove an address (section 2.5).

    Attributes:
        token: to be repeated in INIT, 1 to 255 bytes.
    """

    token: bytes = b""

    packet_type: ClassVar[int] = RETRY
    behind: ClassVar[tuple[tuple[str, int], ...]] = (("token", 0), ("checksum", 32))

    def _read(self, body: bytes) -> None:
        self.token = body

    def _write(self) -> bytes:
        return self.token


@dataclass(slots=True, kw_only=True)
class RPTHandshake(RPTLong):
    """Noise message 2 or 3 (section 2.4).

    Attributes:
        message: the message.
    """

    message: bytes = b""

    packet_type: ClassVar[int] = HANDSHAKE
    behind: ClassVar[tuple[tuple[str, int], ...]] = (("message", 0), ("checksum", 32))

    def _read(self, body: bytes) -> None:
        self.message = body

    def _write(self) -> bytes:
        return self.message


@dataclass(slots=True, kw_only=True)
class RPTReset(RPTLong):
    """A refusal, or the end of a connection that is not known any more (sections 2.5 and 12).

    Attributes:
        code: why.
        token: 16 bytes, zeros during the handshake.
    """

    code: int = 0
    token: bytes = bytes(16)

    packet_type: ClassVar[int] = RESET
    behind: ClassVar[tuple[tuple[str, int], ...]] = (("code", 8), ("token", 0), ("checksum", 32))
    value_names: ClassVar[dict[str, dict[int, str]]] = {
        **RPTLong.value_names,
        "code": {0: "port", 1: "key", 2: "unknown", 3: "suite", 4: "busy"},
    }

    def _read(self, body: bytes) -> None:
        if len(body) != 17:
            raise MalformedError("rpt", LONG.size, f"a RESET of {len(body)} bytes, not 17")
        self.code = body[0]
        self.token = body[1:]

    def _write(self) -> bytes:
        if not 0 <= self.code <= 0xFF:
            raise EmitError("RPTReset.code", self.code, "must be 0 to 255")
        return b"%c%b" % (self.code, self.token)


@dataclass(slots=True, kw_only=True)
class RPTVersion(RPTLong):
    """The versions that a listener speaks (section 2.5).

    Attributes:
        versions: at least one.
    """

    versions: tuple[int, ...] = (VERSION_1,)

    packet_type: ClassVar[int] = VERSION
    behind: ClassVar[tuple[tuple[str, int], ...]] = (("versions", 0), ("checksum", 32))

    def _read(self, body: bytes) -> None:
        if not body:
            raise MalformedError("rpt", LONG.size, "no version is named")
        self.versions = tuple(body)

    def _write(self) -> bytes:
        try:
            return bytes(self.versions)
        except ValueError:
            raise EmitError("RPTVersion.versions", self.versions, "must be 0 to 255") from None


_LONG_TYPES: dict[int, type[RPTLong]] = {
    8 | kind.packet_type: kind for kind in (RPTInit, RPTRetry, RPTHandshake, RPTReset, RPTVersion)
}


def parse_rpt(data: bytes) -> tuple[RPTShort | RPTLong, bytes]:
    """Reads a packet of either form: (packet, what stands behind what was read).

    Raises:
        TruncatedError: the bytes end too early.
        MalformedError: an unknown type, or a body that contradicts itself.
    """
    if not data:
        raise TruncatedError("rpt", 0, SHORT.size + _TAG_BYTES, 0)
    if not data[0] & LONG_FORM:
        return RPTShort.parse(data)
    kind = _LONG_TYPES.get(data[0] >> 4)
    if kind is None:
        raise MalformedError("rpt", 0, f"unknown type {data[0] >> 4 & 7}")
    return kind.parse(data)
