"""Requests by httpcore over RPT: `rpt://host:port/path`, redirects, streamed bodies, failures.

Read RFC 9110 section 15.4 (redirects) first. A connection to a server is kept for the next
request. What fails has curl's number for it (libcurl-errors(3)), because scripts know those.
Where an answer's body goes, and whom RPT trusts, is decided elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from urllib.parse import quote, urljoin

import httpcore

from rawproto.drivers.rpt.address import RPTAddress, host_and_port, parse_address
from rawproto.errors import (
    ConnectionLostError,
    HandshakeError,
    PeerMismatchError,
    PrivilegeError,
    RawprotoError,
    UnknownPeerError,
    UsageError,
)

__all__ = ["Answer", "FetchError", "Fetcher", "Location", "Request"]
__all__ += ["cause_of", "failure", "parse_url"]

Headers = list[tuple[bytes, bytes]]
Body = Callable[[], AsyncIterator[bytes]]

_URL = re.compile(r"(rpt(?:\+udp)?://[^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_AS_IT_IS = "".join(map(chr, range(0x21, 0x7F)))
_REDIRECTS = (301, 302, 303, 307, 308)
_FOR_ONE_SERVER = (b"authorization", b"cookie", b"host")
_MOST_DISCARDED_BYTES = 1 << 16


class FetchError(RawprotoError):
    """A transfer that failed.

    Attributes:
        code: curl's number for it.
    """

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Location(NamedTuple):
    """A URL, read.

    Attributes:
        address: of the RPT listener.
        target: path and query, as the request has it.
    """

    address: RPTAddress
    target: str

    def __str__(self) -> str:
        return f"{self.address}{self.target}"


def parse_url(text: str) -> Location:
    """Reads `rpt://host:port/path?query`; a fragment is left out.

    Raises:
        FetchError: it is none (3), or of another scheme (1).
    """
    found = _URL.fullmatch(text)
    if found is None:
        if (scheme := _SCHEME.match(text)) is not None:
            raise FetchError(1, f"{text}: {scheme[1]} is not rpt or rpt+udp")
        raise FetchError(3, f"{text}: not a URL such as rpt://10.0.0.2:4000/path")
    try:
        address = parse_address(found[1])
    except UsageError as error:
        raise FetchError(3, str(error)) from None
    if not (address.host and address.port):
        raise FetchError(3, f"{text}: no host and port to connect to")
    if any(each <= " " or each == "\x7f" for each in found[2]):
        raise FetchError(3, f"{text!r}: a URL has no spaces and control characters")
    return Location(address, quote("/" + found[2].removeprefix("/"), safe=_AS_IT_IS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked.

    Attributes:
        location: of whom.
        method: how.
        headers: what goes along; Host stands before them if it is not among them.
        body: makes the body's pieces, None for no body.
        again: whether it can be made twice.
        connect_timeout_s: for connecting, None for as long as RPT tries.
    """

    location: Location
    method: str = "GET"
    headers: Headers = field(default_factory=list)
    body: Body | None = None
    again: bool = True
    connect_timeout_s: float | None = None


class Answer:
    """What came back. Its body is read as it comes, once.

    Attributes:
        location: who answered.
        status: 200 and so on.
        reason: in the server's words.
        version: `HTTP/1.1`.
        headers: as they came.
    """

    def __init__(self, location: Location, response: httpcore.Response) -> None:
        self.location = location
        self.status = response.status
        self.reason = response.extensions.get("reason_phrase", b"")
        self.version = response.extensions.get("http_version", b"HTTP/1.1")
        self.headers: Headers = response.headers
        self._response = response

    def header(self, name: str) -> str | None:
        """The first of that name, None if there is none."""
        wanted = name.lower().encode()
        return next((v.decode("latin-1") for k, v in self.headers if k.lower() == wanted), None)

    def pieces(self) -> AsyncIterator[bytes]:
        """The body."""
        return self._response.aiter_stream()


class Fetcher:
    """Connections to any number of servers; use `async with`.

    Args:
        backend_of: what connects to a server, by its address.
        most_redirects: that are followed for one request.
        watch: called with the lines of each head as it goes (True) or comes (False).
    """

    def __init__(
        self,
        backend_of: Callable[[RPTAddress], httpcore.AsyncNetworkBackend],
        most_redirects: int = 0,
        watch: Callable[[bool, list[bytes]], None] | None = None,
    ) -> None:
        self._backend_of = backend_of
        self._watch = watch
        self._most_redirects = most_redirects
        self._pools: dict[RPTAddress, httpcore.AsyncConnectionPool] = {}

    async def __aenter__(self) -> Fetcher:
        return self

    async def __aexit__(self, *_: object) -> None:
        for pool in self._pools.values():
            await pool.aclose()

    @asynccontextmanager
    async def answer(
        self, request: Request, follow: bool, tell: Callable[[Answer], None]
    ) -> AsyncIterator[Answer]:
        """Asks; with the answer, whose body is to be read within.

        Args:
            request: what is asked.
            follow: whether redirects are followed.
            tell: called with each redirect that is followed.

        Raises:
            FetchError, or what `failure` makes one of.
        """
        count = 0
        while True:
            async with self._asked(request) as answer:
                moved = answer.header("location") if answer.status in _REDIRECTS else None
                if not (moved and follow):
                    yield answer
                    return
                count += 1
                if count > self._most_redirects:
                    raise FetchError(47, f"{request.location}: more than {count - 1} redirects")
                tell(answer)
                request = _moved(request, answer.status, moved)
                await _discard(answer)

    @asynccontextmanager
    async def _asked(self, request: Request) -> AsyncIterator[Answer]:
        address, target = request.location
        if address not in self._pools:
            backend = self._backend_of(address)
            self._pools[address] = httpcore.AsyncConnectionPool(network_backend=backend)
        headers = request.headers
        if not any(name.lower() == b"host" for name, _ in headers):
            headers = [(b"Host", host_and_port(*address[1:]).encode()), *headers]
        extensions: dict[str, Any] = {"timeout": {"connect": request.connect_timeout_s}}
        if self._watch is not None:
            extensions["trace"] = self._trace
        asked = self._pools[address].stream(
            request.method,
            httpcore.URL(
                scheme=b"http",
                host=address.host.encode(),
                port=address.port,
                target=target.encode(),
            ),
            headers=headers,
            content=request.body() if request.body is not None else None,
            extensions=extensions,
        )
        async with asked as response:
            yield Answer(request.location, response)

    async def _trace(self, event: str, info: dict[str, Any]) -> None:
        assert self._watch is not None
        if event == "http11.send_request_headers.started":
            asked = info["request"]
            first, headers = b"%s %s HTTP/1.1" % (asked.method, asked.url.target), asked.headers
        elif event == "http11.receive_response_headers.complete":
            *said, headers = info["return_value"]
            first = b"%s %d %s" % tuple(said)
        else:
            return
        self._watch(
            event.startswith("http11.send"), [first, *[b"%s: %s" % each for each in headers]]
        )


async def _discard(answer: Answer) -> None:
    """Reads a body that nobody wants, if it is short, so that the connection can be kept."""
    size = 0
    async for piece in answer.pieces():
        size += len(piece)
        if size > _MOST_DISCARDED_BYTES:
            break


def _moved(request: Request, status: int, moved: str) -> Request:
    """The next request behind a redirect."""
    location = _resolved(request.location, moved)
    headers = request.headers
    if location.address != request.location.address:
        headers = [each for each in headers if each[0].lower() not in _FOR_ONE_SERVER]
    to_get = status == 303 or (status in (301, 302) and request.method == "POST")
    if to_get and request.method not in ("GET", "HEAD"):
        headers = [each for each in headers if not each[0].lower().startswith(b"content-")]
        headers = [each for each in headers if each[0].lower() != b"transfer-encoding"]
        return replace(request, location=location, method="GET", headers=headers, body=None)
    if request.body is not None and not request.again:
        raise FetchError(65, f"{location}: what was sent cannot be sent again")
    return replace(request, location=location, headers=headers)


def _resolved(base: Location, moved: str) -> Location:
    """Where a Location header leads. `http` to the same host and port means the same listener.

    What a URL cannot have, bytes of UTF-8 and spaces most of all, is escaped, as curl does.
    """
    moved = quote(moved.encode("latin-1"), safe=_AS_IT_IS)
    if moved.startswith(("rpt://", "rpt+udp://")):
        return parse_url(moved)
    here = f"http://{host_and_port(*base.address[1:])}"
    try:
        there = urljoin(here + base.target, moved)
    except ValueError:
        raise FetchError(3, f"{moved}: redirected to what is no URL") from None
    if there == here or there.startswith((here + "/", here + "?", here + "#")):
        return parse_url(str(base.address) + there.removeprefix(here))
    raise FetchError(1, f"{moved}: redirected away from RPT")


def failure(error: Exception, location: Location) -> FetchError | None:
    """What went wrong in curl's terms, None if it is our own fault."""
    where = f"{location.address}"
    cause = cause_of(error)
    # Whom a server does not admit, it lets connect first, and says so then.
    if isinstance(error, httpcore.ConnectError) or isinstance(cause, HandshakeError):
        if isinstance(cause, PrivilegeError):
            return None
        return FetchError(_connect_code(cause), f"{where}: {cause}")
    if isinstance(error, httpcore.ConnectTimeout):
        return FetchError(28, f"{where}: connecting took too long")
    if isinstance(error, httpcore.RemoteProtocolError):
        words = str(error)
        if "without sending a response" in words:
            return FetchError(52, f"{where}: the server closed, and answered nothing")
        if "complete message body" in words or "incomplete chunked read" in words:
            return FetchError(18, f"{where}: the server closed before the end")
        return FetchError(8, f"{where}: the answer is not HTTP: {words}")
    if isinstance(error, httpcore.WriteError):
        return FetchError(55, f"{where}: {error}")
    if isinstance(error, httpcore.NetworkError):
        return FetchError(56, f"{where}: {error}")
    return None


def cause_of(error: Exception) -> Exception:
    """What RPT raised, where httpcore passed it on."""
    return next((each for each in error.args if isinstance(each, Exception)), error)


def _connect_code(cause: Exception) -> int:
    if isinstance(cause, UnknownPeerError | PeerMismatchError):
        return 60
    if isinstance(cause, HandshakeError):
        return 35
    if isinstance(cause, ConnectionLostError) and cause.errno is None:
        return 28
    if isinstance(cause, UsageError):
        return 6
    return 7
