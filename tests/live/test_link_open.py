"""Which link a process gets, by its privileges, and what it is told when it gets none."""

from __future__ import annotations

import errno
import json
import os
import select
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto.errors import LinkError
from rawproto.link.base import Transmitted
from rawproto.link.dgram import DgramLink
from rawproto.link.join import JoinedLink
from rawproto.link.open import DualLink, open_flow_link, open_icmp_link
from rawproto.link.ports import reserve_port
from rawproto.link.privileges import has_net_raw
from rawproto.link.raw import RawLink
from rawproto.machine import Datagram, Transmit
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.tcp import ACK, RST, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.live.namespaces import Namespace, namespace_pair

A, B, A6, B6 = "10.98.0.1", "10.98.0.2", "fd98::1", "fd98::2"
PING_GROUP_RANGE = "/proc/sys/net/ipv4/ping_group_range"

Hosts = tuple[Namespace, Namespace]


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with namespace_pair() as pair:
        pair[0].sysctl("net/ipv4/ping_group_range", "0 0")
        yield pair


@pytest.fixture(scope="module")
def strict_hosts() -> Iterator[Hosts]:
    """As the kernel makes them: nobody may ping."""
    with namespace_pair() as pair:
        yield pair


def echo(dst_addr: str, identifier: int, number: int) -> Transmit:
    if ":" in dst_addr:
        message = ICMPv6Echo(identifier=identifier, sequence_number=number).emit(
            src_addr=A6, dst_addr=dst_addr
        )
        packet = IPv6Header(src_addr=A6, dst_addr=dst_addr, next_header=58).emit(message)
    else:
        message = ICMPEcho(identifier=identifier, sequence_number=number).emit()
        packet = IPv4Header(identification=1, src_addr=A, dst_addr=dst_addr, protocol=1).emit(
            message
        )
    return Transmit(data=packet, dst_addr=dst_addr, token=number)


def ping(link: RawLink | DgramLink | DualLink, dst_addr: str, identifier: int) -> Datagram:
    """One echo and its reply, by whatever link."""
    link.send(echo(dst_addr, link.identifier or identifier, 1))
    for _ in range(20):
        assert select.select([link.fileno()], [], [], 5)[0]
        for arrival in link.receive():
            if isinstance(arrival, Datagram) and arrival.data[0] in (0, 129):
                return arrival
    raise AssertionError("no reply")


def test_root_gets_raw_sockets(hosts: Hosts) -> None:
    with hosts[0].entered():
        assert has_net_raw()
        for family, dst_addr in ((4, B), (6, B6)):
            with open_icmp_link(family, identifier=0x1234) as link:
                assert isinstance(link, RawLink)
                assert link.identifier is None
                assert ping(link, dst_addr, 0x1234).src_addr == dst_addr


def test_raw_link_hears_answers_to_its_own_identifier_only(hosts: Hosts) -> None:
    with hosts[0].entered(), open_icmp_link(4, identifier=0x1234) as link:
        link.send(echo(B, 0x4321, 1))
        link.send(echo(B, 0x1234, 2))
        (datagram,) = [each for each in link.receive() if isinstance(each, Datagram)]
        assert ICMPEcho.parse(datagram.data)[0].sequence_number == 2


def test_both_families_are_behind_one_descriptor(hosts: Hosts) -> None:
    with hosts[0].entered(), open_icmp_link(identifier=0x1234) as link:
        assert isinstance(link, DualLink)
        for dst_addr in (B, B6, B):
            assert ping(link, dst_addr, 0x1234).src_addr == dst_addr
        for number, dst_addr in enumerate((B6, B, B6, B)):
            link.send(echo(dst_addr, 0x1234, number))
        arrivals = link.receive()
        assert [type(each) for each in arrivals] == [Transmitted] * 4 + [Datagram] * 4
        assert sorted(each.token for each in arrivals[:4]) == [0, 1, 2, 3]  # type: ignore[union-attr]
        assert link.poll_timeout() is None
        assert select.select([link.fileno()], [], [], 0)[0] == []
        descriptors = {link.fileno(), link.ipv4.fileno(), link.ipv6.fileno()}
        assert len(descriptors) == 3
    for descriptor in descriptors:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_options_reach_the_sockets(hosts: Hosts) -> None:
    with hosts[0].entered():
        with pytest.raises(LinkError) as refused:
            open_icmp_link(4, interface="nope")
        assert refused.value.errno == errno.ENODEV
        with open_icmp_link(4, identifier=7, interface="lo", timestamps=False) as link:
            assert isinstance(link, RawLink)
            link.send(
                Transmit(
                    data=IPv4Header(
                        identification=1, src_addr="127.0.0.1", dst_addr="127.0.0.1", protocol=1
                    ).emit(ICMPEcho(identifier=7).emit()),
                    dst_addr="127.0.0.1",
                    token=1,
                )
            )
            assert [type(each) for each in link.receive()] == [Datagram]


CLOSED = 33_434
FAMILIES = pytest.mark.parametrize(("src_addr", "dst_addr"), [(A, B), (A6, B6)])


def segment(src_addr: str, dst_addr: str, header: TCPHeader | UDPHeader, token: int) -> Transmit:
    """A SYN or an empty datagram, whole."""
    ip: IPv4Header | IPv6Header
    if ":" in dst_addr:
        ip = IPv6Header(src_addr=src_addr, dst_addr=dst_addr)
    else:
        ip = IPv4Header(src_addr=src_addr, dst_addr=dst_addr, identification=token)
    return Transmit(data=(ip / header).emit(), dst_addr=dst_addr, token=token)


@FAMILIES
def test_flow_of_udp_hears_complaints_about_its_own_port_only(
    hosts: Hosts, src_addr: str, dst_addr: str
) -> None:
    with (
        hosts[0].entered(),
        reserve_port("udp", src_addr) as reserved,
        open_flow_link(reserved, CLOSED) as link,
    ):
        assert isinstance(link, RawLink)
        src_port = reserved.getsockname()[1]
        for token, dst_port in ((1, CLOSED + 1), (2, CLOSED)):
            header = UDPHeader(src_port=src_port, dst_port=dst_port)
            link.send(segment(src_addr, dst_addr, header, token))
        arrivals = link.receive()
    assert [type(each) for each in arrivals] == [Transmitted, Transmitted, Datagram]
    quoted = arrivals[-1].data[-8:]  # type: ignore[union-attr]
    assert (int.from_bytes(quoted[:2], "big"), int.from_bytes(quoted[2:4], "big")) == (
        src_port,
        CLOSED,
    )


@FAMILIES
def test_flow_of_tcp_hears_what_answers_it_only(hosts: Hosts, src_addr: str, dst_addr: str) -> None:
    with hosts[0].entered():
        reserved = reserve_port("tcp", src_addr)
        link = open_flow_link(reserved, CLOSED)
    with reserved, link:
        assert isinstance(link, JoinedLink)
        src_port = reserved.getsockname()[1]
        for token, ports in enumerate(
            [(src_port, CLOSED + 1), (src_port + 1, CLOSED), (src_port, CLOSED)], 1
        ):
            header = TCPHeader(
                src_port=ports[0], dst_port=ports[1], sequence_number=77, flags=SYN, window=1
            )
            link.send(segment(src_addr, dst_addr, header, token))
        arrivals = link.receive()
    assert [type(each) for each in arrivals] == [Transmitted] * 3 + [Datagram]
    answer = arrivals[-1]
    assert isinstance(answer, Datagram)
    read = TCPHeader.parse(answer.data)[0]
    assert (read.src_port, read.dst_port, read.flags) == (CLOSED, src_port, RST | ACK)
    assert read.acknowledgment_number == 78
    assert (answer.src_addr, answer.protocol, answer.stamp_source) == (dst_addr, 6, "kernel")


def test_flow_link_leaves_no_socket_open_that_it_could_not_use(hosts: Hosts) -> None:
    with hosts[0].entered(), reserve_port("tcp", A) as reserved:
        before = set(os.listdir("/proc/self/fd"))
        with pytest.raises(LinkError) as refused:
            open_flow_link(reserved, CLOSED, interface="nope")
        assert set(os.listdir("/proc/self/fd")) == before
    assert refused.value.errno == errno.ENODEV


PREAMBLE = """
import json, os, sys
from rawproto.errors import PrivilegeError
from rawproto.link.dgram import DgramLink
from rawproto.link.open import DualLink, open_flow_link, open_icmp_link
from rawproto.link.packet import PacketLink
from rawproto.link.ports import reserve_port
from rawproto.link.privileges import drop_privileges, has_net_raw
from rawproto.link.raw import RawLink
from tests.live.test_link_open import ping

def told(call):
    try:
        with call() as link:
            return type(link).__name__
    except PrivilegeError as error:
        return [str(error), error.errno, error.capability, error.remedy]
"""


def run_in(host: Namespace, code: str, **environment: str) -> dict:
    """Runs a program that may throw its privileges away: what it prints, as JSON."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("SUDO_")}
    done = subprocess.run(
        ["nsenter", f"--net={host.path}", sys.executable, "-c", PREAMBLE + textwrap.dedent(code)],
        env=inherited | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)} | environment,
        cwd=os.getcwd(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


WITHOUT_PRIVILEGE = """
drop_privileges()
print(json.dumps({
    "net_raw": has_net_raw(),
    "raw": told(lambda: RawLink(4, 1)),
    "packet": told(lambda: PacketLink()),
    "icmp4": told(lambda: open_icmp_link(4, identifier=99)),
    "icmp6": told(lambda: open_icmp_link(6, identifier=99)),
    "both": told(lambda: open_icmp_link(identifier=99)),
}))
"""


REMEDY = "run it with sudo, or from a copied interpreter (README.md, Privilege)"
"""No setcap of the interpreter that runs this: it may be the system's."""


def test_readme_has_the_recipe_that_the_remedy_points_to() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    part = readme.partition("\n### Privilege\n")[2].partition("\n## ")[0]
    assert 'install -m 700 "$(readlink -f .venv/bin/python)" .venv/bin/python-raw' in part
    assert "setcap cap_net_raw+ep .venv/bin/python-raw" in part


def test_without_privilege_datagram_sockets_do_where_groups_may_ping(hosts: Hosts) -> None:
    seen = run_in(hosts[0], WITHOUT_PRIVILEGE)
    assert seen["net_raw"] is False
    assert (seen["icmp4"], seen["icmp6"], seen["both"]) == ("DgramLink", "DgramLink", "DualLink")
    for what in ("raw", "packet"):
        text, number, capability, remedy = seen[what]
        assert text.startswith(f"open {what} socket: Operation not permitted (needs CAP_NET_RAW)")
        assert (number, capability) == (errno.EPERM, "CAP_NET_RAW")
        assert remedy == REMEDY


def test_without_privilege_udp_has_a_link_and_tcp_has_a_reason(strict_hosts: Hosts) -> None:
    seen = run_in(
        strict_hosts[0],
        f"""
        drop_privileges()
        print(json.dumps([
            told(lambda: open_flow_link(reserve_port(kind, address), 80))
            for kind in ("udp", "tcp") for address in ("{A}", "{A6}")
        ]))
        """,
    )
    assert seen[:2] == ["UDPLink", "UDPLink"]
    for text, number, capability, remedy in seen[2:]:
        assert text.startswith("send TCP by hand: Operation not permitted (needs CAP_NET_RAW); ")
        assert (number, capability) == (errno.EPERM, "CAP_NET_RAW")
        assert remedy.endswith("UDP would do without")


def test_without_privilege_nor_ping_group_the_remedies_are_named(strict_hosts: Hosts) -> None:
    seen = run_in(strict_hosts[0], WITHOUT_PRIVILEGE)
    with strict_hosts[0].entered(), open(PING_GROUP_RANGE) as file:
        low, high = file.read().split()
    for what in ("icmp4", "icmp6", "both"):
        text, number, _, remedy = seen[what]
        assert number in (errno.EPERM, errno.EACCES)
        assert "\n" not in text
        assert "sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'" in remedy
        assert f"(now {low} {high})" in remedy
        assert remedy.startswith(f"{REMEDY}, or let your group ping unprivileged (now ")


def test_unprivileged_pings_of_both_families_share_one_identifier(hosts: Hosts) -> None:
    seen = run_in(
        hosts[0],
        f"""
        drop_privileges()
        with DgramLink(6, identifier=99):  # half of it is taken
            link = open_icmp_link(identifier=99)
        with link:
            sources = [ping(link, dst_addr, 0).src_addr for dst_addr in ("{B}", "{B6}")]
            own = [link.ipv4.identifier, link.ipv6.identifier, link.identifier]
        print(json.dumps({{"sources": sources, "identifiers": own}}))
        """,
    )
    assert seen["sources"] == [B, B6]
    assert len(set(seen["identifiers"])) == 1
    assert 0 < seen["identifiers"][0] < 0x10000
    assert seen["identifiers"][0] != 99


def test_sockets_opened_before_still_work_when_privilege_is_gone(strict_hosts: Hosts) -> None:
    seen = run_in(
        strict_hosts[0],
        f"""
        link = open_icmp_link(4, identifier=99)
        drop_privileges()
        print(json.dumps({{
            "source": ping(link, "{B}", 99).src_addr,
            "kind": type(link).__name__,
            "again": told(lambda: RawLink(4, 1)),
        }}))
        """,
    )
    assert (seen["source"], seen["kind"]) == (B, "RawLink")
    assert seen["again"][2] == "CAP_NET_RAW"


def test_under_sudo_the_process_becomes_its_caller(hosts: Hosts) -> None:
    """Or, where this user namespace has no such caller, loses its capabilities."""
    seen = run_in(
        hosts[0],
        """
        drop_privileges()
        status = open("/proc/self/status").read()
        caps = [int(line.split()[1], 16) for line in status.splitlines() if line[:3] == "Cap"]
        print(json.dumps({
            "uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(),
            "caps": dict(zip(("inherited", "permitted", "effective"), caps)),
        }))
        """,
        SUDO_UID="12345",
        SUDO_GID="23456",
    )
    with open("/proc/self/uid_map") as uid_map:
        mapped = sum(int(line.split()[2]) for line in uid_map) > 12345
    if mapped:
        assert seen["uid"] == [12345] * 3
        assert seen["gid"] == [23456] * 3
        assert seen["groups"] == [23456]
    assert (seen["caps"]["permitted"], seen["caps"]["effective"]) == (0, 0)


def test_what_is_executed_gets_no_privilege_back(hosts: Hosts) -> None:
    seen = run_in(
        hosts[0],
        """
        drop_privileges()
        import subprocess
        status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True)
        print(json.dumps(status.stdout))
        """,
    )
    (effective,) = [line for line in str(seen).splitlines() if line.startswith("CapEff")]
    assert int(effective.split()[1], 16) == 0
