"""The demonstration's programs over RPT: a file across a link that loses packets, and a room.

The programs are the verbs, `files` and `chat`, each a process on its host. Beside the file goes the
same file over the kernel's TCP, on the same link, one after the other.
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rawproto.cli.demo_rpt import await_listening, running
from rawproto.cli.demo_ways import show_ways
from rawproto.errors import LinkError
from rawproto.lab import LiveHost, pair, up

if TYPE_CHECKING:
    from rawproto.cli.demo import Page

__all__ = ["show_apps"]

LINK = "rate=20mbit,delay=20ms,loss=2%,seed=1"
SIZE = 2_000_000
TCP_PATIENCE_S = 4.0
QUESTION, ANSWER = "Did the file arrive?", "Every byte, and hardly late."
_BAR = 30


def show_apps(page: Page) -> None:
    """A lab of its own, for the link that it needs."""
    page.title("A file across a link that loses 2 %, by RPT and by TCP")
    page.say(
        "The same two hosts, 20 Mbit/s and 40 ms there and back between them, and every fiftieth "
        f"packet lost, each way. {_megabytes(SIZE)} cross it: first as a file over RPT, then the "
        "same bytes over the kernel's TCP, with CUBIC, which Linux has by default."
    )
    print()
    with (
        tempfile.TemporaryDirectory() as directory,
        up(pair().changed(f"1:{LINK}")) as network,
    ):
        h1, h2 = network.host("h1"), network.host("h2")
        h1.run(["ping", "-c", "2", "-i", "0.2", h2.ipv4])  # neighbours are known from here on
        data = os.urandom(SIZE)
        _show_file(page, h1, h2, Path(directory), data)
        _show_tcp(page, h1, h2, data)
        page.title("And a room to talk about it")
        _show_room(page, h1, h2, directory)
        show_ways(page, h1, h2, directory)


def _show_file(page: Page, h1: LiveHost, h2: LiveHost, directory: Path, data: bytes) -> None:
    (directory / "pub").mkdir()
    (directory / "pub" / "file").write_bytes(data)
    address = f"rpt://{h2.ipv4}:4000"
    page.command(f"rawproto files serve pub --listen {address}", "on h2")
    page.command(f"rawproto files get --accept-new {address}/file .", "on h1")
    served = ("files", "serve", "pub", "--listen", address)
    with running(h2, str(directory), *served) as server:
        await_listening(server, address)
        got = directory / "file"
        words = ("files", "get", "--accept-new", f"{address}/file", str(directory))
        begun = time.monotonic()
        with running(h1, str(directory), *words) as client:
            _, said = client.communicate()
            elapsed = time.monotonic() - begun
    if client.returncode or got.read_bytes() != data:
        raise LinkError("fetch from", address, None, said.strip() or "another file arrived")
    _bar(page, "RPT, bbr", len(data), elapsed)


def _show_tcp(page: Page, h1: LiveHost, h2: LiveHost, data: bytes) -> None:
    with h2.entered():
        listener = socket.create_server((h2.ipv4, 0))
    with h1.entered():
        receiver = socket.socket()
    with listener, receiver:
        with suppress(OSError):  # a kernel without it has another one
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        begun = time.monotonic()
        receiver.settimeout(TCP_PATIENCE_S)
        receiver.connect(listener.getsockname())
        sender = listener.accept()[0]
        with sender:
            name = sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
            arrived = _pour(sender, receiver, data, begun + TCP_PATIENCE_S)
    words = name.rstrip(b"\0").decode(errors="replace")
    _bar(page, f"TCP, {words}", arrived, time.monotonic() - begun)


def _pour(sender: socket.socket, receiver: socket.socket, data: bytes, until: float) -> int:
    """Sends from one socket to the other until all is there, or time is up: how much arrived."""
    sender.setblocking(False)
    left, arrived = memoryview(data), 0
    while arrived < len(data) and (wait_s := until - time.monotonic()) > 0:
        readable, writable, _ = select.select([receiver], [sender] if left else [], [], wait_s)
        if writable:
            left = left[sender.send(left[: 1 << 16]) :]
        if readable:
            arrived += len(receiver.recv(1 << 16))
    return arrived


def _bar(page: Page, name: str, arrived: int, seconds: float) -> None:
    full = _BAR * arrived // SIZE
    bar = page.style("#" * full, "green" if arrived == SIZE else "yellow") + "." * (_BAR - full)
    words = f"{_megabytes(arrived)} in {seconds:.1f} s"
    if arrived < SIZE:
        words += ", stopped"
    page.block(f"{name:<12} {bar} {words}, {arrived * 8 / seconds / 1e6:.1f} Mbit/s")
    sys.stdout.flush()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _show_room(page: Page, h1: LiveHost, h2: LiveHost, directory: str) -> None:
    address = f"rpt://{h2.ipv4}:4001"
    page.command(f"rawproto chat serve --listen {address}", "on h2")
    with ExitStack() as stack:
        server = stack.enter_context(running(h2, directory, "chat", "serve", "--listen", address))
        await_listening(server, address)
        heard: dict[str, list[str]] = {}
        members: dict[str, subprocess.Popen[str]] = {}
        for host, nick in ((h2, "bob"), (h1, "ada")):
            words = ("chat", "join", "--accept-new", address, "lobby", "--nick", nick)
            members[nick] = stack.enter_context(running(host, directory, *words))
            heard[nick] = _read(members[nick], "--- here:")
        for nick, text in (("bob", QUESTION), ("ada", ANSWER)):
            stdin = members[nick].stdin
            assert stdin is not None
            stdin.write(f"{text}\n")
            stdin.flush()
            for each, member in members.items():
                heard[each] += _read(member, text)
    for name, nick in (("h1", "ada"), ("h2", "bob")):
        page.command(f"rawproto chat join {address} lobby --nick {nick}", f"on {name}")
        page.block("".join(heard[nick]).rstrip())


def _read(member: subprocess.Popen[str], words: str) -> list[str]:
    """What a member prints, up to a line with these words. Raises LinkError: it ends before."""
    lines: list[str] = []
    assert member.stdout is not None
    for line in member.stdout:
        lines.append(line)
        if words in line:
            return lines
    assert member.stderr is not None
    raise LinkError("talk at", "the room", None, member.stderr.read().strip() or "it ended")
