"""Ping as a function: `ping` blocks, `ping_async` is awaited, both over the same machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rawproto.drivers.blocking import BlockingDriver
from rawproto.drivers.ping_session import PingOptions, PingSession
from rawproto.errors import UsageError
from rawproto.machine import Machine
from rawproto.probe.ping_events import PingError, PingEvent, PingLost, PingReply, PingTarget
from rawproto.probe.stats import PingStatistics

__all__ = ["PingResult", "ping", "ping_async"]

OnEvent = Callable[[PingEvent], None]


@dataclass(slots=True, kw_only=True)
class PingResult:
    """What became of one target.

    Attributes:
        target: its name and addresses.
        statistics: its counts and round-trip times.
        events: everything told of it, in order.
    """

    target: PingTarget
    statistics: PingStatistics
    events: list[PingEvent] = field(default_factory=list)

    @property
    def replies(self) -> list[PingReply]:
        """The replies, duplicates and late ones included."""
        return [event for event in self.events if isinstance(event, PingReply)]

    @property
    def lost(self) -> list[PingLost]:
        """The probes that were given up."""
        return [event for event in self.events if isinstance(event, PingLost)]

    @property
    def errors(self) -> list[PingError]:
        """ICMP errors about probes, and this host's refusals to send them."""
        return [event for event in self.events if isinstance(event, PingError)]


def ping(
    *hosts: str, on_event: OnEvent | None = None, pcap: str | None = None, **options: Any
) -> list[PingResult]:
    """Pings one or many hosts at once and waits for the end.

    Args:
        hosts: names or addresses; an address named twice is pinged once.
        on_event: called with each event as it happens.
        pcap: a capture file to write all packets to, `.pcapng` or `.pcap`.
        options: the attributes of `PingOptions`, e.g. `count=10, interval_ms=5`.

    Returns:
        One result per address, in order.

    Raises:
        UsageError: an unknown host, a value out of range, neither count nor deadline.
        LinkError: no route, no such interface, a packet that must be cut but may not.
        PrivilegeError: no socket may be opened; its text says what would help.
    """
    with _open(hosts, pcap, options) as session:
        results, collect = _collector(session, on_event)
        machine: Machine[PingEvent] = session.machine
        with BlockingDriver(machine, session.link, collect) as driver:
            driver.run()
        return _settle(session, results)


async def ping_async(
    *hosts: str, on_event: OnEvent | None = None, pcap: str | None = None, **options: Any
) -> list[PingResult]:
    """As `ping`, awaited; the loop runs on while names are looked up."""
    # Loaded here because asyncio takes longer to import than a ping takes to run.
    from rawproto.drivers.aio import open_async, run_async

    with await open_async(lambda: _open(hosts, pcap, options)) as session:
        results, collect = _collector(session, on_event)
        machine: Machine[PingEvent] = session.machine
        await run_async(machine, session.link, collect)
        return _settle(session, results)


def _open(hosts: tuple[str, ...], pcap: str | None, options: dict[str, Any]) -> PingSession:
    chosen = PingOptions(**options)
    if chosen.count is None and chosen.deadline_ms is None:
        raise UsageError("a ping that returns needs a count or a deadline_ms")
    return PingSession(hosts, chosen, pcap=pcap)


def _collector(
    session: PingSession, on_event: OnEvent | None
) -> tuple[dict[int, PingResult], OnEvent]:
    results = {
        id(target): PingResult(target=target, statistics=session.machine.statistics(target))
        for target in session.machine.targets
    }

    def collect(event: PingEvent) -> None:
        results[id(event.target)].events.append(event)
        if on_event is not None:
            on_event(event)

    return results, collect


def _settle(session: PingSession, results: dict[int, PingResult]) -> list[PingResult]:
    for result in results.values():
        result.statistics.dropped_by_host = session.link.dropped
    return list(results.values())
