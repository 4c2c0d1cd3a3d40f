"""The same uvicorn, by TCP, by RPT and by RPT behind a gateway: the same answers, to the byte.

By TCP each answer is known to be whole: once a later request on another connection was
answered, the one event loop there has read all that came before. The other ways then have
to give the same bytes after each piece, the same end, or none.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rawproto import lab, open_rpt_connection
from tests.live.peers import HARM, Peer, address_of, serving
from tests.live.raw_requests import REQUESTS

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
APP = "tests.live.http_app:app"
PATIENCE_S = 60
MOST_BYTES = 30_000
"""At once: a server that closes has read all of it, or TCP would reset what it answered."""
BARRIER = b"GET /barrier HTTP/1.1\r\nHost: h\r\n\r\n"
_DATE = re.compile(rb"(?im)^date: [^\r\n]*")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Told:
    """What a request got.

    Attributes:
        after: all that had come once each piece was sent.
        end: `open`, `closed` or `reset`, before this side ended its own.
        rest: what came behind that.
        last: `closed` or `reset`, in the end.
    """

    after: list[bytes] = field(default_factory=list)
    end: str = "open"
    rest: bytes = b""
    last: str = ""


def pieces_of(name: str) -> list[bytes]:
    return [
        piece[at : at + MOST_BYTES]
        for piece in REQUESTS[name]
        for at in range(0, len(piece) or 1, MOST_BYTES)
    ]


def undated(data: bytes) -> bytes:
    return _DATE.sub(b"date: then", data)


@contextmanager
def uvicorn(peer: Peer, parser: str) -> Iterator[int]:
    """Plain uvicorn: its port on the host's loopback."""
    process = peer.host.popen(
        [
            sys.executable, "-m", "uvicorn", "--port", "9000", "--http", parser, "--no-access-log",
            "--no-proxy-headers", "--timeout-keep-alive", "3600", APP,
        ],
        cwd=ROOT, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        while b"running on" not in (line := process.stderr.readline()):
            assert line, "it ended"
        yield 9000
    finally:
        process.kill()
        process.communicate(timeout=30)


class Reference:
    """A connection by TCP."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.seen = b""
        self.ended = ""

    def read(self) -> bool:
        """Takes what is there: whether there was anything."""
        before = len(self.seen), self.ended
        try:
            while not self.ended:
                data = self.socket.recv(1 << 20)
                self.seen += data
                self.ended = "" if data else "closed"
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = "reset"
        return (len(self.seen), self.ended) != before


def by_tcp(host: lab.LiveHost, port: int) -> dict[str, Told]:
    """What plain uvicorn gives."""

    def settle(connections: list[Reference]) -> None:
        quiet = 0
        while quiet < 2:
            with socket.create_connection(("127.0.0.1", port)) as barrier:
                barrier.sendall(BARRIER)
                while b"whole" not in barrier.recv(1 << 16):
                    pass
            changed = [each.read() for each in connections]
            quiet = 0 if any(changed) else quiet + 1

    with host.entered():
        found = {name: Told() for name in REQUESTS}
        connections = {name: Reference(port) for name in REQUESTS}
        for step in range(max(len(pieces_of(name)) for name in REQUESTS)):
            sent = []
            for name, connection in connections.items():
                if step < len(pieces_of(name)) and not connection.ended:
                    connection.socket.send(pieces_of(name)[step])
                    sent.append(name)
            settle([connections[name] for name in sent])
            for name in sent:
                found[name].after.append(undated(connections[name].seen))
        for name, connection in connections.items():
            found[name].end = connection.ended or "open"
            connection.seen = b""
            if not connection.ended:
                connection.socket.shutdown(socket.SHUT_WR)
        settle(list(connections.values()))
        for name, connection in connections.items():
            found[name].rest, found[name].last = undated(connection.seen), connection.ended
            connection.socket.close()
    return found


async def asked(
    connect: Callable[[], Awaitable[Streams]], name: str, wanted: Told, all_sent: asyncio.Barrier
) -> Told:
    """What a request gets another way, waiting for what is wanted, and for no more."""
    reader, writer = await connect()
    told, seen = Told(), b""

    async def until(size: int | None) -> str:
        """Reads until so much was seen, undated, or the end."""
        nonlocal seen
        while size is None or len(undated(seen)) < size:
            data = await reader.read(1 << 16)
            if not data:
                return "closed"
            seen += data
        return ""

    try:
        async with asyncio.timeout(PATIENCE_S):
            for piece, target in zip(pieces_of(name), wanted.after, strict=False):
                writer.write(piece)
                await until(len(target))
                told.after.append(undated(seen))
            if wanted.end != "open":
                told.end = await until(None)
                told.after[-1:] = [undated(seen)]
    except TimeoutError:
        told.end = f"stuck behind {undated(seen)[:300]!r}"
    except ConnectionError:
        told.end = "reset"
    await all_sent.wait()
    seen = b""
    if told.end == "open":
        try:
            async with asyncio.timeout(PATIENCE_S):
                # By now another connection was answered: what this one says more, it has said.
                if reader.at_eof():
                    told.end = "closed early"
                writer.write_eof()
                told.last = await until(None)
        except TimeoutError:
            told.last = "stuck"
        except ConnectionError:
            told.last = "reset"
    else:
        told.last = told.end
    told.rest = undated(seen)
    writer.close()
    return told


def by_another_way(
    host: lab.LiveHost, connect: Callable[[], Awaitable[Streams]], wanted: dict[str, Told]
) -> dict[str, Told]:
    """What each request gets, all at once."""

    async def all_of_them() -> dict[str, Told]:
        barrier = asyncio.Barrier(len(REQUESTS) + 1)
        room = asyncio.Semaphore(16)

        async def limited() -> Streams:
            async with room:
                return await connect()

        tasks = [asyncio.create_task(asked(limited, n, wanted[n], barrier)) for n in REQUESTS]
        while barrier.n_waiting < len(REQUESTS):
            await asyncio.sleep(0.01)
        reader, writer = await connect()
        writer.write(BARRIER)
        await reader.readuntil(b'"whole"}')
        writer.close()
        await barrier.wait()
        found = await asyncio.gather(*tasks)
        return dict(zip(REQUESTS, found, strict=True))

    with host.entered():
        return asyncio.run(asyncio.wait_for(all_of_them(), 2 * PATIENCE_S + 10))


@pytest.mark.parametrize(("parser", "cable"), [("h11", "perfect"), ("httptools", HARM)])
def test_requests_of_every_kind_are_answered_the_same_by_every_way(
    parser: str, cable: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        network = stack.enter_context(lab.up(lab.pair().changed(f"1:{cable}")))
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        wanted = by_tcp(right.host, stack.enter_context(uvicorn(right, parser)))
        assert len(wanted) > 200
        # It is no test of one answer: some are errors, some ends, and some wait for more.
        assert {told.end for told in wanted.values()} == {"open", "closed"}
        address = address_of(right)
        words = ("--listen", address, "--http", parser, "--keep-alive", "3600", "--log", "none")
        stack.enter_context(serving(right, "http", "serve", APP, *words))
        gateway = ("http", "gateway", "--listen", "127.0.0.1:8080", "--accept-new", "--log", "none")
        stack.enter_context(serving(left, *gateway, address))
        ways: dict[str, Callable[[], Awaitable[Streams]]] = {
            "RPT": lambda: open_rpt_connection(address),
            "the gateway": lambda: asyncio.open_connection("127.0.0.1", 8080),
        }
        if cable == HARM:
            del ways["RPT"]  # the gateway's way is by RPT, too
        for way, connect in ways.items():
            found = by_another_way(left.host, connect, wanted)
            other = {name: (found[name], wanted[name]) for name in found
                     if found[name] != wanted[name]}  # fmt: skip
            assert not other, f"by {way}: {other}"
