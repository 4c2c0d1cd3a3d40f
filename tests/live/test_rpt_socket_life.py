"""Sockets of RPT in their surroundings: keys, options, servers, copies, ends of processes."""

from __future__ import annotations

import errno
import http.client
import http.server
import os
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import rawproto
from rawproto.identity.keys import Identity
from tests.live.rpt_sockets import (
    UDP,
    impatient,
    in_thread,
    joined,
    listening,
    port_is_free,
    raises,
)

pytestmark = pytest.mark.live
__all__ = ["impatient"]

SOL, RPT = socket.SOL_SOCKET, rawproto.SOL_RPT
ALICE, BOB = Identity(bytes(range(32))), Identity(bytes(range(1, 33)))
SECRET = b"s" * 32


# --- keys ----------------------------------------------------------------------------------------


def connect(listener: rawproto.RPTSocket, **options: Any) -> rawproto.RPTSocket:
    return rawproto.create_connection(listener.getsockname(), 10, **options)


def test_each_side_sees_the_others_key() -> None:
    with listening(identity=ALICE) as listener, connect(listener, identity=BOB) as client:
        server, _ = listener.accept()
        with server:
            assert client.getsockopt(RPT, rawproto.RPT_PEER_KEY, 32) == ALICE.public.data
            assert server.getsockopt(RPT, rawproto.RPT_PEER_KEY, 32) == BOB.public.data


def test_another_key_than_the_pinned_one_is_refused() -> None:
    with listening(identity=ALICE) as listener:
        connect(listener, peer_key=ALICE.public.data).close()
        with pytest.raises(rawproto.PeerMismatchError) as caught:
            connect(listener, peer_key=BOB.public.data)
        assert caught.value.errno == errno.EKEYREJECTED


def test_trust_is_asked_about_a_new_key_and_must_not_fail() -> None:
    asked: list[bytes] = []

    def refuse(key: bytes) -> rawproto.RawprotoError:
        asked.append(key)
        return rawproto.UnknownPeerError("never seen", key)

    with listening(identity=ALICE) as listener:
        with pytest.raises(rawproto.UnknownPeerError) as caught:
            connect(listener, trust=refuse)
        assert (asked, caught.value.errno) == ([ALICE.public.data], errno.ENOKEY)
        with pytest.raises(rawproto.HandshakeError, match="division"):
            connect(listener, trust=lambda key: 1 // 0)


def test_listener_admits_whom_it_wants_and_secrets_have_to_agree() -> None:
    with listening(authorize=lambda key: key == ALICE.public.data) as listener:
        with connect(listener, identity=ALICE) as client:
            accepted, _ = listener.accept()
            with accepted:
                client.send(b"x")
                assert accepted.recv(1) == b"x"
        with connect(listener, identity=BOB) as client:
            error = raises(errno.EACCES, client.recv, 1)
            assert isinstance(error, rawproto.NotAuthorizedError)
    with listening(psk=SECRET) as listener:
        connect(listener, psk=SECRET).close()
        with pytest.raises(rawproto.HandshakeError):
            connect(listener)


# --- options -------------------------------------------------------------------------------------


def test_options_can_be_set_and_read() -> None:
    with rawproto.socket(proto=UDP) as sock:
        assert sock.getsockopt(SOL, socket.SO_TYPE) == socket.SOCK_STREAM
        assert sock.getsockopt(SOL, socket.SO_DOMAIN) == socket.AF_INET
        assert sock.getsockopt(SOL, socket.SO_PROTOCOL) == UDP
        assert sock.getsockopt(SOL, socket.SO_ERROR) == 0
        assert sock.getsockopt(SOL, socket.SO_KEEPALIVE) == 1
        for name in (socket.SO_KEEPALIVE, socket.SO_REUSEADDR):
            for value in (0, 1):
                sock.setsockopt(SOL, name, value)
                assert sock.getsockopt(SOL, name) == value
        for name in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(SOL, name, 100_000)
            assert sock.getsockopt(SOL, name) == 100_000
        linger = struct.pack("ii", 1, 7)
        sock.setsockopt(SOL, socket.SO_LINGER, linger)
        assert sock.getsockopt(SOL, socket.SO_LINGER, 8) == linger
        sock.setsockopt(RPT, rawproto.RPT_CONGESTION, b"newreno")
        assert sock.getsockopt(RPT, rawproto.RPT_CONGESTION, 16) == b"newreno"
        sock.setsockopt(RPT, rawproto.RPT_NODELAY, 1)
        assert sock.getsockopt(RPT, rawproto.RPT_NODELAY) == 1
        sock.setsockopt(RPT, rawproto.RPT_PEER_KEY, ALICE.public.data)
        assert sock.getsockopt(RPT, rawproto.RPT_PEER_KEY, 32) == ALICE.public.data


def test_options_that_are_none_are_refused() -> None:
    with rawproto.socket() as sock:
        for level, name in ((socket.IPPROTO_TCP, socket.TCP_NODELAY), (SOL, 9999), (RPT, 9999)):
            raises(errno.ENOPROTOOPT, sock.setsockopt, level, name, 1)
            raises(errno.ENOPROTOOPT, sock.getsockopt, level, name)
        raises(errno.ENOPROTOOPT, sock.getsockopt, RPT, rawproto.RPT_PSK, 32)
        raises(errno.EINVAL, sock.setsockopt, RPT, rawproto.RPT_PSK, b"short")
        raises(errno.EINVAL, sock.setsockopt, RPT, rawproto.RPT_NODELAY, 0)
        raises(errno.ENOENT, sock.setsockopt, RPT, rawproto.RPT_CONGESTION, b"vegas")
        raises(errno.EINVAL, sock.setsockopt, SOL, socket.SO_LINGER, 1)
        with pytest.raises(TypeError):
            sock.setsockopt(SOL, socket.SO_KEEPALIVE, "1")


def test_options_hold_for_the_connection_and_are_inherited_by_accepted_ones() -> None:
    with listening() as listener:
        listener.setsockopt(SOL, socket.SO_KEEPALIVE, 0)
        listener.setsockopt(SOL, socket.SO_SNDBUF, 20_000)
        assert listener.getsockopt(SOL, socket.SO_ACCEPTCONN) == 1
        with connect(listener) as client:
            server, _ = listener.accept()
            with server:
                assert server.getsockopt(SOL, socket.SO_ACCEPTCONN) == 0
                assert server.getsockopt(SOL, socket.SO_KEEPALIVE) == 0
                assert client._end.connection.silence.keep_alive_ns == 10 * 10**9
                client.setsockopt(SOL, socket.SO_KEEPALIVE, 0)
                assert client._end.connection.silence.keep_alive_ns == 0
                assert client.getsockopt(RPT, rawproto.RPT_MAXSEG) >= 1200
                server.setblocking(False)
                assert 0 < server.send(bytes(1 << 20)) <= 20_000


# --- servers -------------------------------------------------------------------------------------


class Upper(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(b"%d %b" % (os.getpid(), line.upper()))


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[Any]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server.server_address
        finally:
            server.shutdown()
            thread.join(10)


@pytest.mark.parametrize("kind", [rawproto.ThreadingRPTServer, rawproto.ForkingRPTServer])
def test_servers_of_the_standard_library_serve_several_at_once(kind: Callable[..., Any]) -> None:
    with serving(kind(("127.0.0.1", 0), Upper)) as address:
        clients = [rawproto.create_connection(address, 10) for _ in range(3)]
        files = [client.makefile("rwb") for client in clients]
        pids = set()
        for turn in range(3):
            for file in files:
                file.write(b"line %d\n" % turn)
                file.flush()
            for file in files:
                pid, _, rest = file.readline().partition(b" ")
                pids.add(int(pid))
                assert rest == b"LINE %d\n" % turn
        for client, file in zip(clients, files, strict=True):
            client.shutdown(socket.SHUT_WR)
            assert file.read() == b""
            file.close()
            client.close()
    own = kind is rawproto.ThreadingRPTServer
    assert (pids == {os.getpid()}) if own else (len(pids) == 3 and os.getpid() not in pids)


def test_http_of_the_standard_library_runs_over_it() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[::-1])

        def log_message(self, *_: object) -> None:
            pass

    with serving(rawproto.ThreadingRPTServer(("127.0.0.1", 0), Handler)) as address:
        connection = http.client.HTTPConnection(*address)
        connection._create_connection = rawproto.create_connection
        for body in (b"abc", bytes(200_000) + b"x"):
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body[::-1]
        connection.close()


# --- other processes -----------------------------------------------------------------------------


def test_detached_descriptor_carries_the_connection_to_another_process() -> None:
    with joined() as (client, server):
        descriptor = server.detach()
        assert server.fileno() == -1
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            child = subprocess.Popen(["tr", "a-z", "A-Z"], stdin=file, stdout=file)
        client.sendall(b"from process to process")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(100, socket.MSG_WAITALL) == b"FROM PROCESS TO PROCESS"
        assert child.wait(10) == 0


def test_copy_of_the_process_has_no_sockets_and_disturbs_none() -> None:
    with joined() as (client, server):
        descriptor = client.fileno()
        pid = os.fork()
        if not pid:
            try:
                assert client.fileno() == -1
                raises(errno.EBADF, client.send, b"from the child")
                client.close()
                server.close()
                with pytest.raises(OSError):  # noqa: PT011 - whatever is said of a closed one
                    os.fstat(descriptor)
                with rawproto.socket() as own:
                    own.bind(("127.0.0.1", 0))
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        client.send(b"from the parent")
        assert server.recv(100) == b"from the parent"


PROGRAM = """
import rawproto, socket, sys
server = rawproto.create_server(("127.0.0.1", 0))
client = rawproto.create_connection(server.getsockname())
print(server.getsockname()[1], flush=True)
accepted, _ = server.accept()
"""


def run(more: str, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM + more, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_what_was_sent_arrives_although_the_program_ends() -> None:
    with listening() as listener:
        port = listener.getsockname()[1]
        program = (
            "import rawproto, sys\n"
            "s = rawproto.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
            "s.sendall(bytes(1_000_000))\n"
        )
        child = subprocess.Popen([sys.executable, "-c", program, str(port)])
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(10)
            assert sum(map(len, iter(lambda: accepted.recv(1 << 16), b""))) == 1_000_000
        assert child.wait(15) == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_program_that_is_killed_leaves_no_port_behind(how: signal.Signals) -> None:
    with run("accepted.recv(1)") as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        assert not port_is_free(port)
        child.send_signal(how)
        child.communicate(timeout=20)
        assert child.returncode == (-signal.SIGKILL if how == signal.SIGKILL else -signal.SIGINT)
    assert port_is_free(port)


def test_signal_handler_that_raises_leaves_the_socket_usable() -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with joined() as (client, server):
            for _ in range(3):
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                with pytest.raises(Interrupted):
                    client.recv(1)
            with in_thread(lambda: server.recv(1)) as received:
                signal.setitimer(signal.ITIMER_REAL, 0.02)
                with pytest.raises(Interrupted):
                    client.recv(1)
                client.send(b"x")
            assert received() == b"x"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_handler_that_returns_is_no_end_of_waiting_and_may_use_the_socket() -> None:
    with joined() as (client, server):
        before = signal.signal(signal.SIGALRM, lambda *_: server.send(b"woken"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert client.recv(10) == b"woken"
        finally:
            signal.signal(signal.SIGALRM, before)


def test_handler_that_would_wait_for_the_call_it_came_in_is_told() -> None:
    with joined() as (client, server):
        told: list[OSError] = []

        def interrupt(*_: object) -> None:
            told.append(raises(errno.EDEADLK, client.recv, 10))
            server.send(b"woken")

        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert client.recv(10) == b"woken"
        finally:
            signal.signal(signal.SIGALRM, before)
        assert len(told) == 1


# --- another thread, between two steps of a call -------------------------------------------------

STREAM, SEQ, DGRAM = socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM


def closed_within_a_call(
    sock: rawproto.RPTSocket, call: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call finds the socket open, and another thread closes it before the call goes on."""
    found = rawproto.RPTSocket._use

    def use(this: rawproto.RPTSocket) -> Any:
        end = found(this)
        if this is sock and end is not None:
            closing = threading.Thread(target=sock.close)
            closing.start()
            closing.join()
        return end

    with monkeypatch.context() as patch:
        patch.setattr(rawproto.RPTSocket, "_use", use)
        raises(errno.EBADF, call)


@pytest.mark.parametrize("kind", [STREAM, SEQ])
@pytest.mark.parametrize(
    "call",
    [
        lambda sock: sock.recv(1),
        lambda sock: sock.recv(1, socket.MSG_PEEK),
        lambda sock: sock.recv(1, socket.MSG_DONTWAIT),
        lambda sock: sock.recv_into(bytearray(1)),
        lambda sock: sock.send(b"x"),
        lambda sock: sock.sendall(bytes(100_000)),
        lambda sock: sock.sendmsg([b"x", b"y"]),
    ],
)
def test_connected_socket_closed_within_a_call_is_a_bad_descriptor(
    kind: int, call: Callable[[rawproto.RPTSocket], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with joined(type=kind) as (client, _):
        closed_within_a_call(client, lambda: call(client), monkeypatch)


def test_other_sockets_closed_within_a_call_are_bad_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with listening() as listener:
        closed_within_a_call(listener, listener.accept, monkeypatch)
    with rawproto.socket(socket.AF_INET, DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        closed_within_a_call(sock, lambda: sock.recv(1), monkeypatch)
    with rawproto.socket(socket.AF_INET, DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        closed_within_a_call(sock, lambda: sock.sendto(b"x", ("127.0.0.1", 9)), monkeypatch)
