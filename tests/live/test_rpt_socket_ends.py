"""What was said to RPT sockets arrives, however the process that had them ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

import rawproto
from rawproto.drivers.rpt.caretaker import CARETAKER
from tests.live.rpt_sockets import impatient, joined, listening

pytestmark = pytest.mark.live
__all__ = ["impatient"]

SOL = socket.SOL_SOCKET
MUCH = 150_000  # less than a pair of Unix sockets holds, so that who wrote it can go at once
SLOW = "s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)"


def received(sock: rawproto.RPTSocket) -> int:
    """How many bytes come up to the end."""
    sock.settimeout(15)
    return sum(map(len, iter(lambda: sock.recv(1 << 16), b"")))


def run(program: str, *words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-u", "-W", "error", "-c", program, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def sent_to_listener(program: str) -> tuple[int, bytes]:
    """What a program sends to the port that it is given: how much, and what it complains of."""
    with listening() as listener, run(program, listener.getsockname()[1]) as child:
        listener.settimeout(15)
        accepted, _ = listener.accept()
        with accepted:
            much = received(accepted)
        return much, child.communicate(timeout=30)[1]


def test_answer_of_a_forked_handler_arrives_although_the_program_ends() -> None:
    program = f"""
import rawproto, socket, socketserver
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall(bytes({MUCH}))
with rawproto.ForkingRPTServer(("127.0.0.1", 0), Handler) as server:
    s = server.socket
    {SLOW}
    print(server.server_address[1])
    server.handle_request()
"""
    with run(program) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        with rawproto.create_connection(("127.0.0.1", port), 10) as client:
            assert received(client) == MUCH
        assert child.communicate(timeout=30) == (b"", b"")


def test_what_was_written_to_a_descriptor_arrives_although_the_program_ends() -> None:
    program = f"""
import os, rawproto, socket, sys
s = rawproto.create_connection(("127.0.0.1", int(sys.argv[1])))
{SLOW}
os.write(s.detach(), bytes({MUCH}))
"""
    assert sent_to_listener(program) == (MUCH, b"")


CHILD = """
import multiprocessing, rawproto, socket, sys
def send():
    s = rawproto.create_connection(("127.0.0.1", int(sys.argv[1])))
    s.sendall(bytes(1_000_000))
    WITH
child = multiprocessing.get_context("fork").Process(target=send)
child.start()
child.join()
"""


@pytest.mark.parametrize("end", ["s.close()", "globals()['kept'] = s"])
def test_child_of_multiprocessing_waits_for_what_it_sent(end: str) -> None:
    assert sent_to_listener(CHILD.replace("WITH", end)) == (1_000_000, b"")


def test_handler_in_a_process_of_its_own_waits_for_what_it_sent_elsewhere() -> None:
    program = """
import rawproto, socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        with rawproto.create_connection(("127.0.0.1", int(sys.argv[1]))) as s:
            s.sendall(bytes(1_000_000))
with rawproto.ForkingRPTServer(("127.0.0.1", 0), Handler) as server:
    with rawproto.create_connection(server.server_address):
        server.handle_request()
"""
    assert sent_to_listener(program) == (1_000_000, b"")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_answer_arrives_from_who_closes_with_something_unread(kind: socket.SocketKind) -> None:
    with joined(type=kind) as (client, server):
        with socket.socket(fileno=server.detach()) as theirs:
            client.sendall(b"question")
            assert theirs.recv(100, socket.MSG_PEEK) == b"question"
            theirs.sendall(b"answer")
        assert client.recv(100) == b"answer"
        assert client.recv(100) == b""


def test_peer_that_says_nothing_more_keeps_no_threads_behind_a_closed_descriptor() -> None:
    with joined() as (client, server):
        theirs = socket.socket(fileno=server.detach())
        theirs.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""
        client.send(b"still heard")
        assert theirs.recv(100) == b"still heard"
        (joint,) = CARETAKER.joints
        theirs.close()
        joint.wait(10)
        assert not CARETAKER.joints


def test_who_has_the_descriptor_hears_that_the_peer_is_gone() -> None:
    with joined() as (client, server), socket.socket(fileno=server.detach()) as theirs:
        client.setsockopt(SOL, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        client.close()
        assert theirs.recv(1) == b""
        with pytest.raises(BrokenPipeError):
            os.write(theirs.fileno(), b"x")
