"""capture as a process: signals, pipes, a full disk, privileges, and what it prints."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from rawproto import lab, read
from tests.live.capturing import ASSORTED, quiet_pair, send
from tests.live.pinging import Said

CAPTURE = [sys.executable, "-m", "rawproto.cli.main", "capture"]
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with quiet_pair() as network:
        yield network


@pytest.fixture
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


@pytest.fixture
def h2(network: lab.Network) -> lab.LiveHost:
    return network.host("h2")


def start(host: lab.LiveHost, *words: str, before: tuple[str, ...] = ()) -> subprocess.Popen:
    """A capture that has begun."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = host.popen([*before, *CAPTURE, *words], **pipes)
    line = process.stderr.readline()
    assert line.startswith("listening on "), line + process.stderr.read()
    return process


def end(process: subprocess.Popen, number: int | None = signal.SIGINT) -> Said:
    """Ends it by a signal, or awaits its own end."""
    if number is not None:
        process.send_signal(number)
    out, error = process.communicate(timeout=TIMEOUT_S)
    return Said(process.returncode, out, error)


def run(host: lab.LiveHost, *words: str, before: tuple[str, ...] = ()) -> Said:
    done = host.run([*before, *CAPTURE, *words], timeout=TIMEOUT_S)
    return Said(done.returncode, done.stdout, done.stderr)


def counts(said: Said) -> tuple[int, int, int]:
    """(captured, received by filter, dropped by kernel), as the last lines have them."""
    found = re.findall(
        r"(?m)^(\d+) packets (?:captured|received by filter|dropped by kernel)$", said.error
    )
    captured, received, dropped = map(int, found)
    return captured, received, dropped


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_well_with_all_that_came(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path, number: int
) -> None:
    path = tmp_path / "out.pcapng"
    process = start(h2, "-i", "eth0", "-w", str(path))
    send(h1, ASSORTED)
    said = end(process, number)
    assert (said.code, said.out, counts(said)) == (0, "", (10, 10, 0))
    with read(path) as reader:
        assert [packet.data for packet in reader] == ASSORTED


def test_lines_are_summaries_with_interface_and_direction(
    h1: lab.LiveHost, h2: lab.LiveHost
) -> None:
    process = start(h2, "-c2")
    send(h1, ASSORTED[2:5])
    said = end(process, None)
    assert said.code == 0
    assert counts(said)[0] == 2
    clock = r"\d\d:\d\d:\d\d\.\d{6}"
    tcp, icmp = said.lines
    assert re.fullmatch(rf"{clock} eth0  in  IP 192.0.2.1.80 > 192.0.2.2.5000: Flags .*", tcp)
    assert re.fullmatch(rf"{clock} eth0  in  IP 192.0.2.1 > 192.0.2.2: ICMP echo request.*", icmp)


def test_json_is_a_record_a_packet(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    process = start(h2, "-i", "eth0", "-c1", "--json")
    send(h1, ASSORTED[:1])
    (record,) = [json.loads(line) for line in end(process, None).lines]
    assert (record["type"], record["number"], record["interface"]) == ("packet", 1, "eth0")
    assert [each["layer"] for each in record["layers"]][:3] == ["ethernet", "ipv4", "udp"]
    assert record["direction"] == "in"


def test_pipe_is_read_live(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    for format in ("pcap", "pcapng"):
        command = " ".join([*CAPTURE, "-i", "eth0", "-w", "-", "--format", format])
        pipeline = ["sh", "-c", f"{command} | tcpdump -nlr - 2>&1"]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = h2.popen(pipeline, start_new_session=True, **pipes)
        assert process.stderr.readline().startswith("listening on ")
        assert process.stdout.readline().startswith("reading from file -")
        send(h1, ASSORTED[2:3])
        # The capture goes on, and its reader has it already.
        assert "IP 192.0.2.1.80 > 192.0.2.2.5000: Flags [S.]" in process.stdout.readline()
        send(h1, ASSORTED[3:4])
        assert "ICMP echo request" in process.stdout.readline()
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=TIMEOUT_S)


def test_reader_that_goes_away_ends_it_quietly(h1: lab.LiveHost, h2: lab.LiveHost) -> None:
    with start(h2, "-i", "eth0", "-w", "-") as process:
        process.stdout.close()
        send(h1, ASSORTED)
        process.wait(TIMEOUT_S)
        assert process.returncode == 141
        assert "Traceback" not in process.stderr.read()


def test_second_signal_ends_it_where_nobody_reads_the_pipe(
    h1: lab.LiveHost, h2: lab.LiveHost
) -> None:
    def waiting(pipe: IO[str]) -> int:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)

    with start(h2, "-i", "eth0", "-w", "-") as process:
        room = fcntl.fcntl(process.stdout, fcntl.F_GETPIPE_SZ)
        send(h1, [ASSORTED[3]] * (2 * room // len(ASSORTED[3])))
        deadline = time.monotonic() + TIMEOUT_S
        while waiting(process.stdout) < room - 4096:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)  # the first is heard by then: two at once would be one
        process.send_signal(signal.SIGINT)
        assert process.wait(TIMEOUT_S) == 130
        assert "packets captured" in process.stderr.read()


@pytest.mark.parametrize("name", ["out.pcap", "out.pcapng"])
def test_full_disk_leaves_a_readable_file_and_says_what_is_lost(
    h1: lab.LiveHost, h2: lab.LiveHost, tmp_path: Path, name: str
) -> None:
    kept = tmp_path / name
    small = tmp_path / "small"
    small.mkdir()
    # The little disk is there for this process alone, so what is on it is copied out.
    script = (
        f"mount -t tmpfs -o size=64k none {small}; shift 0; "
        f'"$@" -w {small}/{name}; code=$?; cp {small}/{name} {kept}; exit $code'
    )
    before = ("unshare", "--mount", "sh", "-c", script, "sh")
    process = start(h2, "-i", "eth0", before=before)
    send(h1, ASSORTED * 40)
    said = end(process, None)
    assert said.code == 2
    captured, received, dropped = counts(said)
    last = said.error.splitlines()[-1]
    found = re.fullmatch(
        rf"rawproto capture: {small}/{name}: No space left on device; (\d+) packets lost, "
        "what was captured before is in the file",
        last,
    )
    assert found, said.error
    assert captured + int(found[1]) + dropped == received
    assert captured > 50
    with read(kept) as reader:
        assert [packet.data for packet in reader] == (ASSORTED * 40)[:captured]
    assert reader.damage is None
    tcpdump = subprocess.run(["tcpdump", "-nr", str(kept)], capture_output=True, text=True)
    assert tcpdump.returncode == 0
    assert "truncated" not in tcpdump.stderr


def test_interface_that_vanishes_is_one_line_and_keeps_what_came(
    h1: lab.LiveHost, tmp_path: Path
) -> None:
    path = tmp_path / "out.pcap"
    h1.run(["ip", "link", "add", "going", "type", "veth", "peer", "name", "gone"], check=True)
    for name in ("going", "gone"):
        h1.run(["ip", "link", "set", name, "up"], check=True)
    process = start(h1, "-i", "going", "-w", str(path))
    send(h1, ASSORTED, "gone")
    h1.run(["ip", "link", "del", "going"], check=True)
    said = end(process, None)
    assert said.code == 2
    assert said.error.splitlines()[-1] == (
        "rawproto capture: capture on going: the interface is gone"
    )
    with read(path) as reader:
        assert [each.data for each in reader if each.data in ASSORTED] == ASSORTED


def test_time_ends_it(h2: lab.LiveHost, tmp_path: Path) -> None:
    said = run(h2, "-i", "eth0", "--time", "0.05", "-w", str(tmp_path / "out.pcap"))
    assert (said.code, counts(said)) == (0, (0, 0, 0))
    assert (tmp_path / "out.pcap").stat().st_size == 24


def test_promiscuous_while_it_runs_unless_told_not_to(h2: lab.LiveHost) -> None:
    def promiscuity() -> str:
        shown = h2.run(["ip", "-details", "link", "show", "eth0"], check=True).stdout
        return re.search(r"promiscuity (\d+)", shown)[1]

    for words, wanted in (([], "1"), (["-p"], "0")):
        process = start(h2, "-i", "eth0", *words)
        assert promiscuity() == wanted
        end(process)
        assert promiscuity() == "0"


def test_privileges_are_given_up_unless_files_rotate(h2: lab.LiveHost, tmp_path: Path) -> None:
    def capabilities(process: subprocess.Popen) -> int:
        status = Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("CapEff:")[1].split()[0], 16)

    path = str(tmp_path / "out.pcap")
    for words, privileged in (
        ([], False),
        (["-w", path], False),
        (["-w", path, "--rotate-size", "1M"], True),
    ):
        process = start(h2, "-i", "eth0", *words)
        assert bool(capabilities(process)) == privileged, words
        end(process)


def test_without_privilege_it_says_what_would_help(h2: lab.LiveHost, tmp_path: Path) -> None:
    said = run(h2, "-w", str(tmp_path / "out.pcap"), before=tuple(UNPRIVILEGED))
    assert (said.code, said.out) == (2, "")
    (line,) = said.error.splitlines()
    assert line.startswith("rawproto capture: open packet socket: Operation not permitted")
    assert "CAP_NET_RAW" in line
    assert "sudo" in line


def test_list_tells_the_interfaces(h2: lab.LiveHost) -> None:
    said = run(h2, "--list")
    assert said.code == 0
    (eth0,) = [line for line in said.lines if line.startswith("eth0")]
    assert re.fullmatch(r"eth0 +up +ethernet +02:00:00:00:01:02 +10\.99\.1\.2/24", eth0)
    assert said.lines[0].startswith("any ")
    records = run(h2, "--list", "--json").records("interface")
    assert [record["name"] for record in records] == ["lo", "eth0"]
    assert records[1]["addresses"] == [
        {"addr": "10.99.1.2", "prefix_length": 24, "scope": "global"}
    ]
    assert (records[1]["state"], records[1]["link_type_name"]) == ("up", "ethernet")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-i", "nix"], "interface nix: No such device"),
        (["-w", "/nowhere/out.pcap"], "/nowhere/out.pcap: No such file or directory"),
    ],
)
def test_error_is_one_line(h2: lab.LiveHost, words: list[str], line: str) -> None:
    said = run(h2, *words)
    assert (said.code, said.out, said.error) == (2, "", f"rawproto capture: {line}\n")
