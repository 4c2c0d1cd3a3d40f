"""Blocking stream sockets over RPT behave as TCP's do: data, ends, time-outs, errors."""

from __future__ import annotations

import errno
import io
import os
import select
import socket
import threading
from pathlib import Path

import pytest

import rawproto
from rawproto.transport.config import Config
from tests.live.rpt_sockets import (
    UDP,
    WAYS,
    await_ports,
    impatient,
    in_thread,
    joined,
    listening,
    port_is_free,
    raises,
)

pytestmark = pytest.mark.live
__all__ = ["impatient"]

SMALL = Config(window_bytes=1 << 16, max_window_bytes=1 << 16, send_buffer_bytes=1 << 16)


def read_all(sock: rawproto.RPTSocket, size: int = 1 << 16) -> bytes:
    return b"".join(iter(lambda: sock.recv(size), b""))


def send_often(sock: rawproto.RPTSocket) -> None:
    """Who sends to a peer that is gone hears of it sooner or later, as of TCP."""
    for _ in range(1000):
        sock.send(b"x")


# --- data ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "proto"), WAYS)
def test_bytes_pass_both_ways_at_once(family: int, proto: int) -> None:
    there, back = os.urandom(1_500_000), os.urandom(1_500_000)
    with joined(family, proto) as (client, server):

        def talk(sock: rawproto.RPTSocket, data: bytes) -> bytes:
            with in_thread(lambda: (sock.sendall(data), sock.shutdown(socket.SHUT_WR))):
                return read_all(sock)

        with in_thread(lambda: talk(server, back)) as answered:
            assert talk(client, there) == back
        assert answered() == there


@pytest.mark.parametrize(("family", "proto"), WAYS)
def test_names_of_both_ends_agree(family: int, proto: int) -> None:
    with joined(family, proto) as (client, server):
        assert client.getpeername() == server.getsockname()
        assert client.getsockname() == server.getpeername()
        assert len(client.getsockname()) == (4 if family == socket.AF_INET6 else 2)


def test_small_reads_give_what_is_there_piece_by_piece() -> None:
    with joined() as (client, server):
        client.sendall(b"abcdef")
        assert server.recv(6, socket.MSG_WAITALL | socket.MSG_PEEK)[:1] == b"a"
        assert [server.recv(2), server.recv(2), server.recv(2)] == [b"ab", b"cd", b"ef"]
        assert server.recv(0) == b""


def test_peeking_leaves_the_data_and_waiting_for_all_gathers_it() -> None:
    with joined() as (client, server):
        client.send(b"hello")
        assert server.recv(3, socket.MSG_PEEK) == b"hel"
        with in_thread(lambda: server.recv(10, socket.MSG_WAITALL)) as gathered:
            client.send(b"wo")
            client.send(b"rld")
        assert gathered() == b"helloworld"
        client.send(b"rest")
        client.shutdown(socket.SHUT_WR)
        assert server.recv(100, socket.MSG_WAITALL) == b"rest"


def test_buffers_are_filled_and_never_beyond_what_was_asked() -> None:
    with joined() as (client, server):
        buffer = bytearray(b"........")
        client.sendall(b"abc")
        assert server.recv_into(buffer) == 3
        assert buffer == b"abc....."
        client.sendall(b"defgh")
        assert server.recv_into(memoryview(buffer)[1:], 2) == 2
        assert buffer == b"ade....."
        assert server.recvfrom_into(buffer, 3) == (3, None)
        assert buffer == b"fgh....."
        with pytest.raises(ValueError, match="greater"):
            server.recv_into(buffer, 9)
        with pytest.raises(ValueError, match="negative"):
            server.recv(-1)


def test_several_buffers_are_sent_and_received_as_one() -> None:
    with joined() as (client, server):
        assert client.sendmsg([b"ab", memoryview(b"cd"), bytearray(b"e")]) == 5
        first, second = bytearray(2), bytearray(10)
        assert server.recvmsg_into([first, second]) == (5, [], 0, None)
        assert (bytes(first), bytes(second[:3])) == (b"ab", b"cde")
        client.send(b"x")
        assert server.recvmsg(10) == (b"x", [], 0, None)
        raises(errno.EOPNOTSUPP, client.sendmsg, [b"x"], [(1, 1, b"")])


def test_out_of_band_data_there_is_none() -> None:
    with joined() as (client, _):
        raises(errno.EOPNOTSUPP, client.send, b"!", socket.MSG_OOB)
        raises(errno.EOPNOTSUPP, client.recv, 1, socket.MSG_OOB)


def test_blocking_send_takes_all_however_much_it_is() -> None:
    with joined(config=SMALL) as (client, server):
        client.settimeout(None)
        with in_thread(lambda: read_all(server)) as got:
            assert client.send(bytes(1_000_000)) == 1_000_000
            client.shutdown(socket.SHUT_WR)
        assert len(got()) == 1_000_000


def test_file_is_sent_from_where_and_as_far_as_asked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(200_000))
    with joined() as (client, server), path.open("rb") as file:
        assert client.sendfile(file, 1000, 150_000) == 150_000
        assert file.tell() == 151_000
        assert client.sendfile(io.BytesIO(b"tail")) == 4
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == path.read_bytes()[1000:151_000] + b"tail"
        with pytest.raises(ValueError, match="positive"):
            client.sendfile(file, 0, 0)


# --- files ---------------------------------------------------------------------------------------


def test_files_read_lines_and_keep_the_socket_open_until_they_are_closed() -> None:
    with joined() as (client, server):
        reader = server.makefile("r", encoding="utf-8", newline="\n")
        writer = client.makefile("w", encoding="utf-8")
        writer.write("eins\nzwei\ndrei")
        writer.flush()
        writer.close()
        client.close()
        server.close()
        assert list(reader) == ["eins\n", "zwei\n", "drei"]
        reader.close()
        assert server.fileno() == -1


def test_unbuffered_and_two_way_files() -> None:
    with joined() as (client, server):
        with client.makefile("rwb", buffering=0) as raw, server.makefile("rwb") as both:
            assert raw.write(b"ping\n") == 5
            assert both.readline() == b"ping\n"
            both.write(b"pong\n")
            both.flush()
            assert raw.readline() == b"pong\n"
        server.settimeout(0)
        with server.makefile("rb", buffering=0) as raw:
            assert raw.read(1) is None
        server.settimeout(0.01)
        with server.makefile("rb") as buffered:
            with pytest.raises(TimeoutError):
                buffered.read(1)
            with pytest.raises(OSError, match="timed out object"):
                buffered.read(1)


# --- ends ----------------------------------------------------------------------------------------


def test_half_closed_connection_goes_on_the_other_way() -> None:
    with joined() as (client, server):
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == b"question"
        assert server.recv(1) == b""
        raises(errno.EPIPE, client.send, b"more")
        for word in (b"an", b"swer"):
            server.sendall(word)
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"answer"


def test_reading_that_was_shut_down_gives_what_came_and_then_the_end() -> None:
    with joined() as (client, server):
        client.sendall(b"late")
        assert server.recv(1, socket.MSG_PEEK) == b"l"
        server.shutdown(socket.SHUT_RD)
        assert server.recv(10) == b"late"
        assert server.recv(10) == b""
        server.sendall(b"still")
        assert client.recv(10) == b"still"
        raises(errno.EINVAL, server.shutdown, 7)


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_shutdown_by_another_thread_wakes_who_receives(how: int) -> None:
    with joined() as (client, _):
        client.settimeout(None)
        with in_thread(lambda: client.recv(1)) as received:
            client.shutdown(how)
        assert received() == b""


@pytest.mark.parametrize("number", [0, 1])
def test_close_by_another_thread_wakes_who_receives(number: int) -> None:
    with joined() as pair:
        sock = pair[number]
        sock.settimeout(None)
        with in_thread(lambda: sock.recv(1)) as received:
            sock.close()
        raises(errno.EBADF, received)


def test_close_by_another_thread_wakes_who_accepts() -> None:
    with listening() as listener:
        with in_thread(listener.accept) as accepted:
            listener.close()
        with pytest.raises(OSError, match=r"descriptor|argument"):
            accepted()


def test_what_was_sent_before_close_arrives_and_then_the_end() -> None:
    with joined() as (client, server):
        client.sendall(bytes(500_000))
        client.close()
        assert len(read_all(server)) == 500_000
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_often(server)


def test_reset_by_lingering_for_no_time_is_told_once_and_ends_both_ways() -> None:
    with joined() as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        error = raises(errno.ECONNRESET, server.recv, 1)
        assert isinstance(error, ConnectionResetError)
        assert server.recv(1) == b""
        raises(errno.EPIPE, server.send, b"x")


def test_lingering_close_returns_when_all_has_arrived_or_time_is_up() -> None:
    with joined(config=SMALL) as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\x14\0\0\0")
        client.sendall(bytes(1 << 16))
        client.sendall(bytes(1 << 15))  # the peer's window is full: somebody has to read
        with in_thread(client.close), in_thread(lambda: read_all(server)) as got:
            pass
        assert len(got()) == 3 << 15
    with joined(config=SMALL) as (client, server):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\1\0\0\0")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(1 << 20))
        client.close()
        assert read_all(server)


def test_closed_socket_refuses_everything() -> None:
    with joined() as (client, _):
        client.close()
        client.close()
        assert client.fileno() == -1
        for call in (client.recv, client.accept, client.getsockname, client.getpeername):
            arguments = (1,) if call == client.recv else ()
            raises(errno.EBADF, call, *arguments)
        raises(errno.EBADF, client.send, b"x")
        raises(errno.EBADF, client.connect, ("127.0.0.1", 1))
        assert "closed" in repr(client)


def test_socket_that_is_forgotten_is_closed_with_a_warning() -> None:
    with joined() as (client, server):
        moved = [client._moved()]
        with pytest.warns(ResourceWarning, match="unclosed"):
            moved.clear()
        assert server.recv(1) == b""


# --- time ----------------------------------------------------------------------------------------


def test_timeouts_are_kept_by_every_call_that_waits() -> None:
    with joined(config=SMALL) as (client, server), listening() as listener:
        for sock in (client, listener):
            sock.settimeout(0.02)
            assert (sock.gettimeout(), sock.timeout, sock.getblocking()) == (0.02, 0.02, True)
        for call in (
            lambda: client.recv(1),
            listener.accept,
            lambda: client.sendall(bytes(1 << 20)),
        ):
            with pytest.raises(TimeoutError, match="timed out"):
                call()
        assert server.recv(1) == b"\0"
        with pytest.raises(ValueError, match="out of range"):
            client.settimeout(-1)


def test_socket_that_does_not_block_says_so() -> None:
    with joined(config=SMALL) as (client, server), listening() as listener:
        listener.setblocking(False)
        raises(errno.EAGAIN, listener.accept)
        client.setblocking(False)
        assert not client.getblocking()
        raises(errno.EAGAIN, client.recv, 1)
        assert issubclass(BlockingIOError, type(raises(errno.EAGAIN, client.recv, 1)))
        sent, part = 0, 1
        while part:
            try:
                part = client.send(bytes(1 << 16))
            except BlockingIOError:
                part = 0
            assert part <= 1 << 16
            sent += part
        client.shutdown(socket.SHUT_WR)
        assert len(read_all(server)) == sent


def test_one_call_may_refuse_to_wait() -> None:
    with joined() as (client, _):
        raises(errno.EAGAIN, client.recv, 1, socket.MSG_DONTWAIT)


def test_default_timeout_is_that_of_the_standard_library() -> None:
    socket.setdefaulttimeout(0.25)
    try:
        with rawproto.socket() as sock:
            assert sock.gettimeout() == 0.25
    finally:
        socket.setdefaulttimeout(None)
    with rawproto.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        assert sock.gettimeout() == 0
        assert sock.type == socket.SOCK_STREAM


# --- connecting ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "proto"), WAYS)
def test_port_without_listener_refuses(family: int, proto: int) -> None:
    with rawproto.socket(family, proto=proto) as sock:
        sock.settimeout(10)
        host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        error = raises(errno.ECONNREFUSED, sock.connect, (host, 4999))
        assert isinstance(error, ConnectionRefusedError)
        assert sock.connect_ex((host, 4999)) == errno.ECONNREFUSED


def test_port_that_is_bound_and_does_not_listen_refuses() -> None:
    with rawproto.socket() as bound, rawproto.socket() as sock:
        bound.bind(("127.0.0.1", 0))
        sock.settimeout(10)
        assert sock.connect_ex(bound.getsockname()) == errno.ECONNREFUSED


def test_connecting_in_the_background_ends_in_so_error() -> None:
    with listening() as listener:
        sock = rawproto.socket()
        sock.setblocking(False)
        raises(errno.EINPROGRESS, sock.connect, listener.getsockname())
        raises(errno.EALREADY, sock.connect, listener.getsockname())
        raises(errno.ENOTCONN, sock.getpeername)
        raises(errno.ENOTCONN, sock.send, b"x")
        listener.settimeout(10)
        accepted, _ = listener.accept()
        accepted.sendall(b"welcome")
        sock.settimeout(10)
        assert sock.connect_ex(listener.getsockname()) in (0, errno.EISCONN)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        raises(errno.EISCONN, sock.connect, listener.getsockname())
        assert sock.recv(10) == b"welcome"
        accepted.close()
        sock.close()


def test_attempt_that_is_given_up_leaves_nothing() -> None:
    with rawproto.socket(proto=UDP) as silent, rawproto.socket(proto=UDP) as sock:
        silent.bind(("127.0.0.1", 0))
        plain = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with plain:
            plain.bind(("127.0.0.1", 0))
            sock.settimeout(0.02)
            with pytest.raises(TimeoutError):
                sock.connect(plain.getsockname())


def test_addresses_that_are_none_are_told() -> None:
    with rawproto.socket() as sock:
        for wrong in ("127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "80"), (1, 2), None):
            with pytest.raises(TypeError):
                sock.connect(wrong)
        with pytest.raises(OverflowError):
            sock.bind(("127.0.0.1", 65_536))
        with pytest.raises(socket.gaierror):
            sock.connect(("no such host", 1))
        raises(errno.EADDRNOTAVAIL, sock.bind, ("192.0.2.1", 0))


def test_calls_out_of_order_say_what_is_wrong() -> None:
    with rawproto.socket() as sock:
        raises(errno.ENOTCONN, sock.recv, 1)
        raises(errno.ENOTCONN, sock.send, b"x")
        raises(errno.ENOTCONN, sock.shutdown, socket.SHUT_WR)
        raises(errno.ENOTCONN, sock.getpeername)
        raises(errno.EINVAL, sock.accept)
        assert sock.getsockname() == ("0.0.0.0", 0)
        sock.bind(("", 0))
        raises(errno.EINVAL, sock.bind, ("", 0))
        sock.listen()
        sock.listen(5)
        raises(errno.EISCONN, sock.connect, ("127.0.0.1", 1))
        with rawproto.socket() as other:
            raises(errno.EADDRINUSE, other.bind, sock.getsockname())
    with joined() as (client, _):
        raises(errno.EINVAL, client.listen)
        raises(errno.EINVAL, client.bind, ("", 0))
        raises(errno.EISCONN, client.sendto, b"x", ("127.0.0.1", 1))
        raises(errno.EOPNOTSUPP, client.dup)
    with pytest.raises(OSError, match="family"):
        rawproto.socket(socket.AF_UNIX)
    with pytest.raises(OSError, match="type"):
        rawproto.socket(socket.AF_INET, socket.SOCK_RAW)
    with pytest.raises(OSError, match="rotocol"):
        rawproto.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)


def test_bound_socket_connects_from_its_port() -> None:
    with listening() as listener, rawproto.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        sock.settimeout(10)
        sock.connect(listener.getsockname())
        accepted, address = listener.accept()
        assert address == ("127.0.0.1", port)
        accepted.close()


# --- listening -----------------------------------------------------------------------------------


def test_many_clients_are_served_each_by_a_thread() -> None:
    with listening() as listener:
        address = listener.getsockname()

        def serve(sock: rawproto.RPTSocket) -> None:
            with sock:
                while data := sock.recv(1000):
                    sock.sendall(data[::-1])

        def ask(number: int) -> None:
            with rawproto.create_connection(address, 10) as client:
                for turn in range(20):
                    words = b"%d:%d" % (number, turn)
                    client.sendall(words)
                    assert client.recv(1000) == words[::-1]

        servers, clients = [], [threading.Thread(target=ask, args=(n,)) for n in range(8)]
        for client in clients:
            client.start()
        listener.settimeout(10)
        for _ in clients:
            accepted, _ = listener.accept()
            accepted.settimeout(10)
            servers.append(threading.Thread(target=serve, args=(accepted,)))
            servers[-1].start()
        for thread in (*clients, *servers):
            thread.join(20)
            assert not thread.is_alive()


def test_backlog_that_is_full_lets_nobody_in_until_somebody_is_accepted() -> None:
    with listening(backlog=1) as listener:
        address = listener.getsockname()
        with rawproto.create_connection(address, 10) as first:
            assert select.select([listener], [], [], 10)[0]
            second = rawproto.socket()
            second.settimeout(0.1)
            with pytest.raises(TimeoutError):
                second.connect(address)
            accepted, who = listener.accept()
            assert who == first.getsockname()
            accepted.close()
            second.settimeout(10)
            second.connect(address)
            second.close()


def test_accepted_connections_outlive_their_listener_and_others_are_refused() -> None:
    listener = listening()
    address = listener.getsockname()
    client = rawproto.create_connection(address, 10)
    server, _ = listener.accept()
    waiting = rawproto.create_connection(address, 10)
    listener.close()
    raises(errno.ECONNRESET, waiting.recv, 1)
    client.sendall(b"still here")
    assert server.recv(100) == b"still here"
    with pytest.raises(ConnectionRefusedError):
        rawproto.create_connection(address, 10)
    for sock in (client, server, waiting):
        sock.close()


def test_port_is_free_again_after_the_last_connection_on_it_is_forgotten() -> None:
    with joined() as (client, server):
        ports = client.getsockname()[1], server.getsockname()[1]
        client.sendall(b"x")
        assert server.recv(1) == b"x"
        assert not any(map(port_is_free, ports))
    await_ports()
    assert all(map(port_is_free, ports))
