"""SOCKS5 as a server speaks it, RFC 1928 and 1929: bytes to values, and what to answer.

::

    greeting  05 count methods[count]            05 method
    login     01 size name[size] size password   01 status
    request   05 command 00 address              05 reply 00 address
    UDP       00 00 fragment address data
    address   01 IPv4[4] port[2]  |  03 size name[size] port[2]  |  04 IPv6[16] port[2]

It knows no sockets. A parser raises `TruncatedError` where more bytes would help, and
`MalformedError` where none would; nothing is longer than 513 bytes, so nothing grows.
"""

from __future__ import annotations

import hmac
import socket
from dataclasses import dataclass
from ipaddress import ip_address

from rawproto.apps.proxy.places import Place
from rawproto.errors import MalformedError, TruncatedError

__all__ = ["CONNECT", "UDP_ASSOCIATE", "Negotiation", "Request", "emit_address"]
__all__ += ["emit_datagram", "emit_reply", "parse_address", "parse_datagram"]

CONNECT, BIND, UDP_ASSOCIATE = 1, 2, 3
_VERSION, _LOGIN_VERSION = 5, 1
_NO_LOGIN, _LOGIN, _NONE_FITS = 0, 2, 0xFF
_IPV4, _NAME, _IPV6 = 1, 3, 4
_COMMAND_UNKNOWN, _ADDRESS_UNKNOWN = 7, 8


@dataclass(frozen=True, slots=True)
class Request:
    """What a client wants.

    Attributes:
        command: `CONNECT`, `UDP_ASSOCIATE`, or another.
        place: of what.
    """

    command: int
    place: Place


def _need(data: bytes, at: int, count: int) -> None:
    if len(data) < at + count:
        raise TruncatedError("socks", at, count, max(len(data) - at, 0))


def parse_address(data: bytes, at: int) -> tuple[Place, int]:
    """Reads an address.

    Args:
        data: that has it.
        at: where.

    Returns:
        It, and where it ends.

    Raises:
        WireError: it is none.
    """
    _need(data, at, 2)
    kind = data[at]
    if kind == _NAME:
        begin, size = at + 2, data[at + 1]
    elif kind in (_IPV4, _IPV6):
        begin, size = at + 1, 4 if kind == _IPV4 else 16
    else:
        raise MalformedError("socks", at, f"no kind of address: {kind}")
    _need(data, begin, size + 2)
    raw, end = data[begin : begin + size], begin + size + 2
    if kind == _NAME:
        if not raw or not all(0x21 <= each <= 0x7E for each in raw):
            raise MalformedError("socks", begin, "no name")
        host = raw.decode("ascii")
    else:
        host = socket.inet_ntop(socket.AF_INET if kind == _IPV4 else socket.AF_INET6, raw)
    return Place(host, int.from_bytes(data[end - 2 : end], "big")), end


def emit_address(host: str, port: int) -> bytes:
    """An address; of one that is none of IP's, a name."""
    try:
        raw = ip_address(host.partition("%")[0]).packed
    except ValueError:
        name = host.encode("ascii", "replace")[:255]
        return bytes([_NAME, len(name)]) + name + port.to_bytes(2, "big")
    return bytes([_IPV4 if len(raw) == 4 else _IPV6]) + raw + port.to_bytes(2, "big")


def emit_reply(reply: int, host: str = "", port: int = 0) -> bytes:
    """The answer to a request."""
    return bytes([_VERSION, reply, 0]) + emit_address(host or "0.0.0.0", port)


def parse_datagram(data: bytes) -> tuple[Place, bytes]:
    """A client's UDP datagram: where to, and what. Raises WireError; fragments are not taken."""
    _need(data, 0, 4)
    if data[:3] != bytes(3):
        raise MalformedError("socks", 0, "a fragment, or no datagram of SOCKS")
    place, end = parse_address(data, 3)
    return place, data[end:]


def emit_datagram(place: Place, data: bytes) -> bytes:
    """A datagram for a client, and where it came from."""
    return bytes(3) + emit_address(place.host, place.port) + data


class Negotiation:
    """A client's way to its request.

    Args:
        login: name and password that it must know, None for nobody is asked.

    Attributes:
        request: what it wants, once that is known.
        refused: whether this is its end, once what `receive` gave is sent.
        rest: what came behind the request.
    """

    def __init__(self, login: tuple[bytes, bytes] | None = None) -> None:
        self._login = login
        self._data = b""
        self._step = self._greeting
        self.request: Request | None = None
        self.refused = False
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """Takes in what came: what to answer.

        Raises:
            MalformedError: this is no SOCKS5.
        """
        self._data += data
        answers = b""
        while self.request is None and not self.refused:
            try:
                answer, end = self._step(self._data)
            except TruncatedError:
                return answers
            answers += answer
            self._data = self._data[end:]
        self.rest, self._data = self._data, b""
        return answers

    def _greeting(self, data: bytes) -> tuple[bytes, int]:
        _need(data, 0, 1)
        if data[0] != _VERSION:
            raise MalformedError("socks", 0, f"version {data[0]}")
        _need(data, 1, 1)
        _need(data, 2, data[1])
        wanted = _NO_LOGIN if self._login is None else _LOGIN
        self._step = self._request if self._login is None else self._login_step
        if wanted not in data[2 : 2 + data[1]]:
            self.refused, wanted = True, _NONE_FITS
        return bytes([_VERSION, wanted]), 2 + data[1]

    def _login_step(self, data: bytes) -> tuple[bytes, int]:
        _need(data, 0, 1)
        if data[0] != _LOGIN_VERSION:
            raise MalformedError("socks", 0, f"login of version {data[0]}")
        _need(data, 1, 1)
        middle = 2 + data[1]
        _need(data, middle, 1)
        end = middle + 1 + data[middle]
        _need(data, middle + 1, data[middle])
        assert self._login is not None
        known = [
            hmac.compare_digest(*pair)
            for pair in zip((data[2:middle], data[middle + 1 : end]), self._login, strict=True)
        ]
        self.refused = not all(known)
        self._step = self._request
        return bytes([_LOGIN_VERSION, int(self.refused)]), end

    def _request(self, data: bytes) -> tuple[bytes, int]:
        _need(data, 0, 1)
        if data[0] != _VERSION:
            raise MalformedError("socks", 0, f"request of version {data[0]}")
        _need(data, 1, 3)
        if data[3] not in (_IPV4, _NAME, _IPV6):
            self.refused = True
            return emit_reply(_ADDRESS_UNKNOWN), len(data)
        place, end = parse_address(data, 3)
        if data[1] not in (CONNECT, UDP_ASSOCIATE):
            self.refused = True
            return emit_reply(_COMMAND_UNKNOWN), end
        self.request = Request(data[1], place)
        return b"", end
