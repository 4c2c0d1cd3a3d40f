"""How fast a connection is: bulk data either way, or how long an answer takes.

Over stream 0 the two sides talk in messages (u32 length, then JSON, 4 KiB at most); data
goes over one-way streams of its own, opened by whoever sends::

    client                                            server
      |-- plan: bytes or seconds, streams, ... ------->|
      |<------------------------------ {"ready": 1} ---|
      |== N streams of zeros ====== or, reverse, ======|
      |                                                |
      |<------------- report: what it cost this side --|

With `reverse` the client ends stream 0 once it has everything, and the report follows
that. With `latency` nothing goes over other streams: the server sends back each message
of stream 0 until the client ends it. Time and bytes are those of whoever receives, so
that what still lies in a buffer counts for nothing.

A connection is of kind STREAM here, and anything may come from the other side of it. What
carries the streams, this module does not know.
"""

from __future__ import annotations

import asyncio
import json
import time
from array import array
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.stream import RPTStream
from rawproto.errors import RemoteProtocolError

__all__ = ["MOST_MESSAGE_BYTES", "MOST_REQUESTS", "MOST_STREAMS", "Interval", "Plan"]
__all__ += ["run_perf", "serve_perf"]

MOST_STREAMS = 100
MOST_MESSAGE_BYTES = 1 << 20
MOST_REQUESTS = 1_000_000
_MOST_SECONDS = 86_400.0
_MOST_BYTES = 1 << 50
_MOST_TALK_BYTES = 4096
_PIECE_BYTES = 1 << 16
_READ_BYTES = 1 << 20
_READY_SECONDS = 5
_REFUSED = 257  # an application's code for CLOSE
_REQUEST_BYTES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be measured.

    Attributes:
        total_bytes: so many, over all streams; 0 for as many as the time allows.
        seconds: so long, 0 for as long as the bytes take.
        reverse: the server sends.
        streams: how many at once.
        message_bytes: data goes in messages of this size; 0 for bytes.
        latency: one message at a time goes there and back.
    """

    total_bytes: int = 0
    seconds: float = 0.0
    reverse: bool = False
    streams: int = 1
    message_bytes: int = 0
    latency: bool = False

    def check(self) -> str | None:
        """Why this cannot be measured, None if it can."""
        if self.latency and (self.reverse or self.streams != 1):
            return "latency is measured over one stream, and from the client"
        for words, value, least, most in (
            ("bytes", self.total_bytes, 0, _MOST_BYTES),
            ("seconds", self.seconds, 0, _MOST_SECONDS),
            ("streams", self.streams, 1, MOST_STREAMS),
            ("a message's bytes", self.message_bytes, 0, MOST_MESSAGE_BYTES),
        ):
            if not least <= value <= most:
                return f"{words}: {value} is not between {least} and {most:g}"
        if not self.total_bytes and not self.seconds:
            return "neither bytes nor seconds"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """What a second brought.

    Attributes:
        start_s, end_s: since the beginning.
        size: bytes that left, or came.
        lost: packets that this side lost meanwhile.
        rtt_ms: smoothed.
    """

    start_s: float
    end_s: float
    size: int
    lost: int
    rtt_ms: float


class _Meter:
    """What a connection and this process do from now on."""

    def __init__(self, connection: RPTConnection) -> None:
        self._connection = connection
        self._machine = connection.machine
        self.start = time.monotonic()
        self._first = self._now()

    def _now(self) -> tuple[int, ...]:
        machine = self._machine
        recovery, outgoing = machine.sender.recovery, machine.outgoing
        return (
            time.process_time_ns(),
            machine.sender.packets,
            machine.packets_received,
            recovery.lost_packets - recovery.spurious_packets,
            outgoing.resent,
            outgoing.sent,
        )

    def _since(self) -> list[int]:
        return [now - first for now, first in zip(self._now(), self._first, strict=True)]

    @property
    def sent_bytes(self) -> int:
        return self._since()[5]

    @property
    def lost(self) -> int:
        return self._since()[3]

    @property
    def rtt_ms(self) -> float:
        return round(self._machine.sender.recovery.rtt.smoothed_rtt / 1e6, 6)

    def _mtu(self) -> int:
        """The IP packets, of which RPT knows its own bytes."""
        address, port = self._machine.address
        return self._machine.sender.mtu.size + (40 if ":" in address else 20) + (8 if port else 0)

    def sending(self) -> dict[str, object]:
        """The summary's part of whoever sends data."""
        cpu_ns, sent, _, lost, resent, _ = self._since()
        return {
            "packets_sent": sent,
            "packets_lost": lost,
            "retransmitted": resent,
            "rtt_ms": self.rtt_ms,
            "min_rtt_ms": round((self._machine.sender.recovery.rtt.min_rtt or 0) / 1e6, 6),
            "cpu_us_per_packet": round(cpu_ns / max(sent, 1) / 1e3, 3),
            "mtu": self._mtu(),
        }

    def receiving(self, size: int) -> dict[str, object]:
        """The summary's part of whoever receives it."""
        seconds = time.monotonic() - self.start
        cpu_ns, _, received, *_ = self._since()
        return {
            "goodput_bps": round(size * 8 / seconds) if seconds else 0,
            "duration_s": round(seconds, 6),
            "bytes": size,
            "packets_received": received,
            "receiver_cpu_us_per_packet": round(cpu_ns / max(received, 1) / 1e3, 3),
        }


# --- both sides ----------------------------------------------------------------------------------


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Does all at once. Raises what the first to fail raises, when the others have ended."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None


async def _send(connection: RPTConnection, plan: Plan) -> None:
    """Sends what the plan wants on streams of its own, and ends them."""
    end = time.monotonic() + (plan.seconds or _MOST_SECONDS)
    shares = [
        (plan.total_bytes + number) // plan.streams if plan.total_bytes else _MOST_BYTES
        for number in range(plan.streams)
    ]
    streams = [await connection.open_stream(one_way=True) for _ in shares]
    await _together(
        _send_one(stream, share, end, plan.message_bytes)
        for stream, share in zip(streams, shares, strict=True)
    )


async def _send_one(stream: RPTStream, size: int, end: float, message_bytes: int) -> None:
    piece = memoryview(bytes(message_bytes or _PIECE_BYTES))
    while size > 0 and time.monotonic() < end:
        part = piece[:size]
        if message_bytes:
            await stream.send_message(bytes(part))
        else:
            await stream.send(part)
        size -= len(part)
    await stream.send_eof()


async def _receive(connection: RPTConnection, plan: Plan, count: Callable[[int], None]) -> None:
    """Receives all streams of the plan to their ends, and counts their bytes."""

    async def receive_next() -> None:
        await _receive_one(await connection.accept_stream(), plan, count)

    await _together(receive_next() for _ in range(plan.streams))


async def _receive_one(stream: RPTStream, plan: Plan, count: Callable[[int], None]) -> None:
    if plan.message_bytes:
        while (message := await stream.receive_message()) is not None:
            count(len(message))
    else:
        while data := await stream.receive(_READ_BYTES):
            count(len(data))


class _Count:
    """Bytes that came."""

    def __init__(self) -> None:
        self.size = 0

    def __call__(self, size: int) -> None:
        self.size += size


async def _tell(connection: RPTConnection, fields: dict[str, Any]) -> None:
    await connection.send_message(json.dumps(fields).encode())


async def _hear(connection: RPTConnection) -> dict[str, Any]:
    """What the other side says. Raises RemoteProtocolError if it is nothing of ours."""
    text = await connection.receive_message()
    try:
        if text is not None and len(text) <= _MOST_TALK_BYTES:
            fields = json.loads(text)
            if isinstance(fields, dict):
                return fields
    except (ValueError, RecursionError):
        pass
    raise RemoteProtocolError(_REFUSED, "the peer does not speak perf")


# --- the server ----------------------------------------------------------------------------------


async def serve_perf(connection: RPTConnection) -> dict[str, Any]:
    """Does as a client asks, once: a handler for `serve`.

    Returns:
        The summary's part of this side.

    Raises:
        RemoteProtocolError: what it asks for is no plan; it was told so.
        ConnectionLostError, ProtocolError: the connection ended.
    """
    try:
        plan = _plan_of(await _hear(connection))
    except RemoteProtocolError as error:
        connection.abort(error.code, error.reason)
        raise
    meter = _Meter(connection)
    await _tell(connection, {"ready": 1})
    if plan.latency:
        report = await _echo(connection, meter)
    elif plan.reverse:
        await _send(connection, plan)
        await connection.stream.receive()  # its end: the client has everything
        report = meter.sending()
    else:
        count = _Count()
        await _receive(connection, plan, count)
        report = meter.receiving(count.size)
    await _tell(connection, report)
    await connection.stream.send_eof()
    return report


def _plan_of(fields: dict[str, Any]) -> Plan:
    """The plan in a message. Raises RemoteProtocolError."""
    known = asdict(Plan())
    for name, value in fields.items():
        wanted = (int, float) if isinstance(known.get(name), float) else type(known.get(name))
        # bool is an int to Python, and nan is between nothing.
        if (
            name not in known
            or not isinstance(value, wanted)
            or isinstance(value, bool) != (wanted is bool)
        ):
            raise RemoteProtocolError(_REFUSED, f"not a plan: {name[:40]}")
    plan = Plan(**fields)
    if (wrong := plan.check()) is not None:
        raise RemoteProtocolError(_REFUSED, wrong)
    return plan


async def _echo(connection: RPTConnection, meter: _Meter) -> dict[str, object]:
    size = 0
    while (message := await connection.receive_message()) is not None:
        if len(message) > MOST_MESSAGE_BYTES:
            raise RemoteProtocolError(_REFUSED, "a message longer than agreed")
        size += len(message)
        await connection.send_message(message)
    return meter.receiving(size)


# --- the client ----------------------------------------------------------------------------------


async def run_perf(
    connection: RPTConnection,
    plan: Plan,
    on_interval: Callable[[Interval], None] = lambda interval: None,
) -> dict[str, Any]:
    """Measures over a connection to a server of ours.

    Args:
        connection: of kind STREAM, fresh.
        plan: what to measure; `check` found nothing wrong with it.
        on_interval: called every second, but not in `latency`.

    Returns:
        The summary: `goodput_bps`, `duration_s`, `bytes` and `packets_received` as the
        receiver saw it; `packets_sent`, `packets_lost`, `retransmitted` (parts of streams
        sent again), `rtt_ms`, `cpu_us_per_packet` and `mtu` (of IP packets) as the sender
        did; with `latency` also `requests` and `latency_ms`.

    Raises:
        RemoteProtocolError: the peer does not speak perf, or refused the plan.
        ConnectionLostError, ProtocolError: the connection ended.
    """
    meter = _Meter(connection)  # with `reverse`, data may come along with the server's word
    await _tell(connection, asdict(plan))
    try:
        async with asyncio.timeout(_READY_SECONDS):
            await _hear(connection)
    except TimeoutError:
        raise RemoteProtocolError(_REFUSED, "the peer does not speak perf") from None
    if plan.latency:
        return await _ask(connection, plan, meter)
    count = _Count()
    ticker = asyncio.create_task(_tick(meter, plan, count, on_interval))
    try:
        if plan.reverse:
            await _receive(connection, plan, count)
            ours = meter.receiving(count.size)
            await connection.stream.send_eof()
            return {**await _hear_figures(connection, meter.sending()), **ours}
        await _send(connection, plan)
        return {**await _hear_figures(connection, meter.receiving(0)), **meter.sending()}
    finally:
        ticker.cancel()


async def _hear_figures(connection: RPTConnection, names: Iterable[str]) -> dict[str, Any]:
    """The peer's part of the summary: numbers, whatever else may stand there."""
    fields = await _hear(connection)
    figures = {name: fields.get(name) for name in names}
    if not all(isinstance(figure, int | float) for figure in figures.values()):
        raise RemoteProtocolError(_REFUSED, "the peer reports no figures")
    return figures


async def _tick(
    meter: _Meter, plan: Plan, count: _Count, on_interval: Callable[[Interval], None]
) -> None:
    """Tells every second what it brought."""
    start_s, size, lost = 0.0, 0, 0
    while True:
        await asyncio.sleep(1)
        end_s = time.monotonic() - meter.start
        size_now = count.size if plan.reverse else meter.sent_bytes
        lost_now = meter.lost
        on_interval(
            Interval(
                start_s=start_s,
                end_s=end_s,
                size=size_now - size,
                lost=lost_now - lost,
                rtt_ms=meter.rtt_ms,
            )
        )
        start_s, size, lost = end_s, size_now, lost_now


async def _ask(connection: RPTConnection, plan: Plan, meter: _Meter) -> dict[str, Any]:
    """One message at a time, there and back."""
    message = bytes(plan.message_bytes or _REQUEST_BYTES)
    most = -(-plan.total_bytes // len(message)) if plan.total_bytes else MOST_REQUESTS
    end = time.monotonic() + (plan.seconds or _MOST_SECONDS)
    times = array("q")
    while len(times) < min(most, MOST_REQUESTS) and time.monotonic() < end:
        sent_ns = time.monotonic_ns()
        await connection.send_message(message)
        if await connection.receive_message() != message:
            raise RemoteProtocolError(_REFUSED, "the peer sent back something else")
        times.append(time.monotonic_ns() - sent_ns)
    ours = meter.receiving(len(times) * len(message)) | meter.sending()
    await connection.stream.send_eof()
    theirs = await _hear_figures(connection, meter.receiving(0))
    ours["receiver_cpu_us_per_packet"] = theirs["receiver_cpu_us_per_packet"]
    ordered = sorted(times) or [0]
    shares = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    latency = {
        name: round(ordered[int(share * (len(ordered) - 1))] / 1e6, 6)
        for name, share in shares.items()
    }
    return {**ours, "requests": len(times), "latency_ms": latency}
