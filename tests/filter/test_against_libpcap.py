"""What passes our filters passes libpcap's: hundreds of expressions on every golden packet."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from rawproto.capture import read
from rawproto.errors import UsageError
from rawproto.filter.compiler import FilterError, compile_filter
from rawproto.filter.instructions import Program
from rawproto.filter.interpreter import run
from tests.filter.expressions import EXPRESSIONS, ExampleNames, for_libpcap, random_expression
from tests.filter.libpcap import LibpcapError, compile_with_libpcap, in_byte_order_of

CAPTURES = Path(__file__).parents[2] / "captures"
ETHERNET, NULL, LOOP = 1, 0, 108
# Here libpcap compiles for the system it runs on, unless it is given the file.
OF_THE_SYSTEM = (NULL, LOOP)
NOTHING = "expression rejects all packets"


@cache
def golden() -> dict[int, tuple[Path, tuple[bytes, ...]]]:
    """Every golden packet by link type, with one of the files."""
    found: dict[int, tuple[Path, tuple[bytes, ...]]] = {}
    for path in sorted(CAPTURES.glob("*.pcap*")):
        with read(path) as reader:
            packets = [(reader.interfaces[each.interface].link_type, each.data) for each in reader]
        for link_type, data in packets:
            first, others = found.get(link_type, (path, ()))
            found[link_type] = first, (*others, data)
    return found


def theirs(expression: str, link_type: int) -> Program | None:
    """libpcap's program, None where it says that nothing can pass."""
    file = golden()[link_type][0] if link_type in OF_THE_SYSTEM else None
    try:
        return compile_with_libpcap(for_libpcap(expression), link_type=link_type, file=file)
    except LibpcapError as error:
        if NOTHING in str(error):
            return None
        raise


def disagreements(expression: str, link_type: int, packets: list[bytes]) -> Iterator[str]:
    ours = compile_filter(expression, link_type=link_type, names=ExampleNames())
    wanted = theirs(expression, link_type)
    for packet in packets:
        seen = in_byte_order_of(golden()[NULL][0], packet) if link_type == NULL else packet
        expected = bool(wanted is not None and run(wanted, seen))
        if bool(run(ours, packet)) != expected:
            yield f"{expression!r} of {link_type}: libpcap says {expected} of {packet.hex()}"


def test_there_are_enough_expressions_and_packets() -> None:
    assert len(set(EXPRESSIONS)) > 300
    assert {0, 1, 101, 113, 276} <= set(golden())


@pytest.mark.parametrize("link_type", sorted(golden()))
def test_the_same_golden_packets_pass_whole_and_cut_short(link_type: int) -> None:
    rng = random.Random(link_type)
    packets = golden()[link_type][1]
    compared = 0
    for expression in EXPRESSIONS:
        cut = [each[: rng.randrange(len(each))] for each in packets if each]
        try:
            assert not list(disagreements(expression, link_type, [*packets, *cut]))
        except (LibpcapError, UsageError) as error:
            # What libpcap knows on Ethernet only, or neither does.
            assert link_type != ETHERNET, (expression, str(error))
            continue
        compared += 1
    assert compared > 300 or (link_type != ETHERNET and compared > 200)


def test_the_same_packets_pass_random_expressions() -> None:
    """All are long enough: in what order packets are found too short differs here and there."""
    rng = random.Random(4)
    packets = [each + rng.randbytes(200) for each in golden()[ETHERNET][1]]
    verdicts = 0
    for _ in range(300):
        expression = random_expression(rng)
        assert not list(disagreements(expression, ETHERNET, rng.sample(packets, 40)))
        verdicts += theirs(expression, ETHERNET) is not None
    assert verdicts > 200


def test_what_libpcap_refuses_is_refused() -> None:
    for expression in REFUSED:
        with pytest.raises(LibpcapError):
            compile_with_libpcap(expression)
        with pytest.raises(FilterError):
            compile_filter(expression)


REFUSED = r"""
    1.2.3.4
    ip and
    and ip
    ip ip
    (ip
    ip)
    tcp 80
    host
    host 1.2.3.4.5
    host 256.1.1.1
    host 2001:db8::1::2
    ip host 2001:db8::1
    ip6 host 192.0.2.1
    arp host 2001:db8::1
    tcp host 192.0.2.1
    net 192.0.2.1/24
    net 192.0.2.0/33
    net 2001:db8::1/32
    net 2001:db8::/129
    net 192.0.2.1 mask 255.255.255.0
    host 192.0.2.0/24
    port 70000
    port 1.2.3.4
    ip port 80
    icmp port 80
    tcp port tftp
    port nosuchservice
    ether host 192.0.2.1
    ether host 1:2:3:4:5
    ether port 80
    host 02:00:00:00:00:01
    ip proto tcp
    ip proto \nosuchprotocol
    arp proto 1
    ether proto \nosuchprotocol
    vlan 4096
    mpls 1048576
    mpls and vlan
    pppoes 65536
    pppoes and ether host 02:00:00:00:00:01
    ip6 broadcast
    ip[0:3] = 1
    ip[0 = 1
    ip[] = 1
    ip[0]
    ip[0] =
    ip[0] / 0 = 1
    ip[0] % 0 = 1
    ip[0] << 32 = 1
    len = 4294967296
    len
    host sundown.invalid
    # port 80
    gateway snup
    ip broadcst
"""
REFUSED = [line.strip() for line in REFUSED.splitlines() if line.strip()]


@pytest.mark.parametrize("netmask", ["255.255.255.0", "255.255.0.0", "0.0.0.0"])
def test_ip_broadcast_looks_at_the_netmask(netmask: str) -> None:
    number = int.from_bytes(bytes(map(int, netmask.split("."))), "big")
    wanted = compile_with_libpcap("ip broadcast", netmask=number)
    ours = compile_filter("ip broadcast", netmask=netmask)
    header = bytes(12) + b"\x08\x00" + bytes(16)
    for dst in ("c00002ff", "c0000200", "c000ffff", "c0000000", "ffffffff", "00000000", "c0000201"):
        packet = header + bytes.fromhex(dst)
        assert bool(run(ours, packet)) == bool(run(wanted, packet)), dst


def test_programs_are_no_longer_than_libpcaps() -> None:
    ours = sum(len(compile_filter(each, names=ExampleNames())) for each in EXPRESSIONS)
    wanted = sum(len(theirs(each, ETHERNET) or "") for each in EXPRESSIONS)
    assert ours <= wanted
