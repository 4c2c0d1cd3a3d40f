"""The blocks of pcapng files, as values, and the options in them (draft-ietf-opsawg-pcapng).

::

    +---------------------------------------------------------------+
    |  block type                                                   |
    |  total length, from the type up to its second saying          |
    |  body, padded to 32 bits ...                                  |
    |  total length                                                 |
    +---------------------------------------------------------------+

    +-------------------------------+-------------------------------+
    |  option code                  |  length                       |
    |  value, padded to 32 bits ...                                 |
    +-------------------------------+-------------------------------+

All in the byte order of the section's writer. Packets and interfaces are in `packet`;
this module has the rest, and what reader and writer both must know of the format. It
knows no file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from rawproto.errors import EmitError, WireError

__all__ = [
    "RPT_KEY_LOG",
    "TLS_KEY_LOG",
    "CustomBlock",
    "InterfaceStatistics",
    "Secrets",
    "Section",
    "UnknownBlock",
    "emit_options",
    "options",
    "text_of",
]

INTERFACE = 1
OLD_PACKET = 2
SIMPLE_PACKET = 3
NAME_RESOLUTION = 4
STATISTICS = 5
ENHANCED_PACKET = 6
SECRETS = 10
CUSTOM = 0x0000_0BAD
CUSTOM_NOT_TO_COPY = 0x4000_0BAD
SECTION = 0x0A0D_0D0A

BYTE_ORDER_MAGIC = 0x1A2B_3C4D

TLS_KEY_LOG = 0x544C_534B
"""Type of secrets: lines as of SSLKEYLOGFILE ("TLSK")."""
RPT_KEY_LOG = 0x5250_544B
"""Type of secrets: rawproto's key log for RPT ("RPTK"; ours, registered nowhere)."""

_MAX_OPTIONS = 1024
"""More in one block are damage: a hostile block could hold four million."""


@dataclass(slots=True, kw_only=True)
class Section:
    """What begins a section; interfaces are numbered anew from here in the file.

    Attributes:
        byte_order: "little" or "big".
        hardware: of the host that captured.
        os: its operating system.
        application: what wrote the file.
        comment: free text.
    """

    byte_order: str = "little"
    hardware: str = ""
    os: str = ""
    application: str = ""
    comment: str = ""


@dataclass(slots=True, kw_only=True)
class InterfaceStatistics:
    """The capture's own counts on one interface; None where the file doesn't tell.

    Attributes:
        interface: as in `CapturedPacket`.
        time_ns: when they were taken, nanoseconds since the epoch.
        received: packets that the interface received.
        dropped_by_interface: lost for want of room in the interface.
        accepted_by_filter: those that the capture filter let through.
        dropped_by_os: lost for want of room in the operating system.
        delivered: those that reached the capturing program.
        comment: free text.
    """

    interface: int | str = 0
    time_ns: int = 0
    received: int | None = None
    dropped_by_interface: int | None = None
    accepted_by_filter: int | None = None
    dropped_by_os: int | None = None
    delivered: int | None = None
    comment: str = ""


@dataclass(slots=True, kw_only=True)
class Secrets:
    """Keys for packets that follow.

    Attributes:
        secrets_type: `TLS_KEY_LOG`, `RPT_KEY_LOG` or another number.
        data: in the type's own format.
    """

    secrets_type: int
    data: bytes


@dataclass(slots=True, kw_only=True)
class CustomBlock:
    """Somebody's own block.

    Attributes:
        enterprise_number: whose (IANA's Private Enterprise Numbers).
        data: theirs to read, with its padding and options.
        copy: whether tools may carry it over into files they write.
    """

    enterprise_number: int
    data: bytes
    copy: bool = True


@dataclass(slots=True, kw_only=True)
class UnknownBlock:
    """A block that is skipped: name resolution, journals, and what is not known here.

    Attributes:
        block_type: its number.
        body: its bytes between the two lengths.
    """

    block_type: int
    body: bytes


def options(layer: str, order: str, data: bytes, offset: int) -> Iterator[tuple[int, bytes]]:
    """The options that `data` consists of, (code, value), up to the end mark.

    Args:
        layer: whom to blame.
        order: "<" or ">".
        data: from the first option on.
        offset: where in the file that is.

    Raises:
        WireError: an option that reaches behind the end, or more than are believed.
    """
    head = struct.Struct(order + "HH")
    at, count = 0, 0
    while at + 4 <= len(data):
        code, length = head.unpack_from(data, at)
        if code == 0:
            return
        end = at + 4 + length
        if end > len(data):
            raise WireError(layer, offset + at, f"option {code} reaches behind its block")
        count += 1
        if count > _MAX_OPTIONS:
            raise WireError(layer, offset + at, f"more than {_MAX_OPTIONS} options")
        yield code, data[at + 4 : end]
        at = end + (-length & 3)


def emit_options(values: Iterable[tuple[int, bytes]]) -> bytes:
    """Options with their end mark, in little-endian; b"" for none.

    Raises:
        EmitError: a value longer than 65535 bytes.
    """
    data = b""
    for code, value in values:
        if len(value) > 0xFFFF:
            raise EmitError("option", f"<{len(value)} bytes>", "more than 65535 bytes")
        data += struct.pack("<HH", code, len(value)) + value + bytes(-len(value) & 3)
    return data + bytes(4) if data else b""


def text_of(value: bytes) -> str:
    """The text of an option. What is no UTF-8 is replaced, and C's final zero is no text."""
    return value.rstrip(b"\x00").decode("utf-8", "replace")
