"""Traceroute as a function: `traceroute` blocks, `traceroute_async` is awaited."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rawproto.drivers.blocking import BlockingDriver
from rawproto.drivers.trace_session import TraceOptions, TraceSession
from rawproto.machine import Machine
from rawproto.probe.trace_events import TraceEvent, TraceHop, TraceMTU, TraceSummary

__all__ = ["TraceResult", "traceroute", "traceroute_async"]

OnEvent = Callable[[TraceEvent], None]


@dataclass(slots=True, kw_only=True)
class TraceResult:
    """A path.

    Attributes:
        name: the target as it was given.
        dst_addr: its address.
        hops: in order.
        narrowings: where the MTU shrank, with `find_mtu`.
        summary: whether it was reached, how long it took.
    """

    name: str
    dst_addr: str
    hops: list[TraceHop]
    narrowings: list[TraceMTU]
    summary: TraceSummary


def traceroute(
    host: str, *, on_event: OnEvent | None = None, pcap: str | None = None, **options: Any
) -> TraceResult:
    """Traces the path to a host and waits for the end.

    Args:
        host: name or address.
        on_event: called with each hop as it is known, in order.
        pcap: a capture file to write all packets to, `.pcapng` or `.pcap`.
        options: the attributes of `TraceOptions`, e.g. `method="tcp", port=443`.

    Raises:
        UsageError: an unknown host, a value out of range.
        LinkError: no route, no such interface, a port in use; this host refuses to send.
        PrivilegeError: the method needs raw sockets, which may not be opened; its text says
            what would help.
    """
    events: list[TraceEvent] = []
    with TraceSession(host, TraceOptions(**options), pcap=pcap) as session:
        machine: Machine[TraceEvent] = session.machine
        with BlockingDriver(machine, session.link, _collector(events, on_event)) as driver:
            driver.run()
        return _result(session, events)


async def traceroute_async(
    host: str, *, on_event: OnEvent | None = None, pcap: str | None = None, **options: Any
) -> TraceResult:
    """As `traceroute`, awaited; the loop runs on while the name is looked up."""
    from rawproto.drivers.aio import open_async, run_async

    events: list[TraceEvent] = []
    chosen = TraceOptions(**options)
    with await open_async(lambda: TraceSession(host, chosen, pcap=pcap)) as session:
        machine: Machine[TraceEvent] = session.machine
        await run_async(machine, session.link, _collector(events, on_event))
        return _result(session, events)


def _collector(events: list[TraceEvent], on_event: OnEvent | None) -> OnEvent:
    def collect(event: TraceEvent) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    return collect


def _result(session: TraceSession, events: list[TraceEvent]) -> TraceResult:
    if session.machine.failure is not None:
        raise session.machine.failure
    (summary,) = [event for event in events if isinstance(event, TraceSummary)]
    return TraceResult(
        name=session.destination.name,
        dst_addr=session.destination.dst_addr,
        hops=[event for event in events if isinstance(event, TraceHop)],
        narrowings=[event for event in events if isinstance(event, TraceMTU)],
        summary=summary,
    )
