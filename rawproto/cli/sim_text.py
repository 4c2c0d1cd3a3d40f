"""What `sim` prints: a table for people, JSON Lines for programs."""

from __future__ import annotations

from rawproto.cli.render import json_line, milliseconds
from rawproto.impair import Impairment
from rawproto.sim.experiment import FlowResult, Result

__all__ = ["json_lines", "rate", "report"]

_HEAD = (
    "flow",
    "by",
    "received",
    "goodput",
    "sent",
    "lost",
    "spurious",
    "resent",
    "min RTT",
    "mean",
    "max",
    "mtu",
)


def report(result: Result, link: Impairment, seed: int) -> str:
    """A line for each flow, and what they made of the link together."""
    rows = [_HEAD, *[_row(flow) for flow in result.flows]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([cell.rjust(width) for cell, width in zip(row, widths, strict=True)])
        for row in rows
    ]
    lines += [f"flow {flow.port}: {flow.error}" for flow in result.flows if flow.error]
    seconds = result.duration_ns / 1e9
    used = f", {result.goodput_bps / link.rate_bps:.1%} of the link" if link.rate_bps else ""
    lines += [
        f"seed {seed}: {seconds:.3f} s, {rate(result.goodput_bps)}{used}",
        f"fairness {result.fairness:.4f} (Jain)",
    ]
    lines.append(
        f"queue {result.queue_mean:.1f} packets in the mean, {result.queue_max} at most; "
        f"{result.queue_drops} found it full, {result.link_lost} lost on the way"
    )
    return "\n".join(lines) + "\n"


def json_lines(result: Result, seed: int) -> str:
    """A record `flow` for each, then one `summary`."""
    lines = [json_line("flow", _fields(flow)) for flow in result.flows]
    summary = {
        "seed": seed,
        "flows": len(result.flows),
        "duration_s": round(result.duration_ns / 1e9, 9),
        "goodput_bps": round(result.goodput_bps),
        "fairness": round(result.fairness, 6),
        "queue_packets_mean": round(result.queue_mean, 3),
        "queue_packets_max": result.queue_max,
        "queue_drops": result.queue_drops,
        "link_lost": result.link_lost,
        "turns": result.turns,
    }
    return "".join([*lines, json_line("summary", summary)])


def _row(flow: FlowResult) -> tuple[str, ...]:
    return (
        str(flow.port),
        flow.congestion,
        str(flow.received),
        rate(flow.goodput_bps),
        str(flow.packets_sent),
        str(flow.packets_lost),
        str(flow.packets_spurious),
        str(flow.retransmitted),
        *[f"{rtt / 1e6:.1f} ms" for rtt in (flow.min_rtt, flow.mean_rtt, flow.max_rtt)],
        str(flow.mtu),
    )


def _fields(flow: FlowResult) -> dict[str, object]:
    return {
        "port": flow.port,
        "congestion": flow.congestion,
        "received_bytes": flow.received,
        "goodput_bps": round(flow.goodput_bps),
        "packets_sent": flow.packets_sent,
        "packets_lost": flow.packets_lost,
        "packets_spurious": flow.packets_spurious,
        "retransmitted": flow.retransmitted,
        "connect_ms": milliseconds(flow.established_ns),
        "rtt_ms": {
            "min": milliseconds(flow.min_rtt),
            "mean": milliseconds(flow.mean_rtt),
            "max": milliseconds(flow.max_rtt),
        },
        "mtu": flow.mtu,
        "error": flow.error or None,
    }


def rate(bps: float) -> str:
    """Bits a second, as people say it."""
    for unit in ("bit/s", "kbit/s", "Mbit/s"):
        if bps < 1000:
            return f"{bps:.2f} {unit}"
        bps /= 1000
    return f"{bps:.2f} Gbit/s"
