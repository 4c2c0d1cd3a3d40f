"""Sends questions and waits for what is answered: `ask` blocks, `ask_async` is awaited.

    for request, answers in rawproto.ask(IPv4Header(dst_addr="10.0.0.2") / ICMPEcho()):
        print(request, answers[0].rtt_ns if answers else "no answer")

Many questions are under way at once, at most `most_in_flight`; their packets are iterated
lazily. The round-trip time is the kernel's receive stamp minus its transmit stamp.

One thing to know: this host's kernel hears the answers too. To a SYN-ACK for a connection
that it knows nothing of it sends a RST, which ends a handshake made by hand; a firewall
rule that drops RSTs to that port keeps it quiet. UDP ports that were left out are bound
while the questions run, so that it does not call them unreachable.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

from rawproto.drivers.asking import Asking
from rawproto.drivers.blocking import wait_readable
from rawproto.drivers.send import Sendable
from rawproto.packets.answers import Answer, Question
from rawproto.wire.dissect import dissect
from rawproto.wire.layer import Packet

__all__ = ["ask", "ask_async"]

Asked = tuple[Packet, list[Answer]]


def ask(packets: Sendable | Iterable[Sendable], **options: Any) -> Iterator[Asked]:
    """Sends questions and yields each with its answers, as soon as nobody waits for more.

    Args:
        packets: one, or as many as you like, iterated lazily. Source ports, identifiers and
            sequence numbers of 0 are filled in, so that answers can be told apart.
        options: those of `send`, and `timeout_ns`: how long to wait for an answer (1 s);
            `wait_for`: "first" answer (of a group's: all until the time-out) or "all" that
            come until the time-out; `in_order`: yield in the order of `packets`;
            `most_in_flight`: questions that wait at the same time (1024).

    Yields:
        (the packet as it was sent, its answers: none, one or several). None too where nobody
        is at the next hop to take it.

    Raises:
        UsageError, EmitError, LinkError, PrivilegeError: as `send`; what was sent before is
            waited for and yielded first.
    """
    with Asking(packets, **options) as asking:
        while not asking.finished:
            due_ns = asking.turn()
            while asking.settled:
                yield _asked(asking.settled.popleft())
            if due_ns is not None:
                wait_readable(max(due_ns - time.monotonic_ns(), 0), asking.fileno())
        if asking.failure is not None:
            raise asking.failure


async def ask_async(packets: Sendable | Iterable[Sendable], **options: Any) -> AsyncIterator[Asked]:
    """As `ask`, to be iterated by `async for`; other tasks run while it waits."""
    import asyncio

    from rawproto.drivers.timer import Timer

    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    with Asking(packets, **options) as asking, contextlib.closing(Timer()) as timer:
        descriptors = asking.fileno(), timer.fileno()
        for descriptor in descriptors:
            loop.add_reader(descriptor, woken.set)
        try:
            while not asking.finished:
                woken.clear()
                timer.clear()
                due_ns = asking.turn()
                while asking.settled:
                    yield _asked(asking.settled.popleft())
                if due_ns is not None:
                    timer.arm(due_ns)
                    await woken.wait()
        finally:
            for descriptor in descriptors:
                loop.remove_reader(descriptor)
        if asking.failure is not None:
            raise asking.failure


def _asked(question: Question) -> Asked:
    packet = question.packet
    if packet is None:
        packet = dissect(question.data, question.link_type).packet
    return packet, question.answers
