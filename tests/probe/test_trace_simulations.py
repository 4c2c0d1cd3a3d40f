"""The paths of simulations.toml, traced in virtual time."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path as File
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest
from scapy.packet import Packet

from rawproto.machine import Datagram, ICMPError, Transmit
from rawproto.probe.match import read_error
from rawproto.probe.trace_events import TraceMethod
from rawproto.probe.traceroute import Traceroute
from tests.probe.judge import flow_of, judged_probe
from tests.probe.topology import MS, Node, Path, addresses, machine_for
from tests.probe.virtual import Answer, VirtualNetwork

SIMULATIONS = tomllib.loads(File(__file__).with_name("simulations.toml").read_text())["simulation"]

UDP_HEADER = 8


def cases() -> list[Any]:
    return [
        pytest.param(simulation, method, family, id=f"{simulation['name']}-{method}-{family}")
        for simulation in SIMULATIONS
        for method in simulation["methods"]
        for family in simulation["families"]
    ]


@pytest.mark.parametrize(("simulation", "method", "family"), cases())
def test_every_hop_is_found_where_the_simulation_has_it(
    simulation: dict[str, Any], method: TraceMethod, family: int
) -> None:
    reply = simulation.get("reply", {})
    path = path_of(simulation["rtt_ms"], family, reply)
    machine = machine_for(path, method, **simulation.get("trace", {}))
    if simulation.get("numbers") == "last":
        machine = Traceroute(machine.config, 0, LastNumbers())
    network = VirtualNetwork(machine, queued(path) if reply.get("queue") else path)
    *hops, summary = network.run()

    assert addresses(hops) == [{node.addr or None} for node in path.nodes]
    for hop, node in zip(hops, path.nodes, strict=True):
        assert len(hop.answers) == machine.config.queries
        rtts_ns = {answer.rtt_ns for answer in hop.answers if answer}
        assert rtts_ns == ({node.rtt_ms * MS} if node.addr else set())
        assert not hop.rate_limited
    assert (summary.reached, summary.hops) == (True, len(path.nodes))

    for packet in path.sent:
        judged_probe(bytes(packet))
        assert simulation.get("sent", {}).items() <= fields_of(packet).items()
    assert len({flow_of(packet) for packet in path.sent}) == 1
    if simulation.get("numbers") == "last" and family == 4:
        assert {1, 0xFFFE} <= {packet.id for packet in path.sent}


def path_of(rtts_ms: list[float], family: int, reply: dict[str, Any]) -> Path:
    form = "10.0.0.{}" if family == 4 else "fd00:10::{}"
    path = Path(
        [
            Node(form.format(100 + ttl) if rtt_ms >= 0 else "", rtt_ms=rtt_ms)
            for ttl, rtt_ms in enumerate(rtts_ms, 1)
        ]
    )
    payload = reply.get("payload")
    if payload is not None:
        path.nodes[-1].payload = b"" if payload == "none" else bytes((payload,)) * 56
    path.nodes[-1].flags = reply.get("flags", "RA")
    return path


class LastNumbers(random.Random):
    """Draws what is near the end of a range."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return (start if stop is None else stop) - 20


def queued(path: Path):
    """The same path, its errors told as the kernel's error queue tells them."""

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        return [(delay_ns, reported(datagram)) for delay_ns, datagram in path(transmit, now_ns)]

    for node in path.nodes:
        node.quoted_bytes = 28
    return answer


def reported(datagram: Datagram) -> ICMPError:
    found = read_error(datagram)
    assert found is not None
    error, quote = found
    error.original = quote.data[UDP_HEADER:]
    return error


def fields_of(packet: Packet) -> dict[str, int]:
    """What a simulation may say of a probe."""
    fields = {"size": len(packet), "tos": packet.tos if IP in packet else packet.tc}
    for layer in (UDP, TCP):
        if layer in packet:
            fields |= {"src_port": packet[layer].sport, "dst_port": packet[layer].dport}
    for layer in (ICMP, ICMPv6EchoRequest):
        if layer in packet:
            fields["identifier"] = packet[layer].id
    return fields
