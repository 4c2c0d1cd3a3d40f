"""The kernel's netem, where the kernel has it. See tc-netem(8).

It is a queueing discipline at the interfaces of both ends of a link, each for what leaves
there, and costs less than our emulator. It also does less: what it can't do, or does
otherwise than impairments.py says, `refusal` names, and the emulator does that.

This module was written on a kernel without netem, where all but `available` is tested
by its words only; that is why it is so small.
"""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping

from rawproto.impair.config import Impairment
from rawproto.lab import syscalls
from rawproto.lab.batch import find_program
from rawproto.lab.impairments import DIRECTIONS, impairment
from rawproto.lab.namespaces import in_thread

__all__ = ["available", "command", "counters", "refusal"]

UNLIMITED_PACKETS = 1_000_000


def refusal(impairments: Mapping[str, str]) -> str | None:
    """Why netem can't do what is said of a link, wherever it runs; None if it can."""
    if "seed" in impairments:
        return "netem's drops follow no seed of ours"
    for direction in DIRECTIONS:
        wanted = impairment(impairments, direction)
        if wanted.jitter_ns:
            return "netem's jitter reorders packets"
        if wanted.reorder:
            return "netem holds no packets back"
        if wanted.queue_bytes is not None:
            return "netem's queue counts packets, not bytes"
        if wanted.rate_bps is not None and wanted.delay_ns:
            return "netem's queue counts packets under way too"
    return None


@functools.cache
def available() -> bool:
    """Whether this kernel has netem and this machine `tc`: tried in an empty namespace."""
    tc = find_program("tc")
    if tc is None:
        return False

    def attempt() -> bool:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        words = [tc, *command("lo", Impairment(delay_ns=1_000_000)).split()]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    return in_thread(attempt)


def command(interface: str, wanted: Impairment) -> str:
    """What `tc` is told, so that packets which leave by an interface meet these impairments."""
    limit = UNLIMITED_PACKETS if wanted.rate_bps is None else wanted.queue_packets
    words = [f"qdisc replace dev {interface} root netem limit {limit}"]
    if wanted.delay_ns:
        words.append(f"delay {wanted.delay_ns / 1000:.3f}us")  # not every `tc` knows ns
    if wanted.loss:
        words.append(f"loss random {_percent(wanted.loss)}")
    if wanted.burst_loss is not None:
        chain = wanted.burst_loss
        chances = (chain.good_to_bad, chain.bad_to_good)
        words.append(f"loss gemodel {' '.join(map(_percent, chances))}")
    if wanted.duplicate:
        words.append(f"duplicate {_percent(wanted.duplicate)}")
    if wanted.corrupt:
        words.append(f"corrupt {_percent(wanted.corrupt)}")
    if wanted.rate_bps is not None:
        words.append(f"rate {wanted.rate_bps}bit")
    return " ".join(words)


def counters(shown: str) -> dict[str, int]:
    """What `tc -s -j qdisc show` tells of a netem, under the names of `LinkStatistics`."""
    for discipline in json.loads(shown):
        if discipline.get("kind") == "netem":
            return {
                "delivered": discipline["packets"],
                "delivered_bytes": discipline["bytes"],
                "dropped": discipline["drops"],
            }
    return {}


def _percent(share: float) -> str:
    return f"{share * 100:.7f}".rstrip("0").rstrip(".") + "%"
