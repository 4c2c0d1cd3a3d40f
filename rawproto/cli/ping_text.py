"""ping as text, in the lines that eyes and scripts know from iputils."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from rawproto.drivers.names import NameFinder
from rawproto.probe.ping import Ping
from rawproto.probe.ping_events import (
    PingError,
    PingEvent,
    PingOutstanding,
    PingReply,
    PingSent,
    PingTarget,
)
from rawproto.probe.stats import PingStatistics

if TYPE_CHECKING:
    from rawproto.wire.ipv4_options import IPv4Option, Timestamp

__all__ = ["TextReport"]

MAX_ROUTES = 1024
"""How many hosts' last routes are remembered: anybody can answer for many."""
NAME_WAIT_S = 0.2
"""How long lines may wait for the names of their addresses, all together."""


EARLY_NAME_WAIT_S = 0.02
"""How long the first probe waits for the targets' names where lines may not."""


def _ms(ns: float) -> str:
    return f"{ns / 1e6:.3f}"


class TextReport:
    """Writes what a ping tells."""

    def __init__(
        self,
        stream: TextIO,
        machine: Ping,
        *,
        numeric: bool = True,
        quiet: bool = False,
        verbose: bool = False,
        dates: bool = False,
        dots: bool = False,
        audible: bool = False,
        pattern: bytes = b"",
        via: str | None = None,
    ) -> None:
        """
        Args:
            stream: where to.
            machine: whose events these are.
            numeric: no names for addresses.
            quiet: nothing between first line and summary.
            verbose: also how long each probe waited in this host.
            dates: the time before each line.
            dots: a dot for a probe, taken back by its answer, instead of lines.
            audible: a bell with each line of a reply.
            pattern: what the payload repeats, if that was asked for.
            via: interface that was asked for, "" for a source alone, None for neither.
        """
        self._stream = stream
        self._machine = machine
        self._quiet = quiet
        self._verbose = verbose
        self._dates = dates
        self._dots = dots
        self._bell = "\a" if audible else ""
        self._pattern = pattern
        self._via = via
        self._names = None if numeric or quiet or dots else NameFinder()
        config = machine.config
        # Where probes follow each other closely, a name is worth no delay between them.
        self._hurried = config.interval_ns < 500_000_000 or config.flood or config.adaptive
        self._name_wait_s = 0.0 if self._hurried else NAME_WAIT_S
        self._last_options: dict[str, tuple[IPv4Option, ...]] = {}

    def begin(self) -> None:
        """The first line of each target, and the first look for its name."""
        config = self._machine.config
        if self._pattern and not self._quiet:
            self._stream.write(f"PATTERN: 0x{self._pattern.hex()}\n")
        flow = f" , flow 0x{config.flow_label:05x}," if config.flow_label else ""
        size = len(config.payload)
        for target in self._machine.targets:
            v6 = ":" in target.dst_addr
            address = f"{target.dst_addr}%{target.scope}" if target.scope else target.dst_addr
            source = "" if self._via is None else f" from {target.src_addr} {self._via}:"
            header = 20 + sum(len(option.emit()) for option in config.options)
            data = f"{size} data bytes"
            if not v6:
                data = f"{size}({size + 8 + (header + 3) // 4 * 4}) bytes of data."
            if self._names is not None:
                self._names.name_of(address)
            self._stream.write(f"PING {target.name} ({address}){flow}{source} {data}\n")
        self._stream.flush()
        if self._names is not None and self._hurried:
            self._names.await_all(EARLY_NAME_WAIT_S)

    def tell(self, event: PingEvent) -> None:
        """One event, one line or none."""
        if self._quiet:
            return
        if self._dots:
            self._dot(event)
        elif isinstance(event, PingReply):
            self._stream.write(self._reply(event))
        elif isinstance(event, PingError):
            self._stream.write(self._error(event))
        elif isinstance(event, PingOutstanding):
            about = f" {event.target.name}" if len(self._machine.targets) > 1 else ""
            self._stream.write(
                f"{self._date()}no answer yet for{about} icmp_seq={event.sequence_number}\n"
            )

    def status(self, stream: TextIO) -> None:
        """Where every target stands, a line each, to `stream`."""
        for target in self._machine.targets:
            counts = self._machine.statistics(target)
            line = f"{counts.received}/{counts.sent} packets, {counts.loss_pct:.0f}% loss"
            if counts.rtt.count:
                rtt = counts.rtt
                line += (
                    f", min/avg/ewma/max = {_ms(rtt.min_ns)}/{_ms(rtt.mean_ns)}"
                    f"/{_ms(rtt.smoothed_ns)}/{_ms(rtt.max_ns)} ms"
                )
            about = f"{target.name}: " if len(self._machine.targets) > 1 else ""
            stream.write(about + line + "\n")
        stream.flush()

    def end(self, dropped_by_host: int) -> None:
        """The summaries."""
        for target in self._machine.targets:
            counts = self._machine.statistics(target)
            counts.dropped_by_host = dropped_by_host
            self._stream.write(f"\n--- {target.name} ping statistics ---\n")
            self._stream.write(self._summary(counts))
        if dropped_by_host:
            self._stream.write(f"{dropped_by_host} packets dropped by this host, unread\n")
        self._stream.flush()

    # -- lines -------------------------------------------------------------------------------

    def _date(self) -> str:
        return f"[{time.time():.6f}] " if self._dates else ""

    def _name(self, address: str, target: PingTarget) -> str:
        """An address as ping shows it: with its name before it where there is one."""
        shown = f"{address}%{target.scope}" if target.scope and "fe8" in address[:3] else address
        if self._names is None:
            return shown
        started = time.monotonic()
        name = self._names.name_of(shown, self._name_wait_s)
        # All names together may hold up the pump so long, and not each.
        self._name_wait_s = max(0.0, self._name_wait_s - (time.monotonic() - started))
        return f"{name} ({shown})" if name else shown

    def _reply(self, event: PingReply) -> str:
        ttl = "" if event.ttl is None else f" ttl={event.ttl}"
        line = (
            f"{self._date()}{event.size} bytes from {self._name(event.src_addr, event.target)}:"
            f" icmp_seq={event.sequence_number}{ttl} time={_ms(event.rtt_ns)} ms"
        )
        if self._verbose and event.queued_ns is not None:
            line += f" queued={_ms(event.queued_ns)} ms"
        if event.duplicate:
            line += " (DUP!)"
        if event.late:
            line += " (LATE!)"
        if not event.valid:
            line += " (BAD CHECKSUM!)"
        elif event.wrong_at is not None:
            line += self._wrong(event, event.wrong_at)
        return line + self._options(event) + self._bell + "\n"

    def _wrong(self, event: PingReply, at: int) -> str:
        sent = self._machine.config.payload
        if at == len(event.payload):
            return " (truncated)"
        if at == len(sent):
            return f" ({len(event.payload) - len(sent)} bytes too many)"
        return f"\nwrong data byte #{at} should be 0x{sent[at]:x} but was 0x{event.payload[at]:x}"

    def _options(self, event: PingReply) -> str:
        if not event.options:
            return ""
        from rawproto.wire.ipv4_options import RecordRoute, Timestamp

        lines = []
        for option in event.options:
            if isinstance(option, RecordRoute):
                lines += [
                    f"RR: \t{self._name(first, event.target)}" for first in option.recorded[:1]
                ]
                lines += [f"\t{self._name(each, event.target)}" for each in option.recorded[1:]]
            elif isinstance(option, Timestamp):
                lines += _timestamps(option)
        if self._last_options.get(event.src_addr) == event.options and not any(
            isinstance(option, Timestamp) for option in event.options
        ):
            return "\t(same route)"
        if len(self._last_options) >= MAX_ROUTES:
            self._last_options.clear()
        self._last_options[event.src_addr] = event.options
        return "".join(f"\n{line}" for line in lines)

    def _error(self, event: PingError) -> str:
        if not event.src_addr:
            return (
                f"{self._date()}rawproto ping: {event.target.name}: "
                f"icmp_seq={event.sequence_number} local error: {event.message}\n"
            )
        return (
            f"{self._date()}From {self._name(event.src_addr, event.target)} "
            f"icmp_seq={event.sequence_number} {event.message}\n"
        )

    def _dot(self, event: PingEvent) -> None:
        if isinstance(event, PingSent):
            self._stream.write(".")
        elif isinstance(event, PingReply):
            if event.valid and not event.duplicate:
                self._stream.write("\b \b")
        elif isinstance(event, PingError):
            self._stream.write("\bE")
        self._stream.flush()

    def _summary(self, counts: PingStatistics) -> str:
        line = f"{counts.sent} packets transmitted, {counts.received} received"
        for count, word in (
            (counts.duplicates, "duplicates"),
            (counts.corrupted, "corrupted"),
            (counts.errors, "errors"),
            (counts.late, "late"),
            (counts.reordered, "reordered"),
        ):
            if count:
                line += f", +{count} {word}"
        line += f", {counts.loss_pct:.6g}% packet loss, time {counts.sending_ns // 1_000_000}ms\n"
        rtt = counts.rtt
        if not rtt.count:
            return line
        # Ours come before the line that everybody's scripts take from the end.
        p50, p95, p99 = rtt.percentiles_ns((50, 95, 99))
        line += f"rtt p50/p95/p99/jitter = {_ms(p50)}/{_ms(p95)}/{_ms(p99)}/{_ms(rtt.jitter_ns)} ms"
        if counts.stamped:
            mean, longest = _ms(counts.queued_mean_ns), _ms(counts.queued_max_ns)
            line += f"\nqueued in this host avg/max = {mean}/{longest} ms"
        line += (
            f"\nrtt min/avg/max/mdev = {_ms(rtt.min_ns)}/{_ms(rtt.mean_ns)}/{_ms(rtt.max_ns)}"
            f"/{_ms(rtt.mdev_ns)} ms"
        )
        config = self._machine.config
        if (config.flood or config.adaptive or self._dots) and counts.sent > 1:
            gap = counts.sending_ns / (counts.sent - 1)
            line += f", ipg/ewma {_ms(gap)}/{_ms(rtt.smoothed_ns)} ms"
        return line + "\n"


def _timestamps(option: Timestamp) -> list[str]:
    """A line per stamp: since midnight UT, or since the stamp before."""
    lines = []
    before: int | None = None
    for address, stamp in option.recorded:
        value = stamp & 0x7FFFFFFF
        shown = f"{value} absolute" if before is None else f"{value - before}"
        if stamp >> 31:
            shown += " not-standard"
        lines.append(
            ("TS: \t" if before is None else "\t") + "\t".join(filter(None, (address, shown)))
        )
        before = value
    if option.overflow:
        lines.append(f"Unrecorded hops: {option.overflow}")
    return lines
