"""The lab with real namespaces: what works in it, and that nothing of it stays behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rawproto import lab
from rawproto.errors import LinkError, UsageError
from rawproto.wire.checksum import internet_checksum
from tests.live.leftovers import hold, nothing_left_behind

ROOT = Path(__file__).parents[2]
RAWPROTO = [sys.executable, "-m", "rawproto.cli.main", "lab"]
# Root without privilege. To map uid 0 into a user namespace it takes CAP_SETFCAP; other users
# need nothing (user_namespaces(7)).
UNPRIVILEGED = ["setpriv", "--bounding-set=-all,+setfcap", "--inh-caps=-all"]
BOUND_S = 20.0
KINDS = ("net", "mnt", "pid")


# --- what a lab leaves behind -----------------------------------------------------------------


def namespaces_of(pid: int) -> set[str]:
    """Which namespaces a process is in (`net:[4026532345]`); none if it is dead."""
    try:
        return {os.readlink(f"/proc/{pid}/ns/{kind}") for kind in KINDS}
    except OSError:
        return set()


def lab_namespaces(keeper: int) -> set[str]:
    """All that belong to a lab: its keeper's, and those of its hosts."""
    hosts = list(os.scandir(f"/proc/{keeper}/root/run/netns"))
    for path in [*(f"/proc/{keeper}/ns/{kind}" for kind in KINDS), *(each.path for each in hosts)]:
        hold(path)
    return namespaces_of(keeper) | {f"net:[{host.stat().st_ino}]" for host in hosts}


def inhabitants(namespaces: set[str]) -> list[int]:
    """Processes that are in one of these."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if namespaces_of(pid) & namespaces]


def survivors(namespaces: set[str]) -> list[int]:
    """Processes that stay in one of these; those that have been killed get time to be gone."""
    for pid in inhabitants(namespaces):
        with suppress(ProcessLookupError):
            pidfd = os.pidfd_open(pid)
            try:
                select.select([pidfd], [], [], BOUND_S)
            finally:
                os.close(pidfd)
    return inhabitants(namespaces)


def keeper_of(inhabitant_namespaces: set[str]) -> int:
    """The process that is number 1 where these namespaces are."""
    for pid in inhabitants(inhabitant_namespaces):
        with suppress(FileNotFoundError, ProcessLookupError):  # others come and go
            status = Path(f"/proc/{pid}/status").read_text()
            if status.split("NSpid:")[1].splitlines()[0].split()[-1:] == ["1"]:
                return pid
    raise AssertionError("no keeper")


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


# --- what works in it -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chain() -> Iterator[lab.Network]:
    with lab.up(lab.chain(4)) as network:
        yield network


@pytest.fixture(scope="module")
def diamond() -> Iterator[lab.Network]:
    with lab.up(lab.diamond(3)) as network:
        yield network


def udp_socket(host: lab.LiveHost, address: str, port: int = 0) -> socket.socket:
    with host.entered():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind((address, port))
    return sock


def exceeded_by(host: lab.LiveHost, probe: socket.socket, target: str, ttl: int, port: int) -> str:
    """Who says that a UDP packet's time is exceeded."""
    six = ":" in target
    with host.entered():
        family, protocol = (socket.AF_INET6, 58) if six else (socket.AF_INET, 1)
        errors = socket.socket(family, socket.SOCK_RAW, protocol)
    with errors:
        errors.settimeout(5)
        if six:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        else:
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        probe.sendto(b"probe", (target, port))
        while True:
            data, sender = errors.recvfrom(2048)
            # ICMPv6 3 without an IP header, ICMP 11 behind one; neighbour discovery is passed over.
            if data[0] == 3 if six else data[20] == 11:
                return str(sender[0])


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_chain_of_four_hops_answers_hop_by_hop(chain: lab.Network, family: str) -> None:
    h1, h2 = chain.host("h1"), chain.host("h2")
    target = getattr(h2, family)
    with udp_socket(h1, getattr(h1, family)) as probe:
        hops = [exceeded_by(h1, probe, target, ttl, 33434) for ttl in (1, 2, 3)]
    assert hops == [getattr(chain.host(f"r{number}"), family) for number in (1, 2, 3)]
    with udp_socket(h1, getattr(h1, family)) as here, udp_socket(h2, target, 7) as there:
        here.sendto(b"hello", (target, 7))
        assert there.recvfrom(100)[0] == b"hello"


def test_kernels_ping_answers_over_both_families_with_the_hops_counted(chain: lab.Network) -> None:
    h1, h2 = chain.host("h1"), chain.host("h2")
    for address in (h2.ipv4, h2.ipv6):
        assert "ttl=61 " in h1.run(["ping", "-n", "-c1", "-W5", address], check=True).stdout


def test_names_resolve_on_every_host(chain: lab.Network) -> None:
    code = "import socket,sys; print({a[4][0] for a in socket.getaddrinfo(sys.argv[1], None)})"
    for asked in ("h2", "r2"):
        found = chain.host("r3").run([sys.executable, "-c", code, asked], check=True).stdout
        assert set(chain.host(asked).addresses) == eval(found)


def test_icmp_errors_are_not_rate_limited(chain: lab.Network) -> None:
    h1, h2 = chain.host("h1"), chain.host("h2")
    for source, target in ((h1.ipv4, h2.ipv4), (h1.ipv6, h2.ipv6)):
        with udp_socket(h1, source) as probe:
            # Linux by itself would send one a second, after a burst of six, or 1000 in all.
            seen = [exceeded_by(h1, probe, target, 1, 33434) for _ in range(60)]
        assert len(set(seen)) == 1


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_diamond_spreads_flows_and_keeps_each_on_its_path(
    diamond: lab.Network, family: str
) -> None:
    for near, far, entry in (("h1", "h2", 0), ("h2", "h1", 1)):
        here, target = diamond.host(near), getattr(diamond.host(far), family)
        middle = {
            diamond.host(f"m{number}").addresses[2 * entry + (family == "ipv6")]
            for number in (1, 2, 3)
        }
        with udp_socket(here, getattr(here, family)) as probe:
            seen = {exceeded_by(here, probe, target, 2, 33434 + flow) for flow in range(60)}
            assert seen == middle
            assert len({exceeded_by(here, probe, target, 2, 33434) for _ in range(5)}) == 1


def test_star_joins_all_its_hosts() -> None:
    with lab.up(lab.star(3)) as network:
        h3 = network.host("h3")
        for name in ("h1", "h2", "r1"):
            assert h3.run(["ping", "-c1", "-W5", network.host(name).ipv6]).returncode == 0


def test_routers_forward_and_hosts_do_not(chain: lab.Network) -> None:
    files = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
    command = ["cat", *(f"/proc/sys/net/{name}" for name in files)]
    assert chain.host("h1").run(command).stdout.split() == ["0", "0"]
    assert chain.host("r2").run(command).stdout.split() == ["1", "1"]


def test_packets_carry_finished_checksums(chain: lab.Network) -> None:
    h1, r1 = chain.host("h1"), chain.host("r1")
    with r1.entered():
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
    with tap, udp_socket(h1, h1.ipv4) as here:
        tap.bind(("eth0", 0x0800))
        tap.settimeout(5)
        here.sendto(b"a payload with a sum of its own", (r1.ipv4, 9))
        packet = tap.recv(2048)
    segment = packet[20:]
    pseudo_header = packet[12:20] + b"\x00\x11" + len(segment).to_bytes(2, "big")
    assert internet_checksum(pseudo_header + segment) == 0


def test_group_without_privilege_may_ping(chain: lab.Network) -> None:
    code = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)"
    chain.host("h1").run([*UNPRIVILEGED, sys.executable, "-c", code], check=True)


def test_addresses_stand_in_the_order_of_the_interfaces(chain: lab.Network) -> None:
    assert chain.host("h1").addresses == ("10.99.1.1", "fd99:1::1")
    assert chain.host("r1").addresses == ("10.99.1.2", "fd99:1::2", "10.99.2.1", "fd99:2::1")
    assert (chain.host("h2").ipv4, chain.host("h2").ipv6) == ("10.99.4.2", "fd99:4::2")
    with pytest.raises(UsageError, match="no host 'h9'"):
        chain.host("h9")


def test_file_with_one_family_mtu_and_routes_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    path.write_text(
        'hosts = ["h1", "h2"]\nrouters = ["r1"]\n'
        '[[links]]\nends = ["h1", "r1"]\nipv6 = false\nmtu = 600\n'
        '[[links]]\nends = ["r1", "h2"]\nipv4 = "192.0.2.0/31"\nipv6 = false\n'
        '[[routes]]\nhost = "r1"\nto = "203.0.113.0/24"\nvia = "192.0.2.1"\n'
    )
    with lab.up(lab.topology_of([str(path)])) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        assert h1.run(["ping", "-c1", "-W5", h2.ipv4]).returncode == 0
        assert h1.run(["cat", "/sys/class/net/eth0/mtu"]).stdout == "600\n"
        routes = network.host("r1").run(["ip", "route"]).stdout
        assert "203.0.113.0/24 via 192.0.2.1 dev eth1" in routes
        with pytest.raises(UsageError, match="h1 has no IPv6 address"):
            _ = h1.ipv6


def test_two_labs_at_once_do_not_clash() -> None:
    with lab.up(lab.pair()) as one, lab.up(lab.pair()) as other:
        with (
            udp_socket(one.host("h2"), "10.99.1.2", 7) as ours,
            udp_socket(other.host("h2"), "10.99.1.2", 7) as theirs,
            udp_socket(one.host("h1"), "10.99.1.1") as here,
            udp_socket(other.host("h1"), "10.99.1.1") as there,
        ):
            here.sendto(b"one", ("10.99.1.2", 7))
            there.sendto(b"other", ("10.99.1.2", 7))
            assert (ours.recv(100), theirs.recv(100)) == (b"one", b"other")
        other.close()
        assert one.host("h1").run(["ping", "-c1", "-W5", "h2"]).returncode == 0


def test_lab_stands_within_a_lab() -> None:
    with lab.up(lab.pair()) as outer:
        command = [*RAWPROTO, "run", "chain:2", "--", "ping", "-c1", "-W5", "h2"]
        inner = outer.host("h1").run(command, cwd=ROOT, timeout=BOUND_S)
        assert (inner.returncode, inner.stderr) == (0, "")


# --- programs and sockets on hosts ------------------------------------------------------------


def test_program_sees_the_host_and_keeps_its_surroundings(
    chain: lab.Network, tmp_path: Path
) -> None:
    script = "hostname; ls /sys/class/net; pwd; echo $WORD; cat; ip netns identify $$"
    result = chain.host("r2").run(
        ["sh", "-c", script], cwd=tmp_path, env={**os.environ, "WORD": "w"}, input="typed\n"
    )
    assert result.stdout.split() == ["r2", "eth0", "eth1", "lo", str(tmp_path), "w", "typed", "r2"]
    assert chain.host("r2").run(["pwd"]).stdout.strip() == os.getcwd()


def test_program_that_fails_or_is_missing_is_told(chain: lab.Network) -> None:
    h1 = chain.host("h1")
    assert h1.run(["sh", "-c", "echo no >&2; exit 3"]).returncode == 3
    with pytest.raises(subprocess.CalledProcessError) as failed:
        h1.run(["sh", "-c", "echo no >&2; exit 3"], check=True)
    assert failed.value.stderr == "no\n"
    with pytest.raises(FileNotFoundError):
        h1.run(["no-such-program"])


def test_program_that_takes_too_long_is_killed(chain: lab.Network) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        chain.host("h1").run(["sleep", "600"], timeout=0.01)


def test_entered_moves_the_calling_thread_alone_and_brings_it_back(chain: lab.Network) -> None:
    def where() -> str:
        return os.readlink("/proc/thread-self/ns/net")

    home = where()
    elsewhere: list[str] = []
    begun, done = threading.Event(), threading.Event()

    def other() -> None:
        begun.wait()
        elsewhere.append(where())
        done.set()

    threading.Thread(target=other, daemon=True).start()
    with chain.host("h1").entered():
        h1 = where()
        begun.set()
        assert done.wait(5)
        with chain.host("h2").entered():
            assert where() not in (home, h1)
        assert where() == h1
    assert where() == home
    assert elsewhere == [home]
    with pytest.raises(ZeroDivisionError), chain.host("h1").entered():
        _ = 1 // 0
    assert where() == home


# --- nothing stays behind ---------------------------------------------------------------------


def test_closing_a_lab_ends_its_programs_and_namespaces() -> None:
    with lab.up(lab.chain(3)) as network:
        namespaces = lab_namespaces(network.keeper.pid)
        assert len(namespaces) == 2 + 4 + 1  # the hosts' and the emulator's
        h1 = network.host("h1")
        sleeper = h1.popen(["sleep", "600"])
        orphan = h1.run(["sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo"]).stdout
        assert orphan == "\n"
        assert len(inhabitants(namespaces)) == 3
    assert sleeper.wait(BOUND_S) == -signal.SIGKILL
    assert survivors(namespaces) == []
    network.close()
    with pytest.raises(LinkError, match="enter lab h1: the lab is down"):
        h1.run(["true"])
    with pytest.raises(LinkError, match="enter lab h1: the lab is down"), h1.entered():
        pass


def test_lab_that_cannot_be_configured_is_told_and_gone() -> None:
    plain = lab.pair()
    route = lab.Route(host="h1", destination="203.0.113.0/24", gateways=("192.0.2.9",))
    topology = lab.Topology(name="bad", hosts=plain.hosts, links=plain.links, routes=(route,))
    with pytest.raises(LinkError) as refused:
        lab.up(topology)
    assert str(refused.value).startswith("configure h1: Error: Nexthop has invalid gateway.")
    assert str(refused.value).endswith("(ip route add 203.0.113.0/24 via 192.0.2.9)")


SCRIPT = (
    "setsid sleep 600 >/dev/null & readlink /proc/self/ns/net /proc/self/ns/pid; exec sleep 600"
)
LIBRARY = f"""
from rawproto import lab
with lab.up(lab.chain(3)) as network:
    network.host("h1").popen(["sh", "-c", {SCRIPT!r}]).wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize(
    "command",
    [
        [*RAWPROTO, "run", "chain", "3", "--", "sh", "-c", SCRIPT],
        [sys.executable, "-c", LIBRARY],
    ],
    ids=["run", "library"],
)
def test_lab_dies_with_its_owner_however_that_ends(command: list[str], number: int) -> None:
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        inside = {owner.stdout.readline().strip(), owner.stdout.readline().strip()}
        keeper = keeper_of(inside)
        namespaces = lab_namespaces(keeper)
        assert inside < namespaces
        assert len(inhabitants(namespaces)) >= 3
        pidfd = os.pidfd_open(keeper)
        try:
            owner.send_signal(number)
            assert select.select([pidfd], [], [], BOUND_S)[0], "the keeper outlives its owner"
        finally:
            os.close(pidfd)
            owner.kill()
    assert survivors(namespaces) == []


def test_owner_that_is_killed_while_it_builds_leaves_nothing() -> None:
    # The keeper is begun, and then never told what to keep.
    code = (
        "import os, signal\n"
        "from rawproto.lab import keeper, namespaces\n"
        "def die(*_): print(pid[0], flush=True); os.kill(os.getpid(), signal.SIGKILL)\n"
        "pid = []\n"
        "class Popen(namespaces.subprocess.Popen):\n"
        "    def __init__(self, *a, **k):\n"
        "        super().__init__(*a, **k); pid.append(self.pid); self.stdin.write = die\n"
        "namespaces.subprocess.Popen = Popen\n"
        "from rawproto import lab\n"
        "lab.up(lab.pair())\n"
    )
    # Made a reaper of orphans, this process sees the keeper's end.
    from ctypes import CDLL

    CDLL(None).prctl(36, 1, 0, 0, 0)
    try:
        command = [sys.executable, "-c", code]
        result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, timeout=BOUND_S)
        assert result.returncode == -signal.SIGKILL
        assert os.waitstatus_to_exitcode(os.waitpid(int(result.stdout), 0)[1]) == 0
    finally:
        CDLL(None).prctl(36, 0, 0, 0, 0)


def test_thread_that_could_not_come_back_does_not_enter() -> None:
    code = """
import os
from rawproto import lab
with lab.up(lab.pair()) as network:
    home = os.stat("/proc/thread-self/ns/net")
    try:
        network.host("h1").entered().__enter__()
    except PermissionError as error:
        print(os.stat("/proc/thread-self/ns/net") == home, error)
"""
    # A user namespace, but in the network that this process has.
    command = ["unshare", "-Ur", sys.executable, "-c", code]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S)
    assert said.stdout.startswith("True come back from h1: Operation not permitted")
