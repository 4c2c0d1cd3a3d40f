"""Errors of ping: which probe each one ends, and what it tells."""

from __future__ import annotations

import errno

from scapy.layers.inet import IP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6

from rawproto.errors import LinkError
from rawproto.machine import Datagram, ICMPError, Transmit
from rawproto.probe.ping_events import (
    PingError,
    PingLost,
    PingReply,
)
from rawproto.wire.ipv4_options import RecordRoute
from tests.probe.exchange import (
    H2,
    H2_V6,
    MS,
    S,
    answering,
    error_about,
    of,
    ping,
    reply_to,
)
from tests.probe.virtual import Answer, VirtualNetwork


def test_icmp_error_ends_its_probe_with_the_words_of_ping() -> None:
    machine = ping(count=1)
    network = VirtualNetwork(
        machine, lambda transmit, now_ns: [(MS, error_about(transmit, "10.9.9.9", 11, 0))]
    )
    events = network.run()
    (error,) = of(events, PingError)
    assert (error.src_addr, error.sequence_number, error.icmp_type, error.code) == (
        "10.9.9.9",
        1,
        11,
        0,
    )
    assert error.message == "Time to live exceeded"
    assert network.now_ns == MS, "there is nothing more to wait for"
    counts = machine.statistics(H2)
    assert (counts.errors, counts.received, counts.loss_pct) == (1, 0, 100.0)
    assert not of(events, PingLost)


def test_redirect_is_told_but_the_probe_goes_on() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        redirect = error_about(transmit, "10.0.0.9", 5, 1, gw="10.0.0.8")
        return [(MS, redirect), (2 * MS, reply_to(transmit))]

    machine = ping(count=1)
    events = VirtualNetwork(machine, answer).run()
    assert [event.message for event in of(events, PingError)] == [
        "Redirect Host(New nexthop: 10.0.0.8)"
    ]
    counts = machine.statistics(H2)
    assert (counts.errors, counts.received) == (0, 1)


def test_fragmentation_needed_lowers_the_mtu_and_later_probes_are_cut() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        packet = IP(transmit.data)
        if packet.flags.DF:
            return [(MS, error_about(transmit, "10.9.9.9", 3, 4, nexthopmtu=1000))]
        return []

    machine = ping(count=2, payload=bytes(1400), timeout_ns=S)
    network = VirtualNetwork(machine, answer)
    events = network.run()
    (error,) = of(events, PingError)
    assert (error.message, error.mtu) == ("Frag needed and DF set (mtu = 1000)", 1000)
    packets = [IP(transmit.data) for _, transmit in network.sent]
    assert [(packet.frag, int(packet.flags), len(packet) <= 1000) for packet in packets] == [
        (0, 2, False),
        (0, 1, True),
        (122, 0, True),
    ]


def test_request_whose_options_make_it_too_large_is_cut_where_it_may_be() -> None:
    machine = ping(count=1, payload=bytes(1450), options=(RecordRoute(),))
    network = VirtualNetwork(machine, lambda transmit, now_ns: [])
    network.run()
    packets = [IP(transmit.data) for _, transmit in network.sent]
    assert [(int(packet.flags), len(packet) <= 1500) for packet in packets] == [
        (1, True),
        (0, True),
    ]


def test_packet_too_big_is_read_for_ipv6() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        message = IPv6(src="fd00::9", dst="fd00::1") / ICMPv6PacketTooBig(mtu=1280)
        data = bytes(message / transmit.data[:200])[40:]
        return [(MS, Datagram(data=data, src_addr="fd00::9", protocol=58, received_ns=0))]

    events = VirtualNetwork(ping(H2_V6, count=1, payload=bytes(1400)), answer).run()
    (error,) = of(events, PingError)
    assert (error.src_addr, error.mtu, error.icmp_type) == ("fd00::9", 1280, 2)
    assert error.message == "Packet too big: mtu=1280"


def test_too_big_with_df_is_refused_here() -> None:
    machine = ping(count=2, payload=bytes(3000), fragmentation="do")
    network = VirtualNetwork(machine, answering(MS))
    events = network.run()
    assert not network.sent
    assert [event.message for event in of(events, PingError)] == [
        "message too long, mtu=1500",
        "message too long, mtu=1500",
    ]
    assert machine.statistics(H2).errors == 2


def test_error_from_the_kernels_queue_is_matched_by_what_it_quotes() -> None:
    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        error = ICMPError(
            src_addr="10.0.0.1",
            dst_addr="10.0.0.2",
            icmp_type=3,
            code=1,
            original=transmit.data[20:28],
            received_ns=0,
        )
        return [(MS, error)]

    (error,) = of(VirtualNetwork(ping(count=1), answer).run(), PingError)
    assert (error.message, error.sequence_number) == ("Destination Host Unreachable", 1)


def test_hosts_refusal_is_an_error_of_its_own() -> None:
    machine = ping(count=1)
    network = VirtualNetwork(
        machine,
        answering(MS),
        refuse=lambda transmit, now_ns: LinkError("send", "10.0.0.2", errno.ENETUNREACH),
    )
    (error,) = of(network.run(), PingError)
    assert (error.src_addr, error.icmp_type, error.message) == ("", None, "Network is unreachable")


def test_full_queue_is_tried_again_and_counted_once() -> None:
    machine = ping()
    full = LinkError("send", "10.0.0.2", errno.ENOBUFS)
    network = VirtualNetwork(
        machine,
        answering(MS),
        refuse=lambda transmit, now_ns: full if now_ns < 3 * MS else None,
    )
    events = network.run()
    assert [reply.sequence_number for reply in of(events, PingReply)] == [1, 2, 3]
    assert network.sent[0][0] == 3 * MS
    counts = machine.statistics(H2)
    assert (counts.sent, counts.received, counts.errors) == (3, 3, 0)


def test_what_the_interface_refuses_says_so_and_guesses_no_mtu() -> None:
    def refuse(transmit: Transmit, now_ns: int) -> OSError:
        return LinkError("send to", "10.0.0.2", errno.EMSGSIZE, "too much for eth0")

    network = VirtualNetwork(ping(count=1), answering(MS), refuse=refuse)
    (error,) = of(network.run(), PingError)
    assert (error.message, error.mtu) == ("too much for eth0", None)


def test_mtu_is_believed_of_no_other_unreachable() -> None:
    machine = ping(count=1)
    events = VirtualNetwork(
        machine,
        lambda transmit, now_ns: [
            (MS, error_about(transmit, "10.9.9.9", 3, 1, nexthopmtu=600, unused=0))
        ],
    ).run()
    (error,) = of(events, PingError)
    assert (error.message, error.mtu) == ("Destination Host Unreachable", None)
