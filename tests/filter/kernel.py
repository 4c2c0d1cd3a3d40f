"""The kernel as an oracle: attach a program to a socket and see what comes through."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterable

from rawproto.filter.instructions import Instruction, pack

SO_ATTACH_FILTER = 26


def attach(sock: socket.socket, instructions: Iterable[Instruction]) -> bool:
    """Attaches a program, checked by nobody but the kernel: whether it was taken."""
    code = pack(instructions)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    except OSError:
        return False
    return True


def verdict(pair: tuple[socket.socket, socket.socket], packet: bytes) -> int:
    """How much of a packet, sent through a pair of datagram sockets, the filter let through.

    A Unix datagram is there or dropped when `send` returns, and is cut to what the
    program says.
    """
    pair[0].send(packet)
    try:
        return len(pair[1].recv(65536, socket.MSG_DONTWAIT))
    except BlockingIOError:
        return 0
