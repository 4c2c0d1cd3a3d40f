"""Question and answer cost a packet each: an acknowledgement goes along with what follows it."""

from __future__ import annotations

import asyncio

import pytest

import rawproto
from tests.live.rpt_sockets import impatient, in_thread, joined

pytestmark = pytest.mark.live
__all__ = ["impatient"]

QUESTIONS = 100
AT_MOST = QUESTIONS * 5 // 4
"""A busy machine delays some answers until their acknowledgement had to leave alone."""
TRIES = 20
"""A very busy one delays many: what none of so many rounds keeps to, is not kept to."""


def is_kept(spent: list[tuple[int, int]]) -> bool:
    """Whether a round cost no more than it may; told by what each sent and received."""
    return max(spent[-1]) <= AT_MOST


def test_blocking_sockets_answer_with_one_packet() -> None:
    with joined() as (client, server):

        def echo() -> None:
            while data := server.recv(1000):
                server.send(data)

        with in_thread(echo):
            machine = client._end.connection
            spent: list[tuple[int, int]] = []
            while len(spent) < TRIES and not (spent and is_kept(spent)):
                before = machine.sender.packets, machine.packets_received
                for _ in range(QUESTIONS):
                    client.send(bytes(64))
                    assert client.recv(1000) == bytes(64)
                sent = machine.sender.packets - before[0]
                spent.append((sent, machine.packets_received - before[1]))
            client.close()
        assert is_kept(spent), spent


def test_coroutines_answer_with_one_packet() -> None:
    async def echo(connection: rawproto.RPTConnection) -> None:
        async for data in connection.stream:
            await connection.stream.send(data)
        await connection.stream.send_eof()

    async def ask() -> None:
        async with (
            rawproto.serve("rpt://127.0.0.1:0", echo) as server,
            rawproto.connect(str(server.address)) as connection,
        ):
            machine = connection.machine
            spent: list[tuple[int, int]] = []
            while len(spent) < TRIES and not (spent and is_kept(spent)):
                before = machine.sender.packets, machine.packets_received
                for _ in range(QUESTIONS):
                    await connection.stream.send(bytes(64))
                    assert await connection.stream.receive() == bytes(64)
                sent = machine.sender.packets - before[0]
                spent.append((sent, machine.packets_received - before[1]))
            await connection.stream.send_eof()
            assert is_kept(spent), spent

    asyncio.run(ask())
