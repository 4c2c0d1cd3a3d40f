"""`rawproto chat` between two hosts: harm on the way, kills in the middle, many members, strangers.

What a member heard is read off its output: each message once, in the order of their numbers.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import rawproto
from rawproto import lab
from rawproto.apps.chat.client import ChatMember
from rawproto.transport.config import Config
from tests.live.peers import HARM, Peer, workers_of
from tests.live.test_files import address_of, serving

pytestmark = pytest.mark.live

PATIENCE_S = 40


class Guest:
    """`rawproto chat join --json --stay` as a process, and what it prints."""

    def __init__(self, host: lab.LiveHost, home: Path, address: str, nick: str) -> None:
        words = ("--accept-new", "--json", "--stay", address, "lobby", "--nick", nick)
        self.process = Peer(host, home / nick).start("chat", "join", *words)
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()

    def say(self, *texts: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("".join([f"{text}\n" for text in texts]).encode())
        self.process.stdin.flush()

    def until(self, there: str | int) -> None:
        """A kind of event has come, or so many messages have."""
        with self._changed:
            assert self._changed.wait_for(
                lambda: (
                    len(self.texts) >= there
                    if isinstance(there, int)
                    else any(event["kind"] == there for event in self.events)
                ),
                PATIENCE_S,
            ), (there, len(self.texts), self.process.poll())

    def until_told(self, text: str) -> None:
        """A message has come."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self.texts, PATIENCE_S), self.texts[-5:]

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["kind"] == "message"]

    @property
    def texts(self) -> list[str]:
        return [event["text"] for event in self.messages]

    def kill(self) -> None:
        self.process.kill()
        self._reader.join(10)
        self.process.communicate()


@contextmanager
def guests(host: lab.LiveHost, home: Path, address: str, *nicks: str) -> Iterator[list[Guest]]:
    """Members that are in the room, each of whom sees the others."""
    here: list[Guest] = []
    try:
        for nick in nicks:
            here.append(Guest(host, home, address, nick))
            here[-1].until("here")
        yield here
    finally:
        for guest in here:
            guest.kill()


def heard_by_all(here: list[Guest], texts: list[str]) -> None:
    """Everybody heard the same in the same order, each text once."""
    for guest in here:
        guest.until(len(texts))
        assert sorted(guest.texts) == sorted(texts)
    orders = [[event["sequence"] for event in guest.messages] for guest in here]
    assert all(order == sorted(set(order)) == orders[0] for order in orders)


@pytest.mark.parametrize(("carrier", "family"), [("rpt", 4), ("rpt", 6), ("rpt+udp", 6)])
def test_lines_of_a_pipe_are_messages_in_any_script(
    carrier: str, family: int, peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right, carrier, family)
    with ExitStack() as stack:
        stack.enter_context(serving(right, "chat", "serve", "--listen", address))
        (bob,) = stack.enter_context(guests(left.host, tmp_path, address, "bob"))
        lines = "/who\nünïcode ✓ 漢字 שלום\n//slash\n" + "x" * 65_536 + "\n\x1b[31mred\n"
        words = ("chat", "join", "--accept-new", address, "lobby", "--nick", "ada")
        code, output, said = left.run(*words, data=lines.encode())
        assert code == 0, said
        bob.until("leave")
        told = [event["time_ns"] for event in bob.events if event["kind"] in ("message", "leave")]
        assert told[-1] - told[-2] < 10**10, "who ends is not waited for"
        assert output.count(b"--- here: ada, bob\n") == 2
        assert "here:" not in said
        bob.until(4)
        assert bob.texts == ["ünïcode ✓ 漢字 שלום", "/slash", "x" * 65_536, "\x1b[31mred"]
        assert b"\x1b[31m" not in output, "what commands a terminal is shown escaped"


def test_room_over_a_lossy_way_misses_nothing_and_repeats_nothing(tmp_path: Path) -> None:
    with ExitStack() as stack:
        network = stack.enter_context(lab.up(lab.pair().changed(f"1:{HARM}")))
        right = Peer(network.host("h2"), tmp_path / "right")
        address = address_of(right)
        stack.enter_context(serving(right, "chat", "serve", "--listen", address))
        here = stack.enter_context(
            guests(network.host("h1"), tmp_path, address, "ada", "bob", "eve")
        )
        texts = [[f"{number} of {name}" for number in range(40)] for name in ("ada", "bob")]
        for guest, own in zip(here, texts, strict=False):
            guest.say(*own)
        heard_by_all(here, [text for own in texts for text in own])
        assert [text for text in here[2].texts if text in texts[0]] == texts[0]


def test_killed_server_comes_back_and_all_is_said_and_heard_once(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right)
    words = ("chat", "serve", "--history", str(tmp_path / "history"), "--listen", address)
    texts = [f"text {number}" for number in range(120)]
    with ExitStack() as stack:
        with serving(right, *words) as server:
            here = stack.enter_context(guests(left.host, tmp_path, address, "ada", "bob"))
            here[0].say(*texts)
            here[1].until(20)  # in the middle of it: more than 50 at once are held back
            server.kill()
            server.wait(10)
        assert len(here[1].texts) < len(texts)
        with serving(right, *words):
            heard_by_all(here, texts)
            assert here[1].texts == texts


def test_killed_member_harms_no_other_and_comes_back_by_its_name(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right)
    with ExitStack() as stack:
        stack.enter_context(serving(right, "chat", "serve", "--listen", address))
        ada, bob = stack.enter_context(guests(left.host, tmp_path, address, "ada", "bob"))
        ada.say(*[f"before {number}" for number in range(120)])
        bob.until(20)
        ada.kill()
        bob.say("and I am still here")
        bob.until_told("and I am still here")
        (again,) = stack.enter_context(guests(left.host, tmp_path, address, "ada"))
        again.say("back")
        bob.until_told("back")
        before = [text for text in bob.texts if text.startswith("before")]
        assert before == [f"before {number}" for number in range(len(before))]
        assert bob.texts.count("and I am still here") == 1
        again.until_told("back")
        assert again.texts[-1] == "back"
        assert len({event["sequence"] for event in again.messages}) == len(again.messages)


def test_hundred_members_at_once_all_hear_all(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    address = address_of(right, "rpt+udp")
    members, speakers = 100, 5
    patient = Config(handshake_timeout_ns=PATIENCE_S * 10**9)  # all ask one process at once

    async def one(number: int, heard: list[int], full: asyncio.Event) -> None:
        def hear(event: dict[str, Any]) -> None:
            if event["kind"] == "message":
                heard[number] += 1
            if min(heard) == speakers:
                full.set()

        key = hashlib.sha256(b"%d" % number).digest()
        member = ChatMember("lobby", f"{number}", history=50, hear=hear, complain=print)
        async with rawproto.connect(address, static=key, config=patient) as connection:
            if number < speakers:
                await member.say(f"text of {number}")
            running = asyncio.create_task(member.run(connection))
            heard_all = asyncio.create_task(full.wait())
            await asyncio.wait({running, heard_all}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running  # which says why
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def everybody() -> list[int]:
        heard = [0] * members
        full = asyncio.Event()
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for number in range(members):
                group.create_task(one(number, heard, full))
        return heard

    words = ("chat", "serve", "--log", "none", "--listen", address)
    with serving(right, *words), left.host.entered():
        assert asyncio.run(everybody()) == [speakers] * members


def test_stranger_and_who_takes_a_name_hear_nothing(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    admitted = tmp_path / "admitted"
    other = Peer(left.host, tmp_path / "other")
    for peer in (left, other):
        assert peer.run("keys", "new")[0] == 0
    admitted.write_bytes(left.run("keys", "show")[1] + other.run("keys", "show")[1])
    address = address_of(right)
    words = ("chat", "serve", "--authorized", str(admitted), "--listen", address)
    join = ("chat", "join", "--accept-new", address, "lobby", "--nick", "ada")
    with serving(right, *words):
        assert left.run(*join, data=b"secret\n")[0] == 0
        stranger = Peer(left.host, tmp_path / "stranger")
        for peer, why in ((stranger, "not authorized"), (other, "ada: somebody else has that")):
            code, output, said = peer.run(*join, data=b"me too\n")
            assert (code, output) == (1, b"")
            assert why in said.splitlines()[-1]


class Terminal:
    """A verb on a terminal, whose bytes are looked at."""

    def __init__(self, peer: Peer, *words: str) -> None:
        self._fd, theirs = pty.openpty()
        environment = {**peer.environment, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = peer.host.popen(
            [sys.executable, "-m", "rawproto.cli.main", *words],
            stdin=theirs, stdout=theirs, stderr=theirs, env=environment,
        )  # fmt: skip
        os.close(theirs)
        self.seen = b""

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, words: str) -> None:
        """The words have appeared behind all that was waited for; what came before is dropped."""
        deadline = time.monotonic() + PATIENCE_S
        while words.encode() not in self.seen:
            assert select.select([self._fd], [], [], deadline - time.monotonic())[0], self.seen
            self.seen += os.read(self._fd, 65_536)
        self.seen = self.seen.partition(words.encode())[2]

    def close(self) -> None:
        self.process.kill()
        self.process.wait(10)
        os.close(self._fd)


def test_what_is_being_typed_stays_apart_from_what_arrives(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right)
    with ExitStack() as stack:
        stack.enter_context(serving(right, "chat", "serve", "--listen", address))
        (bob,) = stack.enter_context(guests(left.host, tmp_path, address, "bob"))
        terminal = Terminal(left, "chat", "join", "--accept-new", address, "lobby", "--nick", "ada")
        stack.callback(terminal.close)
        terminal.until("here: ada, bob")
        terminal.until("ada>")
        terminal.type("half a li")
        terminal.until("half a li")
        bob.say("in between")
        terminal.until("<bob>")
        terminal.until("in between")
        terminal.until("ada> half a li")  # drawn again below
        terminal.type("ne\r")
        bob.until(2)
        assert bob.texts == ["in between", "half a line"]
        terminal.type("/quit\r")
        assert terminal.process.wait(20) == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["join", "nonsense", "lobby", "--nick", "a"], 2, "not an RPT address"),
        (["join", "rpt://127.0.0.1:1", "lobby", "--nick", "a"], 1, "nobody listens"),
        (["join", "rpt://127.0.0.1:1", "lobby", "--nick", "a", "--history", "1001"], 2, "1000"),
        (["serve", "--listen", "nonsense"], 2, "not an RPT address"),
        (["serve", "--listen", "rpt://127.0.0.1:0", "--history", "/nowhere/h"], 2, "no chat hist"),
        (["serve", "--listen", "rpt://127.0.0.1:0", "--history", "/proc/version"], 2, "no chat"),
        (["serve", "--listen", "rpt://192.0.2.1:4000"], 2, "192.0.2.1"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str], code: int, said: str, peers: tuple[Peer, Peer]
) -> None:
    left, _ = peers
    got, output, told = left.run("chat", *words)
    lines = [line for line in told.splitlines() if "new key" not in line]
    assert (got, output, len(lines)) == (code, b"", 1), told
    assert said in lines[0]


def test_port_that_is_taken_and_names_that_cannot_be_are_one_line(
    peers: tuple[Peer, Peer],
) -> None:
    left, right = peers
    address = address_of(right)
    with serving(right, "chat", "serve", "--listen", address):
        code, _, said = right.run("chat", "serve", "--listen", address)
        assert (code, len(said.splitlines())) == (2, 1)
        assert "in use" in said
        for room, nick in (("lobby", "x" * 33), ("lobby", "a\x1b[2J"), ("", "ada")):
            words = ("chat", "join", "--accept-new", address, room, "--nick", nick)
            code, output, said = left.run(*words)
            lines = [line for line in said.splitlines() if line.startswith("rawproto chat")]
            assert (code, output, len(lines)) == (1, b"", 1), said
            assert "characters" in lines[0]


def test_workers_share_the_rooms_and_one_that_is_killed_costs_nobody_a_word(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right)
    nicks = [f"guest {number}" for number in range(4)]
    texts = {nick: [f"{number} of {nick}" for number in range(60)] for nick in nicks[:2]}
    with ExitStack() as stack:
        words = ("chat", "serve", "--workers", "2", "--grace", "0.1", "--log", "json", "--listen")
        server = stack.enter_context(serving(right, *words, address))
        here = stack.enter_context(guests(left.host, tmp_path, address, *nicks))
        history = next(
            Path(os.readlink(each)).parent
            for each in Path(f"/proc/{workers_of(server)[0]}/fd").iterdir()
            if os.readlink(each).startswith("/dev/shm/rawproto-chat-")
        )
        names = next(event["names"] for event in here[-1].events if event["kind"] == "here")
        assert names == nicks, "whoever has them, all see all"
        for guest, own in zip(here, texts.values(), strict=False):
            guest.say(*own)
        here[-1].until(60)
        os.kill(workers_of(server)[0], signal.SIGKILL)
        heard_by_all(here, [text for own in texts.values() for text in own])
        for own in texts.values():
            assert [text for text in here[0].texts if text in own] == own
        assert not any(event["kind"] == "leave" for guest in here for event in guest.events)
        server.terminate()
        _, told = server.communicate(timeout=30)
        assert server.returncode == 0
        assert b"Traceback" not in told
    assert not history.exists()
