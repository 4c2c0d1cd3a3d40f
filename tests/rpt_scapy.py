# ruff: noqa: RUF012 - scapy wants a list there
"""RPT/1 for scapy, written from docs/transport-spec.md and without a line of rawproto.

`RPT(data)` gives an `RPTLong` or an `RPTShort`; importing the module lets IP and IPv6 hand
protocol 253 to it. `KeyedReader` opens short packets with a key log into `RPTFrames`, with
nothing but HMAC and the two ciphers: a second reading of sections 2, 4, 5 and 14.
"""

from __future__ import annotations

import hmac
from typing import Any
from zlib import crc32

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from scapy.fields import (
    BitEnumField,
    BitField,
    ByteField,
    FieldLenField,
    FieldListField,
    IntField,
    LongField,
    PacketLenField,
    PacketListField,
    ShortField,
    StrField,
    StrFixedLenField,
    StrLenField,
    XByteField,
    XIntField,
    XLongField,
)
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw, bind_layers

__all__ = ["RPT", "KeyedReader", "RPTFrames", "RPTLong", "RPTShort"]

INIT, RETRY, HANDSHAKE, RESET, VERSION = range(5)


class RPT(Packet):
    """What a packet is, long or short, is told by its first bit."""

    name = "RPT"

    @classmethod
    def dispatch_hook(cls, _pkt: bytes = b"", *args: Any, **kargs: Any) -> type[Packet]:
        if not _pkt:
            return Raw
        return RPTLong if _pkt[0] & 0x80 else RPTShort


class RPTShort(RPT):
    name = "RPT short"
    fields_desc = [
        BitField("form", 0, 1),
        BitField("key_phase", 0, 1),
        BitField("reserved", 0, 2),
        BitField("version", 1, 4),
        ByteField("ack_every", 1),
        ShortField("dst_port", 0),
        ShortField("src_port", 0),
        XLongField("dst_cid", 0),
        IntField("packet_number", 0),
    ]


class _Body(Packet):
    def extract_padding(self, s: bytes) -> tuple[bytes, bytes]:
        return b"", s


class InitBody(_Body):
    fields_desc = [
        FieldLenField("token_length", None, "token", "B"),
        StrLenField("token", b"", length_from=lambda body: body.token_length),
        FieldLenField("message_length", None, "message", "H"),
        StrLenField("message", b"", length_from=lambda body: body.message_length),
        StrField("padding", b""),
    ]


class RetryBody(_Body):
    fields_desc = [StrField("token", b"")]


class HandshakeBody(_Body):
    fields_desc = [StrField("message", b"")]


class ResetBody(_Body):
    fields_desc = [ByteField("code", 0), StrFixedLenField("token", bytes(16), 16)]


class VersionBody(_Body):
    fields_desc = [FieldListField("versions", [], ByteField("", 1))]


_BODIES = {
    INIT: InitBody,
    RETRY: RetryBody,
    HANDSHAKE: HandshakeBody,
    RESET: ResetBody,
    VERSION: VersionBody,
}


class RPTLong(RPT):
    name = "RPT long"
    fields_desc = [
        BitField("form", 1, 1),
        BitEnumField("packet_type", 0, 3, ["init", "retry", "handshake", "reset", "version"]),
        BitField("version", 1, 4),
        XByteField("suite", 0),
        ShortField("dst_port", 0),
        ShortField("src_port", 0),
        XLongField("dst_cid", 0),
        XLongField("src_cid", 0),
        FieldLenField("length", None, "body", "H"),
        PacketLenField(
            "body",
            None,
            length_from=lambda packet: packet.length,
            cls=lambda data: Raw(data),
        ),
        XIntField("crc", None),
    ]

    def post_dissection(self, _: Packet) -> None:
        kind = _BODIES.get(self.packet_type)
        if kind is not None:
            self.setfieldval("body", kind(bytes(self.body)))

    def crc_is_right(self) -> bool:
        data = self.original
        return crc32(data[: 24 + self.length]) == self.crc and len(data) == 28 + self.length


# --- Frames (section 5) ------------------------------------------------------------------------


class Zeros(StrField):
    """As many zeros as there are."""

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes]:
        rest = s.lstrip(b"\0")
        return rest, s[: len(s) - len(rest)]


FRAMES: dict[int, type[Packet]] = {}


def _frame(kind: int, name: str, *fields: Any) -> None:
    """Makes the class of a frame type, and lists it."""
    members = {"name": name, "fields_desc": [XByteField("type", kind), *fields]}
    FRAMES[kind] = type(name, (_Body,), members)


class AckRange(_Body):
    fields_desc = [IntField("gap", 1), IntField("length", 1)]


_ACK = (
    LongField("largest", 0),
    IntField("delay_us", 0),
    FieldLenField("count", None, count_of="ranges", fmt="B"),
    IntField("first", 1),
    PacketListField("ranges", [], AckRange, count_from=lambda ack: ack.count),
)
_STREAM = (
    IntField("stream_id", 0),
    LongField("offset", 0),
    FieldLenField("length", None, "data", "H"),
    StrLenField("data", b"", length_from=lambda frame: frame.length),
)
_frame(0x00, "PADDING", Zeros("zeros", b""))
_frame(0x01, "PING")
_frame(0x02, "ACK", *_ACK)
_frame(0x03, "ACK_ECN", *_ACK, LongField("ect0", 0), LongField("ect1", 0), LongField("ce", 0))
_frame(0x04, "STREAM", *_STREAM)
_frame(0x05, "STREAM_FIN", *_STREAM)
_frame(
    0x06, "RESET_STREAM", IntField("stream_id", 0), IntField("code", 0), LongField("final_size", 0)
)
_frame(0x07, "STOP_SENDING", IntField("stream_id", 0), IntField("code", 0))
_frame(0x08, "MAX_DATA", LongField("maximum", 0))
_frame(0x09, "MAX_STREAM_DATA", IntField("stream_id", 0), LongField("maximum", 0))
_frame(0x0A, "MAX_STREAMS", ByteField("direction", 0), IntField("maximum", 0))
_frame(0x0B, "BLOCKED", ByteField("what", 0), IntField("stream_id", 0), LongField("limit", 0))
_frame(
    0x0C,
    "DATAGRAM",
    FieldLenField("length", None, "data", "H"),
    StrLenField("data", b"", length_from=lambda frame: frame.length),
)
_frame(
    0x0D,
    "NEW_CONNECTION_ID",
    IntField("sequence", 0),
    IntField("retire_prior_to", 0),
    XLongField("cid", 0),
    StrFixedLenField("reset_token", bytes(16), 16),
)
_frame(0x0E, "RETIRE_CONNECTION_ID", IntField("sequence", 0))
_frame(0x0F, "PATH_CHALLENGE", StrFixedLenField("data", bytes(8), 8))
_frame(0x10, "PATH_RESPONSE", StrFixedLenField("data", bytes(8), 8))
_frame(0x11, "HANDSHAKE_DONE")
_frame(
    0x12,
    "CLOSE",
    IntField("code", 0),
    FieldLenField("length", None, "reason", "B"),
    StrLenField("reason", b"", length_from=lambda frame: frame.length),
)


def _next_frame(_pkt: Packet, _list: list[Packet], _cur: Packet, remain: bytes) -> type | None:
    return FRAMES.get(remain[0]) if remain else None


class RPTFrames(Packet):
    """What a short packet holds once it is opened."""

    name = "RPT frames"
    fields_desc = [PacketListField("frames", [], next_cls_cb=_next_frame)]


bind_layers(IP, RPT, proto=253)
bind_layers(IPv6, RPT, nh=253)


# --- Keys (sections 4 and 14) ------------------------------------------------------------------


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand of RFC 5869 for one block of SHA-256."""
    return hmac.digest(secret, label + b"\x01", "sha256")[:size]


class _Direction:
    """The keys of what one side sends, phase after phase."""

    def __init__(self, secret: bytes, suite: int) -> None:
        self._cipher = {1: AESGCM, 2: ChaCha20Poly1305}[suite & 0x0F]
        self._secrets = [secret]
        self._phase = 0
        self._largest = -1
        self.other = self  # what the other side sends

    def open(self, packet: RPTShort) -> bytes:
        """The frames of a packet. Raises InvalidTag."""
        data = bytes(packet)
        window = 1 << 32
        around = (self._largest + 1) // window * window
        number = min(
            (base + packet.packet_number for base in (around - window, around, around + window)),
            key=lambda each: (abs(each - self._largest - 1), each) if each >= 0 else (1 << 64, 0),
        )
        for phase in (self._phase, self._phase + 1, self._phase - 1):
            if phase < 0 or phase % 2 != packet.key_phase:
                continue
            while len(self._secrets) <= phase:
                self._secrets.append(_expand(self._secrets[-1], b"rpt1 next", 32))
            secret = self._secrets[phase]
            iv = int.from_bytes(_expand(secret, b"rpt1 iv", 12), "big")
            aead = self._cipher(_expand(secret, b"rpt1 key", 32))
            try:
                frames = aead.decrypt((iv ^ number).to_bytes(12, "big"), data[18:], data[:18])
            except InvalidTag:
                continue
            self._phase = max(self._phase, phase)
            self._largest = max(self._largest, number)
            return frames
        raise InvalidTag


class KeyedReader:
    """Opens the packets of a capture that holds the handshakes, in its order.

    Args:
        key_log: lines as in section 14.
    """

    def __init__(self, key_log: str) -> None:
        self._secrets: dict[tuple[str, int], bytes] = {}
        for line in key_log.splitlines():
            label, cid, secret = line.split()
            self._secrets[label, int(cid, 16)] = bytes.fromhex(secret)
        self._by_cid: dict[int, _Direction] = {}
        self._clients: set[int] = set()

    def read(self, packet: RPT) -> RPTFrames | None:
        """The frames of a short packet; None of a long one, from which it learns.

        Raises:
            InvalidTag: it does not open.
            KeyError: nothing is known of its connection.
        """
        if isinstance(packet, RPTLong):
            if packet.packet_type == INIT:
                self._clients.add(packet.src_cid)
            elif packet.packet_type == HANDSHAKE and packet.dst_cid in self._clients:
                client = packet.dst_cid
                if client not in self._by_cid:
                    to_client, to_server = (
                        _Direction(self._secrets[f"RPT_{side}_SECRET", client], packet.suite)
                        for side in ("SERVER", "CLIENT")
                    )
                    to_client.other, to_server.other = to_server, to_client
                    self._by_cid |= {client: to_client, packet.src_cid: to_server}
            return None
        direction = self._by_cid[packet.dst_cid]
        frames = RPTFrames(direction.open(packet))
        for frame in frames.frames:
            if frame.name == "NEW_CONNECTION_ID":
                self._by_cid[frame.cid] = direction.other
        return frames
