"""Options of blocking RPT sockets: those of socket(7) that have a meaning, and RPT's own.

| level, name               | value         |                                                |
|---------------------------|---------------|------------------------------------------------|
| SOL_SOCKET SO_RCVBUF      | int           | flow control's first window, before connecting |
| SOL_SOCKET SO_SNDBUF      | int           | what waits to be sent or acknowledged at most  |
| SOL_SOCKET SO_KEEPALIVE   | int           | PING after 10 s of silence                     |
| SOL_SOCKET SO_LINGER      | onoff, s      | `close` waits; with 0 s it resets              |
| SOL_SOCKET SO_REUSEADDR   | int           | `bind` to a port where only connections remain |
| SOL_SOCKET SO_ERROR, SO_TYPE, SO_DOMAIN, SO_PROTOCOL, SO_ACCEPTCONN | int | read only     |
| SOL_RPT    RPT_NODELAY    | int           | 1: RPT never waits for more to send            |
| SOL_RPT    RPT_MAXSEG     | int           | the size of packets now; read only             |
| SOL_RPT    RPT_CONGESTION | bytes         | name of the congestion control                 |
| SOL_RPT    RPT_IDENTITY   | 32 bytes      | this side's private key; write only            |
| SOL_RPT    RPT_PSK        | 32 bytes, b"" | a secret that both sides know; write only      |
| SOL_RPT    RPT_PEER_KEY   | 32 bytes, b"" | the public key that the peer must have, or has |

What is not in here is ENOPROTOOPT. This module keeps values; what they do is `socket`'s.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from rawproto.errors import RawprotoError
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import SECOND, Config
from rawproto.transport.congestion import CONTROLLERS
from rawproto.transport.constants import Kind

__all__ = [
    "RPT_CONGESTION",
    "RPT_IDENTITY",
    "RPT_MAXSEG",
    "RPT_NODELAY",
    "RPT_PEER_KEY",
    "RPT_PSK",
    "SOL_RPT",
    "Options",
]

SOL_RPT = 253
"""The level of RPT's own options: its IP protocol, as IPPROTO_TCP is that of TCP's."""
RPT_NODELAY = 1
RPT_MAXSEG = 2
RPT_CONGESTION = 13
RPT_IDENTITY = 32
RPT_PSK = 33
RPT_PEER_KEY = 34

KEEP_ALIVE_NS = 10 * SECOND
_LINGER = struct.Struct("@ii")
_INT = struct.Struct("@i")
_LEAST_BUFFER = 4096
_SOCKET = socket.SOL_SOCKET


@dataclass(slots=True, kw_only=True)
class Options:
    """What is set on a socket; accepted ones get a copy.

    Attributes:
        config: other settings of its connections.
        identity: the private key, b"" for one made for each connection or listener.
        psk: a shared secret, b"" for none.
        peer_key: the key that a peer must have, b"" for any.
        trust: asked about the key of a peer without `peer_key`; answers why not, or None.
        authorize: whether the owner of a key may connect to a listener.
        keep_alive: whether connections are kept alive.
        linger: (on, seconds) of SO_LINGER.
        receive_buffer, send_buffer: in bytes, 0 where not set.
        reuse: SO_REUSEADDR.
    """

    config: Config
    identity: bytes = b""
    psk: bytes = b""
    peer_key: bytes = b""
    trust: Callable[[bytes], RawprotoError | None] = lambda key: None
    authorize: Callable[[bytes], bool] = lambda key: True
    keep_alive: bool = True
    linger: tuple[int, int] = (0, 0)
    receive_buffer: int = 0
    send_buffer: int = 0
    reuse: bool = False

    @property
    def keep_alive_ns(self) -> int:
        """What SO_KEEPALIVE means for a connection."""
        return (self.config.keep_alive_ns or KEEP_ALIVE_NS) if self.keep_alive else 0

    def settings(self, kind: Kind) -> Config:
        """For a connection made now."""
        config = replace(self.config, kind=kind, keep_alive_ns=self.keep_alive_ns)
        if self.receive_buffer:
            window = self.receive_buffer
            config = replace(config, window_bytes=window, max_window_bytes=window)
        if self.send_buffer:
            config = replace(config, send_buffer_bytes=self.send_buffer)
        return config

    def copy(self) -> Options:
        """The same, for an accepted socket."""
        return replace(self)

    def credentials(self) -> Credentials:
        """For a connection made now."""
        return Credentials(
            static=self.identity or os.urandom(32),
            peer_key=self.peer_key or None,
            psk=self.psk,
            trust=self.trust,
        )

    def put(self, level: int, name: int, value: int | bytes) -> None:
        """setsockopt(2).

        Raises:
            OSError: ENOPROTOOPT, there is none such that can be set; EINVAL, not to this value.
        """
        if (level, name) == (_SOCKET, socket.SO_LINGER):
            if not isinstance(value, bytes | bytearray) or len(value) < _LINGER.size:
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            self.linger = _LINGER.unpack_from(value)
        elif (level, name) in _KEYS:
            key = bytes(value) if not isinstance(value, int) else None
            if key is None or len(key) not in ((32,) if name == RPT_IDENTITY else (0, 32)):
                raise OSError(errno.EINVAL, "a key has 32 bytes")
            setattr(self, _KEYS[level, name], key)
        elif (level, name) == (SOL_RPT, RPT_CONGESTION):
            text = "" if isinstance(value, int) else bytes(value).rstrip(b"\0").decode("latin-1")
            if text not in CONTROLLERS:
                raise OSError(
                    errno.ENOENT, f"congestion control is one of {', '.join(CONTROLLERS)}"
                )
            self.config = replace(self.config, congestion=text)
        else:
            self._put_number(level, name, value)

    def _put_number(self, level: int, name: int, value: int | bytes) -> None:
        number = value if isinstance(value, int) else _int_of(value)
        if (level, name) == (_SOCKET, socket.SO_KEEPALIVE):
            self.keep_alive = bool(number)
        elif (level, name) == (_SOCKET, socket.SO_REUSEADDR):
            self.reuse = bool(number)
        elif (level, name) == (_SOCKET, socket.SO_RCVBUF):
            self.receive_buffer = max(number, _LEAST_BUFFER)
        elif (level, name) == (_SOCKET, socket.SO_SNDBUF):
            self.send_buffer = max(number, _LEAST_BUFFER)
        elif (level, name) == (SOL_RPT, RPT_NODELAY):
            if not number:
                raise OSError(errno.EINVAL, "RPT never waits for more to send")
        else:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    def get(self, level: int, name: int) -> int | bytes:
        """getsockopt(2), for what does not depend on how the socket stands.

        Raises:
            OSError: ENOPROTOOPT, there is none such that can be read.
        """
        config = self.config
        values: dict[tuple[int, int], int | bytes] = {
            (_SOCKET, socket.SO_KEEPALIVE): int(self.keep_alive),
            (_SOCKET, socket.SO_REUSEADDR): int(self.reuse),
            (_SOCKET, socket.SO_LINGER): _LINGER.pack(*self.linger),
            (_SOCKET, socket.SO_RCVBUF): self.receive_buffer or config.window_bytes,
            (_SOCKET, socket.SO_SNDBUF): self.send_buffer or config.send_buffer_bytes,
            (SOL_RPT, RPT_NODELAY): 1,
            (SOL_RPT, RPT_CONGESTION): config.congestion.encode(),
            (SOL_RPT, RPT_PEER_KEY): self.peer_key,
        }
        try:
            return values[level, name]
        except KeyError:
            raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT)) from None


_KEYS = {
    (SOL_RPT, RPT_IDENTITY): "identity",
    (SOL_RPT, RPT_PSK): "psk",
    (SOL_RPT, RPT_PEER_KEY): "peer_key",
}


def _int_of(value: bytes) -> int:
    if len(value) < _INT.size:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    number: int = _INT.unpack_from(value)[0]
    return number
