"""For the live tests of traceroute: what it says of a path, and its probes on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scapy.layers.inet import IP
from scapy.packet import Packet

from rawproto.lab import LiveHost
from rawproto.link.packet import ETH_P_IP, ETH_P_IPV6, Frame
from tests.live.pinging import Said, Wire, say
from tests.probe.judge import judged_probe

METHODS = ("icmp", "udp", "tcp")
FAMILIES = (4, 6)


def traced(host: LiveHost, *words: str) -> Said:
    """`rawproto traceroute --json -n WORDS` on a host, which traced without complaint."""
    said = say(host, "--json", "-n", *words, verb="traceroute")
    assert (said.code, said.error) == (0, ""), said
    return said


def path_of(said: Said) -> list[set[str | None]]:
    """Who answered at each hop, None among them where a probe was lost."""
    hops = said.records("hop")
    assert [hop["ttl"] for hop in hops] == list(range(hops[0]["ttl"], hops[0]["ttl"] + len(hops)))
    return [{probe["src_addr"] for probe in hop["probes"]} for hop in hops]


def summary_of(said: Said) -> dict:
    """The one summary, at the end."""
    records = said.records()
    assert [record["type"] for record in records].count("summary") == 1
    assert records[-1]["type"] == "summary"
    return records[-1]


def chain_path(family: int, hops: int) -> list[set[str]]:
    """The hops of `lab.chain(hops)`, as docs/lab.md numbers them."""
    form = "10.99.{}.2" if family == 4 else "fd99:{}::2"
    return [{form.format(number)} for number in range(1, hops + 1)]


def target(family: int, link: int) -> str:
    """The far end of a link."""
    return f"10.99.{link}.2" if family == 4 else f"fd99:{link}::2"


@contextmanager
def probes_at(host: LiveHost, interface: str = "eth0") -> Iterator[ProbeWire]:
    """The probes that arrive at a host by an interface."""
    with ProbeWire(host, interface) as wire:
        yield wire


class ProbeWire(Wire):
    """A wire on which echo requests, UDP datagrams and SYNs count."""

    def wanted(self, frame: Frame) -> bool:
        data = frame.data[14:]
        if frame.ethertype == ETH_P_IP:
            return data[9] in (6, 17) or (data[9] == 1 and data[20] == 8)
        if frame.ethertype == ETH_P_IPV6:
            return data[6] in (6, 17) or (data[6] == 58 and data[40] == 128)
        return False

    def probes(self, count: int) -> list[Packet]:
        """`count` of them and no more, each judged by scapy."""
        frames = self.frames(count)
        assert len(frames) == count
        return [judged_probe(frame.data[14:]) for frame in frames]


def hops_of(packets: list[Packet]) -> list[int]:
    """TTLs or hop limits, in order of their size."""
    return sorted(packet.ttl if IP in packet else packet.hlim for packet in packets)
