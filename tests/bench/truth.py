"""The truth about round trips, from a capture that ran beside them, and how far a tool was off.

A capture's stamps are taken in the kernel where the packet meets the device::

    ping            kernel of the pinging host                         the other host
     |--- sendto ---> SCHED --- [queue] ---> capture --- SND ------------> request
     |                                          |                             |
     |<-- recvmsg --- [socket queue] <------ RX and capture <------------- reply

The truth is the capture's stamp of the reply minus that of the request. It knows
files and numbers, no sockets. scapy's reader takes the capture apart, so that what
judges rawproto shares no code with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scapy.utils import RawPcapReader

__all__ = ["Measured", "Truth", "bracketed", "errors_ns", "read_iputils", "read_rawproto", "truths"]

_ETHERNET = 14
_ECHO_REPLY, _ECHO_REQUEST = 0, 8


@dataclass(slots=True, kw_only=True)
class Measured:
    """One round trip as a tool reports it.

    Attributes:
        rtt_ns: the round-trip time.
        queued_ns: how long the request waited in this host, None where the tool doesn't tell.
    """

    rtt_ns: int
    queued_ns: int | None = None


Key = tuple[int, int]
"""What tells one round trip from all others: (identifier, sequence number)."""
Truth = dict[Key, int]
"""The true round-trip times in ns."""


def truths(pcap: Path) -> Truth:
    """The true round-trip time of each echo in a capture (Ethernet, IPv4) of the pinging host.

    Of duplicates the first counts; a request without a reply is left out.
    """
    sent: dict[Key, int] = {}
    found: Truth = {}
    with RawPcapReader(str(pcap)) as reader:
        per_unit = 1 if reader.nano else 1000
        for frame, about in reader:
            message = frame[_ETHERNET + (frame[_ETHERNET] & 0x0F) * 4 :]
            if len(message) < 8 or message[0] not in (_ECHO_REPLY, _ECHO_REQUEST):
                continue
            key = int.from_bytes(message[4:6], "big"), int.from_bytes(message[6:8], "big")
            at_ns = about.sec * 1_000_000_000 + about.usec * per_unit
            if message[0] == _ECHO_REQUEST:
                sent.setdefault(key, at_ns)
            elif key in sent:
                found.setdefault(key, at_ns - sent[key])
    return found


def read_rawproto(lines: Iterable[str]) -> dict[Key, Measured]:
    """The round trips in the output of `rawproto ping --json`."""
    found: dict[Key, Measured] = {}
    for line in lines:
        record = json.loads(line)
        if record["type"] != "reply" or record["duplicate"]:
            continue
        queued_ms = record["queued_ms"]
        found[record["identifier"], record["sequence_number"]] = Measured(
            rtt_ns=round(record["rtt_ms"] * 1e6),
            queued_ns=None if queued_ms is None else round(queued_ms * 1e6),
        )
    return found


_IPUTILS_REPLY = re.compile(r"icmp_seq=(\d+) .*time=([\d.]+) ms(?! \(DUP!\))")


def read_iputils(lines: Iterable[str], identifier: int) -> dict[Key, Measured]:
    """The round trips in the output of iputils' `ping -e IDENTIFIER`; it prints microseconds."""
    found: dict[Key, Measured] = {}
    for line in lines:
        reply = _IPUTILS_REPLY.search(line)
        if reply:
            key = identifier, int(reply[1]) & 0xFFFF
            found[key] = Measured(rtt_ns=round(float(reply[2]) * 1e6))
    return found


def errors_ns(measured: Mapping[Key, Measured], truth: Truth) -> list[int]:
    """How far each reported time is from the truth, without sign, where both are known."""
    return [abs(each.rtt_ns - truth[key]) for key, each in measured.items() if key in truth]


def bracketed(measured: Mapping[Key, Measured], truth: Truth) -> float:
    """The share of round trips whose truth lies between RTT and RTT + queued, 0 to 1.

    One without `queued` counts as outside; where nothing is known the share is 0.
    """
    judged = [
        each.queued_ns is not None and each.rtt_ns <= truth[key] <= each.rtt_ns + each.queued_ns
        for key, each in measured.items()
        if key in truth
    ]
    return sum(judged) / len(judged) if judged else 0.0
