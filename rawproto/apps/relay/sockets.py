"""Ordinary sockets of ends: connected to a host, bound at a port or a path, accepting."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from rawproto.apps.relay.channels import SocketChannel
from rawproto.apps.relay.ends import End
from rawproto.errors import LinkError

__all__ = ["Acceptor", "bound_socket", "connected", "connected_host", "connected_unix", "named"]

_BACKLOG = 512
_NO_NAME = (socket.EAI_NONAME, "not a host name")
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """A listening socket, TCP or Unix.

    Args:
        end: where.
        made: the socket, if somebody else has made it; its path is theirs, too.

    Attributes:
        name: the end with the port that it got.

    Raises:
        LinkError: it cannot be had.
    """

    def __init__(self, end: End, made: socket.socket | None = None) -> None:
        unix = end.kind == "unix"
        self._end = end
        self._file: os.stat_result | None = None  # at the path, to be taken away
        if made is None:
            made = _bound_unix(end.path) if unix else bound_socket(end, socket.SOCK_STREAM)
            if unix and not end.path.startswith("@"):
                with suppress(OSError):  # somebody took it away already
                    self._file = os.lstat(end.path)
        self._socket = made
        self._socket.listen(_BACKLOG)
        self._socket.setblocking(False)
        self._maker = os.getpid()
        self.name = named(end, self._socket)

    @property
    def port(self) -> int:
        """The port that it got, 0 for a Unix socket."""
        return 0 if self._end.kind == "unix" else int(self._socket.getsockname()[1])

    async def accept(self) -> SocketChannel:
        """The next who connected. Raises OSError."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(self._socket)
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    await asyncio.sleep(0.1)  # some session may end
                    continue
                if error.errno == errno.ECONNABORTED:
                    continue
                raise
            if self._end.kind == "unix":
                return SocketChannel(accepted, self.name)
            return SocketChannel(accepted, f"tcp:{_place(address)}")

    def close(self) -> None:
        """Gives the port, or the path, back."""
        file, self._file = self._file, None
        if file is not None and self._maker == os.getpid():  # else others go on with it
            with suppress(OSError):
                # As long as the socket is open nothing else has its number.
                if os.path.samestat(file, os.lstat(self._end.path)):
                    os.unlink(self._end.path)
        self._socket.close()


async def connected_host(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    """A socket connected to the first of the host's addresses that takes it. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=kind)
    except UnicodeError:
        raise socket.gaierror(*_NO_NAME) from None
    return await connected(found, kind)


async def connected(found: Sequence[Any], kind: socket.SocketKind) -> socket.socket:
    """The same with addresses as `getaddrinfo` gives them."""
    loop = asyncio.get_running_loop()
    for last, (family, _, _, _, address) in enumerate(found, 1 - len(found)):
        made = socket.socket(family, kind)
        made.setblocking(False)
        try:
            await loop.sock_connect(made, address)
            return made
        except BaseException as error:
            made.close()
            if not isinstance(error, OSError) or not last:
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the name has no address")


async def connected_unix(path: str) -> socket.socket:
    """A socket connected to a Unix socket. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made.setblocking(False)
    try:
        while True:
            try:
                made.connect(_unix_address(path))
                return made
            except BlockingIOError:
                # Its backlog is full: nothing has begun, as sock_connect of asyncio would think.
                await asyncio.sleep(0.01)
    except BaseException:
        made.close()
        raise


def _unix_address(path: str) -> str:
    return "\0" + path[1:] if path.startswith("@") else path


def bound_socket(end: End, kind: socket.SocketKind) -> socket.socket:
    """A socket at the end's port, of both families where no address was given.

    Raises:
        LinkError: it cannot be had.
    """
    try:
        if not end.host:
            made = socket.socket(socket.AF_INET6, kind)
            address: Any = ("::", end.port)
        else:
            found = socket.getaddrinfo(end.host, end.port, type=kind, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            made = socket.socket(family, kind)
    except UnicodeError:
        raise LinkError("listen on", str(end), *_NO_NAME) from None
    except OSError as error:
        raise LinkError("listen on", str(end), error.errno, error.strerror) from None
    try:
        if made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(end.host)))
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
    except OSError as error:
        made.close()
        raise LinkError("listen on", str(end), error.errno, error.strerror) from None
    return made


def _bound_unix(path: str) -> socket.socket:
    """A Unix socket at a path; one that is left over from a process that is gone is replaced."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not path.startswith("@") and _is_left_over(path):
            os.unlink(path)
        made.bind(_unix_address(path))
    except OSError as error:
        made.close()
        raise LinkError("listen on", f"unix:{path}", error.errno, error.strerror) from None
    return made


def _is_left_over(path: str) -> bool:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except OSError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
        trial.setblocking(False)  # it may be there, and busy
        return trial.connect_ex(path) == errno.ECONNREFUSED


def named(end: End, bound: socket.socket) -> str:
    """The end with the port that it got."""
    if end.kind == "unix":
        return str(end)
    port = bound.getsockname()[1]
    return str(End(kind=end.kind, listens=True, host=end.host, port=port))


def _place(address: tuple[Any, ...]) -> str:
    host = address[0].removeprefix("::ffff:")
    return f"[{host}]:{address[1]}" if ":" in host else f"{host}:{address[1]}"
