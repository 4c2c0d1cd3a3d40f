"""`rawproto http`: options that cannot be, requests that options make, what a terminal is shown."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import pty
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import cast

import pytest
from httpcore import Response

from rawproto.apps.http.fetch import Answer, Fetcher, FetchError, Request, parse_url
from rawproto.cli import http_get
from rawproto.cli.http import add_arguments
from rawproto.cli.http_serve import _Told
from rawproto.cli.http_sink import Sink
from rawproto.cli.main import main
from rawproto.cli.serving import Log
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import serve
from rawproto.drivers.rpt.transport_api import open_rpt_connection

ANY = "rpt+udp://127.0.0.1:0"
URL = "rpt://10.0.0.2:4000/dir/file"
URL_OF_NOBODY = "rpt://127.0.0.1:1/"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keys of its own, which are there: nothing is said of new ones."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    assert main(["keys", "new"]) == 0
    path = list(sys.path)
    yield
    sys.path[:] = path


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["serve", "/nowhere", "--listen", ANY], 2, "/nowhere: no such file"),
        (["serve", "nothing:app", "--listen", ANY], 2, 'import module "nothing"'),
        (["serve", "os:nothing", "--listen", ANY], 2, '"nothing" not found'),
        (["serve", "/etc/hostname", "--listen", ANY], 2, "not a directory"),
        (["serve", "/", "--listen", "nonsense"], 2, "not an rpt address"),
        (["serve", "/", "--listen", ANY, "--keep-alive", "0"], 2, "--keep-alive"),
        (["serve", "/", "--listen", "rpt+udp://192.0.2.1:4000"], 2, "cannot assign"),
        (["gateway", "nonsense"], 2, "not an rpt address"),
        (["gateway", ANY], 2, "host and a port"),
        (["gateway", "--listen", "192.0.2.1:80", "rpt://10.0.0.2:1"], 2, "cannot assign"),
        (["get", "http://example.org/"], 1, "not rpt"),
        (["get", "nonsense"], 3, "not a url"),
        (["get", "rpt://nowhere.invalid:1/"], 6, "nowhere.invalid"),
        (["get", "-T", "/nowhere", "rpt://127.0.0.1:1/"], 26, "no such file"),
        (["get", "-T", "/etc", "rpt://127.0.0.1:1/"], 26, "is a directory"),
        (["get", "-I", "-d", "x", "rpt://127.0.0.1:1/"], 2, "only one of"),
        (["get", "-O", "rpt://127.0.0.1:1/"], 23, "no name for a file"),
        (["get", "-r", "0-1", "-C", "5", "rpt://127.0.0.1:1/"], 2, "only one of"),
        (["get", "-r", "x", "rpt://127.0.0.1:1/"], 2, "not a range"),
        (["get", "-C", "x", "rpt://127.0.0.1:1/"], 2, "not an offset"),
        (["get", "-C", "-", "rpt://127.0.0.1:1/"], 2, "-o or -o"),
        (["get", "-m", "0", "rpt://127.0.0.1:1/"], 2, "out of range"),
        (["get", "-d", "@/nowhere", "rpt://127.0.0.1:1/"], 26, "no such file"),
        (["get", "-o", "a", "-o", "b", "rpt://127.0.0.1:1/"], 2, "more of -o"),
        (["get", "-H", "nonsense", "rpt://127.0.0.1:1/"], 2, "not name: value"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["http", *words]) == code
    output, told = capsys.readouterr()
    assert output == ""
    assert [said in line.lower() for line in told.splitlines()] == [True], told


@pytest.mark.parametrize(
    ("what", "package", "words"),
    [("serve", "uvicorn", [".", "--listen", ANY]), ("get", "httpcore", [URL_OF_NOBODY])],
)
def test_missing_extra_is_named_with_the_line_that_installs_it(
    what: str,
    package: str,
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ours = [
        name
        for name in sys.modules
        if name.startswith(("rawproto.cli.http_", "rawproto.apps.http"))
    ]
    for name in [*ours, "rawproto.drivers.rpt.httpcore"]:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["http", what, *words]) == 2
    wanted = f"rawproto http: {what} needs {package}: pip install 'rawproto[http]'\n"
    assert capsys.readouterr().err == wanted


def request_of(*words: str) -> Request:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(["get", *words, URL])
    http_get._check(arguments)
    return http_get._Transfer(arguments, parse_url(URL), "")._request()


def headers_of(request: Request) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in request.headers}


def body_of(request: Request) -> bytes:
    async def read() -> bytes:
        assert request.body is not None
        return b"".join([piece async for piece in request.body()])

    return asyncio.run(read())


def test_plain_request_is_curls() -> None:
    request = request_of()
    assert (request.method, request.body) == ("GET", None)
    assert headers_of(request)["Accept"] == "*/*"
    assert headers_of(request)["User-Agent"].startswith("rawproto/")


@pytest.mark.parametrize(
    ("words", "method", "body"),
    [
        (["-d", "a=b"], "POST", b"a=b"),
        (["-d", "a", "-d", "b"], "POST", b"a&b"),
        (["-d", "@FILE"], "POST", b"onetwo"),
        (["--data-binary", "@FILE"], "POST", b"one\r\ntwo\0\n"),
        (["-d", "x", "--data-binary", "@FILE"], "POST", b"x&one\r\ntwo\0\n"),
        (["-X", "PATCH", "-d", "x"], "PATCH", b"x"),
        (["-T", "FILE"], "PUT", b"one\r\ntwo\0\n"),
        (["-T", "FILE", "-X", "POST"], "POST", b"one\r\ntwo\0\n"),
    ],
)
def test_body_is_sent_with_its_length(
    words: list[str], method: str, body: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"one\r\ntwo\0\n")
    request = request_of(*[word.replace("FILE", str(tmp_path / "file")) for word in words])
    assert (request.method, body_of(request)) == (method, body)
    assert headers_of(request)["Content-Length"] == str(len(body))
    form = "application/x-www-form-urlencoded" if "-T" not in words else None
    assert headers_of(request).get("Content-Type") == form


def test_file_that_grows_while_it_is_sent_is_sent_as_long_as_was_promised(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    request = request_of("-T", str(tmp_path / "file"))
    (tmp_path / "file").write_bytes(b"1234567")
    assert body_of(request) == b"12345"


def test_headers_are_added_changed_and_left_out() -> None:
    words = ["A: b", "user-agent: me", "Accept:", "Empty;", "A: c"]
    request = request_of(*[part for word in words for part in ("-H", word)])
    assert request.headers == [(b"A", b"b"), (b"user-agent", b"me"), (b"Empty", b""), (b"A", b"c")]


@pytest.mark.parametrize(
    ("words", "login"),
    [
        (["-u", "ada:a:\u00fc"], "Basic YWRhOmE6w7w="),
        (["-u", ":"], "Basic Og=="),
        (["-u", "ada"], "Basic YWRhOnR5cGVk"),
        (["-u", "ada:x", "-H", "authorization: mine"], None),
    ],
)
def test_name_and_password_are_sent_and_a_password_that_is_missing_asked_for(
    words: list[str], login: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_get, "getpass", lambda asked: "typed")
    assert headers_of(request_of(*words)).get("Authorization") == login


@pytest.mark.parametrize(
    ("words", "asked"), [(["-r", "1-2"], "bytes=1-2"), (["-C", "7", "-o", "x"], "bytes=7-")]
)
def test_part_is_asked_for(words: list[str], asked: str) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(["get", *words, URL])
    transfer = http_get._Transfer(arguments, parse_url(URL), "x")
    assert headers_of(transfer._request())["Range"] == asked


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise RuntimeError('first\\nsecond')", "RuntimeError: first\\nsecond"),
        ("import sys; sys.exit(5)", "SystemExit: 5"),
        ("app = 5", "no application: int cannot be called"),
        ("def app(): raise ValueError('first\\nsecond')", "ValueError: first\\nsecond"),
        ("def app(): raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_application_that_cannot_be_had_is_one_line(
    source: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "broken_app.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "broken_app", raising=False)
    # What was compiled a moment ago may be as old, and as long, as what there is now.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert main(["http", "serve", "broken_app:app", "--listen", ANY]) == 2
    assert capsys.readouterr().err == f"rawproto http: broken_app:app: {told}\n"


def test_options_may_stand_between_urls_as_curls_do() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(["get", "-o", "a", URL, "-s", "-O", URL, "-L", "rpt://h:1/"])
    assert arguments.urls == [URL, URL, "rpt://h:1/"]
    assert (arguments.outputs, arguments.silent, arguments.location) == (["a", None], True, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [(["-C", "-"], "4 bytes came"), (["-T", "there"], "4 bytes went")],
)
def test_who_runs_out_of_time_is_told_what_crossed_since_it_began(
    words: list[str],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"more"
        await asyncio.Event().wait()

    class Slow:
        """A server that takes and gives four bytes, and then no more."""

        @asynccontextmanager
        async def answer(self, request: Request, *_: object) -> AsyncIterator[Answer]:
            if request.body is not None:
                async for _piece in request.body():
                    pass
                await asyncio.Event().wait()
            headers = [(b"Content-Range", b"bytes 10-99/100")]
            yield Answer(request.location, Response(206, headers=headers, content=body()))

    monkeypatch.chdir(tmp_path)
    Path("there").write_bytes(b"four")
    Path("got").write_bytes(bytes(10))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(["get", *words, "-o", "got", "-m", "0.05", URL])
    fetcher = cast(Fetcher, Slow())
    code = asyncio.run(http_get._get(arguments, fetcher, {}, URL, "got"))
    assert (code, capsys.readouterr().err) == (
        28,
        f"rawproto http: (28) rpt://10.0.0.2:4000: 0.05 s are over, and {told}\n",
    )


def test_head_waits_for_an_output_that_is_full_and_does_not_block() -> None:
    """So it is where another program on the same terminal or pipe has made it so."""

    async def body() -> AsyncIterator[bytes]:
        yield b"body"

    class Server:
        @asynccontextmanager
        async def answer(self, request: Request, *_: object) -> AsyncIterator[Answer]:
            yield Answer(request.location, Response(200, content=body()))

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    arguments = parser.parse_args(["get", "-s", "-i", URL])
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(4096))
    kept = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    got: list[bytes] = []

    def read() -> None:
        time.sleep(0.1)
        while piece := os.read(reading, 1 << 16):
            got.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        code = asyncio.run(http_get._get(arguments, cast(Fetcher, Server()), {}, URL, "-"))
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        reader.join()
        os.close(reading)
    assert code == 0
    assert b"".join(got).lstrip(b"\0") == b"HTTP/1.1 200 \r\n\r\nbody"


def test_head_that_would_command_a_terminal_is_shown_escaped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    http_get._show_head(False, [b"HTTP/1.1 200 \x1b[2J", b"A: \x9b"])
    assert capsys.readouterr().err == "< HTTP/1.1 200 \\x1b[2J\n< A: \\x9b\n< \n"


def test_terminal_is_shown_what_would_command_it_and_no_bytes_that_are_no_text(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen, terminal = pty.openpty()
    kept = os.dup(1)
    try:
        os.dup2(terminal, 1)
        sink = Sink("")
        sink.write_now("né\xa0\u200c \u202e\x1b]0;title\x07\tx\r\n".encode())
        with pytest.raises(FetchError) as caught:
            sink.write_now(b"a\0b")
        Sink("-").write_now(b"\x1bc")
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    os.close(terminal)
    assert caught.value.code == 23
    wanted = "né\xa0\u200c \\u202e\\x1b]0;title\\x07\tx\r\n\x1bc".encode()
    shown = b""
    while len(shown) < len(wanted):  # the kernel hands it over bit by bit
        shown += os.read(screen, 1000)
    os.close(screen)
    assert shown == wanted


def test_key_and_secret_are_read_once_as_out_of_a_pipe_they_can_be(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def note(name: str) -> None:
        real = getattr(http_get, name)
        monkeypatch.setattr(http_get, name, lambda words: (asked.append(name), real(words))[1])

    note("private_key")
    note("psk_of")
    urls = [f"rpt+udp://127.0.0.1:{port}/" for port in (1, 2)]
    assert main(["http", "get", "--accept-new", *urls]) == 7
    assert sorted(asked) == ["private_key", "psk_of"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_server_hears_of_the_signal_that_ends_a_client(number: signal.Signals) -> None:
    """Without a word it went on for 16 s with a transfer that nobody wanted."""

    async def run() -> tuple[int, Exception | None]:
        asked = asyncio.Event()
        over: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

        async def stall(connection: RPTConnection) -> None:
            assert await connection.stream.receive(10)
            await connection.stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nsome")
            asked.set()
            await connection.wait_closed()
            over.set_result(connection.error)

        async with serve("rpt+udp://127.0.0.1:0", stall) as server:
            words = ["-m", "rawproto.cli.main", "http", "get", "--accept-new", "-s"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, *words, f"{server.address}/",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
            )  # fmt: skip
            await asyncio.wait_for(asked.wait(), 20)
            assert process.stdout is not None
            assert await process.stdout.readexactly(4) == b"some"
            process.send_signal(number)
            error = await asyncio.wait_for(over, 5)
            return await process.wait(), error

    assert asyncio.run(run()) == (-number, None)


def test_nothing_is_logged_where_nothing_is_to_be(tmp_path: Path) -> None:
    words = ["-m", "rawproto.cli.main", "http", "serve", str(tmp_path), "--log", "none"]

    async def run() -> bytes:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, "--listen", ANY, stderr=asyncio.subprocess.PIPE
        )
        assert process.stderr is not None
        listening = await asyncio.wait_for(process.stderr.readline(), 20)
        reader, writer = await open_rpt_connection(listening.split()[1].decode())
        writer.write(b"\0\r\n\r\n")
        assert b" 400 " in await reader.read()
        writer.close()
        process.terminate()
        said = await process.stderr.read()
        assert await process.wait() == 0
        return said

    assert asyncio.run(run()) == b""


def test_words_that_cannot_be_logged_break_no_application(
    capsys: pytest.CaptureFixture[str],
) -> None:
    handler = _Told(Log("text"), whole=False)
    for record in (
        logging.makeLogRecord({"msg": "%d of %s", "args": ("x",)}),
        logging.makeLogRecord({"msg": "well", "levelno": logging.ERROR, "levelname": "ERROR"}),
    ):
        handler.handle(record)
    said = capsys.readouterr().err
    assert "Logging error" in said
    assert said.endswith("Z well\n")
