"""ping as a process: signals, pipes that close, privileges given up or never had."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.pinging import PROCESS, Wire, echo_of, set_sysctl

H1, H2, H2_V6 = "10.99.1.1", "10.99.1.2", "fd99:1::2"
NOBODY = "10.99.1.77"
TIMEOUT_S = 30
UNPRIVILEGED = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
"""Root in name alone; works inside a user namespace too, where there is no other user to be."""


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        # h2 as a router that knows no way on.
        set_sysctl(network.host("h2"), "ipv4/ip_forward", "1")
        network.host("h1").run(["ip", "route", "add", "192.0.2.0/24", "via", H2], check=True)
        yield network


@pytest.fixture(scope="module")
def h1(network: lab.Network) -> lab.LiveHost:
    return network.host("h1")


def start(h1: lab.LiveHost, *words: str) -> subprocess.Popen:
    return start_words(h1, [*PROCESS, *words])


def start_words(h1: lab.LiveHost, words: list[str]) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return h1.popen(words, **pipes)


def read_until(process: subprocess.Popen, part: str) -> str:
    """What it prints, up to a line that has `part` in it."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if part in line:
            return "".join(lines)
    raise AssertionError(f"it ended before it printed {part!r}: {lines}, {process.stderr.read()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("words", "part", "code", "summary"),
    [
        (["-i0.02", H2], "icmp_seq=2", 0, " packets transmitted, "),
        (["-i0.02", "-O", NOBODY], "no answer yet", 1, "100% packet loss"),
        (["-i0.02", "-O", H2, NOBODY], "no answer yet", 1, "100% packet loss"),
    ],
    ids=["answered", "unanswered", "one-of-two"],
)
def test_ctrl_c_and_sigterm_print_the_summary(
    number: signal.Signals, words: list[str], part: str, code: int, summary: str, h1: lab.LiveHost
) -> None:
    with start(h1, *words) as process:
        read_until(process, part)
        process.send_signal(number)
        out, error = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, error) == (code, "")
    assert summary in out
    assert out.count(" ping statistics ---\n") == len([word for word in words if "." in word]) - 1


def test_ctrl_c_right_behind_the_first_line_is_heard_too(h1: lab.LiveHost) -> None:
    with start(h1, "-i60", H2) as process:
        read_until(process, "PING ")
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode in (0, 1)
    assert error == ""
    assert "1 packets transmitted, " in out


def test_ctrl_c_ends_json_with_its_summaries(h1: lab.LiveHost) -> None:
    with start(h1, "--json", "-i0.02", H2, H2_V6) as process:
        read_until(process, '"sequence_number": 2')
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, out.count('"type": "summary"')) == (0, 2)


def test_sigquit_prints_a_status_line_and_goes_on(h1: lab.LiveHost) -> None:
    with start(h1, "-i0.02", H2, H2_V6) as process:
        read_until(process, "icmp_seq=2")
        process.send_signal(signal.SIGQUIT)
        status = [process.stderr.readline() for _ in range(2)]
        read_until(process, "icmp_seq=")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)
    for target, line in zip((H2, H2_V6), status, strict=True):
        assert re.fullmatch(
            rf"{target}: \d+/\d+ packets, \d+% loss, min/avg/ewma/max = ([\d.]+/){{3}}[\d.]+ ms\n",
            line,
        )
    assert process.returncode == 0


@pytest.mark.parametrize("words", [["-i0.01"], ["-i0.01", "--json"], ["-f"]])
def test_a_reader_that_goes_away_ends_it_without_a_word(words: list[str], h1: lab.LiveHost) -> None:
    with start(h1, *words, H2) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.wait(TIMEOUT_S) == 128 + signal.SIGPIPE
        assert process.stderr.read() == ""


def test_output_that_cannot_be_written_is_one_line(h1: lab.LiveHost) -> None:
    with open("/dev/full", "w") as full:
        done = h1.run([*PROCESS, "-c1", H2], stdout=full, timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (2, "rawproto ping: No space left on device\n")


def test_a_capture_that_cannot_be_written_is_named_below_the_summary(
    h1: lab.LiveHost, tmp_path: Path
) -> None:
    full = tmp_path / "full.pcap"
    full.symlink_to("/dev/full")
    words = [*PROCESS, "-q", "-i0.0005", "-s1000", "--pcap", str(full), "127.0.0.1"]
    done = h1.run(words, timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (
        2,
        f"rawproto ping: {full}: No space left on device\n",
    )
    assert " packets transmitted, " in done.stdout


def test_closed_streams_harm_nobody(h1: lab.LiveHost) -> None:
    for closed, code in ((">&-", 0), ("2>&-", 0), (">&- 2>&-", 0)):
        command = f'exec "$@" {closed}'
        done = h1.run(["sh", "-c", command, "sh", *PROCESS, "-c1", H2], timeout=TIMEOUT_S)
        assert (done.returncode, done.stderr) == (code, "")


def test_names_are_looked_up_unless_they_are_unwanted(h1: lab.LiveHost) -> None:
    named = h1.run([*PROCESS, "-4", "-c1", "h2"], timeout=TIMEOUT_S).stdout
    assert f"PING h2 ({H2}) 56(84) bytes of data.\n64 bytes from h2 ({H2}): icmp_seq=1 " in named
    hurried = h1.run([*PROCESS, "-4", "-i.01", "-c1", "h2"], timeout=TIMEOUT_S).stdout
    assert f"64 bytes from h2 ({H2}): icmp_seq=1 " in hurried
    by_force = h1.run([*PROCESS, "-H", "-c1", H2], timeout=TIMEOUT_S).stdout
    assert f"64 bytes from h2 ({H2}): icmp_seq=1 " in by_force
    numeric = h1.run([*PROCESS, "-4", "-n", "-c1", "h2"], timeout=TIMEOUT_S).stdout
    assert f"PING h2 ({H2}) 56(84) bytes of data.\n64 bytes from {H2}: icmp_seq=1 " in numeric


def test_unknown_host_is_one_line_and_stops_no_other(h1: lab.LiveHost) -> None:
    # No name server is to be reached from here, and the resolver shall see that soon.
    environment = {**os.environ, "RES_OPTIONS": "timeout:1 attempts:1"}
    for others, received in (([], 0), ([H2], 1)):
        words = [*PROCESS, "-c1", *others, "nonesuch.invalid"]
        done = h1.run(words, env=environment, timeout=TIMEOUT_S)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert done.stderr.startswith("rawproto ping: nonesuch.invalid: ")
        assert done.stdout.count(" 1 received, ") == received


@pytest.mark.parametrize("verb", ["ping", "traceroute"])
def test_ctrl_c_ends_the_wait_for_a_name_server_that_does_not_answer(
    verb: str, h1: lab.LiveHost, tmp_path: Path
) -> None:
    settings = tmp_path / "resolv.conf"
    settings.write_text("nameserver 127.0.0.1\noptions timeout:30 attempts:1\n")
    ours = ["unshare", "--mount", "sh", "-c"]
    ours += [f'mount --bind {settings} /etc/resolv.conf && exec "$@"', "sh", *PROCESS[:-1], verb]
    with h1.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.settimeout(TIMEOUT_S)
        silent.bind(("127.0.0.1", 53))
        with start_words(h1, [*ours, "www.invalid"]) as process:
            assert b"\3www\7invalid" in silent.recv(512)
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=TIMEOUT_S / 3)
    assert (process.returncode, out, error) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("words", [["-R"], ["-F", "7"], ["-I", H1], ["-I", "fd99:1::1"]])
def test_other_options_choose_the_family_of_a_name(words: list[str], h1: lab.LiveHost) -> None:
    family = "fd99:" if words[0] == "-F" or ":" in words[-1] else "10.99."
    done = h1.run([*PROCESS, "-n", "-c1", *words, "h2"], timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"PING h2 ({family}")


# --- privileges ---------------------------------------------------------------------------------


def test_privileges_are_given_up_before_the_first_packet(h1: lab.LiveHost) -> None:
    with start(h1, "-i0.02", H2) as process:
        read_until(process, "icmp_seq=1")
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=TIMEOUT_S)
    assert {int(value, 16) for value in re.findall(r"Cap(?:Prm|Eff|Inh|Amb):\s*(\w+)", status)} == {
        0
    }
    assert "NoNewPrivs:\t1" in status or os.environ.get("SUDO_UID")


def test_without_privilege_it_pings_through_datagram_sockets(
    h1: lab.LiveHost, network: lab.Network
) -> None:
    with Wire(network.host("h2")) as wire:
        words = ["-n", "-c2", "-i0.02", "-W5", "-t7", "-Q0xb8", "-s100", H2, H2_V6]
        done = h1.run([*UNPRIVILEGED, *PROCESS, *words], timeout=TIMEOUT_S)
        packets = wire.packets(4)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("2 packets transmitted, 2 received, 0% packet loss") == 2
    ipv4, ipv6 = packets[0], packets[1]
    assert (ipv4.src, ipv4.dst, ipv4.ttl, ipv4.tos, str(ipv4.flags)) == (H1, H2, 7, 0xB8, "DF")
    assert (ipv6.dst, ipv6.hlim, ipv6.tc) == (H2_V6, 7, 0xB8)
    echoes = [echo_of(packet) for packet in packets]
    assert len({identifier for identifier, _, _ in echoes}) == 1
    assert [number for _, number, _ in echoes] == [1, 1, 2, 2]
    assert {payload for _, _, payload in echoes} == {bytes(range(100))}


def test_without_privilege_the_kernel_cuts_what_is_too_large(h1: lab.LiveHost) -> None:
    done = h1.run([*UNPRIVILEGED, *PROCESS, "-n", "-c1", "-s3000", H2, H2_V6], timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("3008 bytes from ") == 2


def test_without_privilege_errors_are_told_all_the_same(h1: lab.LiveHost) -> None:
    done = h1.run([*UNPRIVILEGED, *PROCESS, "-n", "-c1", "192.0.2.1"], timeout=TIMEOUT_S)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[1] == f"From {H2} icmp_seq=1 Destination Net Unreachable"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-R"], "send IP options: Operation not permitted (needs CAP_NET_RAW); run it with sudo"),
        (["-i0.001"], "interval 1 ms: must be at least 2 ms without the privilege for raw sockets"),
    ],
)
def test_what_needs_privilege_is_one_line(words: list[str], told: str, h1: lab.LiveHost) -> None:
    done = h1.run([*UNPRIVILEGED, *PROCESS, "-c1", *words, H2], timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"rawproto ping: {told}")


def test_without_any_way_to_ping_it_says_which_there_are(h1: lab.LiveHost) -> None:
    # A namespace of its own, in which no group may ping (the kernel's default).
    alone = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    words = [*UNPRIVILEGED, *PROCESS, "-c1", "127.0.0.1"]
    done = h1.run([*alone, *words], timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    for way in ("sudo", "README.md, Privilege", "net.ipv4.ping_group_range='0 2147483647'"):
        assert way in done.stderr
