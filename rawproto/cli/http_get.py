"""`rawproto http get`: requests out of options, answers into files, curl's exit codes."""

from __future__ import annotations

import argparse
import asyncio
import base64
import errno
import os
import re
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import cache
from getpass import getpass
from itertools import zip_longest
from typing import Any

import httpcore

from rawproto import __version__
from rawproto.apps.files.plan import Progress
from rawproto.apps.http.fetch import (
    Answer,
    Fetcher,
    FetchError,
    Location,
    Request,
    cause_of,
    failure,
    parse_url,
)
from rawproto.capture import Writer
from rawproto.cli.files_text import Meter
from rawproto.cli.http import Whole
from rawproto.cli.http_sink import SHOWN, Sink
from rawproto.cli.rpt_dial import complain, farewell
from rawproto.cli.rpt_options import Trust, capture_of, log_secrets, private_key, psk_of, trace
from rawproto.drivers.rpt.address import RPTAddress
from rawproto.drivers.rpt.httpcore import RPTBackend
from rawproto.drivers.stdio import read_input
from rawproto.errors import PeerMismatchError, UnknownPeerError, UsageError
from rawproto.identity.keys import fingerprint
from rawproto.transport.config import Config
from rawproto.wire.words import printable

__all__ = ["run"]


_ASKS_NS = 2_000_000_000
"""Silence after which a server is asked whether it is there: who only reads would not notice."""
_PIECE_BYTES = 1 << 16
_TOTAL = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:(:)\s*(.*)|;\s*)", re.DOTALL)


def run(arguments: argparse.Namespace) -> int:
    """Fetches each URL: 0, or the number of what failed last."""
    _check(arguments)
    trusts: dict[RPTAddress, Trust] = {}
    return asyncio.run(_get_all(arguments, trusts))


def _check(arguments: argparse.Namespace) -> None:
    if sum(map(bool, (arguments.head, arguments.data, arguments.upload))) > 1:
        raise UsageError("only one of -I, -d and -T")
    if arguments.range and arguments.resume:
        raise UsageError("only one of -r and -C")
    if arguments.range and not re.fullmatch(r"[\d,\s-]+", arguments.range):
        raise UsageError(f"-r {arguments.range}: not a range such as 0-99, 100- or -100")
    if arguments.resume and not re.fullmatch(r"-|\d{1,18}", arguments.resume):
        raise UsageError(f"-C {arguments.resume}: not an offset, nor -")
    for name in ("max_time", "connect_timeout"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value <= 86400 * 365:
            raise UsageError(f"--{name.replace('_', '-')} {value:g}: out of range")
    if not 0 <= arguments.max_redirs <= 1000:
        raise UsageError("--max-redirs must be 0 to 1000")
    if len(arguments.outputs or ()) > len(arguments.urls):
        raise UsageError("more of -o and -O than URLs")


async def _get_all(arguments: argparse.Namespace, trusts: dict[RPTAddress, Trust]) -> int:
    code = 0
    async with AsyncExitStack() as stack:
        stack.enter_context(farewell())
        capture = stack.enter_context(capture_of(arguments))

        @cache  # for all servers: out of a pipe they can be read once
        def secrets() -> tuple[bytes, bytes]:
            return private_key(arguments), psk_of(arguments)

        def backend_of(address: RPTAddress) -> httpcore.AsyncNetworkBackend:
            trusts[address] = Trust(str(address), accept_new=arguments.accept_new)
            return _Backend(address, arguments, *secrets(), trusts[address], capture)

        watch = _show_head if arguments.verbose else None
        fetcher = Fetcher(backend_of, arguments.max_redirs, watch)
        await stack.enter_async_context(fetcher)
        outputs = arguments.outputs or []
        for url, output in zip_longest(arguments.urls, outputs, fillvalue=SHOWN):
            code = await _get(arguments, fetcher, trusts, url, output) or code
    return code


class _Backend(RPTBackend):
    """Connects to one server, with its key, and writes down what is to be."""

    def __init__(
        self,
        address: RPTAddress,
        arguments: argparse.Namespace,
        static: bytes,
        psk: bytes,
        trust: Trust,
        capture: Writer | None,
    ) -> None:
        super().__init__(
            address.carrier,
            static=static,
            trust=trust.judge,
            psk=psk,
            config=Config(congestion=arguments.congestion, keep_alive_ns=_ASKS_NS),
            family=arguments.family,
            capture=capture,
        )
        self._address = address
        self._arguments = arguments
        self._trust = trust
        self._capture = capture

    async def connect_tcp(self, *words: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self._options["peer_key"] = self._trust.peer_key  # known by now, perhaps
        stream = await super().connect_tcp(*words, **options)
        connection = stream.get_extra_info("rpt_connection")
        log_secrets(self._arguments, connection, self._capture)
        trace(self._arguments, connection)
        if self._arguments.verbose:
            sys.stderr.write(f"* {self._address} is {fingerprint(connection.peer_key)}\n")
        return stream


async def _get(
    arguments: argparse.Namespace,
    fetcher: Fetcher,
    trusts: dict[RPTAddress, Trust],
    url: str,
    output: str | None,
) -> int:
    """One URL: 0, or what went wrong."""
    while True:
        try:
            location = parse_url(url)
            transfer = _Transfer(arguments, location, output)
            async with asyncio.timeout(arguments.max_time):
                await transfer.run(fetcher)
            return 0
        except TimeoutError:
            words = f"{arguments.max_time:g} s are over, and {transfer.crossed()}"
            return _complain(arguments, FetchError(28, f"{location.address}: {words}"))
        except FetchError as error:
            return _complain(arguments, error)
        except httpcore.LocalProtocolError as error:
            raise UsageError(f"{url}: {error}") from error
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            cause = cause_of(error)
            if isinstance(cause, UnknownPeerError) and await asyncio.to_thread(
                trusts[location.address].ask, cause.public_key
            ):
                continue
            if isinstance(cause, PeerMismatchError):
                complain("http", str(location.address), cause)
                return 60
            told = failure(error, location)
            if arguments.debug or told is None:
                raise cause from None
            return _complain(arguments, told)


def _complain(arguments: argparse.Namespace, error: FetchError) -> int:
    if not arguments.silent or arguments.show_error:
        sys.stderr.write(f"rawproto http: ({error.code}) {printable(str(error))}\n")
    return error.code


class _Transfer:
    """One URL, from the request to the last byte written."""

    def __init__(self, arguments: argparse.Namespace, location: Location, output: str | None):
        self._arguments = arguments
        self._location = location
        if output is None:
            output = location.target.partition("?")[0].rpartition("/")[2]
            if output in ("", ".", ".."):
                raise FetchError(23, f"{location}: -O: the URL has no name for a file")
        self._sink = Sink(output)
        self._offset = self._resumed_at(output)
        self.progress = Progress(path=output)
        if not arguments.upload:
            self.progress.done_bytes = self._offset

    def _resumed_at(self, name: str) -> int:
        wanted = self._arguments.resume
        if wanted is None:
            return 0
        if name in ("-", SHOWN):
            if wanted == "-":
                raise UsageError("-C - needs -o or -O")
            return int(wanted)
        self._sink.append = True
        if wanted != "-":
            return int(wanted)
        return os.stat(name).st_size if os.path.exists(name) else 0

    def crossed(self) -> str:
        """How much of the body has, this time."""
        done = self.progress.done_bytes
        return (
            f"{done} bytes went" if self._arguments.upload else f"{done - self._offset} bytes came"
        )

    async def run(self, fetcher: Fetcher) -> None:
        arguments = self._arguments
        shows_meter = not (arguments.silent or self._sink.is_terminal)
        try:
            with Meter(self.progress, wanted=shows_meter):
                request = self._request()
                asked = fetcher.answer(request, arguments.location, self._note)
                async with asked as answer:
                    await self._take(answer)
        finally:
            self._sink.close()

    def _note(self, answer: Answer) -> None:
        """Shows a redirect that is followed."""
        if self._arguments.include or self._arguments.head:
            self._sink.write_now(_head(answer))

    async def _take(self, answer: Answer) -> None:
        arguments = self._arguments
        if arguments.fail and answer.status >= 400:
            raise FetchError(22, f"{answer.location}: the status is {answer.status}")
        if self._offset and self._is_complete(answer):
            return
        if arguments.include or arguments.head:
            await self._sink.write(_head(answer))
        length = answer.header("content-length") or ""
        if length.isdigit() and not self.progress.total_bytes:
            self.progress.total_bytes = self._offset + int(length)
        await self._sink.write(b"")
        async for piece in answer.pieces():
            await self._sink.write(piece)
            if not arguments.upload:
                self.progress.done_bytes += len(piece)

    def _is_complete(self, answer: Answer) -> bool:
        """Whether nothing is missing any more. Raises FetchError: it does not go on there."""
        found = _TOTAL.fullmatch(answer.header("content-range") or "")
        if answer.status == 416 and found is not None and found[2] == str(self._offset):
            return True
        if answer.status == 206 and found is not None and found[1] == str(self._offset):
            return False
        words = f"the server does not go on at {self._offset} (status {answer.status})"
        raise FetchError(33, f"{answer.location}: {words}")

    # --- the request ---

    def _request(self) -> Request:
        arguments, location = self._arguments, self._location
        headers = {"User-Agent": f"rawproto/{__version__}", "Accept": "*/*"}
        method = "HEAD" if arguments.head else "GET"
        body: Callable[[], AsyncIterator[bytes]] | None = None
        again = True
        if arguments.range:
            headers["Range"] = f"bytes={arguments.range}"
        if self._offset:
            headers["Range"] = f"bytes={self._offset}-"
        if arguments.login is not None:
            headers["Authorization"] = _login(arguments.login)
        if arguments.data:
            method = "POST"
            data = b"&".join([_data(each) for each in arguments.data])
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            headers["Content-Length"] = str(len(data))
            body = _once(data)
        elif arguments.upload:
            method = "PUT"
            size, body = self._upload(arguments.upload)
            again = arguments.upload != "-"
            if size is None:
                headers["Transfer-Encoding"] = "chunked"
            else:
                headers["Content-Length"] = str(size)
                self.progress.total_bytes = size
            if location.target.endswith("/") and again:
                target = location.target + os.path.basename(arguments.upload)
                location = parse_url(str(location.address) + target)
        return Request(
            location=location,
            method=arguments.method or method,
            headers=_headers(headers, arguments.headers),
            body=body,
            again=again,
            connect_timeout_s=arguments.connect_timeout,
        )

    def _upload(self, name: str) -> tuple[int | None, Callable[[], AsyncIterator[bytes]]]:
        """(bytes that are sent, None if nobody knows; what makes them)."""
        if name == "-":
            return None, lambda: self._counted(read_input())
        try:
            found = os.stat(name)
            os.close(os.open(name, os.O_RDONLY))
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except OSError as error:
            raise FetchError(26, f"{name}: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            return None, lambda: self._counted(_pieces(name, None))
        return found.st_size, lambda: self._counted(_pieces(name, found.st_size))

    async def _counted(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.progress.done_bytes = 0
        async for piece in pieces:
            yield piece
            self.progress.done_bytes += len(piece)


async def _pieces(name: str, size: int | None) -> AsyncIterator[bytes]:
    """A file, no more of it than was promised."""
    with open(name, "rb", buffering=0) as file:
        left = size
        while left is None or left:
            piece = file.read(_PIECE_BYTES if left is None else min(_PIECE_BYTES, left))
            if not piece:
                break
            if left is not None:
                left -= len(piece)
            yield piece


def _login(text: str) -> str:
    """HTTP Basic's header (RFC 7617) out of NAME:PASSWORD; a missing password is asked for."""
    name, colon, password = text.partition(":")
    if not colon:
        try:
            password = getpass(f"{name}'s password: ")
        except EOFError:
            raise UsageError(f"-u {name}: no password") from None
    both = f"{name}:{password}".encode("utf-8", "surrogateescape")
    return f"Basic {base64.b64encode(both).decode()}"


def _once(data: bytes) -> Callable[[], AsyncIterator[bytes]]:
    async def pieces() -> AsyncIterator[bytes]:
        yield data

    return pieces


def _data(text: str) -> bytes:
    """What -d says: itself, or a file's content, which plain -d takes without line ends."""
    if not text.startswith("@"):
        return text.encode("utf-8", "surrogateescape")
    try:
        with open(0 if text == "@-" else text[1:], "rb", closefd=text != "@-") as file:
            content = file.read()
    except OSError as error:
        raise FetchError(26, f"{text[1:]}: {error.strerror}") from None
    return content if isinstance(text, Whole) else content.translate(None, b"\r\n\0")


def _headers(defaults: dict[str, str], wanted: list[str]) -> list[tuple[bytes, bytes]]:
    """The request's headers, with what -H adds, changes and leaves out."""
    added: list[tuple[bytes, bytes]] = []
    for text in wanted:
        found = _HEADER.fullmatch(text)
        if found is None:
            raise UsageError(f"-H {text!r}: not NAME: VALUE")
        for name in [each for each in defaults if each.lower() == found[1].lower()]:
            del defaults[name]
        if found[3] or not found[2]:
            value = (found[3] or "").strip().encode("utf-8", "surrogateescape")
            added.append((found[1].encode(), value))
    return [*[(name.encode(), value.encode()) for name, value in defaults.items()], *added]


def _show_head(goes: bool, lines: list[bytes]) -> None:
    """A head as curl's -v shows it."""
    mark = ">" if goes else "<"
    for line in (*lines, b""):
        sys.stderr.write(f"{mark} {printable(line.decode('latin-1'))}\n")


def _head(answer: Answer) -> bytes:
    lines = [b"%s %d %s" % (answer.version, answer.status, answer.reason)]
    lines += [b"%s: %s" % each for each in answer.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
