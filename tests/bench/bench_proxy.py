"""`rawproto proxy` beside `ssh -D` and `rawproto perf run`: a download, and connections a second.

Two hosts and a veth between them; client and server stand on the loopback of either, and the
client asks by SOCKS5 for the server by name. `ssh -D` carries the same through OpenSSH. What RPT
does by itself, without TCP at either end, is `perf run` (the server sends, as in a download):
all in turns, in one run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from bench_relay import loaded
from report import at_least, conclude, interleave, machine, median_ratio, options, table
from rpt_server import PORT, cpu_seconds, environment, result, serving, start, verb

from rawproto import lab

WANTED_OF_PERF = 0.6
SSHD_PORT = 2222
SSH_SOCKS = 1081
OURS_SOCKS = 1080


def key(home: str) -> str:
    """A file that lets the owner of the keys in `home` in."""
    command = [sys.executable, "-m", "rawproto.cli.main", "keys"]
    subprocess.run([*command, "new"], env=environment(home), capture_output=True, check=True)
    shown = subprocess.run([*command, "show"], env=environment(home), capture_output=True)
    path = Path(home) / "authorized"
    path.write_bytes(shown.stdout)
    return str(path)


@contextmanager
def ours(network: lab.Network, home: str, port: int) -> Iterator[list[int]]:
    """An exit and an entry, ready: their processes."""
    left, right = network.host("h1"), network.host("h2")
    address = f"rpt://{right.ipv4}:{PORT + 1}"
    quiet = ("--log", "none")
    leave = ("--authorized", key(home), "--allow", f"localhost:{port}", "--listen", address)
    with ExitStack() as stack:
        far, _ = stack.enter_context(verb(right, home, "proxy", "exit", *quiet, *leave))
        enter = ("--accept-new", "--socks", f"127.0.0.1:{OURS_SOCKS}", address)
        near, _ = stack.enter_context(verb(left, home, "proxy", "entry", *quiet, *enter))
        yield [far.pid, near.pid]


@contextmanager
def openssh(network: lab.Network, home: str) -> Iterator[list[int]]:
    """sshd and `ssh -D`, ready: their processes."""
    left, right = network.host("h1"), network.host("h2")
    keys = Path(home)
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(words, check=True)
    (keys / "sshd").write_text(
        f"HostKey {keys}/host\nPort {SSHD_PORT}\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {keys}/user.pub\nMaxSessions 1000\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    command = ["/usr/sbin/sshd", "-D", "-e", "-f", str(keys / "sshd")]
    quiet = {"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    server = right.popen(command, **quiet)
    try:
        assert server.stderr is not None
        while b"listening" not in server.stderr.readline():
            if server.poll() is not None:
                raise SystemExit("sshd did not start")
        words = [
            "ssh",
            "-F",
            "none",
            "-N",
            "-D",
            f"127.0.0.1:{SSH_SOCKS}",
            "-i",
            str(keys / "user"),
        ]
        words += ["-p", str(SSHD_PORT), "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes"]
        words += ["-o", f"UserKnownHostsFile={keys}/known", f"root@{right.ipv4}"]
        client = left.popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not left.run(["ss", "-Hltn", f"sport = {SSH_SOCKS}"]).stdout:
                if client.poll() is not None:
                    raise SystemExit("ssh did not start")
            yield [server.pid, client.pid]
        finally:
            client.terminate()
            client.wait(timeout=10)
    finally:
        server.terminate()
        server.communicate(timeout=10)


def perf(network: lab.Network, home: str, seconds: float) -> float:
    """What `perf run` gets, in bit/s."""
    left, right = network.host("h1"), network.host("h2")
    words = ["perf", "run", "--accept-new", "--reverse", "--json", "--time", str(seconds)]
    process = left.popen(
        [sys.executable, "-m", "rawproto.cli.main", *words, f"rpt://{right.ipv4}:{PORT}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment(home),
    )  # fmt: skip
    output, _ = process.communicate(timeout=seconds + 60)
    goodput: float = json.loads(output.splitlines()[-1])["goodput_bps"]
    return goodput


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a measurement (3)")
    parser.add_argument("--rounds", type=int, help="of all (5)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (0.7 if arguments.quick else 3.0)
    rounds = arguments.rounds or (1 if arguments.quick else 5)
    print(f"TCP through a proxy between two hosts on a veth, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    cpu: dict[str, list[float]] = {}
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        network = stack.enter_context(lab.up(lab.pair()))
        left, right = network.host("h1"), network.host("h2")
        port = stack.enter_context(loaded(right))
        peers = {
            "rawproto proxy": (stack.enter_context(ours(network, home, port)), OURS_SOCKS),
            "ssh -D": (stack.enter_context(openssh(network, home)), SSH_SOCKS),
        }
        stack.enter_context(serving(right, home))

        def one(name: str, what: str) -> float:
            pids, socks = peers[name]
            before = sum(map(cpu_seconds, pids))
            load = start(left, "tcp_load.py", what, port, seconds, socks)
            figure: float = result(load, seconds + 60)["figure"]
            spent = sum(map(cpu_seconds, pids)) - before
            units = figure * seconds / (8 << 10 if what == "download" else 1)
            cpu.setdefault(f"{name} {what}", []).append(spent / units)
            return figure

        def of(what: str) -> dict[str, Callable[[], float]]:
            return {name: partial(one, name, what) for name in peers}

        alone = {"perf run": partial(perf, network, home, seconds)}
        loads = interleave({**of("download"), **alone}, rounds)
        visits = interleave(of("visits"), rounds)
    rows = [
        [
            name,
            f"{median(loads[name]) / 1e6:.0f} Mbit/s",
            f"{median(cpu[f'{name} download']) * 1e9:.0f} ns",
            f"{median(visits[name]):.0f}",
            f"{median(cpu[f'{name} visits']) * 1e6:.0f} us",
        ]
        for name in peers
    ]
    mine, ssh = "rawproto proxy", "ssh -D"
    of_perf = median_ratio(loads[mine], loads["perf run"])
    rows += [
        [
            "proxy / ssh -D",
            f"{median_ratio(loads[mine], loads[ssh]):.2f}",
            f"{median_ratio(cpu[f'{mine} download'], cpu[f'{ssh} download']):.2f}",
            f"{median_ratio(visits[mine], visits[ssh]):.2f}",
            f"{median_ratio(cpu[f'{mine} visits'], cpu[f'{ssh} visits']):.2f}",
        ],
        ["perf run", f"{median(loads['perf run']) / 1e6:.0f} Mbit/s", "", "", ""],
        ["proxy / perf run", f"{of_perf:.2f}", "", "", ""],
    ]
    print(table(["", "download", "CPU a KiB", "connections/s", "CPU of one"], rows))
    criteria = [at_least("proxy / perf run, download", of_perf, WANTED_OF_PERF)]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
