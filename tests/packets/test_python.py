"""Packets as library code: the script runs, and makes equal bytes."""

from __future__ import annotations

from typing import Any

import pytest

from rawproto import DNSMessage, Packet, dissect
from rawproto.packets.notation import craft
from rawproto.packets.python import python_code
from tests.captures.make import CAPTURES


def made_by(code: str) -> list[Packet]:
    """What a script leaves in `packet` or `packets`."""
    names: dict[str, Any] = {}
    exec(code, names)
    packets = names["packets"] if "packets" in names else [names["packet"]]
    assert all(isinstance(packet, Packet) for packet in packets)
    return packets


@pytest.mark.parametrize("name", CAPTURES)
def test_every_golden_packet_survives_as_a_script(name: str) -> None:
    capture = CAPTURES[name]
    stacks = [dissect(golden.captured, capture.link_type).packet for golden in capture.packets()]
    for stack, again in zip(stacks, made_by(python_code(stacks)), strict=True):
        assert again == stack
        if DNSMessage not in stack:  # whose names may have been compressed
            assert again.emit() == stack.emit()


@pytest.mark.parametrize(
    "expression",
    [
        "ipv4",
        "hex:4500",
        "text:a / ipv4 / udp",
        'ipv4 / text:"quotes \\" \' and \\\\ \\n"',
        "ipv4 / random:500",
        "ipv4 dst_addr=10.0.0.0/30 / udp dst_port={1,2}",
        'ipv4 / icmp icmp_type=3 extensions=[interface_information(if_name="a\\"b")]',
        (
            "cooked2 / ipv6 / ipv6_hop_by_hop options=[router_alert,padn=hex:00] / icmpv6_unknown "
            "icmp_type=130"
        ),
        "ipv4 / rpt_init token=hex:0102",
        "ipv6_unknown_routing data=hex:00000000",
    ],
)
def test_expressions_become_scripts(expression: str) -> None:
    packets = list(craft(expression))
    assert made_by(python_code(packets)) == packets


def test_a_script_is_short_where_there_is_little_to_say() -> None:
    (packet,) = craft("ipv4 dst_addr=10.0.0.2 ttl=3 / udp dst_port=53 / text:hello")
    assert python_code([packet]) == (
        "from rawproto import IPv4Header, UDPHeader\n\n"
        'packet = IPv4Header(ttl=3, dst_addr="10.0.0.2") / UDPHeader(dst_port=53) / b"hello"\n'
    )


def test_a_long_script_is_broken_at_its_layers_and_fields() -> None:
    (packet,) = craft(
        "ipv4 src_addr=192.168.100.100 dst_addr=192.168.100.200 / tcp src_port=40000 "
        "dst_port=443 flags=SYN window=64240 options=[mss=1400,sack_permitted]"
    )
    assert python_code([packet]) == (
        "from rawproto import IPv4Header, TCPHeader\n"
        "from rawproto.wire import tcp_options\n"
        "\n"
        "packet = (\n"
        '    IPv4Header(src_addr="192.168.100.100", dst_addr="192.168.100.200")\n'
        "    / TCPHeader(\n"
        "        src_port=40000,\n"
        "        dst_port=443,\n"
        "        flags=0x2,\n"
        "        window=64240,\n"
        "        options=(tcp_options.MSS(mss=1400), tcp_options.SACKPermitted()),\n"
        "    )\n"
        ")\n"
    )


def test_no_packets_make_an_empty_list() -> None:
    assert made_by(python_code([])) == []
