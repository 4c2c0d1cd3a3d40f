"""perf over loopback: the whole amount passes, and nonsense is refused on both sides."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rawproto.apps.perf import Plan, run_perf, serve_perf
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.errors import RemoteProtocolError

SUMMARY = {"goodput_bps", "duration_s", "packets_sent", "packets_lost", "retransmitted", "rtt_ms"}
SUMMARY |= {"cpu_us_per_packet", "receiver_cpu_us_per_packet", "mtu", "bytes", "packets_received"}
SIZE = 300_001

Handler = Callable[[RPTConnection], Awaitable[Any]]


def met(client: Handler, handler: Handler) -> Any:
    """What a client of a server with that handler returns."""

    async def main() -> Any:
        server = await serve("rpt+udp://127.0.0.1:0", handler)
        try:
            async with asyncio.timeout(20), connect(str(server.address)) as connection:
                return await client(connection)
        finally:
            await server.close()

    return asyncio.run(main())


@pytest.mark.parametrize(
    "plan",
    [
        Plan(total_bytes=SIZE),
        Plan(total_bytes=SIZE, streams=3),
        Plan(total_bytes=SIZE, reverse=True),
        Plan(total_bytes=SIZE, reverse=True, streams=2, message_bytes=700),
        Plan(total_bytes=SIZE, message_bytes=1000),
    ],
    ids=str,
)
def test_every_byte_of_the_plan_is_received_and_the_summary_is_whole(plan: Plan) -> None:
    summary = met(lambda connection: run_perf(connection, plan), serve_perf)
    assert summary["bytes"] == SIZE
    assert set(summary) >= SUMMARY
    assert summary["goodput_bps"] == pytest.approx(SIZE * 8 / summary["duration_s"], rel=0.01)
    assert SIZE / summary["mtu"] < summary["packets_sent"] < SIZE / 500
    assert summary["packets_received"] > SIZE / summary["mtu"]


def test_seconds_end_a_test_whose_bytes_have_no_end() -> None:
    summary = met(lambda each: run_perf(each, Plan(seconds=0.05)), serve_perf)
    assert summary["bytes"] > 0
    assert summary["duration_s"] >= 0.05


def test_latency_counts_requests_and_orders_its_shares() -> None:
    plan = Plan(total_bytes=640, latency=True)
    summary = met(lambda connection: run_perf(connection, plan), serve_perf)
    assert summary["requests"] == 10
    shares = [summary["latency_ms"][name] for name in ("min", "p50", "p90", "p99", "max")]
    assert shares[0] > 0
    assert shares == sorted(shares)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"no JSON", "does not speak perf"),
        (b"[" * 4000, "does not speak perf"),
        (b"{" + b" " * 5000 + b"}", "does not speak perf"),
        (b"{}", "neither bytes nor seconds"),
        (b'{"seconds": NaN}', "seconds"),
        (b'{"seconds": 1, "streams": 1000000}', "streams"),
        (b'{"seconds": 1, "streams": true}', "not a plan: streams"),
        (b'{"seconds": 1, "reverse": 1}', "not a plan: reverse"),
        (b'{"seconds": 1, "exec": "rm"}', "not a plan: exec"),
        (b'{"total_bytes": -1}', "bytes"),
    ],
)
def test_server_refuses_what_is_no_plan_and_says_why(text: bytes, words: str) -> None:
    async def client(connection: RPTConnection) -> None:
        await connection.send_message(text)
        await connection.receive_message()

    with pytest.raises(RemoteProtocolError, match=words):
        met(client, serve_perf)


@pytest.mark.parametrize("answer", [b"hello", b"[]", json.dumps({"bytes": "many"}).encode()])
def test_client_says_so_when_the_peer_is_no_perf_server(answer: bytes) -> None:
    async def handler(connection: RPTConnection) -> None:
        await connection.receive_message()
        for _ in range(2):
            await connection.send_message(answer)
        for _ in range(1000):  # until the client has ended its stream
            if not await (await connection.accept_stream()).receive():
                return

    with pytest.raises(RemoteProtocolError, match=r"does not speak perf|reports no figures"):
        met(lambda each: run_perf(each, Plan(total_bytes=10)), handler)
