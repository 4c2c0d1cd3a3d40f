"""Links that misbehave, between real hosts: what was asked for is what packets meet.

Times are compared with the model's own and with what the emulator says of its lateness,
so that a busy machine makes a test slow and not wrong.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rawproto import lab, ping
from rawproto.errors import LinkError, UsageError
from rawproto.impair.model import LinkModel
from rawproto.lab import netem
from rawproto.lab.impairments import impairment, link_model
from tests.live.leftovers import nothing_left_behind
from tests.live.pinging import stamping
from tests.live.test_lab import (
    BOUND_S,
    RAWPROTO,
    ROOT,
    SCRIPT,
    inhabitants,
    keeper_of,
    lab_namespaces,
)
from tests.live.test_lab_command import CommandLine, rawproto, unprivileged

__all__ = ["rawproto", "unprivileged"]  # the fixtures, which pytest finds here

SLACK_MS = 10.0
"""What the two kernels and ping may add to a round trip, beside the emulator's lateness."""


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    with nothing_left_behind():
        yield


def pair(impairments: str) -> lab.Network:
    return lab.up(lab.pair().changed(f"1:{impairments}"))


def model(impairments: dict[str, str], direction: str = "forward", seed: int = 7) -> LinkModel:
    return link_model(impairments, seed=seed, link=1, direction=direction)


def round_trips_ms(network: lab.Network, count: int = 10, *, six: bool = False) -> list[float]:
    """By our ping, from h1 to h2, and by the kernel's stamps. The neighbours are known before."""
    target = network.host("h2").ipv6 if six else network.host("h2").ipv4
    with stamping(network.host("h1")), network.host("h1").entered():
        ping(target, count=1, timeout_ms=5000)
        (result,) = ping(target, count=count, interval_ms=20, timeout_ms=5000)
    return [reply.rtt_ns / 1e6 for reply in result.replies]


def late_ms(network: lab.Network) -> float:
    """The most that its links' packets can have been late, there and back."""
    links = [network.link(number) for number in range(1, len(network.topology.links) + 1)]
    return 2 * sum(link.report().lateness.get("max_ms", 0) for link in links)


class Sender:
    """UDP packets with a number each, from h1 to h2."""

    def __init__(self, network: lab.Network) -> None:
        h1, h2 = network.host("h1"), network.host("h2")
        # While a neighbour is being found, the kernel keeps packets and lets others pass them.
        neighbour = f"{h2.ipv4} lladdr 02:00:00:00:01:02 dev eth0"
        h1.run(["ip", "neigh", "replace", *neighbour.split()], check=True)
        with h1.entered():
            self.here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with h2.entered():
            self.there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.there.bind((h2.ipv4, 0))
        self.there.settimeout(BOUND_S)
        self.there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.here.connect(self.there.getsockname())

    def send(self, numbers: range, size: int = 32) -> None:
        for number in numbers:
            self.here.send(number.to_bytes(4, "big").ljust(size, b"."))

    def receive(self, count: int) -> list[int]:
        return [int.from_bytes(self.there.recv(2048)[:4], "big") for _ in range(count)]

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.here.close()
        self.there.close()


# --- what packets meet ------------------------------------------------------------------------


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_round_trip_takes_the_delay_twice(six: bool) -> None:
    with lab.up(lab.chain(3).changed("2:delay=20ms")) as network:
        times = round_trips_ms(network, six=six)
        most = 40 + late_ms(network) + SLACK_MS
    assert len(times) == 10
    assert 39.99 <= min(times) <= max(times) <= most


def test_direction_has_a_delay_of_its_own() -> None:
    with pair("forward.delay=30ms,backward.delay=5ms") as network:
        times = round_trips_ms(network, 3)
        most = 35 + late_ms(network) + SLACK_MS
    assert 34.99 <= min(times) <= max(times) <= most


def test_jitter_is_the_models_packet_by_packet() -> None:
    impairments = {"delay": "10ms", "jitter": "8ms"}
    with pair("delay=10ms,jitter=8ms,seed=7") as network:
        times = round_trips_ms(network, 20)
        slack = late_ms(network) + SLACK_MS
    there, back = model(impairments), model(impairments, "backward")
    wanted = []
    for number in range(21):  # the first made the neighbours known
        now_ns = number * 10**9
        wanted.append((there.offer(b"", now_ns)[0][0] + back.offer(b"", now_ns)[0][0]) / 1e6)
    wanted = [arrival - 2e3 * number for number, arrival in enumerate(wanted)][1:]
    assert max(wanted) - min(wanted) > 10
    for measured, least in zip(times, wanted, strict=True):
        assert least - 0.01 <= measured <= least + slack


def test_losses_are_the_models_every_time() -> None:
    numbers = range(300)
    one_way = model({"loss": "20%"})
    survivors = [number for number in numbers if one_way.offer(b"", number)]
    with pair("forward.loss=20%,seed=7") as network, Sender(network) as sender:
        for attempt in range(2):
            sender.send(numbers)
            assert sender.receive(len(survivors)) == survivors
            counts = network.link(1).report(clear=True).forward
            assert (counts["offered"], counts["lost"]) == (300, 300 - len(survivors))
            if attempt == 0:
                network.change("1:seed=7")
        sender.send(numbers)  # without a new beginning, chance goes on
        further = [number for number in numbers if one_way.offer(b"", number)]
        assert sender.receive(len(further)) == further
        assert further != survivors


def test_bursts_are_the_models() -> None:
    impairments = {"loss": "20%", "burst": "5"}
    one_way = model(impairments)
    survivors = [number for number in range(300) if one_way.offer(b"", number)]
    with pair("loss=20%,burst=5,seed=7") as network, Sender(network) as sender:
        sender.send(range(300))
        assert sender.receive(len(survivors)) == survivors
        assert network.link(1).report().forward["lost_in_burst"] == 300 - len(survivors)


def test_neighbours_are_found_across_a_link_that_loses_everything_else() -> None:
    with pair("loss=100%") as network:
        h1, h2 = network.host("h1"), network.host("h2")
        with h1.entered():
            (result,) = ping(h2.ipv4, count=2, interval_ms=10, timeout_ms=200)
        assert (len(result.lost), result.errors) == (2, [])
        deadline = time.monotonic() + BOUND_S
        while "lladdr 02:00:00:00:01:02" not in h1.run(["ip", "neigh"], check=True).stdout:
            assert time.monotonic() < deadline


def test_queue_drops_at_its_tail_what_the_rate_does_not_let_through() -> None:
    with pair("rate=8mbit,queue=40") as network, Sender(network) as sender:
        sender.send(range(200), 986)
        link = network.link(1)
        sent = link.report().forward
        while sent["offered"] < 200:
            sent = link.report().forward
        arrived = sent["delivered"]
        assert sent["queue_full"] == 200 - arrived
        assert arrived >= 41
        received = sender.receive(arrived)
    assert received[:41] == list(range(41))
    assert received == sorted(received)


def test_packets_arrive_at_the_rate_of_the_link() -> None:
    size, header = 986, 14 + 20 + 8
    with pair("rate=8mbit") as network, Sender(network) as sender:
        # The kernel begins to stamp a moment after the first socket wants it.
        stamps = arrivals(sender, 200, size)[50:]
        late = network.link(1).report().lateness["max_ms"]
    span_ms = (stamps[-1] - stamps[0]) / 1e6
    ideal_ms = (len(stamps) - 1) * (size + header) * 8 / 8e6 * 1e3
    assert ideal_ms - late - 0.1 <= span_ms <= ideal_ms + late + SLACK_MS


def arrivals(sender: Sender, count: int, size: int) -> list[int]:
    """When packets that were sent at once have arrived, by the kernel's stamps."""
    sender.there.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
    sender.send(range(count), size)
    stamps = []
    for _ in range(count):
        _, ancillary, _, _ = sender.there.recvmsg(2048, 64)
        seconds, nanoseconds = (
            int.from_bytes(ancillary[0][2][at : at + 8], "little") for at in (0, 8)
        )
        stamps.append(seconds * 10**9 + nanoseconds)
    return stamps


def test_every_packet_arrives_twice_where_all_are_duplicated() -> None:
    with pair("forward.duplicate=100%") as network, Sender(network) as sender:
        sender.send(range(20))
        assert sender.receive(40) == [number for number in range(20) for _ in range(2)]


def test_packets_held_back_are_overtaken() -> None:
    one_way = model({"reorder": "30%", "hold": "500ms"})
    held = [n for n in range(40) if one_way.offer(b"", 0)[0][0] == 500_000_000]
    assert 5 < len(held) < 20
    with pair("reorder=30%,hold=500ms,seed=7") as network, Sender(network) as sender:
        sender.send(range(40))
        assert sender.receive(40) == [n for n in range(40) if n not in held] + held


def test_corruption_flips_one_bit_behind_the_ethernet_header() -> None:
    def tap(host: lab.LiveHost) -> socket.socket:
        with host.entered():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        sock.bind(("eth0", 3))
        sock.settimeout(BOUND_S)
        return sock

    def next_udp(sock: socket.socket) -> int:
        while True:
            frame = sock.recv(2048)
            if b"corrupt me" in frame or len(frame) == 14 + 28 + 500:
                return int.from_bytes(frame, "big")

    with pair("forward.corrupt=100%,seed=7") as network, Sender(network) as sender:
        with tap(network.host("h1")) as near, tap(network.host("h2")) as far:
            for _ in range(20):
                sender.here.send(b"corrupt me".ljust(500))
                difference = next_udp(near) ^ next_udp(far)
                assert difference.bit_count() == 1
                assert difference.bit_length() <= (28 + 500) * 8
        # The receiving host verifies what it gets.
        sender.there.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sender.there.recv(2048)
        assert network.link(1).report().forward["corrupted"] == 20


def test_stream_passes_a_link_that_loses_and_is_cut_up_before_it() -> None:
    payload = os.urandom(1 << 20)
    with lab.up(lab.chain(2).changed("1:delay=1ms,loss=1%,seed=7")) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        with h2.entered():
            listener = socket.create_server((h2.ipv4, 0))
        with h1.entered():
            client = socket.create_connection(listener.getsockname(), timeout=BOUND_S)
        server, _ = listener.accept()
        with listener, client, server:
            writer = threading.Thread(target=lambda: (client.sendall(payload), client.close()))
            writer.start()
            server.settimeout(BOUND_S)
            received = bytearray()
            while data := server.recv(65536):
                received += data
            writer.join()
        report = network.link(1).report()
    assert received == payload
    assert report.forward["lost"] > 0
    assert report.forward["offered"] > len(payload) / 1460
    assert report.overrun == 0


# --- changes while it runs ---------------------------------------------------------------------


def test_delay_changes_while_packets_are_under_way() -> None:
    with pair("delay=400ms,loss=0%") as network, Sender(network) as sender:
        sender.send(range(1))
        while not network.link(1).report().forward["offered"]:
            pass
        network.change("1:delay=1ms")
        assert network.topology.links[0].impairments == {"delay": "1ms", "loss": "0%"}
        times = round_trips_ms(network, 5)
        assert sender.receive(1) == [0]  # it kept its time
        assert min(times) >= 1.99
        assert max(times) <= 2 + late_ms(network) + SLACK_MS


def test_plain_link_gets_impairments_and_keeps_addresses_routes_and_connections() -> None:
    with lab.up(lab.chain(3)) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        assert [network.link(number).made for number in (1, 2, 3)] == ["veth"] * 3
        before = [h.run(["ip", "-br", "addr"]).stdout for h in network.hosts.values()]
        routes = routes_of(network)
        with h2.entered():
            listener = socket.create_server((h2.ipv4, 0))
        with h1.entered():
            client = socket.create_connection(listener.getsockname(), timeout=BOUND_S)
        server, _ = listener.accept()
        with listener, client, server:
            server.settimeout(BOUND_S)
            network.change("2:delay=10ms")
            assert [network.link(number).made for number in (1, 2, 3)] == [
                "veth",
                "emulator",
                "veth",
            ]
            client.sendall(b"still here")
            assert server.recv(100) == b"still here"
        for six in (False, True):
            assert min(round_trips_ms(network, 3, six=six)) >= 19.99
        network.change("all:delay=5ms,perfect")
        assert min(round_trips_ms(network, 3)) >= 29.99
        after = [h.run(["ip", "-br", "addr"]).stdout for h in network.hosts.values()]
        assert [set(text.split()) - peers(text) for text in after] == [
            set(text.split()) - peers(text) for text in before
        ]
        assert routes_of(network) == routes


def peers(text: str) -> set[str]:
    """`eth0@if3`: the number of the other end is another one when a link is made anew."""
    return {word for word in text.split() if "@" in word}


def routes_of(network: lab.Network) -> list[list[str]]:
    return [
        sorted(host.run(["ip", family, "route"]).stdout.splitlines())
        for host in network.hosts.values()
        for family in ("-4", "-6")
    ]


def test_mtu_changes_at_both_ends_and_long_packets_are_answered() -> None:
    with lab.up(lab.chain(2).changed("2:delay=1ms,mtu=1400")) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        refused = h1.run(["ping", "-c1", "-W5", "-Mdo", "-s1450", h2.ipv4]).stdout
        assert "Frag needed and DF set (mtu = 1400)" in refused
        network.change("all:mtu=9000")
        h1.run(["ip", "route", "flush", "cache"], check=True)
        answered = h1.run(["ping", "-c1", "-W5", "-Mdo", "-s8972", h2.ipv4]).stdout
        assert "8980 bytes from" in answered
        counts = network.link(2).report().forward
        assert counts["offered_bytes"] >= 9014


def test_wrong_change_leaves_all_as_it_was() -> None:
    with pair("delay=10ms") as network:
        for text, complaint in (
            ("1:delay=1", "wants a time"),
            ("2:delay=1ms", "no link 2 in lab pair"),
            ("1:jitter=20ms", "jitter: more than the delay"),
            ("1:by=netem,jitter=1ms", "by=netem: netem's jitter reorders packets"),
        ):
            with pytest.raises(UsageError, match=complaint):
                network.change(text)
        assert network.topology.links[0].impairments == {"delay": "10ms"}
        assert min(round_trips_ms(network, 3)) >= 19.99
        with pytest.raises(UsageError, match="no link 2"):
            network.link(2)


# --- how it is made, and how it ends -----------------------------------------------------------


def test_no_end_of_a_link_has_offloads() -> None:
    with lab.up(lab.chain(2).changed("1:delay=1ms")) as network:
        shown = [network.host(name).run(["ethtool", "-k", "eth0"]).stdout for name in ("h1", "r1")]
        shown.append(network.host("h2").run(["ethtool", "-k", "eth0"]).stdout)
        for port in ("1a", "1b"):
            process = network.keeper.popen(
                "_links", ["ethtool", "-k", port], stdout=subprocess.PIPE, text=True
            )
            shown.append(process.communicate()[0])
    for text in shown:
        on = [line.split(":")[0].strip() for line in text.splitlines() if ": on" in line]
        assert "rx-checksumming: off" in text
        assert [
            name
            for name in on
            if "checksum" in name or "segmentation" in name or "gro" in name or "receive" in name
        ] == []


def test_tc_understands_what_netem_is_told() -> None:
    said = [
        {"delay": "20ms", "loss": "1%", "duplicate": "0.5%", "corrupt": "0.0001%"},
        {"rate": "10mbit", "queue": "50", "loss": "1%", "burst": "4"},
        {"delay": "1500ns"},
        {"loss": "100%"},
        {},
    ]
    with lab.up(lab.pair()) as network:
        for impairments in said:
            words = netem.command("eth0", impairment(impairments, "forward")).split()
            done = network.host("h1").run(["tc", *words])
            # It reads all of it before it asks the kernel, which may have no netem.
            assert (done.returncode, done.stderr) in (
                (0, ""),
                (2, "Error: Specified qdisc kind is unknown.\n"),
            )


def emulators(keeper: int) -> list[int]:
    """The emulators of a lab, whose other processes come and go."""
    found = []
    for pid in inhabitants(lab_namespaces(keeper)):
        with suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/comm").read_text() == "rawproto-links\n":
                found.append(pid)
    return found


def test_emulator_that_was_killed_is_told_in_a_line() -> None:
    with pair("delay=1ms") as network:
        (emulator,) = emulators(network.keeper.pid)
        pidfd = os.pidfd_open(emulator)
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert select.select([pidfd], [], [], BOUND_S)[0]
        os.close(pidfd)
        with pytest.raises(LinkError, match="ask emulator: it has died"):
            network.link(1).report()
        with pytest.raises(LinkError, match="ask emulator: it has died"):
            network.change("1:delay=2ms")


def test_lab_with_an_emulator_dies_with_its_owner() -> None:
    command = [*RAWPROTO, "run", "chain:2", "--link", "all:delay=1ms", "--", "sh", "-c", SCRIPT]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        keeper = keeper_of({owner.stdout.readline().strip(), owner.stdout.readline().strip()})
        namespaces = lab_namespaces(keeper)
        pidfd = os.pidfd_open(keeper)
        try:
            assert len(emulators(keeper)) == 1
            owner.kill()
            assert select.select([pidfd], [], [], BOUND_S)[0], "the keeper outlives its owner"
        finally:
            owner.kill()
            os.close(pidfd)
    assert inhabitants(namespaces) == []


# --- the command line --------------------------------------------------------------------------


def test_links_are_shown_and_changed_while_they_run(rawproto: CommandLine) -> None:
    code, shown, complaint = rawproto("up", "chain:3", "--link", "2:delay=20ms,loss=0%,seed=7")
    assert (code, complaint) == (0, "")
    assert "  link 2: delay=20ms,loss=0%,seed=7 (by emulator)\n" in shown
    assert rawproto("link")[1].splitlines() == [
        "link  from     to       made by",
        "1     h1 eth0  r1 eth0  veth",
        "2     r1 eth1  r2 eth0  emulator  delay=20ms,loss=0%,seed=7",
        "3     r2 eth1  h2 eth0  veth",
    ]
    assert rawproto("exec", "h1", "ping", "-c2", "-i0.01", "-W5", "h2")[0] == 0
    code, shown, complaint = rawproto("link", "2")
    assert (code, complaint) == (0, "")
    assert shown.startswith(
        "link 2: r1 eth1 - r2 eth0, made by emulator, seed 7\n"
        "  delay=20ms,loss=0%,seed=7\n"
        "                    r1 to r2  r2 to r1\n"
        "  offered                  2         2\n"
        "  delivered                2         2\n"
        "  lost                     0         0\n"
    )
    assert re.search(r"\n  sent late by \d+\.\d+ ms in the median, ", shown)
    code, shown, _ = rawproto("link", "--json", "2:delay=40ms,mtu=1400", "1")
    second, first = map(json.loads, shown.splitlines())
    assert code == 0
    assert (second["type"], second["schema"], second["lab"]) == ("link", 1, "chain-3")
    assert second["impairments"] == {"delay": "40ms", "loss": "0%", "seed": "7"}
    assert (second["link"], second["mtu"], second["made"]) == (2, 1400, "emulator")
    assert second["forward"]["offered"] == 2
    assert second["lateness"]["packets"] >= 4
    assert second["ends"][1] == {"host": "r2", "interface": "eth0"}
    assert (first["made"], first["forward"], first["lateness"]) == ("veth", None, None)
    assert "emulator  delay=40ms,loss=0%,seed=7,mtu=1400\n" in rawproto("link")[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["9"], "no link 9 in lab pair (they are 1 to 1)"),
        (["first"], "link 'first' is neither a number nor `all`"),
        (["1:delay=20"], "1:delay=20: delay=20: wants a time, as 20ms (s, ms, us, ns)"),
        (["1:by=netem,delay=2ms,jitter=1ms"], "link 1: by=netem: netem's jitter reorders packets"),
    ],
)
def test_wrong_words_for_a_link_are_one_line_and_exit_2(
    rawproto: CommandLine, words: list[str], complaint: str
) -> None:
    rawproto("up", "pair")
    assert rawproto("link", *words) == (2, "", f"rawproto lab: {complaint}\n")


def test_wrong_link_ends_run_before_anything_is_built(rawproto: CommandLine) -> None:
    done = rawproto("run", "pair", "--link", "2:delay=1ms", "--", "true")
    assert done == (2, "", "rawproto lab: no link 2 in lab pair (they are 1 to 1)\n")


def test_impairments_in_a_file_are_the_same(rawproto: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "slow.toml"
    path.write_text(
        'hosts = ["h1", "h2"]\n[[links]]\nends = ["h1", "h2"]\n'
        'delay = "10ms"\nforward = { loss = "0%" }\n'
    )
    rawproto("up", str(path), "--link", "1:backward.loss=1%")
    (described,) = map(json.loads, rawproto("link", "--json")[1].splitlines())
    assert described["impairments"] == {
        "delay": "10ms",
        "forward.loss": "0%",
        "backward.loss": "1%",
    }


def test_links_misbehave_without_root_too(unprivileged: CommandLine) -> None:
    words = ["ping", "-c2", "-i0.01", "-W5", "h2"]
    assert unprivileged("run", "pair", "--link", "1:delay=10ms", "--", *words)[0] == 0
    assert unprivileged("up", "chain:2")[0] == 0
    assert unprivileged("link", "2:delay=10ms")[0] == 0
    assert unprivileged("exec", "h1", *words)[0] == 0
    assert json.loads(unprivileged("link", "2", "--json")[1])["forward"]["offered"] >= 2
