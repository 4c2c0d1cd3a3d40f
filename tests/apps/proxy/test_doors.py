"""An entry's doors against what programs, and those that mean harm, send to them."""

from __future__ import annotations

import asyncio
import base64
from contextlib import suppress
from http import HTTPStatus
from typing import cast

import h11
import pytest

from rawproto.apps.proxy import door as door_module
from rawproto.apps.proxy import dynamic, http
from rawproto.apps.proxy.places import Place
from rawproto.apps.relay.channels import Channel, SocketChannel
from rawproto.errors import ProtocolError
from tests.apps.proxy.doors import LOGIN, proxy, run, said_to, target


async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers with the request that it got, as it came."""
    request = await reader.readuntil(b"\r\n\r\n")
    for line in request.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            request += await reader.readexactly(int(line.partition(b":")[2]))
        elif line == b"transfer-encoding: chunked":
            request += await reader.readuntil(b"0\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(request) + request)


async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


# --- HTTP ----------------------------------------------------------------------------------------


def test_headers_of_one_hop_stay_and_the_target_is_rewritten() -> None:
    async def scene() -> bytes:
        async with target(page) as port, proxy() as made:
            request = (
                b"GET http://127.0.0.1:%d?q=1 HTTP/1.1\r\nHost: elsewhere\r\nX-Mine: 1\r\n"
                b"Connection: keep-alive, X-Hop, Host\r\nX-Hop: 2\r\nKeep-Alive: 5\r\n"
                b"TE: trailers\r\n"
                b"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\n"
                b"Upgrade: h2c\r\n\r\n" % port
            )
            answer = await said_to(made.http, request)
            assert status(answer) == 200
            return answer.replace(b":%d\r" % port, b":PORT\r")

    _, _, body = run(scene).partition(b"\r\n\r\n")
    assert body.split(b"\r\n") == [
        b"GET /?q=1 HTTP/1.1",
        b"Host: 127.0.0.1:PORT",
        b"X-Mine: 1",
        b"Via: 1.1 rawproto",
        b"",
        b"",
    ]


def test_body_has_one_framing_whatever_it_had() -> None:
    async def scene() -> tuple[bytes, ...]:
        async with target(page) as port, proxy() as made:
            head = b"POST http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n" % port
            chunked = head + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: 1\r\n\r\n"
            counted = head + b"Content-Length: 3\r\n\r\nabc"
            # Who calls what frames a body a matter of one hop, has it taken out nowhere.
            named = head + b"Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc"
            return tuple([await said_to(made.http, each) for each in (chunked, counted, named)])

    chunked, counted, named = run(scene)
    assert b"\r\nContent-Length: 3\r\n" in named
    assert named.endswith(b"\r\n\r\nabc")
    assert chunked.endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    assert chunked.lower().count(b"transfer-encoding") == 1
    assert counted.endswith(b"\r\n\r\nabc")


GET, POST = [
    name + b" http://127.0.0.1:PORT/ HTTP/1.1\r\nHost: a\r\n" for name in (b"GET", b"POST")
]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET https://127.0.0.1:PORT/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://u:p@127.0.0.1:PORT/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://127.0.0.1:PORT\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://127.0.0.1:99999/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://127.0.0.1:PORT/ HTTP/1.1\r\n\r\n", 400),
        (GET + b"Host: b\r\n\r\n", 400),
        (b"GET http://127.0.0.1:PORT/ HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (GET + b"X: a\r\n b\0\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (POST + b"Content-Length: +1\r\n\r\na", 400),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        (POST + b"Content-Length: 2\r\n\r\na", 400),
        (b"CONNECT 127.0.0.1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT http://127.0.0.1:PORT/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"CONNECT 10.9.9.9:1 HTTP/1.1\r\nHost: a\r\n\r\n", 403),
        (b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: a\r\n\r\n", 502),
        (GET + b"X: " + b"x" * 100_000, 431),
        (b"\5\1\0", 400),
        (b"\x16\3\1\2\0\1\0\1", 400),
        (GET + b"\r\n", 200),
    ],
)  # fmt: skip
def test_request_that_could_be_read_in_two_ways_is_refused(request_: bytes, expected: int) -> None:
    async def scene() -> None:
        async with target(page) as port, proxy() as made:
            answer = await said_to(made.http, request_.replace(b"PORT", b"%d" % port))
            assert status(answer) == expected, answer
            words = HTTPStatus(expected).phrase.encode()
            assert answer.startswith(b"HTTP/1.1 %d %s\r\n" % (expected, words))

    run(scene)


def test_requests_follow_each_other_on_one_connection_and_connect_carries_what_follows_it() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)

    async def scene() -> None:
        async with target(page) as port, target(echo) as echoes, proxy() as made:
            one = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            tunnel = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nHost: a\r\n\r\nbehind it" % echoes
            answer = await said_to(made.http, one + one + tunnel)
            assert answer.count(b"HTTP/1.1 200") == 3
            assert answer.count(b"GET / HTTP/1.1") == 2
            assert answer.endswith(b"\r\n\r\nbehind it")

    run(scene)


class Counted:
    """Answers each connection's first requests, so many, and then closes it without a word."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.heard: list[tuple[int, bytes]] = []
        self.connections = 0
        self.ended = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        for _ in range(self.most):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                self.ended += 1
                return
            self.heard.append((number, head.partition(b" ")[0]))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if rest := await reader.read(4):
            self.heard.append((number, rest.partition(b" ")[0]))


def test_connection_to_a_server_is_kept_and_ended_well_when_its_client_leaves() -> None:
    async def scene() -> None:
        server = Counted(9)
        async with target(server) as port, target(page) as other, proxy() as made:
            head = b" http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n"
            get, elsewhere = b"GET" + head % port + b"\r\n", b"GET" + head % other + b"\r\n"
            post = b"POST" + head % port + b"Content-Length: 0\r\n\r\n"
            answer = await said_to(made.http, get * 3 + post + get + elsewhere + get)
            assert answer.count(b"200 OK") == 7
            # What cannot be made twice has a new one; its own is kept in turn.
            numbers = [number for number, _ in server.heard]
            assert numbers == [1, 1, 1, 2, 2, 3]
            while server.ended < 1:
                await asyncio.sleep(0.01)

    run(scene)


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 200 OK\r\n\r\nok", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
     b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"],
)  # fmt: skip
def test_connection_whose_answer_is_whole_is_ended_well(answer: bytes) -> None:
    """Whether its server ends it, a request that cannot be made twice, or one to another."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if b"Connection" not in answer and b"1.1" in answer:
            assert await reader.read() == b"", "it is kept until there is another to take its place"

    async def scene() -> None:
        async with target(once) as port, target(once) as other, proxy() as made:
            head = b" http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n"
            get, elsewhere = b"GET" + head % port + b"\r\n", b"GET" + head % other + b"\r\n"
            post = b"POST" + head % port + b"Content-Length: 0\r\n\r\n"
            answered = await said_to(made.http, get + post + elsewhere)
            assert answered.count(b"200 OK") == 3
            while len(made.exit_told) < 3:
                await asyncio.sleep(0.01)
            assert [session.error for session in made.exit_told] == [None] * 3

    run(scene)


def test_server_that_does_not_end_holds_up_no_request_and_is_not_waited_for_long() -> None:
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"

    async def scene() -> None:
        over = asyncio.Event()

        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await over.wait()

        async with target(deaf) as port, proxy() as made:
            get = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            reader, writer = await asyncio.open_connection("127.0.0.1", made.http)
            async with asyncio.timeout(http._LEAVE_S / 2):
                for _ in range(8):
                    writer.write(get)
                    await reader.readuntil(b"\r\n\r\nok")
                while len(made.exit_told) < 8 - http._MOST_LEAVING:
                    await asyncio.sleep(0.01)
            while len(made.exit_told) < 8:
                await asyncio.sleep(0.01)
            over.set()
            writer.close()

    run(scene)


def test_request_that_a_kept_connection_does_not_answer_is_made_again_if_it_can_be() -> None:
    async def scene() -> None:
        server = Counted(1)
        async with target(server) as port, proxy() as made:
            head = b" http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n" % port
            get = b"GET" + head + b"\r\n"
            post = b"POST" + head + b"Content-Length: 0\r\n\r\n"
            answer = await said_to(made.http, get + get + post)
            assert answer.count(b"200 OK") == 3
            # The second was heard, and not answered, by the first's connection.
            assert server.heard == [(1, b"GET"), (1, b"GET"), (2, b"GET"), (3, b"POST")]

    run(scene)


def test_connection_is_not_kept_behind_a_request_that_was_cut_short() -> None:
    class Stuck:
        async def send(self, data: bytes) -> None:
            if data == b"0\r\n\r\n":
                await asyncio.Event().wait()

        async def receive(self) -> bytes:
            await asyncio.Event().wait()
            return b""

    async def scene() -> None:
        server = http._Peer(cast(Channel, Stuck()), h11.CLIENT)
        headers = [("Host", "a"), ("Transfer-Encoding", "chunked")]
        await server.send(h11.Request(method="POST", target="/", headers=headers))
        await server.send(h11.Data(data=b"half of it"))
        ending = asyncio.create_task(server.send(h11.EndOfMessage()))
        await asyncio.sleep(0)
        server.machine.receive_data(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        while not isinstance(await server.next(), h11.EndOfMessage):
            pass
        ending.cancel()  # there is no need for it any more: the server has answered
        with suppress(asyncio.CancelledError):
            await ending
        server.listen()
        assert not server.is_ready()
        await server.stop()

    run(scene)


def test_client_that_has_ended_does_not_wait_for_a_silent_server_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http, "_IDLE_S", 0.1)

    async def scene() -> None:
        async with target(nothing) as port, proxy() as made:
            request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            assert status(await said_to(made.http, request)) == 504
            for rest in (b"", b"\n" * (1 << 18)):  # all that it says ahead is not read
                _, writer = await asyncio.open_connection("127.0.0.1", made.http)
                for words in (request, request, rest):
                    writer.write(words)
                    await asyncio.sleep(0.05)
                writer.close()
            while any(each._sessions for each in made.doors):
                await asyncio.sleep(0.01)

    run(scene)


def test_request_is_not_made_again_for_a_client_that_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            heard.append("GET")
            if len(heard) == 1:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async def scene(leave: str) -> None:
        heard.clear()
        async with target(once) as port, proxy() as made:
            get = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            reader, writer = await asyncio.open_connection("127.0.0.1", made.http)
            writer.write(get)
            await reader.readuntil(b"ok")
            writer.write(get)
            while len(heard) < 2:
                await asyncio.sleep(0.01)
            if leave == "reset":
                SocketChannel(writer.get_extra_info("socket").dup(), "").abort()
                writer.transport.abort()
            else:
                writer.write_eof()
                assert status(await reader.read()) == 504
                writer.close()
            while any(each._sessions for each in made.doors):
                await asyncio.sleep(0.01)
        assert heard == ["GET", "GET"]

    run(lambda: scene("reset"))
    monkeypatch.setattr(http, "_IDLE_S", 0.3)
    run(lambda: scene("silence"))


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
     b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000],
)  # fmt: skip
def test_server_that_speaks_no_http_is_a_bad_gateway(answer: bytes) -> None:
    async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)

    async def scene() -> None:
        async with target(bad) as port, proxy() as made:
            request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            assert status(await said_to(made.http, request)) == 502
            while not made.told:
                await asyncio.sleep(0)
            assert isinstance(made.told[0].error, ProtocolError)

    run(scene)


def test_answer_that_is_cut_is_no_good_end() -> None:
    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nonly")

    async def scene() -> None:
        async with target(cut) as port, proxy() as made:
            request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            with pytest.raises(ConnectionResetError):
                await said_to(made.http, request)

    run(scene)


def test_login_is_asked_for_at_both_doors() -> None:
    async def scene() -> None:
        async with target(page) as port, proxy(login=LOGIN) as made:
            head = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n" % port
            answer = await said_to(made.http, head + b"\r\n")
            assert status(answer) == 407
            assert b"Proxy-Authenticate: Basic" in answer
            for word, expected in ((b"ada:wrong", 407), (b"ada:secret", 200)):
                proof = b"Proxy-Authorization: Basic " + base64.b64encode(word) + b"\r\n\r\n"
                assert status(await said_to(made.http, head + proof)) == expected
            assert await said_to(made.socks, b"\5\1\0") == b"\5\xff"
            assert await said_to(made.socks, b"\5\1\2\1\3ada\5wrong") == b"\5\2\1\1"

    run(scene)


# --- SOCKS ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "reply"),
    [(b"\1\x7f\0\0\1\0\1", 5), (b"\1\x0a\x09\x09\x09\0\1", 2), (b"\3\x0fnowhere.invalid\0\1", 4),
     (b"\4" + bytes(16) + b"\0\1", 2)],
)  # fmt: skip
def test_each_failure_has_its_reply(place: bytes, reply: int) -> None:
    async def scene() -> None:
        async with proxy() as made:
            answer = await said_to(made.socks, b"\5\1\0\5\1\0" + place)
            assert answer == b"\5\0\5" + bytes([reply]) + b"\0\1" + bytes(6)

    run(scene)


def test_client_by_ipv4_at_a_door_of_both_families_is_told_a_port_of_ipv4() -> None:
    async def scene() -> None:
        async with proxy() as made:
            door = dynamic.DynamicForward(Place("*", 0), made.way, made.told.append).door
            reader, writer = await asyncio.open_connection("127.0.0.1", door.bound.port)
            writer.write(b"\5\1\0\5\3\0\1" + bytes(6))
            assert await reader.readexactly(10) == b"\5\0\5\0\0\1\x7f\0\0\1"
            writer.close()
            await door.close()

    run(scene)


# --- who means harm ------------------------------------------------------------------------------


GARBAGE = [b"", b"\0" * 1000, b"\x04\1\0\x50\0\0\0\1a\0", b"\5", b"\5\1", b"\5\xff" + bytes(255),
           b"\5\1\0\5\1\0\3\xff", b"GET ", b"\r\n" * 5000, b"A" * 200_000]  # fmt: skip


def test_garbage_at_either_door_ends_its_connection_and_nobody_elses() -> None:
    async def scene() -> None:
        async with target(page) as port, proxy() as made:
            request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            for garbage in GARBAGE:
                for door in (made.socks, made.http):
                    try:
                        answer = await said_to(door, garbage)
                    except ConnectionError:
                        continue
                    assert len(answer) < 1000
                assert status(await said_to(made.http, request)) == 200

    run(scene)


def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(http, "_PATIENCE_S", 0.1)

    async def scene() -> None:
        async with proxy() as made:
            begun = {made.socks: b"\5", made.http: b"GET http://a/ HTTP/1.1\r\nX:"}
            for door, words in begun.items():
                for said in (b"", words):
                    with pytest.raises(ConnectionResetError):
                        await said_to(door, said, ends=False)

    run(scene)


def test_silent_crowd_gives_way_to_who_knows_what_it_wants() -> None:
    """Slowloris: more than there is room for, that never finish a request."""

    async def scene() -> None:
        async with target(page) as port, proxy(most=10) as made:
            request = b"GET http://127.0.0.1:%d/ HTTP/1.1\r\nHost: a\r\n\r\n" % port
            address, number = b"\1\x7f\0\0\1", port.to_bytes(2, "big")
            socks = b"\5\1\0\5\1\0" + address + number + b"GET / HTTP/1.1\r\n\r\n"
            for door, words, begun in (
                (made.http, request, b"GET http:"),
                (made.socks, socks, b"\5"),
            ):
                crowd = [await asyncio.open_connection("127.0.0.1", door) for _ in range(40)]
                for _, writer in crowd:
                    writer.write(begun)
                assert b"200 OK" in await said_to(door, words)
                for _, writer in crowd:
                    writer.close()

    run(scene)


def test_leaving_a_door_in_the_middle_leaves_nothing_behind() -> None:
    async def scene() -> None:
        async with target(nothing) as port, proxy(most=30) as made:
            place = b"\1\x7f\0\0\1" + port.to_bytes(2, "big")
            for _ in range(40):
                _, writer = await asyncio.open_connection("127.0.0.1", made.socks)
                writer.write(b"\5\1\0\5\1\0" + place + b"data")
                await asyncio.sleep(0)
                writer.transport.abort()
            while any(each._sessions for each in made.doors):
                await asyncio.sleep(0.01)

    run(scene)


def test_port_that_is_taken_is_told() -> None:
    async def scene() -> None:
        async with proxy() as made:
            with pytest.raises(OSError, match="already in use"):
                door_module.Door(made.doors[0].bound, lambda visit: asyncio.sleep(0))

    run(scene)
