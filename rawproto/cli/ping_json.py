"""ping as JSON Lines: one record an event, a summary per target at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from rawproto.cli.render import json_line, milliseconds
from rawproto.errors import RawprotoError
from rawproto.probe.ping import Ping
from rawproto.probe.ping_events import (
    PingError,
    PingEvent,
    PingLost,
    PingOutstanding,
    PingReply,
    PingTarget,
)

if TYPE_CHECKING:
    from rawproto.wire.ipv4_options import IPv4Option

__all__ = ["JSONReport"]


class JSONReport:
    """Writes what a ping tells."""

    def __init__(
        self,
        stream: TextIO,
        machine: Ping,
        *,
        quiet: bool = False,
        refused: Sequence[tuple[str, RawprotoError]] = (),
    ) -> None:
        """
        Args:
            stream: where to.
            machine: whose events these are.
            quiet: the summaries alone, and what there is none of.
            refused: hosts that cannot be pinged at all, and why.
        """
        self._stream = stream
        self._machine = machine
        self._quiet = quiet
        self._refused = refused

    def begin(self) -> None:
        """Before the first event: what will have none."""
        for name, error in self._refused:
            self._write("error", _error(name, str(error)))

    def tell(self, event: PingEvent) -> None:
        """One event, one line or none."""
        if self._quiet:
            return
        if isinstance(event, PingReply):
            self._write("reply", _reply(event), event.received_ns)
        elif isinstance(event, PingLost):
            self._write(
                "lost",
                {
                    "target": event.target.name,
                    "sequence_number": event.sequence_number,
                    "rtt_ms": None,
                },
            )
        elif isinstance(event, PingOutstanding):
            self._write(
                "outstanding",
                {"target": event.target.name, "sequence_number": event.sequence_number},
            )
        elif isinstance(event, PingError):
            error = _error(
                event.target.name,
                event.message,
                src_addr=event.src_addr or None,
                sequence_number=event.sequence_number,
                icmp_type=event.icmp_type,
                code=event.code,
                mtu=event.mtu,
            )
            self._write("error", error, event.received_ns)

    def status(self, stream: TextIO) -> None:
        """Where every target stands, to `stream`."""
        for target in self._machine.targets:
            stream.write(json_line("status", {"time_ns": time.time_ns(), **self._summary(target)}))

    def end(self, dropped_by_host: int) -> None:
        """A summary per target."""
        for target in self._machine.targets:
            self._machine.statistics(target).dropped_by_host = dropped_by_host
            self._write("summary", self._summary(target))

    def _write(self, kind: str, fields: dict[str, object], at_ns: int | None = None) -> None:
        """One record, of something that came at that time (monotonic), or comes now."""
        ago_ns = 0 if at_ns is None else time.monotonic_ns() - at_ns
        self._stream.write(json_line(kind, {"time_ns": time.time_ns() - ago_ns, **fields}))

    def _summary(self, target: PingTarget) -> dict[str, object]:
        counts = self._machine.statistics(target)
        rtt = counts.rtt
        times = None
        if rtt.count:
            p50, p95, p99 = rtt.percentiles_ns((50, 95, 99))
            times = {
                "min": milliseconds(rtt.min_ns),
                "avg": milliseconds(rtt.mean_ns),
                "max": milliseconds(rtt.max_ns),
                "mdev": milliseconds(rtt.mdev_ns),
                "p50": milliseconds(p50),
                "p95": milliseconds(p95),
                "p99": milliseconds(p99),
            }
        return {
            "target": target.name,
            "dst_addr": target.dst_addr,
            "sent": counts.sent,
            "received": counts.received,
            "duplicates": counts.duplicates,
            "late": counts.late,
            "reordered": counts.reordered,
            "corrupted": counts.corrupted,
            "errors": counts.errors,
            "dropped_by_host": counts.dropped_by_host,
            "loss_pct": round(counts.loss_pct, 6),
            "duration_ms": milliseconds(counts.duration_ns),
            "rtt_ms": times,
            "jitter_ms": milliseconds(rtt.jitter_ns) if rtt.count else None,
        }


def _reply(event: PingReply) -> dict[str, object]:
    return {
        "target": event.target.name,
        "src_addr": event.src_addr,
        "sequence_number": event.sequence_number,
        "identifier": event.identifier,
        "bytes": event.size,
        "ttl": event.ttl,
        "rtt_ms": milliseconds(event.rtt_ns),
        "queued_ms": milliseconds(event.queued_ns),
        "tx_stamp": event.tx_stamp,
        "rx_stamp": event.rx_stamp,
        "duplicate": event.duplicate,
        "late": event.late,
        "reordered": event.reordered,
        "corrupted": not event.valid or event.wrong_at is not None,
        "options": [_option(option) for option in event.options],
    }


def _error(
    target: str,
    message: str,
    *,
    src_addr: str | None = None,
    sequence_number: int | None = None,
    icmp_type: int | None = None,
    code: int | None = None,
    mtu: int | None = None,
) -> dict[str, object]:
    return {
        "target": target,
        "src_addr": src_addr,
        "sequence_number": sequence_number,
        "icmp_type": icmp_type,
        "code": code,
        "message": message,
        "mtu": mtu,
    }


def _option(option: IPv4Option) -> dict[str, object]:
    """As everywhere: the kind, and what follows kind and length in hex."""
    data = option.emit()
    return {"kind": data[0], "value": data[2:].hex()}
