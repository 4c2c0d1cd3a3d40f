"""Filter expressions: what is refused and where, long programs, live captures, the kernel."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from rawproto.errors import UsageError
from rawproto.filter import Names, compile_filter
from rawproto.filter.compiler import FilterError
from rawproto.filter.instructions import ANCILLARY, ANCILLARY_OFFSET
from rawproto.filter.interpreter import Ancillary, run
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.filter.expressions import EXPRESSIONS, ExampleNames, random_expression
from tests.filter.kernel import attach, verdict
from tests.filter.test_against_libpcap import golden

IPV4 = IPv4Header(src_addr="192.0.2.1", dst_addr="198.51.100.2")


def frame(*layers: object) -> bytes:
    packet = EthernetHeader(src_addr="02:00:00:00:00:01", dst_addr="02:00:00:00:00:02")
    for layer in layers:
        packet = packet / layer
    return packet.emit()


def passes(
    expression: str, packet: bytes, ancillary: Ancillary | None = None, **how: object
) -> bool:
    program = compile_filter(expression, **how)
    return bool(run(program, packet, ancillary or Ancillary()))


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "word", "reason"),
    [
        ("porrt 80", "porrt", "did you mean port?"),
        ("udp and prot 53", "prot", "did you mean"),
        ("sundown", "sundown", "`host sundown`"),
        ("tcp port 80 443", "443", "`and` or `or` is missing before this"),
        ("tcp 80", "80", "after tcp comes src, dst"),
        ("host tcp", "tcp", "as a name, write \\tcp"),
        ("ip proto tcp", "tcp", "write \\tcp"),
        ("port 65536", "65536", "must be 0 to 65535"),
        ("port nosuch", "nosuch", "no port is known by the name nosuch"),
        ("tcp port tftp", "tftp", "no port of tcp"),
        ("host nosuch", "nosuch", "no address is known of this name"),
        ("ip host 2001:db8::1", "ip host 2001:db8::1", "ip has no IPv6 address"),
        ("net 192.0.2.1/24", "net 192.0.2.1/24", "bits are set behind what the mask covers"),
        ("icmp port 7", "icmp port 7", "icmp has no ports"),
        ("gateway snup", "gateway", "write `ether host MAC and not host ADDRESS`"),
        ("ip6 protochain 6", "protochain", "loops"),
        ("wlan host 2:0:0:0:0:1", "wlan", "only Ethernet is known"),
        ("(ip or arp", "(", "this bracket is not closed"),
        ("ip or arp)", ")", "no bracket was opened"),
        ("ip[0", " ", "`]` is missing"),
        ("ip[0:3] = 1", "3", "1, 2 or 4 bytes"),
        ("ip[0] / 0 = 1", "ip[0] / 0", "divided by zero"),
        ("1 << 32 = 1", "1 << 32", "more than 31 bits"),
        ("len = 4294967296", "4294967296", "does not fit 32 bits"),
        ("len = 09", "09", "no octal number"),
        ("link[0xfffff000] = 1", "0xfffff000", "no packet has bytes there"),
        ("vlan 4096", "vlan 4096", "must be 0 to 4095"),
        ("mpls and vlan", "vlan", "not looked for behind MPLS"),
        ("ip broadcast", "ip broadcast", "netmask of the interface is not known"),
        ("ip and", "", "something to look for is missing here"),
        ("ip ? arp", "?", "means nothing here"),
    ],
)
def test_what_is_not_known_is_pointed_at(expression: str, word: str, reason: str) -> None:
    with pytest.raises(FilterError, match=r"^filter: ") as caught:
        compile_filter(expression)
    error = caught.value
    assert isinstance(error, UsageError)
    assert reason in error.reason
    assert error.expression[error.position : error.position + error.length] == word.strip()
    first, shown, caret = str(error).splitlines()
    assert first == f"filter: {error.reason}"
    assert shown == "  " + expression
    at = error.position + 2
    assert caret == " " * at + "^" + "~" * (max(len(word.strip()), 1) - 1)


def test_the_caret_stands_right_whatever_the_expression_has_in_it() -> None:
    for expression in ("ip\x1b[2J and nosuch", "ip and\n\tnosuch", "port 1 or " * 40 + "nosuch"):
        with pytest.raises(FilterError) as caught:
            compile_filter(expression)
        first, shown, caret = str(caught.value).splitlines()
        assert (first + shown + caret).isprintable()
        assert len(shown) < 140
        mark = caret.index("^")
        assert shown[mark : mark + len(caret) - mark] == (
            "nosuch" if "\x1b" not in expression else "\\x1b"
        )


@pytest.mark.parametrize(
    "expression",
    [
        "(" * 2000 + "ip" + ")" * 2000,
        "not " * 2000 + "ip",
        "host " + "not " * 2000 + "192.0.2.1",
        "host " + "(" * 2000 + "192.0.2.1" + ")" * 2000,
        "1" + "+1" * 2000 + " = 1",
        "-" * 2000 + "1 = 1",
        "ip" + "[ip" * 2000 + "[0]" + "]" * 2000 + " = 1",
        " or ".join(f"host 10.{each >> 8}.{each & 255}.1" for each in range(1500)),
        "9" * 5000,
        "len = " + "9" * 5000,
        "host " + "1" * 5000 + ".1",
    ],
)
def test_whatever_is_too_much_is_refused(expression: str) -> None:
    with pytest.raises(FilterError):
        compile_filter(expression)


def test_other_arguments_are_looked_at() -> None:
    for how in ({"link_type": 147}, {"netmask": "255.255"}, {"snap_length": 0}):
        with pytest.raises(UsageError):
            compile_filter("ip", **how)


# --- what it means --------------------------------------------------------------------------------


def test_an_empty_expression_lets_everything_through() -> None:
    assert run(compile_filter(""), b"") == run(compile_filter(" \n"), b"x") == 262_144
    assert run(compile_filter("ip", snap_length=96), frame(IPV4)) == 96


def test_operators_bind_as_in_c() -> None:
    for text in ("2 + 3 * 4", "20 - 6 - 4", "1 | 6 ^ 3 & 5", "1 << 2 + 1", "17 % 5 * 2", "-3 + 5"):
        assert passes(f"ip[0] * 0 + ({text}) = {eval(text)}", frame(IPV4)), text
        assert passes(f"ether[0] - 2 + {text} = {eval(text)}", frame(IPV4)), text


def test_an_id_without_qualifiers_takes_those_before_it() -> None:
    web = frame(IPV4, TCPHeader(src_port=5000, dst_port=443))
    assert passes("tcp dst port 80 or 443", web)
    assert not passes("tcp src port 80 or 443", web)
    assert passes("src host 192.0.2.1 and (dst host 192.0.2.9 or 198.51.100.2)", web)
    assert passes("tcp port (80 or 443)", web)
    assert passes("host not 192.0.2.77", web)
    with pytest.raises(FilterError):
        compile_filter("len > 5 and 443")


def test_a_name_is_asked_for_once_and_all_its_addresses_count() -> None:
    class Two(Names):
        def hosts(self, name: str) -> list[str]:
            return ["198.51.100.2", "2001:db8::2"] if name == "both" else []

        def network(self, name: str) -> str | None:
            return {"home": "192.0.2"}.get(name)

        def ports(self, name: str) -> dict[int, int]:
            return {"odd": {6: 1, 17: 2}, "same": {6: 3, 17: 3}}.get(name, {})

    over_ipv6 = IPv6Header(src_addr="2001:db8::1", dst_addr="2001:db8::2")
    how = {"names": Two()}
    assert passes("host both", frame(IPV4), **how)
    assert passes("dst host both", frame(over_ipv6), **how)
    assert not passes("ip host both", frame(over_ipv6), **how)
    assert not passes("src host both", frame(IPV4), **how)
    assert passes("src net home", frame(IPV4), **how)
    assert not passes("dst net home", frame(IPV4), **how)
    assert passes("port same", frame(IPV4, UDPHeader(src_port=3, dst_port=9)), **how)
    assert passes("tcp port odd", frame(IPV4, TCPHeader(src_port=1, dst_port=9)), **how)
    assert not passes("tcp port odd", frame(IPV4, TCPHeader(src_port=2, dst_port=9)), **how)
    # Of each protocol its own port.
    assert passes("port odd", frame(IPV4, UDPHeader(src_port=2, dst_port=9)), **how)
    assert passes("port odd", frame(IPV4, TCPHeader(src_port=1, dst_port=9)), **how)
    assert not passes("port odd", frame(IPV4, TCPHeader(src_port=2, dst_port=9)), **how)


def test_a_loopback_family_counts_in_either_byte_order() -> None:
    packet = (IPV4 / UDPHeader(dst_port=9)).emit()
    for family in ("00000002", "02000000"):
        assert passes("udp port 9", bytes.fromhex(family) + packet, link_type=0)
    assert not passes("ip", bytes.fromhex("02000000") + packet, link_type=108)
    for family in (10, 24, 28, 30):
        for order in ("big", "little"):
            assert passes("ip6", family.to_bytes(4, order) + bytes(40), link_type=0)


# --- live captures --------------------------------------------------------------------------------


def test_a_tag_that_the_kernel_took_out_counts_as_one_that_is_there() -> None:
    inside = (IPV4, UDPHeader(dst_port=53))
    plain = frame(*inside)
    tagged = frame(VLANTag(vid=7), *inside)
    twice = frame(VLANTag(vid=9), VLANTag(vid=7), *inside)
    seven = Ancillary(vlan_present=True, vlan_tci=0x2007, vlan_tpid=0x8100)
    nine = Ancillary(vlan_present=True, vlan_tci=9, vlan_tpid=0x88A8)
    none = Ancillary()
    for expression, packet, beside, expected in (
        ("vlan 7 and udp port 53", plain, seven, True),
        ("vlan 7 and udp port 53", tagged, none, True),
        ("vlan 7 and udp port 53", plain, none, False),
        ("vlan 8", plain, seven, False),
        ("vlan", plain, seven, True),
        ("not vlan", plain, seven, False),
        ("not vlan", plain, none, True),
        ("vlan 9 and vlan 7 and udp", tagged, nine, True),
        ("vlan 9 and vlan 7 and udp", twice, none, True),
        ("vlan 7 and vlan 9 and udp", tagged, nine, False),
        ("udp port 53", plain, seven, True),
    ):
        assert passes(expression, packet, beside, live=True) is expected, expression


def test_direction_and_interface_are_asked_of_the_kernel() -> None:
    sent = Ancillary(packet_type=4, interface=3)
    assert passes("outbound and ifindex 3 and ip", frame(IPV4), sent)
    assert not passes("inbound", frame(IPV4), sent)
    assert not passes("ifindex 4", frame(IPV4), sent)


# --- programs -------------------------------------------------------------------------------------


def test_jumps_further_than_a_byte_can_say_arrive() -> None:
    rng = random.Random(9)
    hosts = rng.sample(range(1, 0xFFFF), 900)
    text = " or ".join(f"10.1.{each >> 8}.{each & 255}" for each in hosts)
    # Ways over the whole program, and some from its middle.
    expression = f"ip and (src host {text}) and not (ip[8] = 7 or udp port 53) or arp"
    program = compile_filter(expression)
    assert 900 < len(program) < 1000
    for each in (hosts[0], hosts[450], hosts[-1]):
        src = f"10.1.{each >> 8}.{each & 255}"
        for ttl, port, expected in ((64, 9, True), (7, 9, False), (64, 53, False)):
            header = IPv4Header(src_addr=src, dst_addr="198.51.100.2", ttl=ttl)
            assert bool(run(program, frame(header, UDPHeader(dst_port=port)))) is expected
    assert not run(program, frame(IPV4))
    assert run(program, bytes(12) + b"\x08\x06")


def test_arithmetic_that_needs_scratch_memory_is_right() -> None:
    rng = random.Random(5)

    def nested(depth: int) -> str:
        if depth == 0:
            return f"ether[{rng.randrange(30)}]"
        return f"({nested(depth - 1)} {rng.choice('+-*|&^')} {nested(depth - 1)})"

    for _ in range(60):
        packet = rng.randbytes(30)
        text = nested(rng.randrange(1, 6))
        values = text.replace("ether[", "packet[")
        expected = eval(values, {"packet": packet}) & 0xFFFF_FFFF
        assert passes(f"{text} = {expected}", packet)
        assert not passes(f"{text} = {expected ^ 1}", packet)
    packet = rng.randbytes(30)
    text = "ether[ether[0] & 7]" + " - ether[1]" * 90
    value = eval(text.replace("ether", "packet"), {"packet": packet}) & 0xFFFF_FFFF
    assert passes(f"{text} = {value}", packet)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(ours), closing(theirs):
        yield ours, theirs


def test_the_kernel_takes_our_programs_and_says_the_same(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    rng = random.Random(6)
    packets = golden()[1][1]
    asks = {ANCILLARY_OFFSET + ANCILLARY[name] for name in ("type", "ifidx")}
    for expression in (*EXPRESSIONS, *(random_expression(rng) for _ in range(100))):
        for live in (False, True):
            program = compile_filter(expression, names=ExampleNames(), live=live)
            assert attach(pair[1], program), expression
        if asks & {each.k for each in program}:
            continue  # a Unix socket's packets have neither
        for packet in rng.sample(packets, 5):
            expected = min(run(program, packet), len(packet))
            assert verdict(pair, packet) == expected, (expression, packet.hex())
