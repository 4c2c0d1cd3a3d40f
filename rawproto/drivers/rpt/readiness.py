"""A descriptor that select, poll and epoll find as ready as its owner says (poll(2)).

::

    theirs (fileno)                            ours
      readable      <---- one byte waits there ----
      not writable   ---- its send buffer is full --->
      hung up                                  closed

The two ends of an AF_UNIX socket pair, through which nothing but this goes: the kernel tells
the truth about them, so whoever waits for them is told the truth about what we say. POLLERR
cannot be had by itself: what is wrong shows as readable and writable, as select(2) has it.
"""

from __future__ import annotations

import socket
from contextlib import suppress

__all__ = ["Readiness"]

_FILL = bytes(2048)
"""With the smallest send buffer (4,608 bytes of memory) this leaves less than what counts as
writable, a quarter of which may be in use."""


class Readiness:
    """One descriptor; at first neither readable nor writable.

    Raises:
        OSError: no descriptor is left.
    """

    __slots__ = ("_ours", "_readable", "_theirs", "_writable")

    def __init__(self) -> None:
        self._theirs, self._ours = socket.socketpair()
        self._theirs.setblocking(False)
        self._ours.setblocking(False)
        self._theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        self._readable, self._writable = False, True
        self.tell(readable=False, writable=False)

    def fileno(self) -> int:
        """The descriptor; -1 once closed."""
        return self._theirs.fileno()

    def tell(self, *, readable: bool, writable: bool) -> None:
        """From now on it is so. Only a change costs a system call.

        Who reads from the descriptor, which is not for that, or has just closed it, harms nobody
        else: that other sockets of the port go on matters more than that he is told.
        """
        if readable != self._readable:
            self._readable = readable
            with suppress(OSError):
                if readable:
                    self._ours.send(b"!")
                else:
                    self._theirs.recv(1)
        if writable != self._writable:
            self._writable = writable
            with suppress(OSError):
                if writable:
                    self._ours.recv(len(_FILL))
                else:
                    self._theirs.send(_FILL)

    def close(self) -> None:
        """Gives the descriptor back."""
        self._ours.close()
        self._theirs.close()
