"""The input of `listen --keep`, and clients who read it each at a pace of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from rawproto.cli.audience import Audience
from rawproto.errors import LocalProtocolError
from rawproto.transport.constants import Kind

LINE = bytes(1 << 20)
MOST_LINES = 31  # that wait for a client: 32 of them are more than 32 MiB, with what each costs


class Client:
    """A connection whose peer takes a line whenever it is let."""

    def __init__(self, kind: Kind = Kind.STREAM) -> None:
        self.kind = kind
        self.stream = self
        self.got: list[bytes] = []
        self.aborted: list[tuple[int, str]] = []
        self.may_take = asyncio.Semaphore(0)

    async def send(self, data: bytes) -> None:
        await self.may_take.acquire()
        self.got.append(data)

    send_message = send

    def send_datagram(self, data: bytes) -> None:
        if len(data) > 1000:
            raise LocalProtocolError(0, "too long")
        self.got.append(data)

    def abort(self, code: int, reason: str) -> None:
        self.aborted.append((code, reason))

    def let(self, lines: int) -> None:
        for _ in range(lines):
            self.may_take.release()


async def settle() -> None:
    """Lets everything run that can."""
    for _ in range(200):
        await asyncio.sleep(0)


def hearing(audience: Audience, client: Client) -> Any:
    connection: Any = client
    return audience.join(connection)


def test_slow_client_keeps_nobody_waiting_and_is_let_go_far_behind() -> None:
    async def run() -> None:
        audience, fast, slow = Audience(), Client(), Client()
        fast.let(100)
        quick, late = hearing(audience, fast), hearing(audience, slow)
        for number in range(MOST_LINES):
            await asyncio.wait_for(audience.hear(LINE), 10)
            await settle()
            assert len(fast.got) == number + 1
        assert (slow.got, slow.aborted) == ([], [])
        await audience.hear(LINE)
        assert (late.too_slow, slow.aborted) == (True, [(257, "too far behind")])
        assert not quick.too_slow
        late.leave()
        await settle()
        await audience.hear(b"last")
        await quick.finish()
        assert fast.got[-1] == b"last\n"

    asyncio.run(run())


def test_input_waits_for_the_fastest_and_drops_nobody_for_being_as_slow_as_all() -> None:
    async def run() -> None:
        audience, clients = Audience(), [Client(), Client()]
        hearers = [hearing(audience, client) for client in clients]
        await audience.hear(LINE[:-200])
        waiting = asyncio.create_task(audience.hear(LINE))
        await settle()
        assert not waiting.done()
        clients[1].let(2)
        await waiting
        for client in clients:
            client.let(10)
        for hearer in hearers:
            await hearer.finish()
        assert [len(client.got) for client in clients] == [2, 2]
        assert not any(hearer.too_slow for hearer in hearers)

    asyncio.run(run())


def test_who_leaves_is_waited_for_no_longer() -> None:
    async def run() -> None:
        audience, client = Audience(), Client()
        hearer = hearing(audience, client)
        await audience.hear(LINE[:-200])
        waiting = asyncio.create_task(audience.hear(LINE))
        await settle()
        hearer.leave()
        await asyncio.wait_for(waiting, 10)
        await audience.hear(LINE * 3)

    asyncio.run(run())


def test_datagram_that_is_too_long_is_lost_and_no_other() -> None:
    async def run() -> None:
        audience, client = Audience(), Client(Kind.DGRAM)
        hearer = hearing(audience, client)
        for line in (b"one", LINE, b"two"):
            await audience.hear(line)
        await hearer.finish()
        assert client.got == [b"one", b"two"]

    asyncio.run(run())
