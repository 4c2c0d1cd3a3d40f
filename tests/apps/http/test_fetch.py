"""URLs read, redirects followed, failures named; the server is a script of bytes."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator

import httpcore
import pytest

from rawproto.apps.http.fetch import (
    Answer,
    Fetcher,
    FetchError,
    Location,
    Request,
    failure,
    parse_url,
)
from rawproto.drivers.rpt.address import RPTAddress
from rawproto.errors import (
    ConnectionLostError,
    HandshakeError,
    LinkError,
    NotAuthorizedError,
    PeerMismatchError,
    PrivilegeError,
    RefusedError,
    UnknownPeerError,
    UsageError,
)

HERE = "rpt://10.0.0.2:4000"


class _Server(httpcore.AsyncNetworkBackend):
    """Answers each request with the next of the pieces, and keeps what it was sent."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.sent = b""
        self.connections = 0

    async def connect_tcp(self, *words: object, **options: object) -> httpcore.AsyncNetworkStream:
        self.connections += 1
        return _Stream(self)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, server: _Server) -> None:
        self._server = server

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._server.answers.pop(0) if self._server.answers else b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._server.sent += buffer

    async def aclose(self) -> None:
        pass

    def get_extra_info(self, info: str) -> object:
        return None


def fetch(
    request: Request, answers: list[bytes], *, follow: bool = False, most: int = 5
) -> tuple[Answer, bytes, dict[RPTAddress, _Server], list[int]]:
    """(the answer, its body, the servers by address, the redirects on the way)."""
    servers: dict[RPTAddress, _Server] = {}
    on_the_way: list[int] = []

    def backend_of(address: RPTAddress) -> _Server:
        servers[address] = _Server(answers)
        return servers[address]

    async def run() -> tuple[Answer, bytes]:
        async with Fetcher(backend_of, most) as fetcher:
            tell = fetcher.answer(request, follow, lambda each: on_the_way.append(each.status))
            async with tell as answer:
                return answer, b"".join([piece async for piece in answer.pieces()])

    return *asyncio.run(run()), servers, on_the_way


def reply(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("text", "address", "target"),
    [
        ("rpt://10.0.0.2:4000", "rpt://10.0.0.2:4000", "/"),
        ("rpt://10.0.0.2:4000?a=b", "rpt://10.0.0.2:4000", "/?a=b"),
        ("rpt+udp://[2001:db8::1]:1/a/b?c#d", "rpt+udp://[2001:db8::1]:1", "/a/b?c"),
        ("rpt://host:1/%41/é", "rpt://host:1", "/%41/%C3%A9"),
        ("rpt://host:1//two", "rpt://host:1", "//two"),
    ],
)
def test_url_is_read(text: str, address: str, target: str) -> None:
    location = parse_url(text)
    assert (str(location.address), location.target) == (address, target)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("http://10.0.0.2/", 1),
        ("file:///etc/passwd", 1),
        ("10.0.0.2:4000/", 3),
        ("", 3),
        ("rpt://", 3),
        ("rpt://host/", 3),
        ("rpt://host:0/", 3),
        ("rpt://host:99999/", 3),
        ("rpt://:4000/", 3),
        ("rpt://host:1/a b", 3),
        ("rpt://host:1/a\r\nX: y", 3),
        ("rpt://host:1/\x7f", 3),
    ],
)
def test_what_is_no_url_has_curls_number(text: str, code: int) -> None:
    with pytest.raises(FetchError) as caught:
        parse_url(text)
    assert caught.value.code == code


def test_request_names_the_host_and_the_body_is_streamed() -> None:
    answer, body, servers, _ = fetch(
        Request(location=parse_url(f"{HERE}/x?y")), [reply(200, b"hi")]
    )
    assert (answer.status, body) == (200, b"hi")
    (server,) = servers.values()
    assert server.sent == b"GET /x?y HTTP/1.1\r\nHost: 10.0.0.2:4000\r\n\r\n"


async def _body() -> AsyncIterator[bytes]:
    yield b"sent"


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (301, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
        (302, "GET", "GET"),
    ],
)
def test_redirect_keeps_the_method_where_http_says_so(status: int, method: str, then: str) -> None:
    with_body = method in ("POST", "PUT")
    headers = [(b"Content-Length", b"4"), (b"Content-Type", b"a/b"), (b"X", b"y")]
    request = Request(
        location=parse_url(f"{HERE}/dir/a"),
        method=method,
        headers=headers if with_body else headers[2:],
        body=_body if with_body else None,
    )
    last = reply(200) if then != "HEAD" else b"HTTP/1.1 200 X\r\n\r\n"
    first = (
        reply(status, location="b?c")
        if method != "HEAD"
        else (f"HTTP/1.1 {status} X\r\nlocation: b?c\r\n\r\n".encode())
    )
    answer, _, servers, on_the_way = fetch(request, [first, last], follow=True)
    assert (answer.status, on_the_way) == (200, [status])
    (server,) = servers.values()
    assert server.connections == 1  # it was kept
    second = server.sent.partition(b" /dir/a HTTP/1.1")[2]
    assert f"{then} /dir/b?c HTTP/1.1\r\n".encode() in second
    assert (b"Content-Type" in second.partition(b"/dir/b")[2]) == (then in ("POST", "PUT"))
    assert b"X: y" in second.partition(b"/dir/b")[2]


@pytest.mark.parametrize(
    ("location", "address", "target"),
    [
        ("/b", HERE, "/b"),
        ("../b", HERE, "/b"),
        ("?b", HERE, "/dir/a?b"),
        ("http://10.0.0.2:4000/b", HERE, "/b"),
        ("//10.0.0.2:4000/b", HERE, "/b"),
        ("http://10.0.0.2:4000", HERE, "/"),
        ("rpt+udp://10.0.0.3:1/b", "rpt+udp://10.0.0.3:1", "/b"),
    ],
)
def test_location_leads(location: str, address: str, target: str) -> None:
    request = Request(location=parse_url(f"{HERE}/dir/a"))
    answer, *_ = fetch(request, [reply(302, location=location), reply(200)], follow=True)
    assert (str(answer.location.address), answer.location.target) == (address, target)


@pytest.mark.parametrize(
    "location",
    ["http://10.0.0.2:4001/", "http://10.0.0.2/", "https://10.0.0.2:4000/", "//x/", "file:///etc",
     "http://10.0.0.2:4000@x/"],
)  # fmt: skip
def test_redirect_away_from_rpt_is_not_followed(location: str) -> None:
    request = Request(location=parse_url(f"{HERE}/"))
    with pytest.raises(FetchError) as caught:
        fetch(request, [reply(302, location=location), reply(200)], follow=True)
    assert caught.value.code == 1


@pytest.mark.parametrize(
    "location", ["http://[", "//[::1", "x://[31m/", "rpt://[", "rpt://h:99999/"]
)
def test_redirect_to_no_url_has_curls_number(location: str) -> None:
    request = Request(location=parse_url(f"{HERE}/"))
    with pytest.raises(FetchError) as caught:
        fetch(request, [reply(302, location=location), reply(200)], follow=True)
    assert caught.value.code == 3


@pytest.mark.parametrize(
    ("location", "target"),
    [("/caf\xe9 \x9b", "/caf%C3%A9%20%C2%9B"), ("/a b%20c?d e", "/a%20b%20c?d%20e")],
)
def test_bytes_that_a_url_has_not_are_escaped_in_a_redirect(location: str, target: str) -> None:
    request = Request(location=parse_url(f"{HERE}/"))
    answer, *_ = fetch(request, [reply(302, location=location), reply(200)], follow=True)
    assert answer.location.target == target


def test_secrets_stay_with_whom_they_were_for() -> None:
    headers = [(b"Authorization", b"s"), (b"cookie", b"s"), (b"Host", b"s"), (b"X", b"y")]
    request = Request(location=parse_url(f"{HERE}/"), headers=headers)
    answers = [reply(302, location="rpt://10.0.0.3:1/"), reply(200)]
    _, _, servers, _ = fetch(request, answers, follow=True)
    first, second = [server.sent for server in servers.values()]
    assert (b"Authorization: s" in first, b"cookie: s" in first) == (True, True)
    assert b": s" not in second
    assert b"Host: 10.0.0.3:1\r\n" in second
    assert b"X: y" in second


def test_redirects_end() -> None:
    request = Request(location=parse_url(f"{HERE}/"))
    with pytest.raises(FetchError) as caught:
        fetch(request, [reply(302, location="/")] * 9, follow=True, most=3)
    assert caught.value.code == 47


def test_what_cannot_be_sent_again_is_not_redirected() -> None:
    headers = [(b"Transfer-Encoding", b"chunked")]
    request = Request(
        location=parse_url(f"{HERE}/"), method="PUT", headers=headers, body=_body, again=False
    )
    with pytest.raises(FetchError) as caught:
        fetch(request, [reply(307, location="/b")], follow=True)
    assert caught.value.code == 65


def test_answer_without_a_location_or_not_followed_is_an_answer() -> None:
    request = Request(location=parse_url(f"{HERE}/"))
    assert fetch(request, [reply(302)], follow=True)[0].status == 302
    assert fetch(request, [reply(302, location="")], follow=True)[0].status == 302
    assert fetch(request, [reply(302, location="/b")])[0].status == 302


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ([], 52),
        ([b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhel"], 18),
        ([b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel"], 18),
        ([b"SSH-2.0-OpenSSH\r\n\r\n"], 8),
        ([b"HTTP/1.1 200 X\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"], 8),
    ],
)
def test_bad_answer_has_curls_number(answers: list[bytes], code: int) -> None:
    location = parse_url(f"{HERE}/")
    with pytest.raises(httpcore.RemoteProtocolError) as caught:
        fetch(Request(location=location), answers)
    told = failure(caught.value, location)
    assert told is not None
    assert (told.code, "10.0.0.2" in str(told)) == (code, True)


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (RefusedError("nobody"), 7),
        (LinkError("route", "x", 101), 7),
        (ConnectionLostError("silence"), 28),
        (ConnectionLostError("no route to host", errno.EHOSTUNREACH), 7),
        (UsageError("no such host"), 6),
        (UnknownPeerError("new", b""), 60),
        (PeerMismatchError("changed", b""), 60),
        (NotAuthorizedError("no"), 35),
        (HandshakeError("no"), 35),
        (PrivilegeError("open", "x", 1, "CAP_NET_RAW", "as root"), None),
    ],
)
def test_connection_that_cannot_be_has_curls_number(cause: Exception, code: int | None) -> None:
    told = failure(httpcore.ConnectError(cause), Location(RPTAddress("rpt", "h", 1), "/"))
    assert (told.code if told else None) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (httpcore.ConnectTimeout(TimeoutError()), 28),
        (httpcore.ReadError(ConnectionResetError()), 56),
        (httpcore.ReadError(NotAuthorizedError("no")), 35),
        (httpcore.WriteError(ConnectionResetError()), 55),
    ],
)
def test_lost_connection_has_curls_number(error: Exception, code: int) -> None:
    told = failure(error, Location(RPTAddress("rpt", "h", 1), "/"))
    assert told is not None
    assert told.code == code


def test_heads_are_shown_as_they_go_and_come_redirects_too() -> None:
    answers = [reply(302, Location="/b", A="\x1b[2J"), reply(200, b"body")]
    shown: list[tuple[bool, list[bytes]]] = []

    async def run() -> None:
        backend = _Server(answers)
        async with Fetcher(lambda address: backend, 1, lambda *each: shown.append(each)) as fetcher:
            request = Request(location=parse_url(HERE + "/a"), headers=[(b"X", b"1")])
            async with fetcher.answer(request, True, lambda answer: None) as answer:
                assert b"".join([piece async for piece in answer.pieces()]) == b"body"

    asyncio.run(run())
    host = b"Host: 10.0.0.2:4000"
    assert shown == [
        (True, [b"GET /a HTTP/1.1", host, b"X: 1"]),
        (False, [b"HTTP/1.1 302 X", b"Content-Length: 0", b"Location: /b", b"A: \x1b[2J"]),
        (True, [b"GET /b HTTP/1.1", host, b"X: 1"]),
        (False, [b"HTTP/1.1 200 X", b"Content-Length: 4"]),
    ]
