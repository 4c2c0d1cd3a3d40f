"""For the live tests of verbs: our command line inside this process, and what it puts on the wire.

`say` runs the verb itself, from its words to its exit code, without starting an interpreter:
what only a process can show (signals, pipes, privileges) is in `test_ping_process.py`.
"""

from __future__ import annotations

import io
import json
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest.mock import patch

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet
from scapy.utils import checksum

from rawproto.cli.main import main
from rawproto.lab import LiveHost
from rawproto.link.packet import ETH_P_IP, ETH_P_IPV6, Frame, PacketLink

PROCESS = [sys.executable, "-m", "rawproto.cli.main", "ping"]
PATIENCE_S = 20.0


@dataclass
class Said:
    """What a command line did.

    Attributes:
        code: its exit code.
        out: its standard output.
        error: its standard error.
    """

    code: int
    out: str
    error: str

    @property
    def lines(self) -> list[str]:
        """Of the standard output."""
        return self.out.splitlines()

    def records(self, kind: str = "") -> list[dict]:
        """The JSON records, of one type or all."""
        found = [json.loads(line) for line in self.lines]
        return [record for record in found if kind in ("", record["type"])]


def say(host: LiveHost, *words: str, verb: str = "ping") -> Said:
    """Runs `rawproto ping WORDS`, or another verb, on a host, in this thread.

    But for one thing it is the real verb: it keeps its privileges, which are the tests' too.
    """
    out, error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with ExitStack() as stack:
        stack.enter_context(host.entered())
        stack.enter_context(patch(f"rawproto.cli.{verb}.drop_privileges"))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(error))
        try:
            code = main([verb, *words])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    out.seek(0)
    return Said(code, out.read(), error.getvalue())


@contextmanager
def stamping(host: LiveHost) -> Iterator[None]:
    """While it lasts the kernel stamps every packet that arrives.

    It begins a moment after the first socket has asked for it (net_enable_timestamp leaves
    it to a work queue); the replies of that moment are stamped by us.
    """
    with Wire(host):
        for _ in range(1000):
            (reply,) = say(host, "--json", "-c1", "127.0.0.1").records("reply")
            if reply["rx_stamp"] == "kernel":
                break
        yield


def set_sysctl(host: LiveHost, name: str, value: str) -> None:
    """Writes a setting of a host's network."""
    with host.entered(), open(f"/proc/sys/net/{name}", "w") as file:
        file.write(value)


class Wire:
    """What arrives at a host, taken by our own packet socket.

    Args:
        host: where.
        interface: by which interface, None for all.
    """

    def __init__(self, host: LiveHost, interface: str | None = None) -> None:
        with host.entered():
            self._link = PacketLink(interface, ignore_outgoing=True)
            self._names = dict(socket.if_nameindex())

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def forget(self) -> None:
        """Whatever has come so far is of no interest."""
        while self._link.receive_frames(1000):
            pass

    def wanted(self, frame: Frame) -> bool:
        """Whether a frame counts: echo requests do, and fragments of some."""
        return _is_request(frame)

    def frames(self, count: int) -> list[Frame]:
        """The wanted ones that have come since: `count` at least."""
        found: list[Frame] = []
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found += [frame for frame in self._link.receive_frames(1000) if self.wanted(frame)]
            left_s = deadline - time.monotonic()
            if len(found) >= count or left_s <= 0:
                assert len(found) >= count, f"{len(found)} packets came, not {count}"
                return found
            select.select([self._link.fileno()], [], [], left_s)

    def packets(self, count: int) -> list[Packet]:
        """The same as scapy reads them, each judged."""
        return [judged(frame.data[14:]) for frame in self.frames(count)]

    def interface_of(self, frame: Frame) -> str:
        """The name of the interface by which a frame came."""
        return self._names[frame.interface]


def _is_request(frame: Frame) -> bool:
    data = frame.data[14:]
    if frame.ethertype == ETH_P_IP:
        end = (data[0] & 15) * 4
        return data[9] == 1 and (data[end] == 8 or data[6] & 0x1F != 0 or data[7] != 0)
    return frame.ethertype == ETH_P_IPV6 and (data[6] == 44 or (data[6] == 58 and data[40] == 128))


def judged(packet: bytes) -> Packet:
    """A packet as scapy reads it, whose lengths and checksums scapy finds right."""
    if packet[0] >> 4 == 4:
        read = IP(packet)
        assert read.len == len(packet)
        assert checksum(packet[: read.ihl * 4]) == 0
        if not read.flags.MF and not read.frag:
            assert checksum(packet[read.ihl * 4 :]) == 0
        return read
    read = IPv6(packet)
    assert read.plen == len(packet) - 40
    if read.nh == 58:
        again = IPv6(packet)
        del again[ICMPv6EchoRequest].cksum
        assert bytes(again) == packet
    return read


def echo_of(packet: Packet) -> tuple[int, int, bytes]:
    """(identifier, sequence number, payload) of an echo request of either family."""
    if IP in packet:
        return packet[ICMP].id, packet[ICMP].seq, bytes(packet[ICMP].payload)
    echo = packet[ICMPv6EchoRequest]
    return echo.id, echo.seq, bytes(echo.data)
