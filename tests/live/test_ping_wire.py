"""Every option of ping by its effect on the wire, judged by scapy; both families at once.

Two hosts on two cables, so that a route, a source and an interface can differ:

    h1 10.99.1.1 [eth0]----[eth0] 10.99.1.2 h2
       10.99.2.1 [eth1]----[eth1] 10.99.2.2
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, defragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, defragment6
from scapy.packet import Packet
from scapy.utils import PcapReader, checksum

from rawproto import lab
from rawproto.lab.topology import numbered_link
from tests.live.pinging import PATIENCE_S, Said, Wire, echo_of, judged, say, set_sysctl, stamping

H1, H2 = "10.99.1.1", "10.99.1.2"
H1_V6, H2_V6 = "fd99:1::1", "fd99:1::2"
BOTH = (H2, H2_V6)
SECOND, SECOND_V6 = "10.99.1.7", "fd99:1::7"
"""Further addresses of h1, which no route prefers."""


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    topology = lab.Topology(
        name="cables",
        hosts=(lab.Host(name="h1"), lab.Host(name="h2")),
        links=(numbered_link(1, "h1", "h2"), numbered_link(2, "h1", "h2")),
    )
    with lab.up(topology) as network, stamping(network.host("h2")):
        h1 = network.host("h1")
        commands = (
            f"addr add {SECOND}/24 dev eth0",
            f"addr add {SECOND_V6}/64 dev eth0 nodad preferred_lft 0",
            # The way by the other cable, for who asks for that.
            "-6 route add fd99:1::/64 via fd99:2::2 metric 4096",
            "route add 10.99.1.0/24 via 10.99.2.2 metric 4096",
        )
        for command in commands:
            h1.run(["ip", *command.split()], check=True)
        # 10.99.1.77 is nobody, and the kernel does not say so while the module runs.
        set_sysctl(h1, "ipv4/neigh/eth0/mcast_solicit", "1000")
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture(scope="module")
def module_wire(network: lab.Network) -> Iterator[Wire]:
    with Wire(network.host("h2")) as wire:
        yield wire


@pytest.fixture
def wire(module_wire: Wire) -> Wire:
    module_wire.forget()
    return module_wire


def sent_by(h1: lab.LiveHost, wire: Wire, words: str, *hosts: str) -> list[Packet]:
    """The one request to each host that a ping with these options sends."""
    said = say(h1, "-n", "-c1", *words.split(), *hosts)
    assert (said.code, said.error) == (0, ""), said
    packets = wire.packets(len(hosts))
    assert len(packets) == len(hosts)
    return packets


def test_a_plain_ping_of_both_families_is_right_to_the_last_bit(
    h1: lab.LiveHost, wire: Wire
) -> None:
    said = say(h1, "-c3", "-i0.01", "-W5", *BOTH)
    assert said.code == 0
    packets = wire.packets(6)
    ipv4, ipv6 = ([each for each in packets if kind in each] for kind in (IP, IPv6))
    assert {(each.src, each.dst, each.ttl, each.tos, str(each.flags)) for each in ipv4} == {
        (H1, H2, 64, 0, "DF")
    }
    assert len({each.id for each in ipv4} - {0}) == 3, "each has an identification of its own"
    assert {(each.src, each.dst, each.hlim, each.tc, each.fl) for each in ipv6} == {
        (H1_V6, H2_V6, 64, 0, 0)
    }
    echoes = [[echo_of(each) for each in family] for family in (ipv4, ipv6)]
    assert echoes[0] == echoes[1], "one identifier for all"
    assert [number for _, number, _ in echoes[0]] == [1, 2, 3]
    assert {payload for _, _, payload in echoes[0]} == {bytes(range(56))}
    assert {each[ICMP].code for each in ipv4} == {0}


@pytest.mark.skipif(
    Path("/proc/self/setgroups").read_text() == "deny\n",
    reason="tcpdump wants to change its groups, which this user namespace forbids",
)
def test_tcpdump_sees_what_our_own_capture_sees_and_scapy_finds_it_right(
    h1: lab.LiveHost, network: lab.Network, wire: Wire, tmp_path: Path
) -> None:
    file = tmp_path / "wire.pcap"
    how = f"tcpdump -i eth0 -Q in -c 8 --immediate-mode -Z root -w {file}".split()
    # Two requests of each family, in two fragments each.
    what = "icmp or (ip6 and ip6[6] = 44)"
    with network.host("h2").popen([*how, what], stderr=subprocess.PIPE, text=True) as tcpdump:
        assert "listening on eth0" in tcpdump.stderr.readline()
        said = say(h1, "-c2", "-i0.01", "-W5", "-s2000", *BOTH)
        tcpdump.communicate(timeout=PATIENCE_S)
    assert said.code == 0
    ours = [frame.data for frame in wire.frames(8)]
    with PcapReader(str(file)) as reader:
        assert [bytes(packet) for packet in reader] == ours
    packets = [judged(frame[14:]) for frame in ours]
    wholes = [each for each in defragment([each for each in packets if IP in each]) if IP in each]
    for whole in wholes:
        assert (len(whole), checksum(bytes(whole[ICMP]))) == (2028, 0)
    assert len(wholes) == 2


@pytest.mark.parametrize(("words", "ttl"), [("-t 7", 7), ("-t 255", 255), ("-t 1", 1)])
def test_ttl_and_hop_limit(words: str, ttl: int, h1: lab.LiveHost, wire: Wire) -> None:
    ipv4, ipv6 = sent_by(h1, wire, words, *BOTH)
    assert (ipv4.ttl, ipv6.hlim) == (ttl, ttl)


def test_tos_and_traffic_class(h1: lab.LiveHost, wire: Wire) -> None:
    ipv4, ipv6 = sent_by(h1, wire, "-Q 0xb9", *BOTH)
    assert (ipv4.tos, ipv6.tc) == (0xB9, 0xB9)


@pytest.mark.parametrize("size", [0, 1, 7, 57, 1452, 1472])
def test_size_of_the_payload(size: int, h1: lab.LiveHost, wire: Wire) -> None:
    hosts = BOTH if size <= 1452 else (H2,)
    packets = sent_by(h1, wire, f"-s {size}", *hosts)
    payload = (bytes(range(256)) * 6)[:size]
    assert [echo_of(packet)[2] for packet in packets] == [payload] * len(hosts)


def test_pattern_of_the_payload(h1: lab.LiveHost, wire: Wire) -> None:
    packets = sent_by(h1, wire, "-p c0ffee -s 8", *BOTH)
    assert [echo_of(packet)[2] for packet in packets] == [bytes.fromhex("c0ffeec0ffeec0ff")] * 2


@pytest.mark.parametrize(
    ("how", "flags"), [("do", "DF"), ("want", "DF"), ("probe", "DF"), ("dont", "")]
)
def test_dont_fragment_flag(how: str, flags: str, h1: lab.LiveHost, wire: Wire) -> None:
    (packet,) = sent_by(h1, wire, f"-M {how}", H2)
    assert str(packet.flags) == flags


@pytest.mark.parametrize("how", ["want", "dont"])
def test_more_than_the_mtu_is_cut_and_the_far_kernel_puts_it_together(
    how: str, h1: lab.LiveHost, wire: Wire
) -> None:
    said = say(h1, "-n", "-c1", "-s4000", "-M", how, *BOTH)
    assert said.code == 0
    assert said.out.count("4008 bytes from ") == 2
    packets = wire.packets(6)
    ipv4 = [each for each in packets if IP in each]
    assert [(str(each.flags), each.frag * 8, len(each)) for each in ipv4] == [
        ("MF", 0, 1500),
        ("MF", 1480, 1500),
        ("", 2960, 20 + 4008 - 2960),
    ]
    assert len({each.id for each in ipv4}) == 1
    (whole,) = defragment(ipv4)
    assert echo_of(whole)[2] == (bytes(range(256)) * 16)[:4000]
    ipv6 = [each for each in packets if IPv6 in each]
    fragments = [each[IPv6ExtHdrFragment] for each in ipv6]
    assert [(each.nh, each.m, each.offset * 8) for each in fragments] == [
        (58, 1, 0),
        (58, 1, 1448),
        (58, 0, 2896),
    ]
    assert len({each.id for each in fragments}) == 1
    whole = defragment6(ipv6)
    judged(bytes(whole))
    assert echo_of(whole)[2] == (bytes(range(256)) * 16)[:4000]


def test_the_largest_of_all_packets_comes_back_whole(h1: lab.LiveHost) -> None:
    assert say(h1, "-c1", "-s65507", *BOTH).out.count("65515 bytes from ") == 2


def test_record_route_is_filled_in_on_the_way(h1: lab.LiveHost, wire: Wire) -> None:
    said = say(h1, "-c1", "-R", H2)
    option, end = wire.packets(1)[0].options
    assert (option.option, option.length, option.pointer, end.option) == (7, 39, 8, 0)
    assert option.routers[0] == H1
    # The far host enters itself as it receives and as it answers.
    assert said.lines[2:6] == [f"RR: \t{H1}", f"\t{H2}", f"\t{H2}", f"\t{H1}"]


@pytest.mark.parametrize(
    ("kind", "flag", "length", "pointer"),
    [("tsonly", 0, 40, 9), ("tsandaddr", 1, 36, 13), (f"tsprespec={H2},{H1}", 3, 20, 5)],
)
def test_timestamps(
    kind: str, flag: int, length: int, pointer: int, h1: lab.LiveHost, wire: Wire
) -> None:
    said = say(h1, "-c1", "-T", kind, H2)
    packet = wire.packets(1)[0]
    option = bytes(packet)[20 : packet.ihl * 4]
    assert (option[0], option[1], option[2], option[3]) == (68, length, pointer, flag)
    if flag == 1:
        assert option[4:8] == bytes((10, 99, 1, 1))
    if flag == 3:
        assert (option[4:8], option[12:16]) == (bytes((10, 99, 1, 2)), bytes((10, 99, 1, 1)))
    stamps = [line for line in said.lines if line.startswith(("TS: \t", "\t"))]
    assert len(stamps) == (2 if flag == 3 else 4)
    assert stamps[0].endswith(" absolute")


def test_flow_label(h1: lab.LiveHost, wire: Wire) -> None:
    (packet,) = sent_by(h1, wire, "--flow-label 0xabcde", H2_V6)
    assert packet.fl == 0xABCDE


@pytest.mark.parametrize(
    ("words", "host", "src_addr"),
    [
        (f"-I {SECOND}", H2, SECOND),
        (f"--source {SECOND}", H2, SECOND),
        (f"--source {SECOND_V6}", H2_V6, SECOND_V6),
        (f"-I {SECOND_V6}", H2_V6, SECOND_V6),
    ],
)
def test_source_address(words: str, host: str, src_addr: str, h1: lab.LiveHost, wire: Wire) -> None:
    (packet,) = sent_by(h1, wire, words, host)
    assert packet.src == src_addr


@pytest.mark.parametrize(
    ("words", "host", "interface", "src_addr"),
    [
        ("", H2, "eth0", H1),
        ("-I eth0", H2, "eth0", H1),
        ("-I eth1", H2, "eth1", "10.99.2.1"),
        (f"-I eth0 --source {SECOND}", H2, "eth0", SECOND),
        ("", H2_V6, "eth0", H1_V6),
        ("-I eth0", H2_V6, "eth0", H1_V6),
        ("-I eth1", H2_V6, "eth1", "fd99:2::1"),
        ("", "fe80::ff:fe00:102%eth0", "eth0", "fe80::ff:fe00:101"),
        ("", "fe80::ff:fe00:202%eth1", "eth1", "fe80::ff:fe00:201"),
        ("-I eth1", "fe80::ff:fe00:202", "eth1", "fe80::ff:fe00:201"),
        ("-I fe80::ff:fe00:201%eth1", "fe80::ff:fe00:202", "eth1", "fe80::ff:fe00:201"),
    ],
)
def test_interface_and_scope_decide_by_which_cable_it_leaves(
    words: str, host: str, interface: str, src_addr: str, h1: lab.LiveHost, wire: Wire
) -> None:
    said = say(h1, "-c1", *words.split(), host)
    assert said.code == 0
    (frame,) = wire.frames(1)
    assert wire.interface_of(frame) == interface
    packet = judged(frame.data[14:])
    assert (packet.src, packet.dst) == (src_addr, host.partition("%")[0])
    if "fe80" in host:
        assert f"64 bytes from {packet.dst}%{interface}: " in said.out


def test_count_and_interval(h1: lab.LiveHost, wire: Wire) -> None:
    said = say(h1, "-c4", "-i0.03", "-W5", H2)
    assert [echo_of(packet)[1] for packet in wire.packets(4)] == [1, 2, 3, 4]
    took = re.search(r"time (\d+)ms", said.out)
    assert took
    assert int(took[1]) >= 90, "late perhaps, early never"


def test_preload_leaves_at_once(h1: lab.LiveHost, wire: Wire) -> None:
    said = say(h1, "-c3", "-l3", "-i60", *BOTH)
    assert said.code == 0
    assert len(wire.packets(6)) == 6


@pytest.mark.parametrize("words", ["-f -W5", "-i0 -W5", "-A -i60 -W5"])
def test_flood_and_adaptive_send_on_each_answer(words: str, h1: lab.LiveHost, wire: Wire) -> None:
    said = say(h1, *words.split(), "-c20", *BOTH)
    assert said.code == 0
    assert said.out.count("20 packets transmitted, 20 received, 0% packet loss") == 2
    assert said.out.count(", ipg/ewma ") == 2
    packets = wire.packets(40)
    for kind in (IP, IPv6):
        numbers = [echo_of(each)[1] for each in packets if kind in each]
        assert numbers == list(range(1, 21))


def test_flood_shows_dots_that_answers_take_back(h1: lab.LiveHost) -> None:
    dots = say(h1, "-f", "-c5", "-W5", H2).lines[1]
    # What the two alternate in depends on how fast the answers come.
    assert (dots.count("."), dots.count("\b \b"), len(dots)) == (5, 5, 20)


def test_flood_with_an_interval_keeps_it(h1: lab.LiveHost) -> None:
    said = say(h1, "-f", "-i0.03", "-c3", "-W5", H2)
    assert said.lines[1].count(".") == 3
    took = re.search(r"time (\d+)ms\n[^$]*, ipg/ewma ", said.out)
    assert took
    assert int(took[1]) >= 60


def test_identifier_is_the_one_asked_for(h1: lab.LiveHost, wire: Wire) -> None:
    assert [echo_of(each)[0] for each in sent_by(h1, wire, "-e 0xbeef", *BOTH)] == [0xBEEF] * 2


def test_wait_decides_when_a_probe_is_lost(h1: lab.LiveHost) -> None:
    said = say(h1, "--json", "-O", "-c2", "-i0.1", "-W0.02", "10.99.1.77")
    assert said.code == 1
    told = [(each["type"], each["sequence_number"]) for each in said.records()[:-1]]
    assert told == [("lost", 1), ("outstanding", 1), ("lost", 2)], "before the next one is sent"


def test_deadline_ends_it_unanswered_and_answers_end_it_before(
    h1: lab.LiveHost, wire: Wire
) -> None:
    said = say(h1, "--json", "-w0.05", "-i0.02", "10.99.1.77")
    (summary,) = said.records("summary")
    assert (said.code, summary["received"]) == (1, 0)
    assert 1 <= summary["sent"] <= 3
    said = say(h1, "-w600", "-c2", "-i0.01", H2)
    assert (said.code, said.out.count(" bytes from ")) == (0, 2)
    wire.packets(2)
    # With count and deadline, fewer answers than wanted are a failure (ping's manual).
    assert say(h1, "-w0.1", "-c50", "-i0.09", H2).code == 1


def test_no_answer_yet_is_told_before_the_next_probe(h1: lab.LiveHost) -> None:
    said = say(h1, "-O", "-D", "-c3", "-i0.01", "-W0.1", "10.99.1.77")
    assert [line.partition("] ")[2] for line in said.lines[1:3]] == [
        "no answer yet for icmp_seq=1",
        "no answer yet for icmp_seq=2",
    ]


def test_several_targets_of_both_families_have_statistics_of_their_own(h1: lab.LiveHost) -> None:
    hosts = (H2, "10.99.1.77", H2_V6, "10.99.2.2", "fd99:2::2")
    said = say(h1, "--json", "-c2", "-i0.02", "-W0.5", *hosts)
    assert said.code == 1, "one did not answer"
    summaries = said.records("summary")
    assert [(one["target"], one["received"], one["loss_pct"]) for one in summaries] == [
        (host, 0 if host == "10.99.1.77" else 2, 100.0 if host == "10.99.1.77" else 0.0)
        for host in hosts
    ]
    for one in said.records("reply"):
        assert one["src_addr"] == one["target"]
        assert (one["tx_stamp"], one["rx_stamp"]) == ("kernel", "kernel")
        assert 0 < one["rtt_ms"] < 1000
        assert 0 < one["queued_ms"] < 1000


def test_an_address_named_twice_is_pinged_once(h1: lab.LiveHost, wire: Wire) -> None:
    said = say(h1, "-c1", H2, H2)
    assert said.out.count(" ping statistics ---") == 1
    assert len(wire.packets(1)) == 1


def test_all_hosts_group_is_answered_by_each(h1: lab.LiveHost, wire: Wire) -> None:
    said = say(h1, "--json", "-c1", "-w5", "ff02::1%eth0")
    (packet,) = wire.packets(1)
    assert (packet.dst, packet.hlim) == ("ff02::1", 1), "groups are not for routers unless asked"
    assert said.code == 0
    replies = said.records("reply")
    assert {reply["src_addr"] for reply in replies} <= {"fe80::ff:fe00:101", "fe80::ff:fe00:102"}


@pytest.mark.parametrize("group", ["ff02::1%eth0", "224.0.0.1"])
def test_without_the_loop_this_host_does_not_hear_its_own_groups(
    group: str, h1: lab.LiveHost, network: lab.Network
) -> None:
    both = h1, network.host("h2")
    for host in both:
        set_sysctl(host, "ipv4/icmp_echo_ignore_broadcasts", "0")
    for words, ours in (("-c3", True), ("-L -c3", False)):
        said = say(h1, "--json", "-I", "eth0", "-i0.05", *words.split(), group)
        heard = {reply["src_addr"] for reply in said.records("reply")}
        assert heard & {H2, "fe80::ff:fe00:102"}
        assert bool(heard & {H1, "fe80::ff:fe00:101"}) == ours
    for host in both:
        set_sysctl(host, "ipv4/icmp_echo_ignore_broadcasts", "1")


def test_broadcast_is_sent_where_it_is_meant(
    h1: lab.LiveHost, network: lab.Network, wire: Wire
) -> None:
    set_sysctl(network.host("h2"), "ipv4/icmp_echo_ignore_broadcasts", "0")
    said = say(h1, "--json", "-b", "-c1", "10.99.1.255")
    assert (said.code, wire.packets(1)[0].dst) == (0, "10.99.1.255")
    assert said.records("reply")[0]["src_addr"] == H2
    refused = say(h1, "-c1", "10.99.1.255")
    assert (refused.code, refused.out) == (2, "")
    assert refused.error == (
        "rawproto ping: 10.99.1.255 is a broadcast address: -b says that this is meant\n"
    )


@pytest.mark.parametrize("address", ["0", "0.0.0.0", "::"])
def test_the_unspecified_address_is_this_host(address: str, h1: lab.LiveHost) -> None:
    (reply,) = say(h1, "--json", "-c1", address).records("reply")
    assert reply["src_addr"] in ("127.0.0.1", "::1")


def test_capture_file_holds_every_packet_both_ways(h1: lab.LiveHost, tmp_path: Path) -> None:
    for name, size in (("wire.pcapng", 56), ("wire.pcap", 3000)):
        file = tmp_path / name
        said: Said = say(h1, "--pcap", str(file), "-c2", "-i0.01", "-W5", f"-s{size}", *BOTH)
        assert said.code == 0
        with PcapReader(str(file)) as reader:
            packets = [packet.copy() for packet in reader]
        requests = [each for each in packets if each.src in (H1, H1_V6)]
        replies = [each for each in packets if each.src in BOTH]
        cuts = 1 if size == 56 else 3
        assert (len(requests), len(replies)) == (4 * cuts, 4), "replies are put together already"
        for packet in requests:
            judged(bytes(packet))
        times = [packet.time for packet in packets]
        assert all(one <= other + 1 for one, other in pairwise(times))
