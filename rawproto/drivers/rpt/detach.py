"""A connected RPT socket as a descriptor of the kernel's, for other processes and `os.read`.

::

    RPT socket <--- two threads ---> Unix socket pair <---> whoever has the descriptor

An RPT connection lives in the process that opened it. What goes elsewhere is one end of a
pair of Unix sockets of the same kind; threads of this process carry the data, both ways,
with half-close, until either side is closed. The process has to live as long.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawproto.drivers.rpt.socket import RPTSocket

__all__ = ["detach"]

_PIECE_BYTES = 1 << 16
_LONGEST_MESSAGE = 16 << 20

_carried: set[socket.socket] = set()
"""Our ends of the pairs. A copy of the process must not have them, or nobody sees their end."""


def detach(sock: RPTSocket) -> socket.socket:
    """Hands a socket over to two threads.

    Args:
        sock: connected and blocking; the threads close it.

    Returns:
        A Unix socket, SOCK_STREAM or SOCK_SEQPACKET, that stands for it.
    """
    theirs, ours = socket.socketpair(socket.AF_UNIX, sock.type)
    _carried.add(ours)
    size = _PIECE_BYTES if sock.type == socket.SOCK_STREAM else _LONGEST_MESSAGE
    outwards = threading.Thread(target=_carry, args=(ours, sock, size), daemon=True)
    outwards.start()
    threading.Thread(target=_carry_back, args=(sock, ours, size, outwards), daemon=True).start()
    return theirs


def _carry(source: RPTSocket | socket.socket, target: RPTSocket | socket.socket, size: int) -> None:
    """Carries one direction up to its end. An error is an end, and ends the other way too."""
    try:
        while data := source.recv(size):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def _carry_back(
    sock: RPTSocket, ours: socket.socket, size: int, outwards: threading.Thread
) -> None:
    try:
        _carry(sock, ours, size)
        outwards.join()
    finally:
        _carried.discard(ours)
        ours.close()
        sock.close()


def _forget() -> None:
    for ours in _carried:
        ours.close()
    _carried.clear()


os.register_at_fork(after_in_child=_forget)
