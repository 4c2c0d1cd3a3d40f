"""A connected RPT socket as a descriptor of the kernel's, for other processes and `os.read`.

::

    RPT socket <--- two threads ---> Unix socket pair <---> whoever has the descriptor

An RPT connection lives in the process that opened it. What goes elsewhere is one end of a
pair of Unix sockets of the same kind; threads of this process carry the data, both ways,
with half-close, until either side is closed. The process has to live as long; when it ends,
what was written to the descriptor by then is still carried.
"""

from __future__ import annotations

import select
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from rawproto.drivers.rpt.caretaker import CARETAKER

if TYPE_CHECKING:
    from rawproto.drivers.rpt.socket import RPTSocket

__all__ = ["detach"]

_PIECE_BYTES = 1 << 16
_LONGEST_MESSAGE = 16 << 20


def detach(sock: RPTSocket) -> socket.socket:
    """Hands a socket over to two threads.

    Args:
        sock: connected and blocking; the threads close it.

    Returns:
        A Unix socket, SOCK_STREAM or SOCK_SEQPACKET, that stands for it.
    """
    theirs, ours = socket.socketpair(socket.AF_UNIX, sock.type)
    _Joint(sock, ours).begin()
    return theirs


class _Joint:
    """Two threads between a connection and our end of a pair."""

    def __init__(self, sock: RPTSocket, ours: socket.socket) -> None:
        self._sock, self._ours = sock, ours
        self._size = _PIECE_BYTES if sock.type == socket.SOCK_STREAM else _LONGEST_MESSAGE
        self._outwards = threading.Thread(target=self._carry_out, daemon=True)
        self._inwards = threading.Thread(target=self._carry_in, daemon=True)

    def begin(self) -> None:
        """Carries from now on."""
        CARETAKER.joints.add(self)
        self._inwards.start()
        self._outwards.start()

    def _carry_out(self) -> None:
        """What is written to the descriptor goes to the peer; then both are closed."""
        sock, ours = self._sock, self._ours
        try:
            while data := self._take():
                sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # the connection is lost
            self._shut(socket.SHUT_RDWR)
        hung_up = select.poll()
        hung_up.register(ours, 0)
        hung_up.poll()  # both ways have ended, or the descriptor is closed everywhere
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RD)
        self._inwards.join()
        CARETAKER.joints.discard(self)
        ours.close()
        sock.close()

    def _take(self) -> bytes:
        try:
            return self._ours.recv(self._size)
        except ConnectionResetError:  # it was closed with something unread, and has no more to say
            return self._ours.recv(self._size)

    def _carry_in(self) -> None:
        """What the peer sends goes to whoever has the descriptor."""
        try:
            while data := self._sock.recv(self._size):
                self._ours.sendall(data)
            self._shut(socket.SHUT_WR)
        except BrokenPipeError:
            pass  # nobody reads that any more, but may have written
        except OSError:
            self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        with suppress(OSError):
            self._ours.shutdown(how)

    # --- the end of the process, and its copies ---

    def end(self) -> None:
        """Nothing more is taken in; what was is carried."""
        self._shut(socket.SHUT_RDWR)

    def wait(self, seconds: float) -> None:
        """Until it is, and both are closed."""
        self._outwards.join(seconds)

    def forsake(self) -> None:
        """This process is a copy: while it had our end, nobody would see that one closed."""
        self._ours.close()
