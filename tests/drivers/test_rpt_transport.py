"""The contract of asyncio's transports, call by call, over RPT's."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import pytest

from rawproto.drivers.rpt.transport import RESET_CODE
from rawproto.errors import ConnectionLostError, RemoteProtocolError
from rawproto.transport.config import Config
from tests.drivers.rpt_protocols import BufferedRecorder, Joined, Recorder, joined, run

MS = 1_000_000
SIZE = 3_000_000
Keeper = partial(Recorder, keeps_open=True)
SMALL = Config(window_bytes=1 << 16, max_window_bytes=1 << 16, send_buffer_bytes=1 << 16)


@pytest.mark.parametrize("kind", [Recorder, BufferedRecorder])
def test_bytes_pass_both_ways_and_each_direction_ends_by_itself(kind: Callable[..., Any]) -> None:
    there, back = os.urandom(SIZE), os.urandom(SIZE)

    async def body() -> None:
        keeper = partial(kind, keeps_open=True)
        async with joined(keeper, keeper) as pair:
            assert pair.transport.can_write_eof()
            pair.transport.writelines([there[:10], bytearray(there[10:99]), memoryview(there)[99:]])
            pair.transport.write_eof()
            pair.transport.write_eof()
            await pair.peer.until(lambda: "eof" in pair.peer.calls)
            assert pair.peer.data == there
            pair.peer.transport.write(back)
            pair.peer.transport.write_eof()
            await pair.client.until(lambda: "eof" in pair.client.calls)
            assert pair.client.data == back
            assert not pair.transport.is_closing()
            pair.transport.close()
            pair.peer.transport.close()
            assert await pair.client.lost() is None
            assert await pair.peer.lost() is None

    run(body())


def test_end_that_the_protocol_does_not_care_for_closes_the_transport() -> None:
    async def body() -> None:
        async with joined() as pair:
            pair.transport.write(b"last words")
            pair.transport.write_eof()
            assert await pair.peer.lost() is None
            assert await pair.client.lost() is None
            assert pair.peer.calls == ["made", "data", "eof", "lost"]
            assert pair.client.calls == ["made", "eof", "lost"]

    run(body())


def test_what_was_asked_right_before_the_end_can_be_answered_as_over_tcp() -> None:
    class Answerer(Recorder):
        def data_received(self, data: bytes) -> None:
            self.answering = asyncio.ensure_future(self.answer())

        async def answer(self) -> None:
            self.transport.write(b"answer")

    async def body() -> None:
        async with joined(peer=Answerer) as pair:
            pair.transport.write(b"question")
            pair.transport.write_eof()
            assert await pair.client.lost() is None
            assert pair.client.data == b"answer"

    run(body())


def test_libraries_are_told_who_is_there() -> None:
    async def body() -> None:
        async with joined() as pair:
            here, there = pair.transport, pair.peer.transport
            assert here.get_extra_info("peername") == there.get_extra_info("sockname")
            assert here.get_extra_info("sockname") == there.get_extra_info("peername")
            assert here.get_extra_info("peername")[0] == "127.0.0.1"
            connection = here.get_extra_info("rpt_connection")
            assert len(here.get_extra_info("rpt_peer_key")) == 32
            assert here.get_extra_info("rpt_peer_key") == connection.peer_key
            assert here.get_extra_info("rpt_stream") is connection.stream
            for name in ("socket", "ssl_object", "sslcontext", "pipe"):
                assert here.get_extra_info(name) is None
                assert here.get_extra_info(name, 7) == 7
            port = connection.peer_address[1]
            assert repr(here) == f"<RPTTransport open stream 0 of 127.0.0.1 port {port}>"
            assert connection.machine.config.keep_alive_ns == 10_000 * MS

    run(body())


async def fill(pair: Joined) -> int:
    """Writes until the protocol is asked to pause: how many bytes."""
    written = 0
    while "pause" not in pair.client.calls:
        pair.transport.write(bytes(10_000))
        written += 10_000
        await asyncio.sleep(0)
    return written


def test_reader_that_pauses_holds_the_writer_up_and_little_is_kept() -> None:
    async def body() -> None:
        async with joined(config=SMALL) as pair:
            pair.peer.transport.pause_reading()
            pair.peer.transport.pause_reading()
            assert not pair.peer.transport.is_reading()
            written = await fill(pair)
            low, high = pair.transport.get_write_buffer_limits()
            assert (low, high) == (1 << 14, 1 << 16)
            assert high < pair.transport.get_write_buffer_size() <= high + 10_000
            assert written <= (1 << 16) * 2 + high + 10_000
            assert pair.peer.data == b""
            pair.peer.transport.resume_reading()
            pair.peer.transport.resume_reading()
            assert pair.peer.transport.is_reading()
            await pair.client.until(lambda: "resume" in pair.client.calls)
            assert pair.transport.get_write_buffer_size() <= low
            await pair.peer.until(lambda: len(pair.peer.data) == written)

    run(body())


def test_protocol_that_pauses_within_a_call_gets_no_more_until_it_resumes() -> None:
    class Careful(BufferedRecorder):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            self.transport.pause_reading()

    async def body() -> None:
        async with joined(peer=Careful) as pair:
            pair.transport.write(bytes(12_000))
            pair.transport.write_eof()
            seen = [0]
            while "eof" not in pair.peer.calls:
                pair.peer.transport.resume_reading()
                await pair.peer.until(lambda: not pair.peer.transport.is_reading())
                seen.append(len(pair.peer.data))
            assert await pair.peer.lost() is None
            assert seen[-1] == 12_000
            assert all(later - sooner <= 5000 for sooner, later in pairwise(seen))

    run(body())


def test_limits_of_the_write_buffer_can_be_set_and_count_at_once() -> None:
    async def body() -> None:
        async with joined(config=SMALL) as pair:
            with pytest.raises(ValueError, match="low"):
                pair.transport.set_write_buffer_limits(1, 2)
            pair.transport.set_write_buffer_limits(10_000_000)
            assert pair.transport.get_write_buffer_limits() == (2_500_000, 10_000_000)
            pair.peer.transport.pause_reading()
            pair.transport.write(bytes(1_000_000))
            assert "pause" not in pair.client.calls
            pair.transport.set_write_buffer_limits(0)
            assert pair.client.calls[-1] == "pause"
            pair.peer.transport.resume_reading()
            await pair.client.until(lambda: pair.client.calls[-1] == "resume")
            assert pair.transport.get_write_buffer_size() == 0

    run(body())


def test_close_sends_all_that_was_written() -> None:
    async def body() -> None:
        async with joined() as pair:
            pair.transport.write(bytes(SIZE))
            pair.transport.close()
            pair.transport.close()
            assert pair.transport.is_closing()
            assert not pair.transport.is_reading()
            assert pair.transport.get_write_buffer_size() > 0
            assert await pair.client.lost() is None
            assert len(pair.peer.data) == SIZE
            assert await pair.peer.lost() is None

    run(body())


def test_close_waits_for_a_reader_that_is_slow() -> None:
    async def body() -> None:
        async with joined(config=SMALL) as pair:
            pair.peer.transport.pause_reading()
            written = await fill(pair)
            pair.transport.close()
            while len(pair.peer.data) < written:
                assert "lost" not in pair.client.calls
                pair.peer.transport.resume_reading()
                await pair.peer.until(lambda: pair.peer.transport.is_reading())
                seen = len(pair.peer.data)
                await pair.peer.until(lambda seen=seen: len(pair.peer.data) > seen)
                pair.peer.transport.pause_reading()
            pair.peer.transport.resume_reading()
            assert await pair.client.lost() is None
            assert await pair.peer.lost() is None

    run(body())


@pytest.mark.parametrize("size", [200_000, 20_000_000])
def test_reader_who_never_reads_is_waited_for_no_longer_than_the_config_says(size: int) -> None:
    async def body() -> None:
        config = Config(window_bytes=1 << 16, linger_ns=50 * MS, linger_most_ns=50 * MS)
        async with joined(config=config) as pair:
            pair.peer.transport.pause_reading()
            pair.transport.write(bytes(size))
            assert bool(pair.transport.get_write_buffer_size()) == (size > 1 << 20)
            pair.transport.close()
            assert isinstance(await pair.client.lost(), ConnectionLostError)
            # What was cut short does not look whole.
            assert isinstance(await pair.peer.lost(), ConnectionResetError)
            assert "eof" not in pair.peer.calls

    run(body())


def test_both_may_close_at_once() -> None:
    async def body() -> None:
        async with joined() as pair:
            for each in (pair.transport, pair.peer.transport):
                each.write(bytes(1000))
                each.close()
            assert await pair.client.lost() is None
            assert await pair.peer.lost() is None

    run(body())


def test_what_is_written_after_the_end_is_dropped_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def body() -> None:
        async with joined() as pair:
            pair.transport.write(bytes(SIZE))
            pair.transport.close()
            for _ in range(20):
                pair.transport.write(b"too late")
            await pair.client.lost()
            for _ in range(20):
                pair.transport.write(b"far too late")
            pair.transport.write_eof()
            pair.transport.resume_reading()
            await pair.peer.lost()
            assert pair.peer.data == bytes(SIZE)

    with caplog.at_level(logging.WARNING, "rawproto"):
        run(body())
    assert len([each for each in caplog.messages if "written to" in each]) == 1


def test_misuse_is_told_in_asyncios_words() -> None:
    async def body() -> None:
        async with joined(Keeper, Keeper) as pair:
            with pytest.raises(TypeError, match="bytes-like"):
                pair.transport.write("text")  # type: ignore[arg-type]
            pair.transport.write(b"")
            pair.transport.write_eof()
            with pytest.raises(RuntimeError, match="after write_eof"):
                pair.transport.write(b"more")

    run(body())


def test_what_the_writer_changes_afterwards_is_sent_as_it_was() -> None:
    async def body() -> None:
        async with joined(config=SMALL) as pair:
            data = bytearray(b"x" * 500_000)
            pair.transport.write(data)
            data[:] = b"y" * len(data)
            pair.transport.close()
            await pair.client.lost()
            assert pair.peer.data == b"x" * 500_000

    run(body())


def test_abort_with_nothing_waiting_still_delivers_what_the_stream_took_in() -> None:
    async def body() -> None:
        async with joined() as pair:
            pair.transport.write(bytes(500_000))
            assert pair.transport.get_write_buffer_size() == 0
            pair.transport.abort()
            pair.transport.abort()
            assert await pair.client.lost() is None
            assert await pair.peer.lost() is None
            assert len(pair.peer.data) == 500_000

    run(body())


def test_abort_while_writing_is_paused_tells_the_peer_that_something_is_missing() -> None:
    async def body() -> None:
        async with joined(config=SMALL) as pair:
            pair.peer.transport.pause_reading()
            await fill(pair)
            pair.transport.abort()
            assert pair.transport.get_write_buffer_size() == 0
            assert await pair.client.lost() is None
            error = await pair.peer.lost()
            assert isinstance(error, ConnectionResetError)
            assert isinstance(error.__cause__, RemoteProtocolError)
            assert error.__cause__.code == RESET_CODE

    run(body())


def test_abort_after_close_ends_the_waiting() -> None:
    async def body() -> None:
        async with joined(config=SMALL) as pair:
            pair.peer.transport.pause_reading()
            await fill(pair)
            pair.transport.close()
            pair.transport.abort()
            assert await pair.client.lost() is None
            assert isinstance(await pair.peer.lost(), ConnectionResetError)

    run(body())


def test_peer_that_resets_the_stream_is_a_connection_reset() -> None:
    async def body() -> None:
        async with joined() as pair:
            pair.peer.transport.get_extra_info("rpt_stream").reset(77)
            error = await pair.client.lost()
            assert isinstance(error, ConnectionResetError)
            assert "code 77" in str(error)

    run(body())


def test_peer_that_wants_no_more_breaks_the_pipe_of_who_writes_on_and_can_still_be_heard() -> None:
    async def body() -> None:
        async with joined(Keeper, Keeper, SMALL) as pair:
            pair.peer.transport.pause_reading()
            await fill(pair)
            stream = pair.peer.transport.get_extra_info("rpt_stream")
            pair.peer.transport.write(b"enough")
            stream.stop(7)
            await pair.client.until(lambda: pair.client.calls.count("resume") == 1)
            assert pair.transport.get_write_buffer_size() == 0
            await pair.client.until(lambda: pair.client.data == b"enough")
            assert not pair.transport.is_closing()
            pair.transport.write(b"more")
            assert isinstance(await pair.client.lost(), BrokenPipeError)

    run(body())


def test_connection_that_is_closed_before_the_end_of_the_stream_is_a_reset() -> None:
    async def body() -> None:
        async with joined() as pair:
            connection = pair.peer.transport.get_extra_info("rpt_connection")
            pair.peer.transport.write(b"half a sen")
            await connection.close()
            error = await pair.client.lost()
            assert isinstance(error, ConnectionResetError)
            assert "before the end" in str(error)
            assert pair.client.calls == ["made", "data", "lost"]

    run(body())


def test_what_is_whole_is_read_to_its_end_after_the_peer_has_gone() -> None:
    async def body() -> None:
        async with joined() as pair:
            pair.transport.pause_reading()
            pair.peer.transport.write(bytes(300_000))
            pair.peer.transport.close()
            assert await pair.peer.lost() is None
            assert pair.transport.is_closing()
            assert pair.client.calls == ["made"]
            pair.transport.write(b"to nobody")
            pair.transport.resume_reading()
            assert await pair.client.lost() is None
            assert pair.client.calls == ["made", "data", "eof", "lost"]
            assert len(pair.client.data) == 300_000

    run(body())


def test_peer_that_was_killed_is_a_lost_connection() -> None:
    async def body() -> None:
        config = Config(dead_path_ns=100 * MS)
        async with joined(config=config) as pair:
            pair.server._server._node.close()  # not a word
            assert isinstance(await pair.peer.lost(), ConnectionLostError)
            pair.transport.write(b"hello?")
            error = await pair.client.lost()
            assert isinstance(error, ConnectionLostError)
            assert isinstance(error, OSError)

    run(body())


def test_protocol_can_be_exchanged() -> None:
    async def body() -> None:
        async with joined() as pair:
            assert pair.transport.get_protocol() is pair.client
            pair.peer.transport.write(b"to the first")
            await pair.client.until(lambda: pair.client.data == b"to the first")
            second = BufferedRecorder()
            pair.transport.set_protocol(second)
            assert pair.transport.get_protocol() is second
            pair.peer.transport.write(b"to the second")
            await second.until(lambda: second.data == b"to the second")
            pair.transport.set_protocol(pair.client)
            assert pair.client.data == b"to the first"

    run(body())


# --- protocols that fail -------------------------------------------------------------------------


class Oops(Exception):
    pass


def fails_in(name: str, base: type[Any]) -> type[Any]:
    """A protocol whose method of that name raises Oops."""

    def method(self: Any, *arguments: object) -> None:
        self.note(name)
        if name == "connection_made":
            (self.transport,) = arguments
            self.note("made")
        raise Oops(name)

    return type("Failing", (base,), {name: method})


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("connection_made", Recorder),
        ("data_received", Recorder),
        ("eof_received", Recorder),
        ("get_buffer", BufferedRecorder),
        ("buffer_updated", BufferedRecorder),
    ],
)
def test_protocol_that_fails_loses_its_connection_and_the_loop_is_told(
    name: str, base: type[Any]
) -> None:
    told: list[dict[str, Any]] = []

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
        async with joined(peer=fails_in(name, base)) as pair:
            pair.transport.write(b"x")
            pair.transport.write_eof()
            error = await pair.peer.lost()
            assert isinstance(error, Oops)
            assert isinstance(await pair.client.lost(), ConnectionResetError)
            assert pair.peer.calls.count(name) == 1

    run(body())
    assert len(told) == 1
    assert isinstance(told[0]["exception"], Oops)
    assert name in told[0]["message"]
    assert told[0]["transport"] is not None


def test_failing_end_of_a_protocol_is_told_and_harms_nothing() -> None:
    told: list[dict[str, Any]] = []

    class Failing(Recorder):
        def connection_lost(self, exc: BaseException | None) -> None:
            super().connection_lost(exc)
            raise Oops

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: told.append(what))
        async with joined(Failing) as pair:
            pair.transport.close()
            await pair.client.lost()
            assert await pair.peer.lost() is None

    run(body())
    assert [type(each["exception"]) for each in told] == [Oops]


def test_buffered_protocol_without_room_fails() -> None:
    class Full(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray()

    async def body() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: None)
        async with joined(peer=Full) as pair:
            pair.transport.write(b"x")
            assert isinstance(await pair.peer.lost(), RuntimeError)

    run(body())
