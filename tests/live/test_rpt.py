"""RPT between two hosts: every carrier, both families, and each way of being refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto import lab
from rawproto.link.packet import ETH_P_IP, Frame
from tests.live.peers import CARRIERS, FAMILIES, HARM, Peer, address_of, listening
from tests.live.pinging import Wire

pytestmark = pytest.mark.live

SIZE = 400_000
# The command line, but that it gives a silent peer up after 3 s, and not after 16.
IMPATIENT = """
import sys
from dataclasses import replace
from rawproto.cli import connect, main
usual = connect.config_of
connect.config_of = lambda arguments: replace(usual(arguments), dead_path_ns=3 * 10**9)
sys.exit(main.main())
"""


class RPTWire(Wire):
    """A wire on which IPv4 packets of protocol 253 count."""

    def wanted(self, frame: Frame) -> bool:
        return frame.ethertype == ETH_P_IP and frame.data[14 + 9] == 253


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_bytes_pass_both_ways_at_once_and_each_end_is_told(
    carrier: str, family: int, peers: tuple[Peer, Peer]
) -> None:
    left, right = peers
    there, back = os.urandom(SIZE), os.urandom(SIZE)
    address = address_of(right, carrier, family)
    with listening(right, address) as listener:
        client = left.start("connect", "--accept-new", address)
        got: list[tuple[bytes, bytes]] = []
        reader = threading.Thread(target=lambda: got.append(listener.communicate(back, timeout=60)))
        reader.start()
        output, said = client.communicate(there, timeout=60)
        reader.join(30)
        assert client.returncode == 0, said
        assert listener.returncode == 0, got
        assert output == back
        assert got[0][0] == there


@pytest.mark.parametrize("kind", ["--messages", "--datagrams"])
@pytest.mark.parametrize("carrier", CARRIERS)
def test_lines_pass_as_messages_and_as_datagrams(
    carrier: str, kind: str, peers: tuple[Peer, Peer]
) -> None:
    left, right = peers
    address = address_of(right, carrier, 4)
    with listening(right, kind, address) as listener:
        assert listener.stdin is not None
        listener.stdin.close()
        listener.stdin = None
        code, _, said = left.run("connect", "--accept-new", kind, address, data=b"one\ntwo\n")
        assert code == 0, said
        output, _ = listener.communicate(timeout=60)
        assert output == b"one\ntwo\n"


def test_new_peer_is_not_trusted_unless_told_and_a_changed_key_is_loud(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right, "rpt", 4)
    with listening(right, "--keep", address):
        code, _, said = left.run("connect", "-z", address)
        assert code == 1
        assert f"rawproto keys trust {address} 'rpt-x25519 " in said
        assert left.run("connect", "-z", "--accept-new", address)[0] == 0
        assert left.run("connect", "-z", address)[0] == 0
    with listening(Peer(right.host, tmp_path / "other"), "--keep", address):
        code, _, said = left.run("connect", "-z", address)
        assert code == 1
        assert "HAS CHANGED" in said
        assert left.run("keys", "forget", address)[0] == 0
        assert left.run("connect", "-z", "--accept-new", address)[0] == 0


def test_only_authorized_keys_and_shared_secrets_are_let_in(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    address = address_of(right, "rpt", 4)
    line = left.run("keys", "new")[1].decode()
    file, psk, other = tmp_path / "authorized", tmp_path / "psk", tmp_path / "psk2"
    file.write_text("# nobody yet\n")
    for path, text in ((psk, "ab" * 32), (other, "cd" * 32)):
        path.write_text(text)
        path.chmod(0o600)
    with listening(right, "--keep", "--authorized", str(file), address):
        code, _, said = left.run("connect", "--accept-new", address)
        assert (code, "authorized" in said) == (1, True), said
    file.write_text(line)
    with listening(right, "--keep", "--authorized", str(file), "--psk", str(psk), address):
        assert left.run("connect", "-z", "--psk", str(psk), address)[0] == 0
        code, _, said = left.run("connect", "-z", "-w", "2", "--psk", str(other), address)
        assert (code, "psk" in said) == (1, True), said
        code, _, said = left.run("connect", "-z", address)
        assert (code, "psk" in said) == (1, True), said


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_port_that_nobody_holds_is_refused_with_and_without_an_rpt_process(
    family: int, busy: bool, peers: tuple[Peer, Peer]
) -> None:
    left, right = peers
    address = address_of(right, "rpt", family, 4999)
    if busy:
        with listening(right, "--keep", address_of(right, "rpt", family)):
            code, _, said = left.run("connect", "-z", address)
    else:
        code, _, said = left.run("connect", "-z", address)
    assert (code, "nobody listens" in said) == (1, True), said


def test_port_is_held_once_and_freed_by_death(peers: tuple[Peer, Peer]) -> None:
    _, right = peers
    address = address_of(right, "rpt", 4)
    with listening(right, "--keep", address) as first:
        code, _, said = right.run("listen", address)
        assert (code, "in use" in said) == (2, True), said
        first.kill()
        first.wait(30)
        with listening(right, "--keep", address):
            pass


def test_packets_are_of_protocol_253_and_nothing_in_them_can_be_read(
    peers: tuple[Peer, Peer],
) -> None:
    left, right = peers
    secret = b"the quick brown fox jumps over the lazy dog " * 20
    address = address_of(right, "rpt", 4)
    with RPTWire(right.host, "eth0") as wire, listening(right, address) as listener:
        assert listener.stdin is not None
        listener.stdin.close()
        listener.stdin = None
        assert left.run("connect", "--accept-new", address, data=secret)[0] == 0
        assert listener.communicate(timeout=60)[0] == secret
        packets = [frame.data[14:] for frame in wire.frames(4)]
    assert all(packet[6] & 0x40 for packet in packets), "DF is set"
    assert not any(b"quick brown" in packet for packet in packets)


@pytest.fixture(scope="module")
def harmful() -> Iterator[lab.Network]:
    """A cable that loses, delays, reorders, duplicates and corrupts, both ways."""
    with lab.up(lab.pair().changed(f"1:{HARM}")) as network:
        yield network


# Each two of them meet.
@pytest.mark.parametrize(
    ("carrier", "family", "kind"),
    [
        ("rpt", 4, "bytes"),
        ("rpt", 6, "--messages"),
        ("rpt+udp", 4, "--messages"),
        ("rpt+udp", 6, "bytes"),
    ],
)
def test_every_byte_arrives_through_a_cable_that_does_harm(
    carrier: str, family: int, kind: str, harmful: lab.Network, tmp_path: Path
) -> None:
    left = Peer(harmful.host("h1"), tmp_path / "left")
    right = Peer(harmful.host("h2"), tmp_path / "right")
    address = address_of(right, carrier, family)
    data = b"".join([b"%d %s\n" % (number, b"x" * (number % 900)) for number in range(300)])
    words = [] if kind == "bytes" else [kind]
    with listening(right, *words, address) as listener:
        assert listener.stdin is not None
        listener.stdin.close()
        listener.stdin = None
        client = left.start("connect", "--accept-new", *words, address)
        told: list[bytes] = []
        reader = threading.Thread(
            target=lambda: told.append(client.communicate(data, timeout=40)[1])
        )
        reader.start()
        output, said = listener.communicate(timeout=40)
        reader.join(40)
        assert (client.returncode, listener.returncode) == (0, 0), (told, said)
        assert output == data


@pytest.mark.parametrize("carrier", CARRIERS)
def test_killed_listener_that_comes_back_tells_its_old_client(
    carrier: str, peers: tuple[Peer, Peer]
) -> None:
    left, right = peers
    address = address_of(right, carrier, 4)
    with listening(right, "--keep", address) as first:
        client = left.start("connect", "--accept-new", address)
        assert client.stdin is not None
        client.stdin.write(b"one\n")
        client.stdin.flush()
        assert first.stdout is not None
        assert first.stdout.readline().endswith(b" one\n")
        first.kill()
        first.wait(30)
        with listening(right, "--keep", address):
            client.stdin.write(b"two\n")
            client.stdin.flush()
            _, said = client.communicate(timeout=60)
            assert client.returncode == 1
            assert b"forgotten" in said
            code, _, _ = left.run("connect", "-z", address)
            assert code == 0


def test_killed_client_harms_no_other(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    address = address_of(right, "rpt", 4)
    with listening(right, "--keep", address) as listener:
        assert listener.stdout is not None
        clients = [left.start("connect", "--accept-new", address) for _ in range(3)]
        for client in clients:
            assert client.stdin is not None
            client.stdin.write(b"hello\n")
            client.stdin.flush()
            assert listener.stdout.readline().endswith(b" hello\n")
        clients[0].kill()
        clients[0].communicate(timeout=60)
        for client in clients[1:]:
            assert client.stdin is not None
            client.stdin.write(b"still here\n")
            client.stdin.flush()
            assert listener.stdout.readline().endswith(b" still here\n")
            assert client.communicate(timeout=60)[0] == b""
            assert client.returncode == 0


def test_client_that_reads_nothing_keeps_no_other_waiting(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    address = address_of(right, "rpt", 4)
    line = b"x" * 65_535 + b"\n"
    with listening(right, "--keep", address) as listener:
        assert listener.stdin is not None
        assert listener.stderr is not None
        slow, quick = (left.start("connect", "--accept-new", address) for _ in range(2))
        for _ in range(2):
            assert listener.stderr.readline().startswith(b"connected")
        feeder = threading.Thread(target=listener.stdin.write, args=(line * 128,))
        feeder.start()
        assert quick.stdout is not None
        assert len(quick.stdout.read(len(line) * 128)) == len(line) * 128
        feeder.join(10)
        for client in (quick, slow):
            client.kill()
            client.communicate(timeout=60)


@pytest.mark.parametrize("carrier", CARRIERS)
def test_mtu_that_is_too_small_is_named(carrier: str, tmp_path: Path) -> None:
    with lab.up(lab.pair()) as network:
        for name in ("h1", "h2"):
            network.host(name).run(["ip", "link", "set", "eth0", "mtu", "1000"], check=True)
        left = Peer(network.host("h1"), tmp_path / "left")
        right = Peer(network.host("h2"), tmp_path / "right")
        address = address_of(right, carrier, 4)
        with listening(right, "--keep", address):
            code, _, said = left.run("connect", "-z", "--accept-new", address)
        assert (code, "1200 are needed" in said) == (2, True), said


def test_data_that_did_not_arrive_is_told_though_the_peer_had_ended_its_side(
    peers: tuple[Peer, Peer],
) -> None:
    left, right = peers
    address = address_of(right, "rpt", 4)
    with listening(right, address) as listener:
        assert listener.stdin is not None
        assert listener.stdout is not None
        listener.stdin.close()
        listener.stdin = None
        client = left.start("connect", "--accept-new", address, script=IMPATIENT)
        assert client.stdin is not None
        client.stdin.write(b"one\n")
        client.stdin.flush()
        assert listener.stdout.readline() == b"one\n"
        listener.kill()
        listener.wait(30)
        _, said = client.communicate(b"lost\n", timeout=60)
        assert client.returncode == 1, said


def test_host_of_several_addresses_is_reached_on_the_one_that_listens(
    peers: tuple[Peer, Peer],
) -> None:
    left, right = peers
    with listening(right, "--keep", "rpt://0.0.0.0:4000"):
        assert left.run("connect", "-z", "--accept-new", "rpt://h2:4000")[0] == 0
    with listening(right, "--keep", "rpt://[::]:4000"):
        assert left.run("keys", "forget", "rpt://h2:4000")[0] == 0
        assert left.run("connect", "-z", "--accept-new", "rpt://h2:4000")[0] == 0


def test_probe_ends_a_listener_of_one_client_well(peers: tuple[Peer, Peer]) -> None:
    left, right = peers
    address = address_of(right, "rpt", 4)
    with listening(right, address) as listener:
        assert left.run("connect", "-z", "--accept-new", address)[0] == 0
        assert listener.wait(20) == 0
