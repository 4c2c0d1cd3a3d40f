"""Blocking sockets over RPT: `rawproto.socket`.

    s = rawproto.socket(AF_INET, SOCK_STREAM)
    s.connect(("10.0.0.2", 4000))
    s.sendall(b"hello"); s.shutdown(SHUT_WR); data = s.recv(65536)

A socket here is what `socket.socket` is for TCP: the same calls with the same meaning, one
stream (SOCK_STREAM), messages (SOCK_SEQPACKET) or datagrams (SOCK_DGRAM), encrypted. The
table of calls is docs/sockets.md. Here a socket takes a port, listens, accepts, connects and
shuts down; what it has before and after all that is `handle` (options are `options`), moving
data `transfer`, what happens behind a socket `ends` and `pump`.
"""

from __future__ import annotations

import errno
import socket as stdlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from rawproto.drivers.rpt.datagrams import DatagramEnd, Peer
from rawproto.drivers.rpt.ends import BoundEnd, End, ListeningEnd, StreamEnd, peer_of
from rawproto.drivers.rpt.opening import Way, former_pumps, let_in, open_pump
from rawproto.drivers.rpt.pump import Pump
from rawproto.drivers.rpt.refusals import failure
from rawproto.drivers.rpt.sockaddr import ANYWHERE
from rawproto.drivers.rpt.transfer import Transfer
from rawproto.transport.connection import Address, Connection
from rawproto.transport.constants import Kind

__all__ = ["RPTSocket", "socket"]

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

    # --- ports ---

    @property
    def _way(self) -> Way:
        version: Literal[4, 6] = 6 if self.family == stdlib.AF_INET6 else 4
        return Way(self._kind, version, self.proto == stdlib.IPPROTO_UDP)

    def bind(self, address: Any, /) -> None:
        """Takes a port; 0 takes a free one.

        Raises:
            OSError: EADDRINUSE, for connections of a socket that is closed only without
                SO_REUSEADDR; EADDRNOTAVAIL; EINVAL, it has one; EPERM, no CAP_NET_RAW.
        """
        self._use()
        host, port = self._peer(address)
        with self._change():
            if self._use() is not None:
                raise failure(errno.EINVAL)
            self._take_port(host, port)

    def _take_port(self, host: str, port: int) -> None:
        if not (self._options.reuse and self._take_over(host, port)):
            pump = open_pump(self._options, self._way, host, port)
            with self._has_opened(pump):
                self._settle(pump)
        self._bound = host, port

    @contextmanager
    def _has_opened(self, pump: Pump) -> Iterator[None]:
        """Holds the lock of a port; who is interrupted before anything came of it gives it back."""
        try:
            with pump.lock:
                yield
        except BaseException:
            self._end = None
            with pump.lock:
                pump.fail()
            raise

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
            with self._change():
                if self._use() is None:
                    self._take_port(ANYWHERE[self.family], 0)
            end = self._use()
        if not isinstance(end, DatagramEnd):
            raise failure(errno.EBADF)  # another thread closed it
        return end

    def listen(self, backlog: int = 128, /) -> None:
        """Accepts connections, `backlog` of which may wait.

        Raises:
            OSError: EOPNOTSUPP, datagrams; EINVAL, it is connected.
        """
        self._use()
        if self._kind is Kind.DGRAM:
            raise failure(errno.EOPNOTSUPP)
        with self._change():
            if self._use() is None:
                self._take_port(ANYWHERE[self.family], 0)
            end = self._end
            if isinstance(end, ListeningEnd):
                end.backlog = backlog
            elif isinstance(end, BoundEnd):
                self._listen(end, backlog)
            elif not self._gone:
                raise failure(errno.EINVAL)

    def _listen(self, end: BoundEnd, backlog: int) -> None:
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
        self._use()
        peer = self._peer(address)
        if self._kind is Kind.DGRAM:
            datagrams = self._datagram_end()
            with datagrams.pump.lock:
                datagrams.peer = peer
                datagrams.refresh()
            return
        until = self._until()
        with self._change():
            end = self._use()
            if isinstance(end, ListeningEnd) or (isinstance(end, StreamEnd) and end.connected):
                raise failure(errno.EISCONN)
            if isinstance(end, StreamEnd):
                now = errno.EALREADY
            else:
                end, now = self._start(peer, end), errno.EINPROGRESS
        if until == 0 and not end.over:
            raise failure(now)
        with end.pump.lock:
            if not (end.connected or end.over):
                self._wait(end, lambda: end.connected or end.over or end.closed, until)
            if end.closed or (end.over and (end.error is not None or not end.connected)):
                error = end.take_error()
                if self._end is end:
                    self._end = None  # as it was before; the port goes with the attempt
                end.give_up()
                end.pump.turn()
                raise error or failure(errno.ECONNABORTED)

    def _start(self, peer: Peer, end: End | None) -> StreamEnd:
        """Begins to connect."""
        if not peer[1]:
            raise failure(errno.ECONNREFUSED)
        if end is None:
            pump = open_pump(self._options, self._way, peer=peer[0])
        else:
            pump = end.pump
        with pump.lock if end is not None else self._has_opened(pump):
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

    # --- handing it over ---

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
