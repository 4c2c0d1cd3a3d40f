"""traceroute as JSON Lines: one record a hop, a summary at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

from rawproto.cli.render import json_line, milliseconds
from rawproto.probe.trace_events import (
    TraceAnswer,
    TraceEvent,
    TraceHop,
    TraceMTU,
    TraceSummary,
)

__all__ = ["JSONReport"]


class JSONReport:
    """Writes what a trace tells."""

    def __init__(self, stream: TextIO, target: str) -> None:
        self._stream = stream
        self._target = target

    def begin(self, wake: Callable[[], None]) -> None:
        """Nothing to say before the first hop."""

    def tell(self, event: TraceEvent) -> None:
        """One event, one line."""
        if isinstance(event, TraceHop):
            self._write(
                "hop",
                {
                    "ttl": event.ttl,
                    "probes": [_probe(answer) for answer in event.answers],
                    "rate_limited": event.rate_limited,
                },
            )
        elif isinstance(event, TraceMTU):
            self._write("mtu", {"ttl": event.ttl, "src_addr": event.src_addr, "mtu": event.mtu})
        elif isinstance(event, TraceSummary):
            self._write(
                "summary",
                {
                    "target": self._target,
                    "reached": event.reached,
                    "hops": event.hops,
                    "duration_ms": milliseconds(event.duration_ns),
                    "mtu": event.mtu,
                },
            )

    def refresh(self) -> None:
        """Everything known has been written."""

    def end(self) -> None:
        """Likewise."""

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        self._stream.write(json_line(kind, {"time_ns": time.time_ns(), **fields}))


def _probe(answer: TraceAnswer | None) -> dict[str, object]:
    if answer is None:
        return {"src_addr": None}
    return {
        "src_addr": answer.src_addr,
        "rtt_ms": milliseconds(answer.rtt_ns),
        "icmp_type": answer.icmp_type,
        "code": answer.code,
        "reply_ttl": answer.reply_ttl,
        "mpls": [
            {
                "label": label.label,
                "exp": label.exp,
                "bottom_of_stack": label.bottom_of_stack,
                "ttl": label.ttl,
            }
            for label in answer.labels
        ],
        "interface": [
            {
                "role": each.role,
                "if_index": each.if_index,
                "if_addr": each.if_addr,
                "if_name": each.if_name,
                "mtu": each.mtu,
            }
            for each in answer.interfaces
        ]
        or None,
        "nat": None if answer.rewritten is None else bool(answer.rewritten),
        "rewritten": None if answer.rewritten is None else list(answer.rewritten),
        "tx_stamp": answer.tx_stamp,
        "rx_stamp": answer.rx_stamp,
    }
