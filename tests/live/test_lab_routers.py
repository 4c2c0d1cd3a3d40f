"""Routers that misbehave between real hosts: by the kernel, and by a router of our own."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig
from scapy.packet import Packet, Raw

from rawproto import lab
from rawproto.wire.icmp import parse_icmp
from rawproto.wire.icmp_error import ExtensibleError
from rawproto.wire.icmp_objects import ICMPObject, InterfaceInformation, MPLSLabelStack
from rawproto.wire.icmpv6 import parse_icmpv6
from tests.lab.forwarders import FAMILIES, addresses, checksums_are_right, parsed
from tests.live.leftovers import nothing_left_behind
from tests.live.prober import Prober, is_about, quote_of

ROOT = Path(__file__).parents[2]
RAWPROTO = [sys.executable, "-m", "rawproto.cli.main", "lab"]
UNPRIVILEGED = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
BOUND_S = 30.0

families = pytest.mark.parametrize("family", FAMILIES)
makers = pytest.mark.parametrize("maker", ["", ",userspace"], ids=["kernel", "userspace"])
"""What the kernel does too has to come out the same."""


@contextmanager
def probing(
    spec: str, family: str, topology: lab.Topology | None = None
) -> Iterator[tuple[lab.Network, Prober]]:
    """A lab with misbehaving routers, else a chain of four hops, and a prober on h1."""
    with (
        lab.up((topology or lab.chain(4)).misbehaving(*spec.split())) as network,
        Prober(network.host("h1"), network.host("h2"), family) as prober,
    ):
        yield network, prober


def hops(family: str, *links: int) -> list[str]:
    """The far ends of links."""
    return addresses(family, *((link, 2) for link in links))


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


def is_too_big(packet: Packet) -> bool:
    if packet.version == 6:
        return ICMPv6PacketTooBig in packet
    return ICMP in packet and (packet[ICMP].type, packet[ICMP].code) == (3, 4)


# --- ICMP errors ----------------------------------------------------------------------------------


@families
@makers
def test_silent_router_forwards_but_sends_no_errors(family: str, maker: str) -> None:
    with probing(f"r2:silent{maker}", family) as (network, prober):
        first, second, third = hops(family, 1, 2, 3)
        assert prober.trace(3) == [first, None, third]
        assert network.host("h1").run(["ping", "-c1", "-W5", second]).returncode == 0


@families
@makers
def test_icmp_rate_holds_for_errors_but_not_for_answers(family: str, maker: str) -> None:
    with probing(f"r2:icmp-rate=1/h{maker}", family) as (network, prober):
        _, second, third = hops(family, 1, 2, 3)
        probes = [prober.udp(ttl=ttl) for ttl in (2, 2, 3, 2, 2, 3)]
        assert prober.routers(*probes) == [second, None, third, None, None, third]
        assert "2 received" in network.host("h1").run(["ping", "-c2", "-i.01", second]).stdout


@makers
def test_errors_come_from_another_address(maker: str) -> None:
    spec = f"r2:answer-from=10.99.9.9/fd99:9::9{maker}"
    with lab.up(lab.chain(4).misbehaving(spec)) as network:
        for family, other in (("ipv4", "10.99.9.9"), ("ipv6", "fd99:9::9")):
            with Prober(network.host("h1"), network.host("h2"), family) as prober:
                probe = prober.udp(ttl=2)
                (error,) = prober.answers(probe)
                assert error.src == other
                assert checksums_are_right(bytes(error))
                assert is_about(error, probe)


# --- sizes ----------------------------------------------------------------------------------------


@families
@makers
def test_smaller_mtu_is_told_by_the_router_itself_both_ways(family: str, maker: str) -> None:
    with probing(f"r2:mtu=1300{maker}", family) as (network, prober):
        headers = 28 if family == "ipv4" else 48
        fields = {"flags": "DF"} if family == "ipv4" else {}
        fitting = prober.udp(size=1300 - headers, **fields)
        large = prober.udp(size=1301 - headers, **fields)
        answers = prober.answers(fitting, large)
        assert [is_too_big(one) for one in answers if is_about(one, fitting)] == [False]
        (error,) = (one for one in answers if is_about(one, large))
        assert is_too_big(error)
        told = error[ICMP].nexthopmtu if family == "ipv4" else error[ICMPv6PacketTooBig].mtu
        assert (error.src, told) == (hops(family, 2)[0], 1300)
        command = ["ping", "-c1", "-W5", "-Mdo", "-s1400", prober.src]
        back = network.host("h2").run(command).stdout
        (near,) = addresses(family, (3, 1))
        assert f"From {near} " in back
        assert "mtu = 1300" in back or "mtu=1300" in back


@makers
def test_what_may_be_cut_is_cut_to_a_smaller_mtu(maker: str) -> None:
    with lab.up(lab.chain(4).misbehaving(f"r2:mtu=600{maker}")) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        shown = h1.run(["ping", "-c1", "-W5", "-Mdont", "-s2000", h2.ipv4]).stdout
        assert "1 received" in shown


@families
@makers
def test_packet_too_big_is_neither_sent_nor_passed_on(family: str, maker: str) -> None:
    # r3 says it, and r1 lets none of it pass; r1 itself would have to say it on the way back.
    topology = lab.chain(4).changed("1:mtu=1400").misbehaving("r3:mtu=1350")
    with probing(f"r1:drop-ptb{maker}", family, topology) as (_, prober):
        fields = {"flags": "DF"} if family == "ipv4" else {}
        big, late = prober.udp(size=1340, **fields), prober.udp(ttl=3)
        assert prober.routers(big, late) == [None, hops(family, 3)[0]]
    with probing("", family, topology) as (_, prober):
        big = prober.udp(size=1340, **fields)
        assert prober.routers(big) == [hops(family, 3)[0]]


@families
@makers
def test_router_that_drops_packet_too_big_says_none_itself(family: str, maker: str) -> None:
    with probing(f"r2:mtu=1300,drop-ptb{maker}", family) as (_, prober):
        fields = {"flags": "DF"} if family == "ipv4" else {}
        big, late = prober.udp(size=1400, **fields), prober.udp(ttl=2)
        assert prober.routers(big, late) == [None, hops(family, 2)[0]]


# --- ways -----------------------------------------------------------------------------------------


@families
@makers
def test_loop_ends_where_time_does(family: str, maker: str) -> None:
    with probing(f"r3:loop{maker}", family) as (network, prober):
        # Which of its addresses a router gives differs; whose it is does not.
        owners = {one: host.name for host in network.hosts.values() for one in host.addresses}
        seen = []
        for ttl in range(1, 8):
            probe = prober.udp(ttl=ttl)
            prober.send(probe)
            error = next(prober.heard())
            assert is_about(error, probe)
            seen.append(owners[error.src])
        assert seen == ["r1", "r2", "r3", "r2", "r3", "r2", "r3"]
        # What comes from beyond passes.
        with Prober(network.host("h2"), network.host("h1"), family) as back:
            back.send(back.udp())
            assert next(prober.heard()).src == back.src


MIDDLE = (2, 4, 6)
"""The links from r1 to the three routers side by side."""


@families
@makers
def test_flows_keep_to_their_paths_whatever_else_differs(family: str, maker: str) -> None:
    topology = lab.diamond(3)
    with probing(f"r1:balance=flow{maker}", family, topology) as (_, prober):
        middle = set(hops(family, *MIDDLE))
        probe = parsed(prober.udp(ttl=2))
        same = []
        for number in range(6):
            del probe[UDP].chksum
            probe[UDP].payload = Raw(bytes([number] * 8))
            same.append(bytes(probe))
        flows = [prober.udp(ttl=2, sport=sport) for sport in range(40000, 40030)]
        seen = [error.src for error in prober.answers(*same)]
        assert (len(seen), len(set(seen))) == (6, 1)
        assert set(prober.routers(*flows)) == middle


@families
@makers
def test_echoes_are_balanced_by_their_checksum(family: str, maker: str) -> None:
    with probing(f"r1:balance=flow{maker}", family, lab.diamond(3)) as (_, prober):
        varied = [prober.echo(2, 7, b"\0\0") for _ in range(30)]
        assert set(prober.routers(*varied)) == set(hops(family, *MIDDLE))
        held = []
        for _ in range(10):
            number = prober.sent + 1
            held.append(prober.echo(2, 7, (0xFFFF - number).to_bytes(2, "big")))
        assert len(set(prober.routers(*held))) == 1


@families
@makers
def test_packets_of_one_flow_take_all_paths_in_turn(family: str, maker: str) -> None:
    with probing(f"r1:balance=packet{maker}", family, lab.diamond(3)) as (_, prober):
        probe = prober.udp(ttl=2)
        errors = prober.answers(*[probe] * 12)
        assert Counter(error.src for error in errors) == dict.fromkeys(hops(family, *MIDDLE), 4)


@families
@makers
def test_what_comes_back_takes_no_turn_of_what_goes(family: str, maker: str) -> None:
    with probing(f"r1:balance=packet{maker}", family, lab.diamond(2)) as (_, prober):
        seen = []
        for _ in range(8):
            probe = prober.udp(ttl=2)
            prober.send(probe)
            error = next(prober.heard())  # which has passed by r1
            assert is_about(error, probe)
            seen.append(error.src)
        assert sorted(seen[:2]) == sorted(hops(family, 2, 4))
        assert seen == seen[:2] * 4


# --- NAT ------------------------------------------------------------------------------------------


@families
@makers
def test_nat_hides_who_asks_and_brings_the_answers_back(family: str, maker: str) -> None:
    with lab.up(lab.chain(4).misbehaving(f"r2:nat{maker}")) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        target = getattr(h2, family)
        kind = socket.AF_INET if family == "ipv4" else socket.AF_INET6
        (outside,) = addresses(family, (3, 1))
        for transport in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with h2.entered():
                server = socket.socket(kind, transport)
            with h1.entered():
                client = socket.socket(kind, transport)
            with server, client:
                server.settimeout(5)
                client.settimeout(5)
                server.bind((target, 7))
                if transport == socket.SOCK_STREAM:
                    server.listen()
                client.connect((target, 7))
                client.send(b"who am I?")
                if transport == socket.SOCK_STREAM:
                    accepted, peer = server.accept()
                    with accepted:
                        accepted.settimeout(5)
                        accepted.sendall(accepted.recv(100))
                else:
                    data, peer = server.recvfrom(100)
                    server.sendto(data, peer)
                assert peer[0] == outside
                assert client.recv(100) == b"who am I?"
        assert h1.run(["ping", "-c1", "-W5", target]).returncode == 0


@families
@pytest.mark.parametrize("spec", ["r2:nat", "r2:nat,userspace", "r2:nat=addresses", "r2:nat=plain"])
def test_nat_is_seen_in_quotes_as_far_as_it_shows(family: str, spec: str) -> None:
    with probing(spec, family) as (_, prober):
        before, late = prober.udp(ttl=2), prober.udp(ttl=3)
        answers = prober.answers(before, late)
        (own,), (beyond,) = (
            [one for one in answers if is_about(one, probe)] for probe in (before, late)
        )
        inside, outside = addresses(family, (1, 1), (3, 1))
        assert all(checksums_are_right(bytes(error)) for error in (own, beyond))
        assert (own.src, beyond.src) == tuple(hops(family, 2, 3))
        assert own.dst == beyond.dst == inside
        assert parsed(quote_of(own)).src == inside
        sent, quote = parsed(late), parsed(quote_of(beyond))
        assert quote[UDP].dport == sent[UDP].dport
        assert quote.src == (outside if spec.endswith("plain") else inside)
        restored = spec in ("r2:nat", "r2:nat,userspace")
        assert (quote[UDP].chksum == sent[UDP].chksum) == restored


# --- extensions -----------------------------------------------------------------------------------


def objects_of(error: Packet) -> tuple[ICMPObject, ...]:
    data = bytes(error)
    read = parse_icmp(data[20:]) if error.version == 4 else parse_icmpv6(data[40:])
    assert isinstance(read[0], ExtensibleError)
    return read[0].extensions.objects if read[0].extensions else ()


@families
def test_errors_carry_labels_and_the_interface(family: str) -> None:
    spec = "r2:mpls=100/200,interface-info r3:interface-info"
    with probing(spec, family) as (network, prober):
        probes = [prober.udp(ttl=ttl) for ttl in (1, 2, 3)]
        answers = prober.answers(*probes)
        errors = [one for probe in probes for one in answers if is_about(one, probe)]
        assert len(errors) == 3
        assert all(checksums_are_right(bytes(error)) for error in errors)
        assert objects_of(errors[0]) == ()
        stack, information = objects_of(errors[1])
        assert isinstance(stack, MPLSLabelStack)
        assert [(one.label, one.bottom_of_stack) for one in stack.labels] == [
            (100, False),
            (200, True),
        ]
        r2 = network.host("r2")
        index = int(r2.run(["cat", "/sys/class/net/eth0/ifindex"]).stdout)
        expected = InterfaceInformation(
            role=0, if_index=index, if_addr=getattr(r2, family), if_name="eth0", mtu=1500
        )
        assert information == expected
        assert len(objects_of(errors[2])) == 1


def test_traceroute_shows_the_labels_that_routers_tell() -> None:
    with lab.up(lab.chain(3).misbehaving("r2:mpls=100/200")) as network:
        for target in (network.host("h2").ipv4, network.host("h2").ipv6):
            shown = (
                network.host("h1")
                .run(["traceroute", "-e", "-n", "-q1", target])
                .stdout.splitlines()
            )
            assert "<MPLS:L=100,E=0,S=0,T=1/L=200,E=0,S=1,T=1>" in shown[2]


# --- our own router -------------------------------------------------------------------------------


def test_our_own_routers_pass_what_the_kernels_would() -> None:
    topology = lab.chain(5).misbehaving("all:userspace")
    with lab.up(topology) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        for target in (h2.ipv4, h2.ipv6):
            assert "ttl=60 " in h1.run(["ping", "-nc1", "-W5", target]).stdout
            family = socket.AF_INET6 if ":" in target else socket.AF_INET
            with h2.entered():
                server = socket.create_server((target, 7), family=family)
            with server:
                with h1.entered():
                    client = socket.create_connection((target, 7), 5)
                with client:
                    accepted, _ = server.accept()
                    with accepted:
                        accepted.settimeout(5)
                        data = os.urandom(200_000)
                        client.sendall(data)
                        client.shutdown(socket.SHUT_WR)
                        received = b""
                        while piece := accepted.recv(65536):
                            received += piece
                        assert received == data
        # What it is asked itself the kernel still answers.
        assert h1.run(["ping", "-c1", "-W5", network.host("r3").ipv6]).returncode == 0
        # And nothing is forwarded twice.
        assert " 0% packet loss" in h1.run(["ping", "-c5", "-i.01", h2.ipv4]).stdout


def test_our_own_router_follows_a_link_that_is_made_anew_or_smaller() -> None:
    with lab.up(lab.chain(3).misbehaving("r1:userspace", "r2:mtu=1350")) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        patiently = ["ping", "-c1", "-w20", "-i0.2"]  # until it has seen that the link changed
        network.change("2:delay=1ms")
        assert network.link(2).made in ("emulator", "netem")
        for target in (h2.ipv4, h2.ipv6):
            assert h1.run([*patiently, target]).returncode == 0
            shown = h1.run(["ping", "-c1", "-W5", "-Mdo", "-s1400", target]).stdout
            assert "1350" in shown
        network.change("2:mtu=1320")
        shown = h1.run([*patiently, "-Mdo", "-s1310", h2.ipv4]).stdout
        assert "From 10.99.1.2 " in shown
        assert "mtu = 1320" in shown


# --- nothing stays behind, and how it is said -----------------------------------------------------


def routers_running(keeper: int) -> list[int]:
    """The processes of our own routers in a lab."""
    space = os.stat(f"/proc/{keeper}/ns/pid").st_ino
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{pid}/ns/pid").st_ino == space:
                command = Path(f"/proc/{pid}/cmdline").read_text()
                found += [int(pid)] * ("rawproto.lab.userspace" in command)
        except OSError:
            continue
    return found


def test_each_has_a_process_that_dies_with_the_lab() -> None:
    with lab.up(lab.chain(4).misbehaving("r1:userspace", "r3:mpls=7", "r2:silent")) as network:
        running = routers_running(network.keeper.pid)
        assert len(running) == 2
    assert not [pid for pid in running if os.path.exists(f"/proc/{pid}")]


def test_they_die_with_an_owner_that_is_killed() -> None:
    command = [*RAWPROTO, "run", "chain:3", "--router", "r1:userspace", "--"]
    script = "echo ready; exec sleep 600"
    with subprocess.Popen(
        [*command, "sh", "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        keeper, *_ = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()
        (router,) = routers_running(int(keeper))
        pidfd = os.pidfd_open(router)
        try:
            owner.send_signal(signal.SIGKILL)
            assert select.select([pidfd], [], [], BOUND_S)[0], "the router outlives its lab"
        finally:
            os.close(pidfd)


def rawproto(tmp_path: Path, *words: str, prefix: tuple[str, ...] = ()) -> tuple[int, str, str]:
    done = subprocess.run(
        [*prefix, *RAWPROTO, *words],
        cwd=ROOT,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    return done.returncode, done.stdout, done.stderr


def test_command_line_says_it_and_shows_it(tmp_path: Path) -> None:
    words = ("up", "chain:4", "--router", "r2:silent", "--router", "r3:mpls=100/200,mtu=1300")
    code, shown, complaint = rawproto(tmp_path, *words)
    try:
        assert (code, complaint) == (0, "")
        assert "\n  r2: silent (by the kernel)\n" in shown
        assert "\n  r3: mtu=1300,mpls=100/200 (by our own router)\n" in shown
        (line,) = rawproto(tmp_path, "list", "--json")[1].splitlines()
        behaviours = {host["name"]: host["behaviour"] for host in json.loads(line)["hosts"]}
        assert behaviours["r3"] == {"mtu": "1300", "mpls": "100/200"}
        assert (behaviours["r1"], behaviours["h1"]) == ({}, {})
        _, traced, _ = rawproto(
            tmp_path, "exec", "h1", "traceroute", "-n", "-q1", "-w1", "10.99.4.2"
        )
        assert [line.split()[1] for line in traced.splitlines()[1:]] == [
            "10.99.1.2",
            "*",
            "10.99.3.2",
            "10.99.4.2",
        ]
    finally:
        assert rawproto(tmp_path, "down")[:2] == (0, "lab chain-4 is down\n")


def test_file_says_it_too(tmp_path: Path) -> None:
    path = tmp_path / "office.toml"
    path.write_text(
        'hosts = ["h1", "h2"]\nrouters = [{ name = "r1", answer-from = "10.99.9.9" }]\n'
        '[[links]]\nends = ["h1", "r1"]\n[[links]]\nends = ["r1", "h2"]\n'
    )
    code, shown, complaint = rawproto(
        tmp_path, "run", str(path), "--", "traceroute", "-n", "-q1", "10.99.2.2"
    )
    assert (code, complaint) == (0, "")
    assert shown.splitlines()[1].split()[1] == "10.99.9.9"


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("r1:silnt", "r1:silnt: unknown word 'silnt' (did you mean silent?)"),
        ("h1:silent", "h1:silent: h1 is no router"),
        ("r9:silent", "no host 'r9' in lab chain-3 (there are h1, h2, r1, r2)"),
        ("r1:loop", "r1: loop: no router before it, on the way from h1"),
    ],
)
def test_bad_spec_is_one_line_and_exit_2(tmp_path: Path, spec: str, complaint: str) -> None:
    done = rawproto(tmp_path, "run", "chain:3", "--router", spec, "--", "true")
    assert done == (2, "", f"rawproto lab: {complaint}\n")


def test_routers_misbehave_without_root_too(tmp_path: Path) -> None:
    if subprocess.run([*UNPRIVILEGED, "unshare", "-Un", "true"], capture_output=True).returncode:
        pytest.skip("the kernel gives no user namespaces")
    specs = (
        "--router",
        "r1:silent",
        "--router",
        "r2:nat=plain,mpls=7",
        "--router",
        "r3:icmp-rate=1/s",
    )
    command = ("--", "traceroute", "-e", "-n", "-q1", "-w1", "-m2", "10.99.4.2")
    code, shown, complaint = rawproto(
        tmp_path, "run", "chain:4", *specs, *command, prefix=tuple(UNPRIVILEGED)
    )
    assert (code, complaint) == (0, "")
    assert shown.splitlines()[1].split()[1] == "*"
    assert "10.99.2.2 <MPLS:L=7," in shown.splitlines()[2]
