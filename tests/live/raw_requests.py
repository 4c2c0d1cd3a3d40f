"""Raw requests, good and bad: odd framing, malformed lines, smuggling; each with a name.

Each is a list of pieces, which are sent one after the other. What the answers should be is no
matter here: two servers, or two ways to one, have to give the same. Read RFC 9112 first.
Smuggling has families: CL.TE, TE.CL, TE.TE, CL.0, hidden and folded headers, bare line ends.
"""

from __future__ import annotations

__all__ = ["REQUESTS"]

_CRLF = b"\r\n"
_GOOD = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
_LARGE = b"x" * 100_000


def _request(
    line: bytes = b"GET / HTTP/1.1", *headers: bytes, host: bytes = b"Host: h", body: bytes = b""
) -> bytes:
    return _CRLF.join([line, *([host] if host else []), *headers, b"", body])


def _post(*headers: bytes, body: bytes = b"") -> bytes:
    return _request(b"POST /p HTTP/1.1", *headers, body=body)


def _methods() -> dict[str, list[bytes]]:
    methods = (
        b"GET HEAD POST PUT DELETE OPTIONS PATCH TRACE CONNECT PROPFIND get G M-SEARCH".split()
    )
    found = {f"method {m.decode()}": [_request(m + b" / HTTP/1.1")] for m in methods}
    odd = (b"G\0T", b"G ET", b"G(T", b"\xc3\xa9", b"", b"A" * 300, b"GET\t", b"{}")
    return found | {f"method {m[:5]!r}": [_request(m + b" / HTTP/1.1")] for m in odd}


def _targets() -> dict[str, list[bytes]]:
    targets = [
        b"/a?b=c", b"/a?b#c", b"/%00", b"/%zz", b"/%", b"/../..", b"//", b"*", b"", b"a",
        b"http://h/x", b"http://other:1/x?y", b"h:443", b"/\x01", b"/\x7f", b"/\x80", b"/\xc3\xa9",
        b"/a b", b"/\t", b"/;a=b", b"/\\..\\", b"/?" + b"q" * 3000, b"/" + b"p" * 9000,
        b"/" + b"p" * 70_000, b"?a", b"/a?", b"/[", b'/"<>', b"/a%2fb", b"https://h/",
    ]  # fmt: skip
    return {f"target {n} {t[:12]!r}": [_request(b"GET " + t + b" HTTP/1.1")]
            for n, t in enumerate(targets)}  # fmt: skip


def _versions() -> dict[str, list[bytes]]:
    versions = [
        b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1", b"HTTP/1.", b"HTTP/11.1",
        b"HTTP/1.10", b"http/1.1", b"HTTP /1.1", b"HTTP/-1.1", b"HTTP/1,1", b"SIP/2.0", b"",
        b"HTTP/1.1 ", b"HTTP/1.1 x", b"\tHTTP/1.1",
    ]  # fmt: skip
    return {f"version {v!r}": [_request(b"GET / " + v)] for v in versions} | {
        "request of HTTP/0.9": [b"GET /\r\n"],
        "HTTP/1.0 that is kept alive": [_request(b"GET / HTTP/1.0", b"Connection: keep-alive")],
        "HTTP/1.0 without Host": [_request(b"GET / HTTP/1.0", host=b"")],
        "preface of HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        "HTTP/1.0 with chunks": [
            _request(b"POST /p HTTP/1.0", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")
        ],
    }


def _line_ends() -> dict[str, list[bytes]]:
    return {
        "bare LF": [b"GET / HTTP/1.1\nHost: h\n\n"],
        "bare CR": [b"GET / HTTP/1.1\rHost: h\r\r"],
        "LF in the middle": [b"GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n"],
        "CR in the middle": [b"GET / HTTP/1.1\r\nHost: h\rA: b\r\n\r\n"],
        "CR CR LF": [b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n"],
        "empty lines ahead": [b"\r\n\r\n\r\n" + _request()],
        "LFs ahead": [b"\n\n" + _request()],
        "spaces ahead": [b"  " + _request()],
        "NUL ahead": [b"\0" + _request()],
        "NULs alone": [b"\0" * 64],
        "no end of the header": [b"GET / HTTP/1.1\r\nHost: h\r\n"],
        "nothing but a method": [b"GET"],
        "nothing but line ends": [b"\r\n" * 50],
        "nothing": [b""],
        "one byte": [b"\x16"],
        "a ClientHello": [bytes.fromhex("16030100a5010000a10303") + bytes(160)],
        "a line of SSH": [b"SSH-2.0-OpenSSH_9.2p1\r\n"],
        "a line of SMTP": [b"EHLO example.org\r\n"],
        "noise": [bytes(range(256)) * 4],
        "two spaces in the line": [b"GET  /  HTTP/1.1\r\nHost: h\r\n\r\n"],
        "tabs in the line": [b"GET\t/\tHTTP/1.1\r\nHost: h\r\n\r\n"],
        "line that never ends": [b"GET /" + b"a" * 100_000],
        "space behind the line": [b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n"],
    }


def _headers() -> dict[str, list[bytes]]:
    odd = {
        "space before the colon": b"A : b",
        "tab before the colon": b"A\t: b",
        "space before the name": b" A: b",
        "no colon": b"A",
        "no name": b": b",
        "no value": b"A:",
        "spaces for a value": b"A:   ",
        "tabs around the value": b"A:\tb\t",
        "NUL in the name": b"A\0: b",
        "NUL in the value": b"A: b\0c",
        "control in the value": b"A: b\x01c",
        "DEL in the value": b"A: b\x7fc",
        "bytes above 127 in the value": b"A: \xff\xfe\x80",
        "bytes above 127 in the name": b"A\xc3\xa9: b",
        "parentheses in the name": b"A(b): c",
        "at sign in the name": b"A@b: c",
        "underscore in the name": b"A_b: c",
        "many colons": b"A: b: c: d",
        "long value": b"A: " + b"v" * 8000,
        "too long value": b"A: " + b"v" * 100_000,
        "long name": b"N" * 5000 + b": v",
        "folded": b"A: b\r\n c",
        "folded with a tab": b"A: b\r\n\tc",
        "folded at once": b"A:\r\n b",
        "quoted": b'A: "b\\"c"',
        "comma": b"A: b, c,, d",
        "request line as a header": b"GET /x HTTP/1.1",
        "Upgrade to nothing known": b"Connection: Upgrade\r\nUpgrade: foo",
        "Upgrade to h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "websocket without a key": b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13",
        "websocket of another version": b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 99\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Connection close": b"Connection: close",
        "Connection CLOSE": b"Connection: CLOSE",
        "Connection of both": b"Connection: keep-alive, close",
        "Connection names Host": b"Connection: Host",
        "Expect": b"Expect: 100-continue",
        "Expect of something else": b"Expect: nonsense",
        "TE": b"TE: trailers",
        "Range that is none": b"Range: bytes=z",
    }
    found = {f"header: {name}": [_request(b"GET / HTTP/1.1", header) + _GOOD]
             for name, header in odd.items()}  # fmt: skip
    return found | {
        "no Host": [_request(host=b"")],
        "two Hosts": [_request(b"GET / HTTP/1.1", b"Host: other")],
        "empty Host": [_request(host=b"Host:")],
        "Host with a path": [_request(host=b"Host: h/x")],
        "Host with spaces": [_request(host=b"Host: a b")],
        "Host with a user": [_request(host=b"Host: u@h")],
        "hundred headers": [_request(b"GET / HTTP/1.1", *[b"A%d: b" % n for n in range(100)])],
        "thousand headers": [_request(b"GET / HTTP/1.1", *[b"A%d: b" % n for n in range(1000)])],
        "same header often": [_request(b"GET / HTTP/1.1", *[b"A: b"] * 90)],
    }


def _lengths() -> dict[str, list[bytes]]:
    values = [
        b"5", b"05", b"+5", b"-5", b"5 ", b" 5", b"5,5", b"5, 6", b"0x5", b"5.0", b"5e0", b"five",
        b"", b"4", b"6", b"99999999999999999999999", b"18446744073709551621", b"5\t",
        b"\xd9\xa5", b"5;a", b"0", b"5\r\n ",
    ]  # fmt: skip
    return {f"Content-Length {v!r}": [_post(b"Content-Length: " + v, body=b"hello") + _GOOD]
            for v in values} | {
        "two lengths that agree": [
            _post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello") + _GOOD
        ],
        "two lengths that do not agree": [
            _post(b"Content-Length: 5", b"Content-Length: 0", body=b"hello") + _GOOD
        ],
        "length of a GET": [
            _request(b"GET / HTTP/1.1", b"Content-Length: 5", body=b"hello") + _GOOD
        ],
        "no length": [_post(body=b"hello")],
        "length and Expect": [
            _post(b"Content-Length: 5", b"Expect: 100-continue"), b"hello" + _GOOD,
        ],
    }  # fmt: skip


def _chunked(body: bytes, *headers: bytes) -> list[bytes]:
    return [_post(b"Transfer-Encoding: chunked", *headers, body=body) + _GOOD]


def _chunks() -> dict[str, list[bytes]]:
    bodies = {
        "whole": b"5\r\nhello\r\n0\r\n\r\n",
        "two": b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        "leading zeros": b"0005\r\nhello\r\n000\r\n\r\n",
        "many leading zeros": b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n",
        "capitals": b"A\r\nhellohello\r\n0\r\n\r\n",
        "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
        "extension in quotes": b'5;a="b;c"\r\nhello\r\n0\r\n\r\n',
        "extension with LF": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        "long extension": b"5;" + b"e" * 5000 + b"\r\nhello\r\n0\r\n\r\n",
        "space behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
        "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
        "hexadecimal mark": b"0x5\r\nhello\r\n0\r\n\r\n",
        "negative": b"-5\r\nhello\r\n0\r\n\r\n",
        "plus": b"+5\r\nhello\r\n0\r\n\r\n",
        "no size": b"\r\nhello\r\n0\r\n\r\n",
        "no number": b"z\r\nhello\r\n0\r\n\r\n",
        "too large": b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "largest": b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "longer than it says": b"4\r\nhello\r\n0\r\n\r\n",
        "shorter than it says": b"6\r\nhello\r\n0\r\n\r\n",
        "LF for line ends": b"5\nhello\n0\n\n",
        "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
        "CR behind the data": b"5\r\nhello\r0\r\n\r\n",
        "nothing behind the data": b"5\r\nhello0\r\n\r\n",
        "trailer": b"5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        "trailer that frames": b"5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n",
        "trailer that is none": b"5\r\nhello\r\n0\r\nnonsense\r\n\r\n",
        "no last chunk": b"5\r\nhello\r\n",
        "last chunk without its end": b"5\r\nhello\r\n0\r\n",
        "NUL for a size": b"\0\r\nhello\r\n0\r\n\r\n",
        "underscore": b"1_0\r\n0123456789abcdef\r\n0\r\n\r\n",
    }
    return {f"chunks: {name}": _chunked(body) for name, body in bodies.items()}


def _smuggling() -> dict[str, list[bytes]]:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n"
    both = b"0\r\n\r\n" + hidden
    codings = [
        b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"chunked ", b"\tchunked", b"chunked\t",
        b"xchunked", b"chunked, identity", b"identity, chunked", b"identity", b"gzip, chunked",
        b"chunked, chunked", b"chunked;q=1", b"'chunked'", b'"chunked"', b"\x0bchunked", b"chunk",
        b"", b"chunked,", b",chunked", b"chunked\0", b"\xefchunked", b"x\r\n chunked",
    ]  # fmt: skip
    found = {
        f"CL.TE with {each!r}": [
            _post(b"Content-Length: %d" % len(both), b"Transfer-Encoding: " + each, body=both)
        ]
        for each in codings
    }
    names = [
        b"Transfer-Encoding ", b"Transfer_Encoding", b"Transfer-encodinG",
        b"X: y\nTransfer-Encoding", b"X: y\rTransfer-Encoding", b" Transfer-Encoding",
        b"Transfer-Encoding\0", b"Transfer\tEncoding",
    ]  # fmt: skip
    found |= {
        f"CL.TE by the name {name!r}": [
            _post(b"Content-Length: %d" % len(both), name + b": chunked", body=both)
        ]
        for name in names
    }
    te_cl = b"%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n"
    return found | {
        "TE.CL": [_post(b"Content-Length: 4", b"Transfer-Encoding: chunked", body=te_cl)],
        "TE.CL the other way round": [
            _post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=te_cl)
        ],
        "TE.TE": [
            _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", body=te_cl)
        ],
        "TE.TE the other way round": [
            _post(b"Transfer-Encoding: x", b"Transfer-Encoding: chunked", body=te_cl)
        ],
        "CL.0": [_request(b"GET / HTTP/1.1", b"Content-Length: %d" % len(hidden), body=hidden)],
        "CL.0 by HEAD": [
            _request(b"HEAD / HTTP/1.1", b"Content-Length: %d" % len(hidden), body=hidden)
        ],
        "length that is folded": [_post(b"Content-Length:\r\n 5", body=b"hello") + hidden],
        "length behind a bare CR": [_post(b"A: b\rContent-Length: 5", body=b"hello") + hidden],
        "request in a header": [_request(b"GET / HTTP/1.1", b"A: \r\n\r\n" + hidden)],
    }  # fmt: skip


def _runs() -> dict[str, list[bytes]]:
    return {
        "two requests in one piece": [_request() + _GOOD],
        "ten requests in one piece": [_GOOD * 10],
        "request byte by byte": [bytes([each]) for each in _GOOD],
        "body in pieces": [_post(b"Content-Length: 10"), b"hello", b"hello", _GOOD],
        "chunks in pieces": [
            *[bytes([each]) for each in _chunked(b"5\r\nhello\r\n0\r\n\r\n")[0]],
        ],
        "large body": [_post(b"Content-Length: 100000", body=_LARGE) + _GOOD],
        "large body in chunks": _chunked(b"186a0\r\n" + _LARGE + b"\r\n0\r\n\r\n"),
        "good, then bad": [_GOOD + b"nonsense\r\n\r\n"],
        "good, then half": [_GOOD + b"GET / HT"],
        "close, then another": [_request(b"GET / HTTP/1.1", b"Connection: close") + _GOOD],
        "HEAD, then another": [_request(b"HEAD / HTTP/1.1") + _GOOD],
        "body cut short": [_post(b"Content-Length: 10", body=b"hello")],
        "answer that fails": [_request(b"GET /fails HTTP/1.1") + _GOOD],
        "answer that fails halfway": [_request(b"GET /fails/halfway HTTP/1.1") + _GOOD],
        "answer in chunks": [_request(b"GET /chunks HTTP/1.1") + _GOOD],
        "answer in chunks to HTTP/1.0": [_request(b"GET /chunks HTTP/1.0")],
        "answer without a body": [_request(b"GET /empty HTTP/1.1") + _GOOD],
        "answer before the body is read": [
            _request(b"POST /early HTTP/1.1", b"Content-Length: 5", body=b"hello") + _GOOD
        ],
        "answer before the body has come": [
            _request(b"POST /early HTTP/1.1", b"Content-Length: 5"), b"hello" + _GOOD,
        ],
        "large answer": [_request(b"GET /large HTTP/1.1") + _GOOD],
    }  # fmt: skip


REQUESTS: dict[str, list[bytes]] = {
    name: pieces
    for table in (
        _methods(), _targets(), _versions(), _line_ends(), _headers(), _lengths(), _chunks(),
        _smuggling(), _runs(),
    )
    for name, pieces in table.items()
}  # fmt: skip
"""Pieces by what is odd about them."""
