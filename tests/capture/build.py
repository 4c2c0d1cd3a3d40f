"""Capture files laid out by hand, in either byte order, without the code under test."""

from __future__ import annotations

import struct


def pcap(
    *records: tuple[int, int, bytes],
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    link_type: int = 1,
    version: tuple[int, int] = (2, 4),
) -> bytes:
    """A pcap file of (seconds, fraction, data)."""
    extra = b"modified" if magic == 0xA1B2CD34 else b""
    parts = [struct.pack(order + "IHHiIII", magic, *version, 0, 0, 65535, link_type)]
    for seconds, fraction, data in records:
        parts.append(struct.pack(order + "IIII", seconds, fraction, len(data), len(data)))
        parts += [extra, data]
    return b"".join(parts)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def block(block_type: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    total = 12 + len(body)
    return struct.pack(order + "II", block_type, total) + body + struct.pack(order + "I", total)


def section(order: str = "<", options: bytes = b"", version: int = 1) -> bytes:
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, version, 0, -1)
    return block(0x0A0D0D0A, body + options, order)


def interface(
    order: str = "<", link_type: int = 1, snaplen: int = 0, options: bytes = b""
) -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snaplen) + options, order)


def packet(
    data: bytes,
    ticks: int = 0,
    number: int = 0,
    order: str = "<",
    options: bytes = b"",
    original: int | None = None,
) -> bytes:
    """An enhanced packet block."""
    body = struct.pack(
        order + "IIIII",
        number,
        ticks >> 32,
        ticks & 0xFFFFFFFF,
        len(data),
        len(data) if original is None else original,
    )
    return block(6, body + data + bytes(-len(data) % 4) + options, order)
