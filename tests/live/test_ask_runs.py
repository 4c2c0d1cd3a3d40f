"""`ask` and `send` against the kernel: many at once, awaited, on one's own host, to a group."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

import rawproto
from rawproto import lab
from rawproto.drivers.ask import ask, ask_async
from rawproto.drivers.send import send, send_async
from rawproto.errors import LinkError
from rawproto.wire.dissect import RAW
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Packet
from rawproto.wire.tcp import RST, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.drivers.scripted import descriptors
from tests.live.crafting import CLOSED, ECHO, H1, H1_V6, H2, H2_V6, services
from tests.live.pinging import set_sysctl, stamping

MANY = 2000


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network, stamping(network.host("h1")):
        for host in ("h1", "h2"):
            for name, value in (("icmp_ratelimit", "0"), ("icmp_msgs_per_sec", "100000")):
                set_sysctl(network.host(host), f"ipv4/{name}", value)
        set_sysctl(network.host("h1"), "ipv4/neigh/eth0/retrans_time_ms", "20")
        set_sysctl(network.host("h2"), "ipv4/icmp_echo_ignore_broadcasts", "0")
        yield network


@pytest.fixture
def h1(network: lab.Network) -> Iterator[lab.LiveHost]:
    """The test runs on h1, and leaves no descriptor behind."""
    before = descriptors()
    with network.host("h1").entered():
        yield network.host("h1")
    assert descriptors() == before


def syn(port: int) -> Packet:
    header = IPv4Header(dst_addr=H2) if port % 2 else IPv6Header(dst_addr=H2_V6)
    return header / TCPHeader(dst_port=port, flags=SYN)


def test_each_of_many_gets_its_own_answer(h1: lab.LiveHost) -> None:
    ports = range(10_000, 10_000 + MANY)
    told = list(ask((syn(port) for port in ports), timeout_ns=5 * 10**9))
    for request, (answer,) in told:
        sent, came = request[TCPHeader], answer.packet[TCPHeader]
        assert (came.src_port, came.dst_port) == (sent.dst_port, sent.src_port)
        assert came.acknowledgment_number == sent.sequence_number + 1 & 0xFFFFFFFF
        assert came.flags & RST
    assert sorted(request[TCPHeader].dst_port for request, _ in told) == list(ports)


def test_packets_are_taken_as_they_are_sent(h1: lab.LiveHost) -> None:
    taken = 0

    def forever() -> Iterator[Packet]:
        nonlocal taken
        while True:
            taken += 1
            yield IPv4Header(dst_addr=H2) / ICMPEcho()

    run = ask(forever(), most_in_flight=8)
    for _ in range(20):
        _, (answer,) = next(run)
        assert answer.src_addr == H2
    run.close()
    assert 20 <= taken <= 20 + 2 * 8


def test_asked_as_one_awaits(h1: lab.LiveHost) -> None:
    async def both() -> tuple[list[str], int]:
        sent = await send_async(IPv4Header(dst_addr=H2) / UDPHeader(dst_port=9), count=100)
        seen = []
        packets = [IPv4Header(dst_addr=H2) / ICMPEcho(), IPv6Header(dst_addr=H2_V6) / ICMPv6Echo()]
        async for _, answers in ask_async(packets, in_order=True):
            seen += [answer.src_addr for answer in answers]
        return seen, sent.packets

    assert asyncio.run(both()) == ([H2, H2_V6], 100)


def test_awaiting_leaves_room_for_others(h1: lab.LiveHost) -> None:
    async def race() -> list[str]:
        order = []

        async def wait_in_vain() -> None:
            async for _, answers in ask_async(
                IPv6Header(dst_addr=H2_V6, next_header=59) / b"", timeout_ns=10**9
            ):
                order.append(f"{len(answers)} answers")

        async def other() -> None:
            await asyncio.sleep(0)
            order.append("other")

        await asyncio.gather(wait_in_vain(), other())
        return order

    assert asyncio.run(race()) == ["other", "0 answers"]


def test_cancelled_run_lets_go_of_all_it_held(h1: lab.LiveHost) -> None:
    async def cancel() -> None:
        async def endless() -> None:
            async for _ in ask_async(IPv4Header(dst_addr="10.99.1.200") / ICMPEcho()):
                pass

        task = asyncio.create_task(endless())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())


@pytest.mark.parametrize(
    ("packet", "kind"),
    [
        (IPv4Header(dst_addr="127.0.0.1") / ICMPEcho(), "reply"),
        (IPv4Header(dst_addr=H1) / ICMPEcho(), "reply"),
        (IPv6Header(dst_addr="::1") / ICMPv6Echo(), "reply"),
        (IPv6Header(dst_addr=H1_V6) / ICMPv6Echo(), "reply"),
        (IPv4Header(dst_addr="127.0.0.1") / UDPHeader(dst_port=CLOSED), "error"),
        (IPv4Header(dst_addr="127.0.0.1") / TCPHeader(dst_port=CLOSED, flags=SYN), "reply"),
    ],
    ids=str,
)
def test_own_host_answers_too(h1: lab.LiveHost, packet: Packet, kind: str) -> None:
    ((_, answers),) = ask(packet)
    assert [answer.kind for answer in answers] == [kind]


def test_same_ports_on_both_sides_of_a_loopback(h1: lab.LiveHost) -> None:
    """The question itself comes back with the key of its answer, and is none."""
    question = IPv4Header(dst_addr="127.0.0.1") / UDPHeader(src_port=999, dst_port=999) / b"?"
    ((_, answers),) = ask(question, timeout_ns=10**9)
    assert [answer.kind for answer in answers] == ["error"]


def test_everybody_answers_a_group(h1: lab.LiveHost) -> None:
    for packet, address in (
        (IPv4Header(dst_addr="10.99.1.255") / ICMPEcho(), H2),
        (IPv6Header(src_addr=H1_V6, dst_addr="ff02::1") / ICMPv6Echo(), H2_V6),
    ):
        ((_, answers),) = ask(packet, timeout_ns=10**9, interface="eth0")
        assert address in {answer.src_addr for answer in answers}


def test_own_kernel_says_that_nobody_is_there(h1: lab.LiveHost) -> None:
    question = IPv4Header(dst_addr="10.99.1.200") / ICMPEcho()
    ((_, (answer,)),) = ask(question, timeout_ns=10 * 10**9)
    assert (answer.kind, answer.src_addr) == ("error", H1)


def test_bytes_and_captures_go_out_as_they_are(h1: lab.LiveHost, network: lab.Network) -> None:
    whole = (
        IPv4Header(src_addr=H1, dst_addr=H2, identification=4711)
        / UDPHeader(src_port=4000, dst_port=ECHO)
        / b"abc"
    ).emit()
    captured = rawproto.CapturedPacket(time_ns=0, data=whole, link_type=RAW)
    with services(network.host("h2")), socket.socket(type=socket.SOCK_DGRAM) as port:
        port.bind((H1, 4000))
        told = list(ask([whole, captured], wait_for="first", most_in_flight=1))
    for request, (answer,) in told:
        assert request.emit() == whole
        assert answer.found.payload == b"cba"


def test_rate_is_kept(h1: lab.LiveHost) -> None:
    packet = IPv4Header(dst_addr=H2) / UDPHeader(dst_port=9)
    result = send(packet, count=200, rate_pps=1000)
    assert result.packets == 200
    assert result.duration_ns >= 189_000_000  # 199 intervals, less what may be caught up


def test_what_was_sent_before_a_failure_is_told_first(h1: lab.LiveHost) -> None:
    run = ask([IPv4Header(dst_addr=H2) / ICMPEcho(), IPv4Header(dst_addr="8.8.8.8") / ICMPEcho()])
    _, (answer,) = next(run)
    assert answer.src_addr == H2
    with pytest.raises(LinkError, match=r"route to 8\.8\.8\.8: Network is unreachable"):
        next(run)


def test_interface_that_vanishes_ends_the_run(h1: lab.LiveHost) -> None:
    h1.run(["ip", "link", "add", "gone0", "type", "veth", "peer", "name", "gone1"], check=True)
    for name in ("gone0", "gone1"):
        h1.run(["ip", "link", "set", name, "up"], check=True)
    h1.run(["ip", "addr", "add", "10.97.0.1/24", "dev", "gone0"], check=True)

    def packets() -> Iterator[Packet]:
        yield IPv4Header(dst_addr="10.97.0.2") / ICMPEcho()
        h1.run(["ip", "link", "del", "gone0"], check=True)

    with pytest.raises(LinkError, match="gone0: Network is down"):
        list(ask(packets(), interface="gone0", timeout_ns=10 * 10**9))
