"""Blocking sockets over RPT: `rawproto.socket`.

    s = rawproto.socket(AF_INET, SOCK_STREAM)
    s.connect(("10.0.0.2", 4000))
    s.sendall(b"hello"); s.shutdown(SHUT_WR); data = s.recv(65536)

A socket here is what `socket.socket` is for TCP: the same calls with the same meaning, one
stream (SOCK_STREAM), messages (SOCK_SEQPACKET) or datagrams (SOCK_DGRAM), encrypted. The
table of calls is docs/sockets.md; options are `options`, moving data `transfer`,
what happens behind a socket `ends` and `pump`.
"""

from __future__ import annotations

import errno
import socket as stdlib
import time
import warnings
from collections.abc import Callable
from typing import Any, Literal, Self, cast

from rawproto.drivers.rpt.datagrams import DatagramEnd, Peer
from rawproto.drivers.rpt.ends import BoundEnd, End, ListeningEnd, StreamEnd, peer_of
from rawproto.drivers.rpt.opening import (
    Way,
    careful_authorize,
    careful_trust,
    former_pumps,
    let_in,
    open_pump,
)
from rawproto.drivers.rpt.options import RPT_MAXSEG, RPT_PEER_KEY, SOL_RPT, Options
from rawproto.drivers.rpt.pump import Pump
from rawproto.drivers.rpt.readiness import Readiness
from rawproto.drivers.rpt.transfer import Transfer, failure
from rawproto.errors import RawprotoError
from rawproto.identity.keys import Identity
from rawproto.link.interfaces import split_scope
from rawproto.transport.config import Config
from rawproto.transport.connection import Address, Connection
from rawproto.transport.constants import Kind
from rawproto.wire.rpt import IP_PROTOCOL

__all__ = ["RPTSocket", "socket"]

_KINDS = {
    stdlib.SOCK_STREAM: Kind.STREAM,
    stdlib.SOCK_SEQPACKET: Kind.SEQPACKET,
    stdlib.SOCK_DGRAM: Kind.DGRAM,
}
_FLAGS = stdlib.SOCK_NONBLOCK | stdlib.SOCK_CLOEXEC
_DATAGRAM_ROOM = 212_992  # Linux' net.core.rmem_default


class RPTSocket(Transfer):
    """A socket.

    Args:
        family: AF_INET or AF_INET6.
        type: SOCK_STREAM, SOCK_SEQPACKET or SOCK_DGRAM; SOCK_NONBLOCK may be ored to it.
        proto: 0 or 253 for RPT on bare IP, IPPROTO_UDP for RPT in UDP.
        identity: this side's private key, 32 bytes; None makes one for each connection, or
            for the listener.
        psk: a secret of 32 bytes that both sides know, b"" for none.
        peer_key: the public key that the peer must have, None for any.
        trust: asked about the key of a peer when there is no `peer_key`; answers why not, or
            None. It must answer at once.
        authorize: whether the owner of a public key may connect to this listener.
        config: other settings of its connections.

    Raises:
        OSError: EAFNOSUPPORT, EPROTOTYPE, EPROTONOSUPPORT.
    """

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
        self._closed = self._gone = True  # until all is well, for the finalizer
        self._end: End | None = None
        self._readiness: Readiness | None = None
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
        self._bound: tuple[str, int] | None = None
        self._timeout = 0.0 if type & stdlib.SOCK_NONBLOCK else stdlib.getdefaulttimeout()
        self._io_refs = 0
        self._closed = self._gone = False

    # --- what it is ---

    def _use(self) -> End | None:
        end = self._end
        if self._gone or (end is not None and end.closed):  # by another thread, or as a copy
            raise failure(errno.EBADF)
        if end is not None and end.pump.lock._is_owned():  # type: ignore[attr-defined]
            raise failure(errno.EDEADLK)
        return end

    def fileno(self) -> int:
        """A descriptor for select, poll and epoll, and for nothing else; -1 once closed."""
        if self._gone or (self._end is not None and self._end.closed):
            return -1
        if self._readiness is None:
            self._readiness = readiness = Readiness()
            end = self._use()
            if end is None:
                readiness.tell(readable=True, writable=True)  # calls fail without blocking
            else:
                with end.pump.lock:
                    end.readiness = readiness
                    end.refresh()
        return self._readiness.fileno()

    def getsockname(self) -> tuple[Any, ...]:
        """This side's address: (host, port), of IPv6 with flow label and scope."""
        end = self._use()
        host, port = self._bound or ("0.0.0.0" if self._version == 4 else "::", 0)
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

    @property
    def _way(self) -> Way:
        return Way(self._kind, self._version, self.proto == stdlib.IPPROTO_UDP)

    @property
    def _version(self) -> Literal[4, 6]:
        return 6 if self.family == stdlib.AF_INET6 else 4

    def _address(self, peer: Peer) -> tuple[Any, ...]:
        host, port = peer
        return (host, port) if self._version == 4 else (host, port, 0, split_scope(host)[1])

    def _resolve(self, address: Any) -> tuple[str, int]:
        """A socket's address as Python has it to (address, port).

        Raises:
            TypeError, OverflowError: it is none.
            socket.gaierror: no such host.
        """
        most = 2 if self._version == 4 else 4
        if not isinstance(address, tuple) or not 2 <= len(address) <= most:
            raise TypeError(f"an address of {self.family.name} is a tuple (host, port)")
        host, port = address[:2]
        if not isinstance(host, str) or not isinstance(port, int):
            raise TypeError(f"an address is (str, int), not {address!r}")
        if not 0 <= port <= 0xFFFF:
            raise OverflowError("port must be 0-65535.")
        host = host or ("0.0.0.0" if self._version == 4 else "::")
        found = stdlib.getaddrinfo(host, port, self.family, stdlib.SOCK_DGRAM)
        host = str(found[0][4][0])
        scope = cast(int, (*address, 0, 0)[3])
        if scope and "%" not in host:
            host = f"{host}%{stdlib.if_indextoname(scope)}"
        return host, port

    def _peer(self, address: Any) -> Peer:
        return self._resolve(address)

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
                end.send_buffer = self._options.send_buffer
                end.refresh()
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
                    end.refresh()
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

    # --- ports ---

    def bind(self, address: Any, /) -> None:
        """Takes a port; 0 takes a free one.

        Raises:
            OSError: EADDRINUSE, for connections of a socket that is closed only without
                SO_REUSEADDR; EADDRNOTAVAIL; EINVAL, it has one; EPERM, no CAP_NET_RAW.
        """
        if self._use() is not None:
            raise failure(errno.EINVAL)
        host, port = self._resolve(address)
        if not (self._options.reuse and self._take_over(host, port)):
            pump = open_pump(self._options, self._way, host, port)
            with pump.lock:
                self._settle(pump)
        self._bound = host, port

    def _take_over(self, host: str, port: int) -> bool:
        """Takes a port of which there are but connections of a socket that is closed."""
        for pump in former_pumps(self._way, host, port):
            with pump.lock:
                if pump.vacant:
                    self._settle(pump)
                    return True
        return False

    def _settle(self, pump: Pump) -> None:
        """A port without a peer; its lock is held."""
        if self._kind is Kind.DGRAM:
            let_in(self._options, self._way, pump)
            self._end = DatagramEnd(
                pump,
                self._readiness,
                lambda peer: self._begin(pump, peer),
                self._options.receive_buffer or _DATAGRAM_ROOM,
            )
        else:
            self._end = BoundEnd(pump, self._readiness)
        self._end.refresh()
        pump.turn()
        pump.leave()

    def _datagram_end(self) -> DatagramEnd:
        end = self._use()
        if end is None:
            self.bind(("", 0))
            end = self._use()
        assert isinstance(end, DatagramEnd)
        return end

    def listen(self, backlog: int = 128, /) -> None:
        """Accepts connections, `backlog` of which may wait.

        Raises:
            OSError: EOPNOTSUPP, datagrams; EINVAL, it is connected.
        """
        end = self._use()
        if self._kind is Kind.DGRAM:
            raise failure(errno.EOPNOTSUPP)
        if end is None:
            self.bind(("", 0))
            end = self._use()
        if isinstance(end, ListeningEnd):
            end.backlog = backlog
            return
        if not isinstance(end, BoundEnd):
            raise failure(errno.EINVAL)
        pump = end.pump
        with pump.lock:
            listening = ListeningEnd(pump, self._readiness, backlog)
            let_in(self._options, self._way, pump, listening)
            pump.ends.discard(end)
            self._end = listening
            listening.refresh()
            pump.turn()
            pump.leave()

    def accept(self) -> tuple[RPTSocket, tuple[Any, ...]]:
        """The next connection, a socket of its own, and who it is from.

        Raises:
            BlockingIOError, TimeoutError: none came in time.
            OSError: EINVAL, it does not listen; EOPNOTSUPP, datagrams.
        """
        end = self._use()
        if self._kind is Kind.DGRAM:
            raise failure(errno.EOPNOTSUPP)
        if not isinstance(end, ListeningEnd):
            raise failure(errno.EINVAL)
        with end.pump.lock:
            if not end.readable():
                self._wait(end, end.readable, self._until())
            if not end.waiting:
                raise end.take_error() or failure(errno.EAGAIN)
            accepted = end.waiting.popleft()
            end.refresh()
            accepted.send_buffer = self._options.send_buffer
            made = self._sibling(accepted)
        return made, made._address(peer_of(accepted.connection))

    def _sibling(self, end: StreamEnd) -> RPTSocket:
        made = RPTSocket(self.family, self.type, self.proto, config=self._options.config)
        made._options = self._options.copy()
        made._end = end
        return made

    # --- connecting ---

    def _begin(self, pump: Pump, peer: Peer) -> Connection:
        host, port = peer
        udp = self.proto == stdlib.IPPROTO_UDP
        address: Address = (host, port if udp else 0)
        config = self._options.settings(self._kind)
        credentials = self._options.credentials()
        endpoint = pump.port.endpoint
        return endpoint.connect(address, port, credentials, time.monotonic_ns(), config)

    def connect(self, address: Any, /) -> None:
        """Connects; a socket of datagrams from now on has one peer only.

        Raises:
            BlockingIOError: EINPROGRESS, it does not block: wait until it is writable.
            ConnectionRefusedError: nobody listens there.
            TimeoutError: nobody answers, or not in time.
            HandshakeError: PeerMismatchError (EKEYREJECTED), UnknownPeerError (ENOKEY),
                NotAuthorizedError (EACCES) and others (EPROTO).
            OSError: EISCONN, EALREADY, ENETUNREACH and what `bind` raises.
        """
        end = self._use()
        if self._kind is Kind.DGRAM:
            peer = self._resolve(address)
            datagrams = self._datagram_end()
            with datagrams.pump.lock:
                datagrams.peer = peer
                datagrams.refresh()
            return
        if isinstance(end, ListeningEnd) or (isinstance(end, StreamEnd) and end.connected):
            raise failure(errno.EISCONN)
        until = self._until()
        if not isinstance(end, StreamEnd):
            end = self._start(self._resolve(address), end)
            if until == 0:
                raise failure(errno.EINPROGRESS)
        elif until == 0 and not end.over:
            raise failure(errno.EALREADY)
        with end.pump.lock:
            if not (end.connected or end.over):
                self._wait(end, lambda: end.connected or end.over or end.closed, until)
            error = end.take_error()
            if end.over:
                self._end = None  # as it was before; the port goes with the attempt
                end.close()
                end.pump.turn()
                self._unready()
                raise error or failure(errno.ECONNABORTED)

    def _unready(self) -> None:
        if self._readiness is not None:
            self._readiness.tell(readable=True, writable=True)

    def _start(self, peer: Peer, end: End | None) -> StreamEnd:
        """Begins to connect."""
        if not peer[1]:
            raise failure(errno.ECONNREFUSED)
        if end is None:
            pump = open_pump(self._options, self._way, peer=peer[0])
        else:
            pump = end.pump
        with pump.lock:
            connection = self._begin(pump, peer)
            started = StreamEnd(pump, self._readiness, connection, self._options.send_buffer)
            if end is not None:
                pump.ends.discard(end)
            self._end = started
            started.refresh()
            pump.turn()
            pump.leave()
        return started

    def connect_ex(self, address: Any, /) -> int:
        """`connect` that answers an error's number instead of raising it, 0 for none."""
        try:
            self.connect(address)
        except stdlib.gaierror:
            raise
        except OSError as error:
            return error.errno or errno.EAGAIN
        return 0

    # --- the end ---

    def shutdown(self, how: int, /) -> None:
        """Ends one direction or both: SHUT_RD, SHUT_WR, SHUT_RDWR.

        The peer reads what was sent, and then the end. SHUT_RD is not told to the peer.

        Raises:
            OSError: ENOTCONN, EINVAL.
        """
        if how not in (stdlib.SHUT_RD, stdlib.SHUT_WR, stdlib.SHUT_RDWR):
            raise failure(errno.EINVAL)
        if self._kind is Kind.DGRAM:
            self.getpeername()
            return
        end = self._connected()
        with end.pump.lock:
            if how != stdlib.SHUT_WR:
                end.read_shut = True
            if how != stdlib.SHUT_RD:
                end.finish()
            end.changed()
            end.pump.touch(end.connection)

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
        self._gone = True
        end, self._end = self._end, None
        readiness, self._readiness = self._readiness, None
        try:
            if end is not None and not end.closed:
                if end.pump.lock._is_owned():  # type: ignore[attr-defined]
                    end.pump.orphan(end)  # a signal handler, in the middle of a call
                else:
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
        if self._readiness is not None:
            self._readiness.close()

    def detach(self) -> int:
        """Closes the socket and answers a descriptor for what it was (`detach`).

        Raises:
            OSError: ENOTCONN; EOPNOTSUPP, datagrams.
        """
        from rawproto.drivers.rpt.detach import detach

        if self._kind is Kind.DGRAM:
            raise failure(errno.EOPNOTSUPP)
        return detach(self._moved()).detach()

    def _moved(self) -> RPTSocket:
        """The same socket as another object; this one is closed."""
        made = self._sibling(self._connected())
        made._timeout = None
        self._end = None
        self.close()
        return made

    def dup(self) -> RPTSocket:
        """Not possible: a socket is no descriptor. Raises OSError EOPNOTSUPP."""
        raise failure(errno.EOPNOTSUPP)

    def __getstate__(self) -> object:
        raise TypeError(f"cannot pickle {self!r}")


socket = RPTSocket
