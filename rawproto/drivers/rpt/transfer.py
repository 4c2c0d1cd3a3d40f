"""The calls of a blocking RPT socket that move data: recv(2), send(2) and their relatives.

What POSIX leaves open is done as Linux does it for TCP: data that came before an error is
read before the error is raised, and that once; a blocking `send` takes all it is given.
Ancillary data there is none.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any, cast

from rawproto.drivers.rpt.datagrams import DatagramEnd, Peer
from rawproto.drivers.rpt.ends import End, StreamEnd
from rawproto.drivers.rpt.handle import Handle
from rawproto.drivers.rpt.refusals import failure
from rawproto.transport.constants import Kind
from rawproto.transport.dialogue import MOST_ALONE

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Transfer"]

_PIECE_BYTES = 1 << 16
# Plain numbers: a member of an enumeration costs a call each time.
_PEEK, _DONTWAIT = int(socket.MSG_PEEK), int(socket.MSG_DONTWAIT)
_WAITALL, _TRUNC, _EOR = int(socket.MSG_WAITALL), int(socket.MSG_TRUNC), int(socket.MSG_EOR)
_TAKEN_IN = _DONTWAIT | _PEEK | _TRUNC | _WAITALL
_TAKEN_OUT = _DONTWAIT | _EOR | int(socket.MSG_NOSIGNAL | socket.MSG_MORE)
_STREAM, _SEQPACKET, _DGRAM = Kind.STREAM, Kind.SEQPACKET, Kind.DGRAM
_NOW = 0.0


class Transfer(Handle):
    """The part of `RPTSocket` that moves data."""

    def _datagram_end(self) -> DatagramEnd:
        """The end of a socket of datagrams, which takes a port now if it has none."""
        raise NotImplementedError

    # --- waiting ---

    def _until(self, flags: int = 0) -> float | None:
        """When a call that begins now gives up; `_NOW` if it must not wait at all."""
        timeout = self._timeout  # which another thread may set
        if flags & _DONTWAIT or timeout == 0:
            return _NOW
        return None if timeout is None else time.monotonic() + timeout

    @staticmethod
    def _wait(end: End, ready: Callable[[], bool], until: float | None) -> None:
        """Sleeps until an end is ready, with its lock held before and after.

        Raises:
            BlockingIOError, TimeoutError: it is not.
            OSError: EBADF, another thread closed the socket.
        """
        if until == _NOW:
            end.refresh()
            raise failure(errno.EAGAIN)
        in_time = end.pump.wait(ready, end.condition, until)
        if end.closed:
            raise failure(errno.EBADF)
        if not in_time and not ready():
            raise TimeoutError("timed out")

    def _connected(self) -> StreamEnd:
        end = self._use()
        if not isinstance(end, StreamEnd) or not (end.connected or end.over or end.error):
            raise failure(errno.ENOTCONN)
        return end

    # --- receiving ---

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receives; b"" at the end.

        Args:
            bufsize: at most so many bytes; of a message or datagram the rest is lost.
            flags: MSG_PEEK, MSG_DONTWAIT, MSG_WAITALL, MSG_TRUNC.

        Raises:
            BlockingIOError, TimeoutError: nothing came in time.
            ConnectionResetError, TimeoutError (ETIMEDOUT): the connection was lost.
            OSError: ENOTCONN, EBADF, EOPNOTSUPP (flags).
        """
        if self._kind is _STREAM and bufsize > 0 and not flags & ~_TAKEN_IN:
            return self._receive_bytes(bufsize, flags)
        return self._receive(bufsize, flags)[0]

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """`recv`, and who sent it; None on a connection."""
        data, _, _, peer = self._receive(bufsize, flags)
        return data, peer

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[Any], int, Any]:
        """`recv`: (data, no ancillary data, flags: MSG_TRUNC and MSG_EOR, who sent it)."""
        data, _, seen, peer = self._receive(bufsize, flags)
        return data, [], seen, peer

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """`recv` into a buffer: how many bytes; with MSG_TRUNC how long the message was."""
        return self.recvfrom_into(buffer, nbytes, flags)[0]

    def recvfrom_into(
        self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, Any]:
        """`recv_into`, and who sent it."""
        view = memoryview(buffer).cast("B")
        if nbytes < 0:
            raise ValueError("negative buffersize in recvfrom_into")
        if nbytes > len(view):
            raise ValueError("nbytes is greater than the length of the buffer")
        data, whole, _, peer = self._receive(nbytes or len(view), flags)
        view[: len(data)] = data
        return (whole if flags & _TRUNC else len(data)), peer

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[Any], int, Any]:
        """`recvmsg` into several buffers, one after the other."""
        views = [memoryview(each).cast("B") for each in buffers]
        data, _, seen, peer = self._receive(sum(map(len, views)), flags)
        at = 0
        for view in views:
            part = data[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        return len(data), [], seen, peer

    def _receive(self, size: int, flags: int) -> tuple[bytes, int, int, Any]:
        """(data, how much there was, flags, who sent it)."""
        if size < 0:
            raise ValueError("negative buffersize in recv")
        if flags & ~_TAKEN_IN:
            raise failure(errno.EOPNOTSUPP)
        if self._kind is _STREAM:
            data = self._receive_bytes(size, flags)
            return data, len(data), 0, None
        if self._kind is _SEQPACKET:
            whole: bytes | None = self._receive_message(flags)
            peer = None
            seen = _EOR
            if whole is None:
                return b"", 0, 0, None
        else:
            whole, sender = self._receive_datagram(flags)
            peer = self._address(sender)
            seen = 0
        if len(whole) > size:
            return whole[:size], len(whole), seen | _TRUNC, peer
        return whole, len(whole), seen, peer

    def _receive_bytes(self, size: int, flags: int) -> bytes:
        end = self._connected()
        if not size:
            return b""
        with end.pump.lock:
            until = self._until(flags) if flags else None
            if not end.readable():
                self._wait(end, end.readable, until if flags else self._until())
            if flags & _PEEK:
                data = end.peek(size)
            else:
                data = end.read(size, time.monotonic_ns())
            if not data and not self._at_end(end):
                raise failure(errno.EAGAIN)  # another thread was faster
            if flags & _WAITALL and not flags & _PEEK and data:
                data = self._receive_rest(end, data, size, until)
            self._was_read(end)
            return data

    def _receive_rest(self, end: StreamEnd, data: bytes, size: int, until: float | None) -> bytes:
        """MSG_WAITALL: more, until it is enough, the end, an error, or time is up."""
        parts, lacking = [data], size - len(data)
        while lacking and until != _NOW:
            self._was_read(end)
            if not end.readable() and not end.pump.wait(end.readable, end.condition, until):
                break
            data = end.read(lacking, time.monotonic_ns())
            if not data:
                break
            parts.append(data)
            lacking -= len(data)
        return b"".join(parts)

    def _receive_message(self, flags: int) -> bytes | None:
        end = self._connected()
        with end.pump.lock:
            if not end.readable():
                self._wait(end, end.readable, self._until(flags))
            message = end.message(keep=bool(flags & _PEEK))
            if message is None and not self._at_end(end):
                raise failure(errno.EAGAIN)
            self._was_read(end)
            return message

    @staticmethod
    def _at_end(end: StreamEnd) -> bool:
        """Whether there is nothing more to come. Raises what ended it, once."""
        error = end.take_error()
        if error is not None:
            raise error
        return end.at_end

    @staticmethod
    def _was_read(end: StreamEnd) -> None:
        if end.readiness is not None:
            end.refresh()
        if end.pump.followers and end.readable():
            end.condition.notify_all()  # the pump told its leader alone of what he has left
        if not end.over and end.connection.sender.waits:  # the peer may send more now
            end.pump.touch(end.connection)

    def _receive_datagram(self, flags: int) -> tuple[bytes, Peer]:
        end = self._datagram_end()
        with end.pump.lock:
            if not end.readable():
                self._wait(end, end.readable, self._until(flags))
            found = end.take(keep=bool(flags & _PEEK))
            if found is None:
                raise end.take_error() or failure(errno.EAGAIN)
            end.refresh()
            return found

    # --- sending ---

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Sends: how many bytes. Blocking, or of a message or datagram, that is all of them.

        Args:
            data: bytes, one message or one datagram.
            flags: MSG_DONTWAIT; MSG_NOSIGNAL, MSG_EOR and MSG_MORE change nothing.

        Raises:
            BlockingIOError, TimeoutError: there was no room in time.
            BrokenPipeError: this side has shut down sending, or the peer is gone.
            ConnectionResetError, TimeoutError (ETIMEDOUT): the connection was lost.
            OSError: ENOTCONN, EDESTADDRREQ, EMSGSIZE, EBADF, EOPNOTSUPP (flags).
        """
        if not flags and type(data) is bytes and self._send_alone(data):
            return len(data)
        return self._send(memoryview(data).cast("B"), flags, None)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Sends all of it, however often that blocks. Raises as `send`."""
        if not flags and type(data) is bytes and self._send_alone(data):
            return
        view = memoryview(data).cast("B")
        until = self._until(flags)
        if self._kind is not _STREAM or not view:
            self._send(view, flags, None)
            return
        while view:
            view = view[self._send_bytes(view, until) :]

    def sendto(self, data: ReadableBuffer, *rest: Any) -> int:
        """`sendto(data[, flags], address)`: one datagram to a peer; else as `send`."""
        if len(rest) not in (1, 2):
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(rest)} given)")
        flags = rest[0] if len(rest) == 2 else 0
        return self._send(memoryview(data).cast("B"), flags, rest[-1])

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[Any] = (),
        flags: int = 0,
        address: Any = None,
        /,
    ) -> int:
        """`send`, of several buffers as one. Ancillary data is EOPNOTSUPP."""
        if list(ancdata):
            raise failure(errno.EOPNOTSUPP)
        whole = b"".join([bytes(memoryview(each).cast("B")) for each in buffers])
        return self._send(memoryview(whole), flags, address)

    def _send(self, view: memoryview, flags: int, address: Any) -> int:
        if flags & ~_TAKEN_OUT:
            raise failure(errno.EOPNOTSUPP)
        if self._kind is _DGRAM:
            return self._send_datagram(view, flags, address)
        if address is not None:
            self._connected()
            raise failure(errno.EISCONN)
        until = self._until(flags)
        if self._kind is _SEQPACKET:
            return self._send_message(view, until)
        sent = self._send_bytes(view, until)
        while until is None and sent < len(view):  # as a blocking send of the kernel's
            sent += self._send_bytes(view[sent:], until)
        return sent

    def _send_alone(self, data: bytes) -> bool:
        """Sends few bytes at once, all of them, where that is all there is to do."""
        end = self._use()
        if type(end) is not StreamEnd or not 0 < len(data) <= MOST_ALONE:
            return False
        with end.pump.lock:
            return end.send_one(data)

    def _may_send(self, end: StreamEnd) -> None:
        error = end.take_error()
        if error is not None:
            raise error
        if end.over or end.sends_no_more:
            raise failure(errno.EPIPE)

    def _send_bytes(self, view: memoryview, until: float | None) -> int:
        """What there is room for, once there is any."""
        end = self._connected()
        with end.pump.lock:
            self._may_send(end)
            if not view:
                return 0
            while not (sent := end.write(view)):
                self._wait(end, end.writable, until)
                self._may_send(end)
            end.pump.touch(end.connection)
            if end.readiness is not None:
                end.refresh()
            return sent

    def _send_message(self, view: memoryview, until: float | None) -> int:
        end = self._connected()
        if len(view) > end.connection.config.max_message_bytes:
            raise failure(errno.EMSGSIZE)
        with end.pump.lock:
            if not end.writable():
                self._wait(end, end.writable, until)
            self._may_send(end)
            end.write(view)
            end.pump.touch(end.connection)
            end.refresh()
            return len(view)

    def _send_datagram(self, view: memoryview, flags: int, address: Any) -> int:
        peer = self._peer(address) if address is not None else None
        end = self._datagram_end()
        with end.pump.lock:
            if peer is None:
                peer = end.peer
            error = end.take_error()
            if error is not None:
                raise error
            if peer is None:
                raise failure(errno.EDESTADDRREQ)
            to = peer
            data = bytes(view)
            until = self._until(flags)
            while not end.send(data, to):
                self._wait(end, lambda: end.has_room(to), until)
            end.pump.turn()
            end.pump.leave()
            end.refresh()
            return len(data)

    # --- files ---

    def sendfile(self, file: IO[bytes], offset: int = 0, count: int | None = None) -> int:
        """Sends a file, opened in binary mode, from `offset` on: how many bytes.

        Raises:
            ValueError: the socket does not block, `count` is not positive, or the file is text.
        """
        if self._timeout == 0:
            raise ValueError("non-blocking sockets are not supported")
        if self._kind is not _STREAM:
            raise ValueError("only SOCK_STREAM type sockets are supported")
        if count is not None and count <= 0:
            raise ValueError(f"count must be a positive integer (got {count!r})")
        if "b" not in getattr(file, "mode", "b"):
            raise ValueError("file should be opened in binary mode")
        if offset:
            file.seek(offset)
        sent = 0
        try:
            while count is None or sent < count:
                room = _PIECE_BYTES if count is None else min(_PIECE_BYTES, count - sent)
                if not (piece := file.read(room)):
                    break
                self.sendall(piece)
                sent += len(piece)
        finally:
            if sent and hasattr(file, "seek"):
                file.seek(offset + sent)
        return sent

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """A file over the socket, as `socket.socket.makefile`; `close` waits for it."""
        # The standard library's asks nothing of a socket but recv_into, send and the count of
        # files that `RPTSocket` keeps.
        return socket.socket.makefile(
            cast(Any, self),
            cast(Any, mode),
            buffering,
            encoding=encoding,
            errors=errors,
            newline=newline,
        )
