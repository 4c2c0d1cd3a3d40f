"""What `rawproto replay` says: the packets it would send, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TextIO

from rawproto.capture import CapturedPacket, open_writer
from rawproto.cli.render import counted, json_line, milliseconds
from rawproto.drivers.replay import Replay, ReplayResult
from rawproto.machine import Transmit
from rawproto.packets.json import packet_fields
from rawproto.wire.dissect import ETHERNET, RAW, dissect
from rawproto.wire.show import summary

__all__ = ["record", "show", "text", "write"]


def show(replay: Replay, out: TextIO, *, as_json: bool = False) -> None:
    """A line for each packet: when it would be sent, from the first one on, and what.

    Args:
        replay: which is not run.
        out: where the lines go.
        as_json: a record each, in the form of `rawproto decode`, with `due_ms` besides.
    """
    for number, (data, link_type, due_ns) in enumerate(_planned(replay), 1):
        found = dissect(data, link_type)
        if not as_json:
            out.write(f"{due_ns / 1e9:14.9f} {summary(found)}\n")
            continue
        packet = CapturedPacket(time_ns=due_ns, data=data, link_type=link_type)
        about = {**packet_fields(number, packet, found), "due_ms": milliseconds(due_ns)}
        out.write(json_line("packet", about))


def write(replay: Replay, path: str, first_ns: Callable[[], int]) -> None:
    """The packets as a capture, at the times when they would be sent.

    Args:
        replay: which is not run.
        path: `.pcap` or `.pcapng`.
        first_ns: when the first was captured; asked when it has been read.

    Raises:
        UsageError: the path ends otherwise.
        EmitError: the format cannot hold a packet.
    """
    with open_writer(path) as writer:
        for data, link_type, due_ns in _planned(replay):
            writer.write(
                CapturedPacket(time_ns=first_ns() + due_ns, data=data, link_type=link_type)
            )


def _planned(replay: Replay) -> Iterator[tuple[bytes, int, int]]:
    """What would be sent: (bytes, link type, when in ns), counted as if it were."""
    for ready, due_ns in replay.plan():
        if isinstance(ready, Transmit):
            yield ready.data, RAW, due_ns
        else:
            yield ready, ETHERNET, due_ns


def record(result: ReplayResult) -> dict[str, Any]:
    """The summary for JSON."""
    lateness = result.lateness
    p50, p99 = lateness.percentiles_ns([50, 99])
    timed = lateness.count > 0
    return {
        "packets": result.packets,
        "bytes": result.bytes,
        "rounds": result.rounds,
        "duration_ms": milliseconds(result.duration_ns),
        "packets_per_second": _rate(result.packets, result.duration_ns),
        "bits_per_second": _rate(8 * result.bytes, result.duration_ns),
        "late_median_ms": milliseconds(p50) if timed else None,
        "late_p99_ms": milliseconds(p99) if timed else None,
        "late_max_ms": milliseconds(lateness.max_ns) if timed else None,
        "truncated": result.truncated,
        "unsendable": result.unsendable,
        "refused": result.refused,
    }


def text(result: ReplayResult, *, verb: str) -> str:
    """The summary for people.

    Args:
        result: what there is to tell.
        verb: what became of the packets, such as `sent`.
    """
    seconds = f"{result.duration_ns / 1e9:.6f} s"
    lines = [
        f"{counted(result.packets, 'packet')} {verb}, {counted(result.bytes, 'byte')}, in {seconds}"
    ]
    pps = _rate(result.packets, result.duration_ns)
    bps = _rate(8 * result.bytes, result.duration_ns)
    if pps is not None and bps is not None:
        lines[0] += f": {pps:.0f} packets/s, {bps / 1e6:.3f} Mbit/s"
    if result.lateness.count:
        p50, p99 = result.lateness.percentiles_ns([50, 99])
        lines.append(
            f"late by {p50 / 1e6:.3f} ms (median), {p99 / 1e6:.3f} ms (99 %), "
            f"{result.lateness.max_ns / 1e6:.3f} ms (at most)"
        )
    if result.truncated:
        lines.append(f"{result.truncated} of them as short as they were captured")
    for what in (result.unsendable, result.refused):
        lines += [f"{counted(count, 'packet')} not sent: {why}" for why, count in what.items()]
    return "\n".join(lines) + "\n"


def _rate(amount: int, duration_ns: int) -> float | None:
    """A second; None where there was only a moment."""
    return round(amount * 1e9 / duration_ns, 3) if duration_ns else None
