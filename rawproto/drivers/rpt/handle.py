"""What every socket has, whatever it does: a kind, addresses, time-outs, options, and an end.

That is what a file descriptor is to a socket of the kernel's: it stands for an `End` on a
port (`ends`) and says how calls on it wait, until it is closed. How a socket comes to an end is
`socket`'s business, what goes through it `transfer`'s.
"""

from __future__ import annotations

import errno
import socket as stdlib
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from rawproto.drivers.rpt.datagrams import DatagramEnd, Peer
from rawproto.drivers.rpt.ends import End, ListeningEnd, StreamEnd, peer_of
from rawproto.drivers.rpt.opening import careful_authorize, careful_trust
from rawproto.drivers.rpt.options import RPT_MAXSEG, RPT_PEER_KEY, SOL_RPT, Options
from rawproto.drivers.rpt.readiness import Readiness
from rawproto.drivers.rpt.refusals import failure
from rawproto.drivers.rpt.sockaddr import ANYWHERE, resolve, sockaddr
from rawproto.errors import RawprotoError
from rawproto.identity.keys import Identity
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind
from rawproto.wire.rpt import IP_PROTOCOL

__all__ = ["Handle"]

_KINDS = {
    stdlib.SOCK_STREAM: Kind.STREAM,
    stdlib.SOCK_SEQPACKET: Kind.SEQPACKET,
    stdlib.SOCK_DGRAM: Kind.DGRAM,
}
_FLAGS = stdlib.SOCK_NONBLOCK | stdlib.SOCK_CLOEXEC
_LONGEST_MS = (1 << 31) - 1  # what poll(2) takes


class Handle:
    """The part of `RPTSocket` that neither connects nor moves data. Args, Raises as there."""

    # Until all is well, for the finalizer.
    _closed = _gone = True
    _end: End | None = None
    _readiness: Readiness | None = None

    def __init__(
        self,
        family: int = stdlib.AF_INET,
        type: int = stdlib.SOCK_STREAM,
        proto: int = 0,
        *,
        identity: bytes | Identity | None = None,
        psk: bytes = b"",
        peer_key: bytes | None = None,
        trust: Callable[[bytes], RawprotoError | None] = lambda key: None,
        authorize: Callable[[bytes], bool] = lambda key: True,
        config: Config | None = None,
    ) -> None:
        if family not in (stdlib.AF_INET, stdlib.AF_INET6):
            raise failure(errno.EAFNOSUPPORT)
        if type & ~_FLAGS not in _KINDS:
            raise failure(errno.EPROTOTYPE)
        if proto not in (0, IP_PROTOCOL, stdlib.IPPROTO_UDP):
            raise failure(errno.EPROTONOSUPPORT)
        self._kind = _KINDS[stdlib.SocketKind(type & ~_FLAGS)]
        self.family = stdlib.AddressFamily(family)
        self.type = stdlib.SocketKind(type & ~_FLAGS)
        self.proto = proto or IP_PROTOCOL
        if isinstance(identity, Identity):
            identity = identity.private
        self._options = Options(
            config=config or Config(),
            identity=identity or b"",
            psk=psk,
            peer_key=peer_key or b"",
            trust=careful_trust(trust),
            authorize=careful_authorize(authorize),
            keep_alive=self._kind is not Kind.DGRAM if config is None else config.keep_alive_ns > 0,
        )
        self._changing = threading.RLock()
        self._bound: tuple[str, int] | None = None
        self._timeout = 0.0 if type & stdlib.SOCK_NONBLOCK else stdlib.getdefaulttimeout()
        self._io_refs = 0
        self._closed = self._gone = False

    # --- what it is ---

    def _use(self) -> End | None:
        """The end, to be used with its lock held.

        Raises:
            OSError: EBADF, the socket is closed; EDEADLK, a signal handler or a callback uses a
                socket in the middle of a call on the same port.
        """
        end = self._end
        if self._gone or (end is not None and end.closed):  # by another thread, or as a copy
            raise failure(errno.EBADF)
        if end is not None and end.pump.is_held():
            raise failure(errno.EDEADLK)
        return end

    @contextmanager
    def _change(self) -> Iterator[None]:
        """For who gives the socket an end, or a descriptor: one thread at a time, who takes
        a port's lock within this and never the other way round.

        Raises:
            OSError: EBADF, another thread closed the socket meanwhile; EDEADLK, as `_use`.
        """
        if self._changing._is_owned():  # type: ignore[attr-defined]
            raise failure(errno.EDEADLK)
        self._use()  # who holds the port's lock must not wait for this one
        with self._changing:
            yield
        if self._gone:
            self._real_close()
            raise failure(errno.EBADF)

    def fileno(self) -> int:
        """A descriptor for select, poll and epoll, and for nothing else; -1 once closed."""
        try:
            end, readiness = self._end, self._readiness
            if self._gone or (end is not None and end.closed):
                return -1
            return (readiness or self._make_ready()).fileno()
        except OSError as error:
            if error.errno == errno.EBADF:  # another thread was faster
                return -1
            raise

    def _make_ready(self) -> Readiness:
        with self._change():
            end = self._use()
            if self._readiness is not None:
                return self._readiness
            made = Readiness()
            if end is None:
                made.tell(readable=True, writable=True)  # calls fail without blocking
            else:
                with end.pump.lock:
                    end.readiness = made
                    end.refresh()
            self._readiness = made
        return made

    def getsockname(self) -> tuple[Any, ...]:
        """This side's address: (host, port), of IPv6 with flow label and scope."""
        end = self._use()
        host, port = self._bound or (ANYWHERE[self.family], 0)
        if end is not None:
            port = end.pump.port.carrier.port
            if isinstance(end, StreamEnd):
                host = end.pump.port.carrier.local_to(end.connection.address[0])
        return self._address((host, port))

    def getpeername(self) -> tuple[Any, ...]:
        """The peer's address. Raises OSError ENOTCONN."""
        end = self._use()
        if isinstance(end, StreamEnd) and end.connected:
            return self._address(peer_of(end.connection))
        if isinstance(end, DatagramEnd) and end.peer is not None:
            return self._address(end.peer)
        raise failure(errno.ENOTCONN)

    def _address(self, peer: Peer) -> tuple[Any, ...]:
        return sockaddr(peer, self.family)

    def _peer(self, address: Any) -> Peer:
        return resolve(address, self.family)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return (
            f"<rawproto.RPTSocket {state} family={self.family} type={self.type} proto={self.proto}>"
        )

    # --- how it waits ---

    def settimeout(self, value: float | None, /) -> None:
        """None blocks for ever, 0 never, a number of seconds so long."""
        if value is not None:
            value = float(value)
            if value < 0:
                raise ValueError("Timeout value out of range")
            if value != value:
                raise ValueError("Invalid value NaN (not a number)")
            if value * 1000 > _LONGEST_MS:
                raise OverflowError("timeout doesn't fit into C timeval")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """As `settimeout`."""
        return self._timeout

    def setblocking(self, flag: bool, /) -> None:
        """`settimeout(None)`, or `settimeout(0)`."""
        self._timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether it blocks at all."""
        return self._timeout != 0

    @property
    def timeout(self) -> float | None:
        """As `gettimeout`."""
        return self._timeout

    def get_inheritable(self) -> bool:
        """Never: what a new program could not pump is of no use to it."""
        return False

    def set_inheritable(self, inheritable: bool, /) -> None:
        """Raises OSError EOPNOTSUPP for True."""
        if inheritable:
            raise failure(errno.EOPNOTSUPP)

    # --- options ---

    def setsockopt(self, level: int, optname: int, value: Any, optlen: int = 0, /) -> None:
        """See `options`. Raises OSError ENOPROTOOPT for what is not there."""
        end = self._use()
        if isinstance(value, str):
            raise TypeError("a value is an int or bytes")
        self._options.put(level, optname, value)
        if not isinstance(end, StreamEnd):
            return
        with end.pump.lock:
            if (level, optname) == (stdlib.SOL_SOCKET, stdlib.SO_SNDBUF):
                end.buffer(self._options.send_buffer)
            elif (level, optname) == (stdlib.SOL_SOCKET, stdlib.SO_KEEPALIVE):
                end.keep_alive(self._options.keep_alive_ns)

    def getsockopt(self, level: int, optname: int, buflen: int = 0, /) -> Any:
        """See `options`: an int, or with `buflen` so many bytes at most."""
        value = self._option(level, optname)
        if buflen:
            data = value.to_bytes(4, "little", signed=True) if isinstance(value, int) else value
            return data[:buflen]
        return value if isinstance(value, int) else int.from_bytes(value[:4], "little")

    def _option(self, level: int, name: int) -> int | bytes:
        end = self._use()
        if level == stdlib.SOL_SOCKET:
            if name == stdlib.SO_ERROR:
                if end is None:
                    return 0
                with end.pump.lock:
                    error = end.take_error()
                return (error.errno or errno.EIO) if error is not None else 0
            facts = {
                stdlib.SO_TYPE: int(self.type),
                stdlib.SO_DOMAIN: int(self.family),
                stdlib.SO_PROTOCOL: self.proto,
                stdlib.SO_ACCEPTCONN: int(isinstance(end, ListeningEnd)),
            }
            if name in facts:
                return facts[name]
        if isinstance(end, StreamEnd) and (level, name) == (SOL_RPT, RPT_MAXSEG):
            return end.connection.sender.mtu.size
        if isinstance(end, StreamEnd) and (level, name) == (SOL_RPT, RPT_PEER_KEY):
            return end.connection.peer_key or self._options.peer_key
        return self._options.get(level, name)

    # --- the end ---

    def close(self) -> None:
        """Closes, once no file made by `makefile` is open any more.

        Returns at once, or with SO_LINGER when all that was sent has arrived; without it, that
        goes on behind the scenes, two minutes at most, and holds up the end of the process.
        """
        self._closed = True
        if self._io_refs <= 0:
            self._real_close()

    def _decref_socketios(self) -> None:
        self._io_refs = max(self._io_refs - 1, 0)
        if self._closed:
            self.close()

    def _real_close(self) -> None:
        self._gone = True  # from now on `_change` closes what it makes
        end, self._end = self._end, None
        readiness, self._readiness = self._readiness, None
        if end is not None and not end.closed and end.pump.is_held():
            end.pump.orphan(end)  # a signal handler, in the middle of a call
            return
        try:
            if end is not None and not end.closed:
                self._close_end(end)
        finally:
            if readiness is not None:
                readiness.close()

    def _close_end(self, end: End) -> None:
        on, seconds = self._options.linger
        with end.pump.lock:
            try:
                if isinstance(end, StreamEnd) and on and not seconds:
                    end.reset()
                elif isinstance(end, StreamEnd) and on and end.connected:
                    end.linger()
                    until = time.monotonic() + seconds
                    end.pump.wait(lambda: not end.lingers, end.condition, until)
            finally:
                end.close()
                end.pump.turn()
                end.pump.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._closed:
            self.close()

    def __del__(self) -> None:
        if self._closed and self._end is None:
            return
        end, self._end = self._end, None
        if not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
        if end is not None and not end.closed:
            end.pump.orphan(end)  # a finalizer may run in the middle of anything
        elif self._readiness is not None:
            self._readiness.close()
