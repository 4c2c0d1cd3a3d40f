"""Places to connect to or to listen at, and what ssh(1) users write for forwards.

::

    -L, -R   [bind:]port:host:hostport    [bind:]port:path    path:host:hostport    path:path
    -D, -R   [bind:]port                  path

IPv6 addresses stand in brackets. A path begins with `/`, `./` or, for an abstract name, `@`.
Without bind it is the loopback; empty or `*`, all addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from rawproto.errors import UsageError
from rawproto.rpc import BadRequestError

__all__ = ["Forward", "Place", "parse_bind", "parse_forward"]
__all__ += ["parse_host_port", "parse_remote"]

LOOPBACK = "localhost"
_FIELD = re.compile(r"\[([^\[\]]*)\]|([^:\[\]]*)")
_MOST_HOST, _MOST_PATH_BYTES = 255, 107


@dataclass(frozen=True, slots=True)
class Place:
    """One.

    Attributes:
        host: a name or an address; for listening also `localhost`, and `*` for all addresses.
        port: 0 to 65535.
        path: of a Unix socket; then there is no host.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def params(self) -> dict[str, Any]:
        """As calls have it."""
        return {"path": self.path} if self.path else {"host": self.host, "port": self.port}

    @classmethod
    def of_params(cls, params: Any) -> Place:
        """What a call asks for.

        Raises:
            BadRequestError: it is none.
        """
        if not isinstance(params, dict):
            raise BadRequestError("a place is an object")
        path, host, port = params.get("path"), params.get("host"), params.get("port")
        if path is not None:
            if not isinstance(path, str) or not _is_good_path(path):
                raise BadRequestError(f"a path has 1 to {_MOST_PATH_BYTES} bytes")
            return cls(path=path)
        if not isinstance(host, str) or not _is_good_host(host):
            raise BadRequestError(f"host is a text of 1 to {_MOST_HOST} characters of ASCII")
        if type(port) is not int or not 0 <= port <= 0xFFFF:
            raise BadRequestError("port is 0 to 65535")
        return cls(host, port)

    def __str__(self) -> str:
        if self.path:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_good_host(host: str) -> bool:
    return 1 <= len(host) <= _MOST_HOST and all("!" <= each <= "~" for each in host)


def _is_good_path(path: str) -> bool:
    try:
        return 1 <= len(path.encode()) <= _MOST_PATH_BYTES and "\0" not in path and path != "@"
    except UnicodeEncodeError:
        return False


@dataclass(frozen=True, slots=True)
class Forward:
    """What comes to one place goes to another.

    Attributes:
        bind: the one.
        target: the other; None for what each who comes asks for by SOCKS.
    """

    bind: Place
    target: Place | None

    def __str__(self) -> str:
        return f"{self.bind} to {self.target or 'anywhere (SOCKS5)'}"


def parse_forward(text: str) -> Forward:
    """Reads what stands behind -L. Raises UsageError."""
    match _fields(text):
        case [bind, port, host, hostport]:
            return Forward(_bind(text, port, bind), _target(text, host, hostport))
        case [path, host, hostport] if _is_path(path):
            return Forward(Place(path=path), _target(text, host, hostport))
        case [bind, port, path] if _is_path(path):
            return Forward(_bind(text, port, bind), Place(path=path))
        case [port, host, hostport]:
            return Forward(_bind(text, port), _target(text, host, hostport))
        case [path, target] if _is_path(path) and _is_path(target):
            return Forward(Place(path=path), Place(path=target))
        case [port, path] if _is_path(path):
            return Forward(_bind(text, port), Place(path=path))
    raise UsageError(f"{text}: a forward is [BIND:]PORT:HOST:PORT, or a path for either end")


def parse_remote(text: str) -> Forward:
    """Reads what stands behind -R: the same, or a place to listen at alone. Raises UsageError."""
    match _fields(text):
        case [_]:
            return Forward(parse_bind(text), None)
        case [_, port] if not _is_path(port):
            return Forward(parse_bind(text), None)
    return parse_forward(text)


def parse_bind(text: str) -> Place:
    """Reads where to listen: [BIND:]PORT, or a path.

    Raises:
        UsageError: it is none.
    """
    match _fields(text):
        case [path] if _is_path(path):
            return Place(path=path)
        case [port]:
            return _bind(text, port)
        case [bind, port]:
            return _bind(text, port, bind)
    raise UsageError(f"{text}: to listen takes [BIND:]PORT or a path")


def parse_host_port(text: str) -> Place:
    """Reads HOST:PORT as URLs and CONNECT have it. Raises UsageError."""
    match _fields(text):
        case [host, port]:
            return _target(text, host, port)
    raise UsageError(f"{text}: HOST:PORT was expected")


def _fields(text: str) -> list[str]:
    """What stands between the colons; brackets keep theirs, and are taken off."""
    fields: list[str] = []
    at = 0
    while found := _FIELD.match(text, at):
        fields.append(found[1] if found[1] is not None else found[2])
        at = found.end()
        if at == len(text):
            return fields
        if text[at] != ":":
            break
        at += 1
    return []


def _is_path(text: str) -> bool:
    return text.startswith(("/", "./", "@")) and _is_good_path(text)


def _port(text: str, port: str) -> int:
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 0xFFFF:
        raise UsageError(f"{text}: {port!r} is no port")
    return int(port)


def _bind(text: str, port: str, bind: str | None = None) -> Place:
    host = LOOPBACK if bind is None else bind or "*"
    if not _is_good_host(host):
        raise UsageError(f"{text}: {host!r} is nowhere to listen")
    return Place(host, _port(text, port))


def _target(text: str, host: str, port: str) -> Place:
    if not _is_good_host(host) or not _port(text, port):
        raise UsageError(f"{text}: {host}:{port} is no target")
    return Place(host, int(port))
