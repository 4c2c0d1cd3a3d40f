"""Two calls on one RPT socket at once, the one between any two steps of the other."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import rawproto
from rawproto.drivers.rpt import ends, handle
from rawproto.drivers.rpt import socket as sockets
from rawproto.drivers.rpt.caretaker import CARETAKER
from rawproto.transport.config import Config
from rawproto.transport.outgoing import Outgoing
from tests.live.rpt_sockets import await_ports, impatient, in_thread, joined, listening, raises

pytestmark = pytest.mark.live
__all__ = ["impatient"]

STREAM, SEQ, DGRAM = socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM
SOL, LOOPBACK = socket.SOL_SOCKET, ("127.0.0.1", 0)
NOBODY = ("127.0.0.1", 4999)
SMALL = Config(window_bytes=1 << 16, max_window_bytes=1 << 16, send_buffer_bytes=1 << 20)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.0005)


def ready(sock: rawproto.RPTSocket, seconds: float = 0) -> tuple[bool, bool]:
    """Whether it is readable, and writable."""
    readable, writable, _ = select.select([sock], [sock], [], seconds)
    return bool(readable), bool(writable)


def number_of(call: Callable[[], object]) -> int:
    """Of the OSError that a call raises; 0 for none."""
    try:
        call()
    except OSError as error:
        return error.errno or -1
    return 0


@contextmanager
def within(
    owner: Any, name: str, meanwhile: Callable[[], object], *, behind: bool = False
) -> Iterator[None]:
    """Has something happen before, or behind, the first time that a step is taken."""
    step = getattr(owner, name)
    left = [meanwhile]

    def stepped(*arguments: Any, **named: Any) -> Any:
        mine = left.pop() if left else None
        if mine is not None and not behind:
            mine()
        taken = step(*arguments, **named)
        if mine is not None and behind:
            mine()
        return taken

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, stepped)
        yield
    assert not left, f"{name} was not called"


class Another:
    """A thread that does something meanwhile, and gets the time for it if nothing is in its way."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.told: list[object] = []
        self._call = call

    def __call__(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._thread.join(0.1)

    def _run(self) -> None:
        try:
            self.told.append(self._call())
        except BaseException as error:
            self.told.append(error)

    def result(self) -> Any:
        self._thread.join(10)
        assert not self._thread.is_alive(), "it still waits"
        return self.told[0]


@contextmanager
def alarm(handler: Callable[[], object]) -> Iterator[None]:
    """Has a signal handler run soon."""
    before = signal.signal(signal.SIGALRM, lambda *_: handler())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def leads(sock: rawproto.RPTSocket) -> bool:
    return sock._end.pump._leader > 0


@contextmanager
def two_pairs() -> Iterator[list[tuple[rawproto.RPTSocket, rawproto.RPTSocket]]]:
    """(client, server) twice, the servers on one port."""
    with listening() as listener, ExitStack() as stack:
        pairs = []
        for _ in range(2):
            client = rawproto.create_connection(listener.getsockname(), 10)
            server = listener.accept()[0]
            server.settimeout(10)
            pairs.append((stack.enter_context(client), stack.enter_context(server)))
        yield pairs


# --- who waits is told ---------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [0, socket.MSG_PEEK])
def test_what_a_reader_leaves_is_told_to_the_next(flags: int) -> None:
    """The reader that leads knows of it by himself; who leads then waits for another socket."""
    with two_pairs() as ((client, server), (other, waiting)):
        for _ in range(4):  # until a question and its answer take the short way
            for one, two in ((client, server), (server, client)):
                with in_thread(lambda two=two: two.recv(9)):
                    until(lambda two=two: leads(two))
                    one.send(b"?")
        followers = server._end.pump.followers
        with in_thread(lambda: server.recv(1, flags)) as first:
            until(lambda: leads(server))
            with in_thread(lambda: waiting.recv(1)) as third:
                until(lambda: len(followers) == 1)
                with in_thread(lambda: server.recv(1)) as second:
                    until(lambda: len(followers) == 2)
                    client.send(b"ab")
                    assert first() == b"a"
                    assert second() == (b"a" if flags else b"b")
                other.send(b"x")
            assert third() == b"x"


@pytest.mark.parametrize("what", ["shutdown", "close", "listener"])
def test_handler_that_ends_what_its_call_waits_for_ends_the_call(what: str) -> None:
    with (
        listening() as listener,
        rawproto.create_connection(listener.getsockname(), 5) as client,
        listener.accept()[0],
    ):
        listener.settimeout(5)
        began = time.monotonic()
        if what == "shutdown":
            with alarm(lambda: client.shutdown(socket.SHUT_RD)):
                assert client.recv(1) == b""
        elif what == "close":
            with alarm(client.close):
                raises(errno.EBADF, client.recv, 1)
        else:
            with alarm(listener.close):
                raises(errno.EBADF, listener.accept)
        assert time.monotonic() - began < 2


def test_more_room_is_told_to_who_waits_for_it() -> None:
    with joined(config=SMALL) as (client, _):
        client.setsockopt(SOL, socket.SO_SNDBUF, 32 << 10)
        client.settimeout(5)
        with in_thread(lambda: client.sendall(bytes(112 << 10))) as sent:
            until(lambda: leads(client))
            time.sleep(0.4)  # until all that the peer takes is acknowledged
            client.setsockopt(SOL, socket.SO_SNDBUF, 1 << 20)
        sent()


def test_one_time_out_counts_for_all_that_is_waited_for() -> None:
    with joined() as (client, server):
        client.settimeout(0.4)
        began = time.monotonic()
        with in_thread(lambda: client.recv(9, socket.MSG_WAITALL)) as got:
            time.sleep(0.3)
            server.send(b"x")
        assert got() == b"x"
        assert 0.4 <= time.monotonic() - began < 0.6
        server.send(b"y")
        assert select.select([client], [], [], 5)[0]
        began = time.monotonic()
        assert client.recv(9, socket.MSG_WAITALL | socket.MSG_DONTWAIT) == b"y"
        assert time.monotonic() - began < 0.2


# --- a descriptor tells the truth ----------------------------------------------------------------


def test_threads_that_ask_for_the_descriptor_at_once_get_the_same() -> None:
    with joined() as (client, _):
        another = Another(client.fileno)
        with within(handle, "Readiness", another):
            descriptor = client.fileno()
        assert another.result() == descriptor
        os.fstat(descriptor)


@pytest.mark.parametrize("step", [(ends.StreamEnd, "__init__"), (sockets, "open_pump")])
def test_descriptor_asked_for_while_another_thread_connects_follows_the_connection(
    step: tuple[Any, str],
) -> None:
    with listening() as listener, rawproto.socket() as sock:
        another = Another(sock.fileno)
        with within(*step, another, behind=True):
            sock.connect(listener.getsockname())
        assert another.result() == sock.fileno()
        assert ready(sock) == (False, True)
        with listener.accept()[0] as accepted:
            accepted.send(b"x")
            assert ready(sock, 5)[1]
            assert select.select([sock], [], [], 5)[0]


def test_descriptor_asked_for_while_another_thread_listens_follows_the_listener() -> None:
    with rawproto.socket() as sock:
        sock.bind(LOOPBACK)
        with within(handle, "Readiness", Another(sock.listen)):
            sock.fileno()
        until(lambda: sock.getsockopt(SOL, socket.SO_ACCEPTCONN))
        assert ready(sock) == (False, False)


def test_descriptor_asked_for_of_a_socket_that_another_thread_closes_is_none() -> None:
    with joined() as (client, _), within(handle.Readiness, "tell", Another(client.close)):
        assert client.fileno() == -1


def test_descriptor_of_who_was_told_what_is_wrong_is_not_readable_any_more() -> None:
    with rawproto.socket(type=DGRAM) as sock:
        for call in (lambda: sock.recv(1), lambda: sock.send(b"x")):
            sock.connect(NOBODY)
            sock.send(b"x")
            assert select.select([sock], [], [], 5)[0]
            raises(errno.ECONNREFUSED, call)
            assert ready(sock) == (False, True)


def test_descriptor_of_a_detached_socket_takes_no_port_along() -> None:
    with joined() as (client, server):
        server.fileno()
        with socket.socket(fileno=server.detach()) as theirs:
            client.send(b"question")
            assert theirs.recv(100) == b"question"
            theirs.send(b"answer")
            assert client.recv(100) == b"answer"


def test_forgotten_socket_with_a_descriptor_takes_no_port_along() -> None:
    with two_pairs() as ((_, server), (other, left)):
        lost = [server._moved()]
        lost[0].fileno()
        end = lost[0]._end
        with end.pump.lock:
            with pytest.warns(ResourceWarning, match="unclosed"):
                lost.clear()  # in the middle of a turn, which then tells the end what has come
            assert not end.closed
            end.read_shut = True
            end.changed()
        until(lambda: end.closed)
        assert end.readiness.fileno() == -1
        other.send(b"still there")
        assert left.recv(100) == b"still there"


# --- becoming something --------------------------------------------------------------------------


def test_threads_that_use_a_socket_of_datagrams_first_share_its_port() -> None:
    with (
        rawproto.create_server(LOOPBACK, type=DGRAM) as server,
        rawproto.socket(type=DGRAM) as sock,
    ):
        another = Another(lambda: sock.sendto(b"a", server.getsockname()))
        with within(sockets, "open_pump", another):
            sock.sendto(b"b", server.getsockname())
        assert another.result() == 1
        server.settimeout(5)
        peers = {server.recvfrom(9) for _ in range(2)}
        assert peers == {(word, ("127.0.0.1", sock.getsockname()[1])) for word in (b"a", b"b")}
    await_ports()


def test_threads_that_bind_at_once_take_one_port() -> None:
    with rawproto.socket() as sock:
        another = Another(lambda: number_of(lambda: sock.bind(LOOPBACK)))
        with within(sockets, "open_pump", another):
            numbers = {number_of(lambda: sock.bind(LOOPBACK)), another.result()}
        assert numbers == {0, errno.EINVAL}
    await_ports()


def test_threads_that_listen_at_once_make_one_listener() -> None:
    with rawproto.socket() as sock:
        sock.bind(LOOPBACK)
        another = Another(sock.listen)
        with within(ends.ListeningEnd, "__init__", another):
            sock.listen()
        another.result()
        with rawproto.create_connection(sock.getsockname(), 10), sock.accept()[0]:
            assert len(sock._end.pump.ends) == 2
    await_ports()


def test_threads_that_connect_at_once_make_one_connection() -> None:
    with listening() as listener, rawproto.socket() as sock:
        connect = lambda: number_of(lambda: sock.connect(listener.getsockname()))  # noqa: E731
        another = Another(connect)
        with within(sockets, "open_pump", another):
            assert {connect(), another.result()} <= {0, errno.EISCONN}
        listener.settimeout(5)
        listener.accept()[0].close()
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_threads_that_connect_at_once_to_nobody_hear_that_and_may_try_again() -> None:
    with listening() as listener, rawproto.socket() as sock:
        connect = lambda: number_of(lambda: sock.connect(NOBODY))  # noqa: E731
        another = Another(connect)
        with within(sockets, "open_pump", another):
            numbers = {connect(), another.result()}
        assert errno.ECONNREFUSED in numbers <= {errno.ECONNREFUSED, errno.ECONNABORTED}
        sock.connect(listener.getsockname())
        listener.accept()[0].close()


@pytest.mark.parametrize("what", ["connect", "bind", "listen", "sendto"])
def test_socket_closed_while_it_takes_a_port_has_none(what: str) -> None:
    with listening() as listener:
        sock = rawproto.socket(type=DGRAM if what == "sendto" else STREAM)
        calls: dict[str, Callable[[], object]] = {
            "connect": lambda: sock.connect(listener.getsockname()),
            "bind": lambda: sock.bind(LOOPBACK),
            "listen": sock.listen,
            "sendto": lambda: sock.sendto(b"x", listener.getsockname()),
        }
        with within(sockets, "open_pump", Another(sock.close), behind=True):
            raises(errno.EBADF, calls[what])
        assert (sock.fileno(), sock._end) == (-1, None)
    await_ports()


def test_port_that_another_thread_just_takes_is_in_use() -> None:
    with rawproto.socket() as one, rawproto.socket() as two:
        with listening() as listener:
            address = listener.getsockname()
        await_ports()
        for sock in (one, two):
            sock.setsockopt(SOL, socket.SO_REUSEADDR, 1)
        another = Another(lambda: number_of(lambda: two.bind(address)))
        with within(sockets, "open_pump", another, behind=True):
            one.bind(address)
        assert another.result() == errno.EADDRINUSE


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["close", "shutdown", "send"])
def test_connection_that_is_over_before_anybody_tells_can_be_used_up(what: str) -> None:
    """As where the end came with data: the reader was given that, and spared the rest for now."""
    with joined() as (client, _):
        with client._end.pump.lock:
            client._end.connection.abort(0, "", time.monotonic_ns())
        if what == "close":
            client.close()
        elif what == "shutdown":
            assert number_of(lambda: client.shutdown(socket.SHUT_WR)) in (0, errno.ENOTCONN)
        else:
            number = number_of(lambda: client.send(bytes(3000)))
            assert number in (0, errno.EPIPE, errno.ECONNRESET)


def test_peer_that_stopped_a_stream_before_anybody_tells_is_a_broken_pipe() -> None:
    with joined() as (client, server):
        client.fileno()
        with in_thread(lambda: client.recv(5)) as got:
            until(lambda: leads(client))
            with client._end.pump.lock:
                client._end.pump.port.sparse = False
                peer = server._end
                with peer.pump.lock:
                    peer.connection.incoming.stop(0, 7)
                    peer.write(b"x")
                    peer.pump.touch(peer.connection)
        assert got() == b"x"
        assert ready(client) == (False, True)
        raises(errno.EPIPE, client.send, bytes(3000))


@pytest.mark.parametrize("kind", [STREAM, DGRAM])
def test_port_that_is_gone_stays_an_error_and_is_no_time_out(kind: int) -> None:
    with rawproto.create_server(LOOPBACK, type=kind) as sock:
        sock.fileno()
        with sock._end.pump.lock:
            sock._end.pump.fail()
        for _ in range(2):
            raises(errno.ECONNABORTED, sock.accept if kind == STREAM else lambda: sock.recv(9))
            assert ready(sock)[0]


class Interrupted(Exception):
    pass


def interrupt() -> None:
    raise Interrupted


@pytest.mark.parametrize("what", ["connect", "bind"])
def test_port_of_a_call_that_is_interrupted_before_it_has_it_is_given_back(what: str) -> None:
    with listening() as listener, rawproto.socket() as sock:
        call = sock.bind if what == "bind" else sock.connect
        with pytest.raises(Interrupted), within(ends.End, "__init__", interrupt, behind=True):
            call(LOOPBACK if what == "bind" else listener.getsockname())
        assert CARETAKER.pumps() == [listener._end.pump]
        call(LOOPBACK if what == "bind" else listener.getsockname())
    await_ports()


def test_message_that_is_interrupted_half_written_is_the_last() -> None:
    with joined(type=SEQ) as (client, server):
        with pytest.raises(Interrupted), within(Outgoing, "write", interrupt, behind=True):
            client.send(b"half")
        raises(errno.ECONNABORTED, client.send, b"whole")
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.recv(100)


def test_message_that_is_interrupted_half_read_is_the_last() -> None:
    with joined(type=SEQ) as (client, server):
        server.send(b"half")
        with pytest.raises(Interrupted), within(ends.StreamEnd, "read", interrupt, behind=True):
            client.recv(100)
        raises(errno.ECONNABORTED, client.recv, 100)


def test_handler_may_use_other_ports_while_the_thread_that_tends_them_begins() -> None:
    await_ports()

    def use_another() -> None:
        with rawproto.socket() as other:
            other.bind(LOOPBACK)

    def bind() -> None:
        with rawproto.socket() as sock, within(CARETAKER, "_begin", use_another):
            sock.bind(LOOPBACK)
            names = [thread.name for thread in threading.enumerate()]
            assert names.count("rawproto ports") == 1

    with in_thread(bind) as done:
        pass
    done()
    await_ports()
