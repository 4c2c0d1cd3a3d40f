"""What a capture is made of, by our count and by tshark's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from rawproto.capture import read
from rawproto.packets.pings import Pings
from rawproto.packets.reassembly import Reassembler
from rawproto.packets.retransmissions import TCPConduct
from rawproto.packets.statistics import MAX_NODES, ProtocolNode, Statistics, endpoints
from rawproto.wire.dissect import RAW, dissect
from rawproto.wire.icmp_echo import ICMPEcho
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.tcp import ACK, FIN, RST, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader

CAPTURES = Path(__file__).parents[2] / "captures"
# Of damaged packets, source routes and tunnels the two make different things.
BOTH_READ = ("arp", "tcp", "udp", "dns", "icmp", "icmpv6", "vlan", "ipv4-fragments", "loopback")
A, B = "192.0.2.1", "198.51.100.2"
MS = 1_000_000

# With CI=true a comparison that cannot be made is a failure and not a skip.
needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None and os.environ.get("CI") != "true",
    reason="tshark is not installed",
)


def tshark(path: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["tshark", "-n", "-r", str(path), *words], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def counted(path: Path) -> Statistics:
    statistics, reassembler = Statistics(), Reassembler()
    with read(path) as packets:
        for packet in packets:
            found = dissect(packet.data, packet.link_type)
            whole = reassembler.whole(found, packet.time_ns)
            statistics.add(found, whole, packet.original_length, packet.time_ns)
    return statistics


def by_protocol(node: ProtocolNode, above: str = "") -> Counter[str]:
    """Packets of each protocol, wherever it stands in the tree."""
    found: Counter[str] = Counter()
    for name, inside in node.inside.items():
        if name != above:  # two in a row are one line of tshark's too
            found[name] += inside.packets
            found[f"{name} bytes"] += inside.bytes
        found += by_protocol(inside, name)
    return found


@needs_tshark
@pytest.mark.parametrize("name", BOTH_READ)
def test_golden_captures_count_as_tshark_counts_them(name: str) -> None:
    path = CAPTURES / f"{name}.pcap"
    statistics = counted(path)
    ours = by_protocol(statistics.protocols)
    theirs: Counter[str] = Counter()
    names = {"eth": "ethernet", "ip": "ipv4", "ipv6": "ipv6", "tcp": "tcp", "udp": "udp"}
    names |= {"icmp": "icmp", "icmpv6": "icmpv6", "arp": "arp"}
    ends = {}
    lines = tshark(path, "-q", "-z", "io,phs", "-z", "endpoints,ip", "-z", "endpoints,ipv6")
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[1].startswith("frames:") and words[0] in names:
            theirs[names[words[0]]] += int(words[1].removeprefix("frames:"))
            theirs[f"{names[words[0]]} bytes"] += int(words[2].removeprefix("bytes:"))
        elif len(words) == 7 and words[1].isdigit():
            ends[words[0]] = [int(word) for word in words[3:]]
    assert {name: ours[name] for name in theirs} == dict(theirs)
    found = {
        end.addr: [end.packets[0], end.bytes[0], end.packets[1], end.bytes[1]]
        for name in ("ipv4", "ipv6")
        for end in endpoints(statistics.tables[name].all)
    }
    assert found == ends


@needs_tshark
@pytest.mark.parametrize("name", ["tcp", "udp", "dns", "ipv4-fragments"])
def test_conversations_have_tsharks_numbers(name: str) -> None:
    path = CAPTURES / f"{name}.pcap"
    theirs: Counter[str] = Counter()
    fields = [word for each in ("tcp.stream", "udp.stream", "frame.len") for word in ("-e", each)]
    for row in tshark(path, "-Y", "tcp or udp", "-T", "fields", *fields):
        tcp_stream, udp_stream, length = row.split("\t")
        conversation = f"tcp:{tcp_stream}" if tcp_stream else f"udp:{udp_stream}"
        theirs[conversation] += 1
        theirs[f"{conversation} bytes"] += int(length)
    ours: Counter[str] = Counter()
    for protocol in ("tcp", "udp"):
        for each in counted(path).tables[protocol].all:
            ours[each.name] += sum(each.packets)
            ours[f"{each.name} bytes"] += sum(each.bytes)
    assert ours == theirs


def test_bytes_are_those_on_the_wire() -> None:
    packet = (IPv4Header(src_addr=A, dst_addr=B) / UDPHeader(dst_port=9) / bytes(100)).emit()
    statistics = Statistics()
    found = dissect(packet[:40], RAW)
    statistics.add(found, found, len(packet), 5)
    assert (statistics.bytes, statistics.captured_bytes, statistics.damaged) == (128, 40, 1)
    assert statistics.tables["udp"].all[0].bytes == [128, 0]
    assert (statistics.first_ns, statistics.last_ns) == (5, 5)


def test_tables_are_bounded_and_say_so() -> None:
    statistics = Statistics(max_conversations=10)
    for number in range(30):
        packet = IPv4Header(src_addr=A, dst_addr=f"10.0.0.{number}") / UDPHeader(dst_port=9)
        found = dissect(packet.emit(), RAW)
        statistics.add(found, found, 28, number)
    assert statistics.full == {"ipv4": 20, "udp": 20}
    assert statistics.packets == 30
    assert statistics.protocols.inside["ipv4"].packets == 30


def test_tunnels_nested_in_any_order_do_not_grow_the_tree_without_end() -> None:
    statistics = Statistics()
    for number in range(2048):
        packet = UDPHeader(src_port=1, dst_port=2).emit(b"", src_addr=A, dst_addr=B)
        inner, protocol = packet, 17
        for bit in range(11):
            if number >> bit & 1:
                inner, protocol = IPv4Header(protocol=protocol).emit(inner), 4
            else:
                inner, protocol = IPv6Header(next_header=protocol).emit(inner), 41
        found = dissect(inner, RAW)
        statistics.add(found, found, len(inner), number)

    def size(node: ProtocolNode) -> int:
        return sum(1 + size(inside) for inside in node.inside.values())

    assert size(statistics.protocols) == MAX_NODES
    assert statistics.full["protocols"] > 0


class Conduct:
    """Feeds segments, times in milliseconds."""

    def __init__(self) -> None:
        self.of = TCPConduct()

    def send(
        self,
        ms: float,
        number: int,
        length: int = 0,
        *,
        side: int = 0,
        flags: int = ACK,
        ack: int = 0,
        window: int = 1000,
    ) -> None:
        header = TCPHeader(
            sequence_number=number & 0xFFFFFFFF,
            acknowledgment_number=ack,
            flags=flags,
            window=window,
        )
        self.of.add(side, header, length, int(ms * MS))

    def shake_hands(self) -> None:
        self.send(0, -10, flags=SYN)
        self.send(6, 100, side=1, flags=SYN | ACK, ack=0xFFFFFFF7)
        self.send(10, -9, ack=101)


def test_the_handshakes_round_trip_is_from_the_latest_syn_to_the_ack_of_its_answer() -> None:
    one = Conduct()
    one.send(-1000, -10, flags=SYN)
    one.shake_hands()
    assert one.of.handshake_rtt_ns == 10 * MS
    assert one.of.sides[0].retransmissions == 1
    assert one.of.sides[0].retransmitted_bytes == 0


def test_a_handshake_that_began_before_the_capture_tells_no_round_trip() -> None:
    one = Conduct()
    one.send(0, 100, side=1, flags=SYN | ACK, ack=1)
    one.send(5, 1, ack=101)
    assert one.of.handshake_rtt_ns is None


def test_what_was_seen_before_was_sent_again() -> None:
    one = Conduct()
    one.shake_hands()
    one.send(20, -9, 100)
    one.send(20, 91, 100)
    one.send(21, -9, 100)
    one.send(22, 150, 100)  # half of it new
    sender = one.of.sides[0]
    assert (sender.segments, sender.data_bytes) == (5, 400)
    assert (sender.retransmissions, sender.retransmitted_bytes, sender.unseen) == (2, 200, 0)


@pytest.mark.parametrize(("ms", "again", "overtaken"), [(24.9, 0, 1), (25.0, 1, 0), (200, 1, 0)])
def test_what_fills_a_hole_was_overtaken_only_if_it_comes_within_half_a_round_trip(
    ms: float, again: int, overtaken: int
) -> None:
    one = Conduct()
    one.shake_hands()
    one.send(20, 91, 100)
    one.send(min(ms, 24), 191, 100)
    one.send(ms, -9, 100)
    sender = one.of.sides[0]
    assert (sender.unseen, sender.retransmissions, sender.out_of_order) == (1, again, overtaken)
    one.send(ms + 1, -9, 100)
    assert sender.retransmissions == again + 1


def test_a_hole_may_be_filled_from_its_middle() -> None:
    one = Conduct()
    one.shake_hands()
    one.send(20, 291, 100)
    for number in (91, 191, -9, 191):  # the last is there by then
        one.send(21, number, 100)
    sender = one.of.sides[0]
    assert (sender.unseen, sender.out_of_order, sender.retransmissions) == (1, 3, 1)


def test_keep_alives_and_window_probes_are_nothing_sent_again() -> None:
    one = Conduct()
    one.shake_hands()
    one.send(20, -9, 100)
    one.send(30, 90, 1)
    one.send(31, 90)
    one.send(40, 101, side=1, ack=91, window=0)
    one.send(50, 91, 1)
    one.send(60, 91, 1)
    sender = one.of.sides[0]
    assert (sender.keep_alives, sender.window_probes, sender.retransmissions) == (2, 2, 0)


def test_resets_are_counted_and_fins_take_a_number() -> None:
    one = Conduct()
    one.shake_hands()
    one.send(20, -9, flags=FIN | ACK)
    one.send(21, -9, flags=FIN | ACK)
    one.send(22, -8, flags=RST)
    assert one.of.sides[0].retransmissions == 1
    assert one.of.resets == 1


def test_many_holes_are_bounded() -> None:
    one = Conduct()
    one.shake_hands()
    for number in range(1000):
        one.send(20, 100 * number, 50)
    assert one.of.sides[0].unseen == 1000
    assert len(one.of.sides[0]._holes) == 64


def echo(
    pings: Pings, ms: float, sequence_number: int, *, reply: bool = False, src: str = A
) -> None:
    message = ICMPEcho(icmp_type=0 if reply else 8, identifier=7, sequence_number=sequence_number)
    ends = (B, src) if reply else (src, B)
    packet = IPv4Header(src_addr=ends[0], dst_addr=ends[1]) / message / b"data"
    pings.add(dissect(packet.emit(), RAW), int(ms * MS))


def test_replies_are_matched_with_their_requests() -> None:
    pings = Pings()
    for ms, number in ((0, 1), (10, 2), (20, 3)):
        echo(pings, ms, number)
    echo(pings, 14, 2, reply=True)
    echo(pings, 22, 1, reply=True)
    echo(pings, 23, 1, reply=True)
    echo(pings, 30, 99, reply=True)
    (ping,) = pings.all
    assert (ping.requests, ping.replies, ping.duplicates, ping.unasked) == (3, 2, 1, 1)
    assert (ping.min_ns, ping.mean_ns, ping.max_ns) == (4 * MS, 13 * MS, 22 * MS)
    assert ping.deviation_ns == 9 * MS


def test_a_sequence_number_used_again_is_a_new_request() -> None:
    pings = Pings()
    for ms in (0, 100):
        echo(pings, ms, 1)
        echo(pings, ms + 1, 1, reply=True)
    assert (pings.all[0].replies, pings.all[0].duplicates) == (2, 0)


def test_pings_and_their_requests_are_bounded() -> None:
    pings = Pings(max_pings=3, max_requests=5)
    for number in range(10):
        echo(pings, number, number)
        echo(pings, number, number, src=f"10.0.0.{number}")
    assert len(pings.all) == 3
    assert pings.untracked == 8
    assert pings.forgotten == 7
