"""What craft says when it cannot send: one line and exit 2; and how it ends when told to."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto import lab
from tests.drivers.scripted import descriptors
from tests.live.crafting import H2, H2_V6, say
from tests.live.test_traceroute_errors import UNPRIVILEGED

CRAFT = [sys.executable, "-m", "rawproto.cli.main", "craft"]
ECHO = f"ipv4 dst_addr={H2} / icmp"
SILENT = f"ipv6 dst_addr={H2_V6} next_header=59"
"""To this nobody says anything (RFC 8200 section 4.7)."""
TOO_LARGE = "are more than the MTU of eth0, 1500; --fragment SIZE cuts packets"
TIMEOUT_S = 20


@pytest.fixture(scope="module")
def h1() -> Iterator[lab.LiveHost]:
    with lab.up(lab.pair()) as network:
        yield network.host("h1")


@pytest.mark.parametrize("how", [["--send"], ["--answer", "1"]], ids=lambda how: how[0])
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["ipv4 dst_addr=8.8.8.8 / icmp"], "route to 8.8.8.8: Network is unreachable"),
        (["ipv6 dst_addr=fe80::1 / icmpv6"], "route to fe80::1: needs an interface to leave by"),
        (["--interface", "nope0", ECHO], "interface nope0: No such device"),
        (
            [f"{ECHO} / random:3000"],
            f"send to {H2}: 3028 bytes {TOO_LARGE}",
        ),
        (
            [f"ethernet / {ECHO} / random:3000"],
            f"send to eth0: 3042 bytes {TOO_LARGE}",
        ),
        (["ipv4 / icmp"], "ipv4: dst_addr is not given, and nobody can guess it"),
        (
            ["ethernet / text:x"],
            "a frame without an IP address in it needs an interface to leave by",
        ),
        (
            ["--interface", "lo", "--rate", "0", ECHO],
            "a rate of 0 packets a second: must be more than 0",
        ),
        (["--count", "0", ECHO], "count 0: must be 1 or more"),
        (["--interval", "-1", ECHO], "--interval -1: must be 0 to 86400 seconds"),
        (
            ["--fragment", "20", f"{ECHO} / random:100"],
            "mtu=20: no room for a fragment behind 20 bytes of headers",
        ),
        (["--hex", ECHO], "--hex shows packets and does not send them"),
        (["--pcap", "-", ECHO], "--pcap -: a capture of what is sent needs a file"),
    ],
)
def test_error_is_one_line(h1: lab.LiveHost, how: list[str], words: list[str], line: str) -> None:
    before = descriptors()
    said = say(h1, *how, *words)
    assert descriptors() == before
    assert (said.code, said.out, said.error) == (2, "", f"rawproto craft: {line}\n")


def test_no_privilege_is_told_with_what_would_help(h1: lab.LiveHost) -> None:
    for how in (["--send"], ["--answer", "1"]):
        done = h1.run([*UNPRIVILEGED, *CRAFT, *how, ECHO], timeout=TIMEOUT_S)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert "Operation not permitted (needs CAP_NET_RAW); run it with sudo" in done.stderr


def test_forced_header_to_this_host_itself_is_refused_in_words(h1: lab.LiveHost) -> None:
    said = say(h1, "--send", "ipv4 dst_addr=127.0.0.1 checksum=1 / icmp")
    assert said.code == 2
    assert "this host's own IPv4 addresses can't be reached through a packet socket" in said.error


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--count", "2"], "--count says how to send; add --send or --answer SECONDS"),
        (["--as-is"], "--as-is says how to send; add --send or --answer SECONDS"),
        (
            ["--send", "--all-answers"],
            "--all-answers says how to wait; add --answer SECONDS",
        ),
    ],
)
def test_saying_how_without_saying_that_is_refused(
    h1: lab.LiveHost, words: list[str], line: str
) -> None:
    said = say(h1, *words, ECHO)
    assert (said.code, said.out, said.error) == (2, "", f"rawproto craft: {line}\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--answer", "0.1", "ipv4 dst_addr=10.99.1.200 / icmp"], 1), (["--answer", "1", ECHO], 0)],
)
def test_exit_code_says_whether_anything_came(
    h1: lab.LiveHost, words: list[str], code: int
) -> None:
    assert say(h1, *words).code == code


def test_request_stands_beside_its_answer(h1: lab.LiveHost) -> None:
    said = say(h1, "--answer", "1", "--count", "2", f"{ECHO} identifier=7 / text:hi")
    first, answer, second, _, nothing, summed = said.lines
    assert first == f"IP 10.99.1.1 > {H2}: ICMP echo request, id 7, seq 1, length 10"
    assert second == f"IP 10.99.1.1 > {H2}: ICMP echo request, id 7, seq 2, length 10"
    time, _, line = answer.strip().partition(" ms  ")
    assert line == f"IP {H2} > 10.99.1.1: ICMP echo reply, id 7, seq 1, length 10"
    assert 0 < float(time) < 1000
    assert nothing == ""
    assert summed.startswith("2 packets sent, 2 answered, rtt min/avg/max = ")


def test_forms_that_show_more(h1: lab.LiveHost) -> None:
    assert "0x0000  45 00" in say(h1, "--answer", "1", "-x", ECHO).out
    assert "|                           dst_addr" in say(h1, "--send", "--diagram", ECHO).out
    assert say(h1, "--send", "-q", ECHO).lines == ["1 packet sent, 28 bytes"]


def test_json_has_request_and_answers_in_one_record(h1: lab.LiveHost) -> None:
    said = say(h1, "--answer", "1", "--json", ECHO, f"ipv6 dst_addr={H2_V6} / icmpv6")
    exchanges = said.records("exchange")
    for number, exchange in enumerate(exchanges, 1):
        request, (answer,) = exchange["request"], exchange["answers"]
        assert (request["number"], request["direction"], answer["direction"]) == (
            number,
            "out",
            "in",
        )
        assert (answer["kind"], answer["rx_stamp"]) in (("reply", "kernel"), ("reply", "user"))
        took_ms = (answer["time_ns"] - request["time_ns"]) / 1e6
        assert answer["rtt_ms"] == pytest.approx(took_ms, abs=0.001)
        assert answer["layers"][0]["layer"] == "ethernet"
    (summary,) = said.records("summary")
    assert (summary["sent"], summary["answered"], summary["late"]) == (2, 2, 0)


def test_json_of_what_is_only_sent(h1: lab.LiveHost) -> None:
    said = say(h1, "--send", "--json", "--count", "2", ECHO)
    assert [each["number"] for each in said.records("packet")] == [1, 2]
    assert said.records("summary")[0]["bytes"] == 56


@pytest.mark.parametrize(
    ("words", "count"),
    [
        (["--send", "--interval", "30", "--count", "9", ECHO], "1 packet sent"),
        (["--answer", "30", SILENT], None),
        (["--answer", "30", ECHO, SILENT], "2 packets sent, 1 answered"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_with_the_summary(
    h1: lab.LiveHost,
    number: signal.Signals,
    words: list[str],
    count: str | None,
) -> None:
    with h1.popen([*CRAFT, *words], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        if count is not None:
            assert process.stdout.readline().startswith("IP ")
        else:
            await_handler(process.pid, number)
        process.send_signal(number)
        out, error = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, error) == (130, "")
    assert (count or " sent, 0 answered") in out


def await_handler(pid: int, number: signal.Signals) -> None:
    """Until a process takes a signal itself; bounded by its start."""
    for _ in range(1_000_000):
        status = Path(f"/proc/{pid}/status").read_text()
        caught = int(status.split("SigCgt:")[1].split()[0], 16)
        if caught >> (number - 1) & 1 and caught >> (signal.SIGTERM - 1) & 1:
            return
    raise AssertionError("no handler")


def test_full_disk_is_one_line(h1: lab.LiveHost) -> None:
    with open("/dev/full", "w") as full:
        done = h1.run([*CRAFT, "--answer", "1", ECHO], stdout=full, timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (2, "rawproto craft: No space left on device\n")


def test_output_is_json_even_when_nothing_came(h1: lab.LiveHost) -> None:
    # Nobody asked for this neighbor before, so the kernel doesn't give it up within the time.
    said = say(h1, "--answer", "0.1", "--json", "ipv4 dst_addr=10.99.1.201 / icmp")
    assert [json.loads(line)["type"] for line in said.lines] == ["exchange", "summary"]
    assert said.records("summary")[0]["mean_rtt_ms"] is None


@pytest.mark.parametrize("header", ["ethernet / ipv4", "ipv4 checksum=1"])
def test_dead_neighbor_ends_no_sweep(h1: lab.LiveHost, header: str) -> None:
    said = say(h1, "--answer", "0.5", header + " dst_addr={10.99.1.77,10.99.1.2} / icmp")
    assert said.error == ""
    assert "10.99.1.77" in said.lines[0]
    assert said.lines[1] == "  no answer (no neighbor)"
    assert "10.99.1.2" in said.lines[2]
    assert said.lines[-1].startswith("1 packet sent, ")
    assert ", 1 not sent" in said.lines[-1]


def test_json_tells_why_a_question_never_left(h1: lab.LiveHost) -> None:
    said = say(h1, "--answer", "0.5", "--json", "ethernet / ipv4 dst_addr=10.99.1.77 / icmp")
    (exchange,) = said.records("exchange")
    assert exchange["unsent"] == "resolve 10.99.1.77 on eth0: No route to host"
    assert said.records("summary")[0]["unsent"] == said.code == 1


def test_fragments_that_are_sent_are_told_one_by_one(h1: lab.LiveHost) -> None:
    words = ["--send", "--fragment", "576", f"{ECHO} / random:1400"]
    said = say(h1, *words)
    assert [line.rpartition("@")[2] for line in said.lines[:3]] == ["0+)", "552+)", "1104)"]
    assert said.lines[-1] == "3 packets sent (fragments of 1), 1468 bytes"
    summary = say(h1, *words, "--json").records("summary")[0]
    assert (summary["sent"], summary["uncut"], summary["bytes"]) == (3, 1, 1468)
