"""Many packets behind the same header, sent by one system call: sendmmsg(2).

::

    messages   | to | 2 parts | ... 32 times         all to the same address
                         |
    parts      | header, packet | header, packet | ...
                 |         |
    bytes      header   slot 0, slot 1, slot 2 ...   as far apart as packets are long

Tables and slots stay where they are; a packet costs copying it into its slot. They are made
when a socket sends several packets at once for the first time. A call of its own costs a
packet 1.5 us more than that (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Sequence

__all__ = ["MOST_PACKETS", "Volley", "pack_target"]

MOST_PACKETS = 32
_SLOT_BYTES = 1 << 19
_TARGET_BYTES = 28
_HEADER_BYTES = 40

_libc = ctypes.CDLL(None, use_errno=True)


class _Part(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("part_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr: a structure in it, or the padding would be another."""

    _fields_ = (("header", _Header), ("sent", ctypes.c_uint))


def pack_target(family: int, addr: str, scope: int = 0) -> bytes:
    """An address as `Volley` takes it, with port 0: struct sockaddr_in or sockaddr_in6."""
    packed = socket.inet_pton(family, addr)
    if family == socket.AF_INET:
        return struct.pack("=HH4s8x", family, 0, packed)
    return struct.pack("=HHI16sI", family, 0, 0, packed, scope)


class Volley:
    """What a socket sends by sendmmsg(2).

    Args:
        sock: the socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._shape: tuple[int, int, int] | None = None

    def _make_tables(self) -> None:
        self._fixed = ctypes.create_string_buffer(_TARGET_BYTES + _HEADER_BYTES)
        self._start = memoryview(self._fixed).cast("B")
        self._slots = bytearray()
        self._messages = (_Message * MOST_PACKETS)()
        self._parts = (_Part * (2 * MOST_PACKETS))()

    def send(self, target: bytes, header: bytes, packets: Sequence[bytes]) -> int:
        """Sends packets of one size, in order.

        Args:
            target: whereto, of `pack_target`.
            header: what stands in front of each, 40 bytes at most.
            packets: 1 or more; those past what one call takes are left alone.

        Returns:
            How many the kernel took: 1 or more.

        Raises:
            OSError: it did not take the first one.
        """
        size = len(packets[0])
        shape = len(target), len(header), size
        if shape != self._shape:
            self._lay_out(*shape)
        self._start[: len(target)] = target
        self._start[_TARGET_BYTES : _TARGET_BYTES + len(header)] = header
        count = min(len(packets), len(self._slots) // size, MOST_PACKETS)
        at = 0
        with memoryview(self._slots) as slots:
            for packet in packets[:count]:
                slots[at : at + size] = packet
                at += size
        sent: int = _libc.sendmmsg(self._sock.fileno(), self._messages, count, 0)
        if sent < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return sent

    def _lay_out(self, target_size: int, header_size: int, size: int) -> None:
        """Points the tables at target, header and slots for packets of this size."""
        if self._shape is None:
            self._make_tables()
        count = min(max(_SLOT_BYTES // size, 1), MOST_PACKETS)
        if len(self._slots) < count * size:
            self._slots = bytearray(count * size)
        fixed = ctypes.addressof(self._fixed)
        slots = ctypes.addressof(ctypes.c_char.from_buffer(self._slots))
        for number in range(count):
            front, packet = self._parts[2 * number], self._parts[2 * number + 1]
            front.base, front.size = fixed + _TARGET_BYTES, header_size
            packet.base, packet.size = slots + number * size, size
            message = self._messages[number].header
            message.name, message.name_size = fixed, target_size
            message.parts, message.part_count = ctypes.addressof(front), 2
        self._shape = target_size, header_size, size
