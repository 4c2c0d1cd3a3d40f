"""What `perf` prints for people, in iperf3's manner."""

from __future__ import annotations

from typing import Any

from rawproto.apps.perf import Interval, Plan
from rawproto.drivers.rpt.connection import RPTConnection

__all__ = ["heading", "interval_line", "served_line", "summary_lines"]

_COLUMNS = "Interval           Transfer     Bitrate         Lost   RTT\n"


def _scaled(value: float, step: int, unit: str) -> str:
    """Three digits and a unit: 1.18 GBytes, 941 Mbits/sec."""
    prefix = ""
    for prefix in ("", "K", "M", "G", "T"):
        if value < step or prefix == "T":
            break
        value /= step
    digits = 0 if value >= 100 or not prefix else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {prefix}{unit}"


def _row(start_s: float, end_s: float, size: int, seconds: float) -> str:
    """Interval, transfer, bitrate. Bytes are counted in powers of two, bits of ten, as iperf3."""
    interval = f"{start_s:.2f}-{end_s:.2f} sec"
    rate = size * 8 / seconds if seconds else 0
    transfer = _scaled(size, 1024, "Bytes")
    return f"{interval:<18} {transfer:>11}  {_scaled(rate, 1000, 'bits/sec'):>14}"


def heading(connection: RPTConnection, plan: Plan) -> str:
    """Who is connected, and what is measured."""
    address, port = connection.peer_address
    what = "latency" if plan.latency else f"{plan.streams} stream{'s' * (plan.streams > 1)}"
    if plan.message_bytes:
        what += f", messages of {plan.message_bytes} bytes"
    if plan.reverse:
        what += ", the server sends"
    head = f"Connected to {address} port {port} from port {connection.port}: {what}\n"
    return head if plan.latency else head + _COLUMNS


def interval_line(interval: Interval) -> str:
    """One second."""
    seconds = interval.end_s - interval.start_s
    row = _row(interval.start_s, interval.end_s, interval.size, seconds)
    return f"{row}  {interval.lost:>5}   {interval.rtt_ms:.3f} ms\n"


def summary_lines(plan: Plan, summary: dict[str, Any]) -> str:
    """All of it."""
    cpu = (
        f"CPU per packet: sender {summary['cpu_us_per_packet']:.1f} us, "
        f"receiver {summary['receiver_cpu_us_per_packet']:.1f} us; MTU {summary['mtu']}\n"
    )
    if plan.latency:
        latency = summary["latency_ms"]
        figures = "/".join(f"{latency[name]:.3f}" for name in ("min", "p50", "p90", "p99", "max"))
        requests, seconds = summary["requests"], summary["duration_s"]
        rate = requests / seconds if seconds else 0
        return (
            f"{requests} requests in {seconds:.2f} s, {rate:.0f} a second\n"
            f"latency min/p50/p90/p99/max = {figures} ms\n{cpu}"
        )
    seconds = summary["duration_s"]
    row = _row(0, seconds, summary["bytes"], seconds)
    return (
        f"- - - - - - - - - - - - - - - - - - - - - - - - - - - - -\n"
        f"{row}  {summary['packets_lost']:>5}   {summary['rtt_ms']:.3f} ms  received\n"
        f"{summary['packets_sent']} packets sent, {summary['packets_lost']} lost, "
        f"{summary['retransmitted']} retransmitted; "
        f"RTT {summary['min_rtt_ms']:.3f} ms at least\n{cpu}"
    )


def served_line(name: str, report: dict[str, Any]) -> str:
    """A server's word on one client."""
    if "bytes" in report:
        row = _row(0, report["duration_s"], report["bytes"], report["duration_s"])
        return f"{name}: {row}  received\n"
    return f"{name}: {report['packets_sent']} packets sent, {report['packets_lost']} lost\n"
