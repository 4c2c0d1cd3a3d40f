"""What `make demo` runs: it does what it shows, and leaves nothing but a capture."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.utils import rdpcap

from rawproto.capture import read
from rawproto.cli.demo_apps import ANSWER as ROOM_ANSWER
from rawproto.cli.demo_apps import QUESTION as ROOM_QUESTION
from rawproto.cli.demo_apps import SIZE
from rawproto.cli.demo_rpt import ANSWER, QUESTION
from rawproto.cli.demo_ways import LETTER, PRIVATE
from rawproto.cli.main import main
from tests.rpt_scapy import KeyedReader


class Ran(NamedTuple):
    """What a run printed, what it saved, and which interfaces there were before."""

    stdout: str
    capture: Path
    interfaces: list[str]


def demo(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rawproto.cli.main", "demo", *arguments],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """One run, looked at from several sides, where an older capture stands."""
    place = tmp_path_factory.mktemp("demo")
    (place / "demo.pcapng").write_text("an older one")
    interfaces = sorted(os.listdir("/sys/class/net"))
    done = demo(cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    return Ran(done.stdout, place / "demo.pcapng", interfaces)


def checksum_is_right(packet: Packet, layer: type[Packet]) -> bool:
    again = packet.copy()
    del again[layer].chksum
    return bool(again.__class__(bytes(again))[layer].chksum == packet[layer].chksum)


def is_rpt(packet: Packet) -> bool:
    return IP in packet and packet[IP].proto == 253


def test_demo_saves_the_packets_that_it_shows(ran: Ran) -> None:
    done = ran
    packets = rdpcap(str(ran.capture))
    sealed = [packet for packet in packets if is_rpt(packet)]
    assert f"{len(packets) - len(sealed)} packets crossed the cable" in done.stdout
    assert f"{len(sealed)} packets of RPT, sealed" in done.stdout

    echoes = [packet for packet in packets if ICMP in packet and packet[ICMP].type in (0, 8)]
    assert [packet[ICMP].type for packet in echoes] == [8, 0] * 3
    assert sum(ICMPv6EchoRequest in packet for packet in packets) == 3
    assert sum(ICMPv6EchoReply in packet for packet in packets) == 3

    question, answer = (p for p in packets if UDP in p and ICMP not in p)
    assert question[UDP].load.decode() in done.stdout
    assert answer[UDP].load.decode() in done.stdout
    assert checksum_is_right(question, UDP)
    assert checksum_is_right(question, IP)
    assert f"0x{question[UDP].chksum:04x}" in done.stdout
    assert "WRONG" not in done.stdout


def test_demo_talks_over_rpt_sealed_and_saves_the_keys_that_open_it(
    ran: Ran, capsys: pytest.CaptureFixture[str]
) -> None:
    done, path = ran, ran.capture
    assert done.stdout.count(f"\n  {QUESTION}\n") == done.stdout.count(f"\n  {ANSWER}\n") == 1
    wire = [bytes(packet) for packet in rdpcap(str(path))]
    with read(path) as reader:
        list(reader)
        (secrets,) = reader.secrets
    keys = KeyedReader(secrets.data.decode())
    opened = [keys.read(packet[IP].payload) for packet in map(Ether, wire) if is_rpt(packet)]
    said = b"".join([bytes(frames) for frames in opened if frames])
    for words in (QUESTION, ANSWER):
        assert words.encode() in said
        assert not any(words.encode() in data for data in wire)

    assert main(["decode", "-t", "--filter", "ip proto 253", str(path)]) == 0
    for line in capsys.readouterr().out.splitlines():
        if " | " in line:
            assert line.split(" | ")[1] in done.stdout, "decode says of them what the demo did"


def test_demo_traces_the_delay_that_it_tells_of_and_no_search_for_neighbours(ran: Ran) -> None:
    lines = ran.stdout.partition("\n  traceroute to ")[2].splitlines()[1:6]
    assert [line.split()[1] for line in lines] == ["r1", "*", "r3", "r4", "h2"]
    # 10 ms each way; behind a search for the neighbour, which takes as long again, it is 40 ms.
    assert 20 <= min(float(line.split()[-2]) for line in lines[2:]) < 40


def test_long_command_goes_on_on_the_next_line(ran: Ran) -> None:
    talk = [line for line in ran.stdout.splitlines() if "rpt://" in line]
    assert max(map(len, talk)) <= 80


def test_demo_fetches_a_file_over_a_lossy_link_and_shows_what_tcp_did_of_it(ran: Ran) -> None:
    found = re.findall(r"^  (RPT|TCP), (\w+) +([#.]{30}) ([\d.]+) MB in ", ran.stdout, re.M)
    (rpt, *_, whole, size), (tcp, _, part, arrived) = found
    assert (rpt, whole, float(size), tcp) == ("RPT", "#" * 30, SIZE / 1e6, "TCP")
    assert (part == whole) == (float(arrived) == float(size))


def test_demo_talks_in_a_room_in_which_both_hear_both(ran: Ran) -> None:
    for nick, words in (("bob", ROOM_QUESTION), ("ada", ROOM_ANSWER)):
        assert (
            len(re.findall(rf"^  \d\d:\d\d:\d\d <{nick}> {re.escape(words)}$", ran.stdout, re.M))
            == 2
        )


def test_demo_fetches_a_page_by_the_gateway_and_one_by_the_proxy(ran: Ran) -> None:
    for words in (LETTER, PRIVATE):
        assert f"  {words}\n" in ran.stdout


def test_demo_runs_a_command_on_the_other_host(ran: Ran) -> None:
    said = ran.stdout.partition("-4 address show'")[2]
    assert re.match(r"\n  root\n  lo .*\n  eth0.* 10\.99\.1\.2/24", said)


def test_demo_is_plain_unless_asked_and_in_ascii_where_the_locale_has_no_lines(
    ran: Ran, tmp_path: Path
) -> None:
    assert "\x1b" not in ran.stdout
    done = demo("--color=always", cwd=tmp_path, NO_COLOR="1", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b[1m" in done.stdout
    assert done.stdout.isascii()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert "-- Two hosts on this machine, and a cable between them ---" in plain
    assert "\n  h1 -- h2\n" in plain


def test_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = demo("-o", "no/such/folder.pcapng", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "rawproto demo: no/such/folder.pcapng: No such file or directory"
    ]


def test_nothing_is_left_behind(ran: Ran) -> None:
    assert sorted(os.listdir("/sys/class/net")) == ran.interfaces
    assert os.listdir(ran.capture.parent) == ["demo.pcapng"]
