"""The demonstration's last exchange: a message each way over RPT, sealed, and then opened.

Both ends are the verbs, `listen` and `connect`, with keys of their own that are thrown away
afterwards. The key log goes into the saved capture, so that `rawproto decode` opens it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, NamedTuple

from rawproto.errors import LinkError
from rawproto.lab import LiveHost
from rawproto.link.packet import Frame, PacketLink
from rawproto.transport.key_log import KeyLog
from rawproto.transport.opened import Reading, Sessions
from rawproto.wire.dissect import Dissection, dissect
from rawproto.wire.frame_words import frames_words
from rawproto.wire.rpt import RPTLong, RPTShort
from rawproto.wire.show import hexdump

if TYPE_CHECKING:
    from rawproto.cli.demo import Page

__all__ = ["Talk", "await_listening", "running", "show_talk", "talk"]

QUESTION, ANSWER = "Can anybody on the way read this?", "Only who has the keys."
PORT = 4000
PATIENCE_S = 10.0


class Talk(NamedTuple):
    """What was said.

    Attributes:
        address: of the listener on h2.
        heard_by_h1: what came out of `connect`.
        heard_by_h2: what came out of `listen`.
        frames: the packets of RPT, as h1's interface saw them.
        key_log: what opens them.
    """

    address: str
    heard_by_h1: str
    heard_by_h2: str
    frames: list[Frame]
    key_log: bytes


def talk(h1: LiveHost, h2: LiveHost) -> Talk:
    """Sends a message each way. Raises LinkError where that fails."""
    address = f"rpt://{h2.ipv4}:{PORT}"
    with h1.entered():
        tap = PacketLink(h1.interfaces[0].name)
    with tap, tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        keys = Path(directory, "keylog")
        listener = stack.enter_context(running(h2, directory, "listen", "--messages", address))
        _give(listener, ANSWER)
        await_listening(listener, address)
        words = ("connect", "--messages", "--accept-new", "--keylog", str(keys), address)
        client = stack.enter_context(running(h1, directory, *words))
        _give(client, QUESTION)
        heard_by_h1, heard_by_h2 = _end(client, address), _end(listener, address)
        frames: list[Frame] = []
        while some := tap.receive_frames():
            frames += [frame for frame in some if _is_rpt(dissect(frame.data))]
        return Talk(address, heard_by_h1, heard_by_h2, frames, keys.read_bytes())


@contextmanager
def running(host: LiveHost, directory: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A verb on a host, in a directory and with a home of its own, for as long as it may take."""
    home = os.path.join(directory, host.name)
    process: subprocess.Popen[str] = host.popen(
        [sys.executable, "-m", "rawproto.cli.main", *words],
        cwd=directory,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_CONFIG_HOME": home, "XDG_STATE_HOME": home},
        text=True,
    )
    patience = Timer(PATIENCE_S, process.kill)
    patience.start()
    try:
        yield process
    finally:
        patience.cancel()
        process.kill()
        process.communicate()


def _give(process: subprocess.Popen[str], words: str) -> None:
    """All that one side will say."""
    assert process.stdin is not None
    with process.stdin as stdin:
        stdin.write(f"{words}\n")
    process.stdin = None


def await_listening(listener: subprocess.Popen[str], address: str) -> None:
    """Returns once it says that it is ready. Raises LinkError where it ends instead."""
    assert listener.stderr is not None
    line = ""
    for line in listener.stderr:
        if line.startswith("listening"):
            return
    raise LinkError("listen on", address, None, line.strip() or "it ended")


def _end(process: subprocess.Popen[str], address: str) -> str:
    """What one side heard until it ended."""
    heard, said = process.communicate()
    if process.returncode:
        raise LinkError("talk to", address, None, said.strip() or "no answer")
    return heard.strip()


def _is_rpt(found: Dissection) -> bool:
    return bool(found.layers) and isinstance(found.layers[-1], RPTShort | RPTLong)


def show_talk(page: Page, said: Talk, file: str) -> None:
    """What the two heard, and their packets without and with the keys."""
    page.title("Two messages, encrypted, over RPT on bare IP")
    page.say(
        "h2 listens, h1 connects: no TCP, no UDP, a transport of our own in packets of IP "
        "protocol 253. Each has made itself a key, and each says one message."
    )
    print()
    for host, verb, words, heard in (
        ("h2", "listen --messages", ANSWER, said.heard_by_h2),
        ("h1", "connect --messages --accept-new", QUESTION, said.heard_by_h1),
    ):
        page.command(f"echo '{words}' | rawproto {verb} {said.address}", f"on {host}")
        page.block(heard)
    page.title(f"{len(said.frames)} packets of RPT, sealed")
    for number, frame in enumerate(said.frames, 1):
        page.packet(number, _seconds(said, frame), frame)
    _show_opened(page, said, file)


def _show_opened(page: Page, said: Talk, file: str) -> None:
    page.title("The same packets, opened with the key log")
    sessions = Sessions(KeyLog(said.key_log))
    question: tuple[bytes, Reading] | None = None
    for number, frame in enumerate(said.frames, 1):
        found = dissect(frame.data)
        data = frame.data[found.offsets[-1] : found.payload_offset + len(found.payload)]
        reading = sessions.read(data)
        if reading is None:
            continue
        packet = reading.packet
        if isinstance(packet, RPTLong):
            words = f"{packet.value_names['packet_type'][packet.packet_type]}, which has no frames"
        else:
            words = page.style(frames_words(reading.frames), "green")
        page.line(number, _seconds(said, frame), frame, words)
        if question is None and QUESTION.encode() in reading.plaintext:
            question = data, reading
    if question:
        data, reading = question
        print(f"\n{page.style('The question, as it crossed the cable', 'bold')}")
        page.block(page.style(hexdump(data), "dim"))
        print(
            page.style("and opened: a STREAM frame, the length of the message, the message", "bold")
        )
        page.block(hexdump(reading.plaintext))
    print()
    words = f"rawproto decode -v --filter 'ip proto 253' {file}"
    page.command(words, "the keys are in the file")


def _seconds(said: Talk, frame: Frame) -> float:
    return (frame.real_ns - said.frames[0].real_ns) / 1e9
