"""`rawproto files` beside scp and rsync over ssh, with CUBIC and with BBR: whole processes.

A large file over 100 Mbit/s, an RTT of 50 ms and 1 % loss each way; a large file over a veth,
beside what `rawproto perf` carries there; 10,000 files of 1 KiB over both, and 1,000 of 100 KB over
the veth. All fetch from h2 to h1, start-up and handshakes included. ssh's server is one of its own
on h2, with keys of its own. Whoever takes too long is stopped, and what had arrived by then counts.

As everywhere over emulated links, the programs run with real-time priority where that is
allowed: what else the machine has to do would else slow the one that is a program more than the
one that is the kernel's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from report import at_least, at_most, conclude, interleave, machine, median_ratio, options, table
from rpt_rivals import link_of, priority
from rpt_server import environment, verb

from rawproto import lab

PORT = 2222
WANTED_LOSSY_MBPS = 80
WANTED_OF_PERF = 0.6
MEDIUM = 1000
MB = 1_000_000


class Bench:
    """Two hosts, servers of both kinds on one of them, and what they serve."""

    def __init__(self, network: lab.Network, top: Path, limit_s: float) -> None:
        self.left, self.right = network.host("h1"), network.host("h2")
        self.limit_s = limit_s
        self.top = top
        self.got = top / "got"
        self.former = 0
        self.served = top / "served"
        self.environment = environment(str(top))
        self.rpt = f"rpt://{self.right.ipv4}:4000"
        options = {
            "UserKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "no",
            "LogLevel": "ERROR",
            "BatchMode": "yes",
            "IdentityFile": str(top / "key"),
        }
        self.options = [f"-o{name}={value}" for name, value in options.items()]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """`rawproto files serve`, `perf serve` and sshd, all ready."""
        with ExitStack() as stack:
            for words, port in (
                (("files", "serve", str(self.served), "--listen"), 4000),
                (("perf", "serve"), 4001),
            ):
                address = f"rpt://{self.right.ipv4}:{port}"
                stack.enter_context(
                    verb(self.right, str(self.top), *words, address, before=priority())
                )
            stack.enter_context(self._sshd())
            self.left.run(["ping", "-c3", "-i0.2", self.right.ipv4])  # neighbours are known
            # And so is the server's key, as ssh's is taken for what it is.
            cli = [sys.executable, "-m", "rawproto.cli.main"]
            self.left.run(
                [*cli, "files", "ls", "--accept-new", self.rpt], env=self.environment, check=True
            )
            yield

    @contextmanager
    def _sshd(self) -> Iterator[None]:
        for name in ("key", "host_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.top / name)]
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
        Path("/run/sshd").mkdir(exist_ok=True)
        (self.top / "sshd").write_text(
            f"Port {PORT}\nHostKey {self.top}/host_key\nAuthorizedKeysFile {self.top}/key.pub\n"
            "StrictModes no\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
        )
        process = self.right.popen(
            [
                *priority(),
                shutil.which("sshd") or "/usr/sbin/sshd",
                "-D",
                "-f",
                str(self.top / "sshd"),
            ],
            stdin=subprocess.DEVNULL,
        )
        try:
            while not self.right.run(["ss", "-Hltn", f"sport = {PORT}"]).stdout:
                if process.poll() is not None:
                    raise SystemExit("sshd did not start")
            yield
        finally:
            process.terminate()
            process.wait(timeout=10)

    def files(self, name: str) -> float:
        """`rawproto files get`: how long it took, in s."""
        words = [sys.executable, "-m", "rawproto.cli.main", "files", "get", "-q"]
        return self._time([*words, f"{self.rpt}/{name}", str(self.got)])

    def scp(self, congestion: str, name: str) -> float:
        self._choose(congestion)
        words = ["scp", "-q", "-r", "-P", str(PORT), *self.options]
        return self._time([*words, f"{self.right.ipv4}:{self.served}/{name}", str(self.got)])

    def rsync(self, congestion: str, name: str) -> float:
        self._choose(congestion)
        words = [
            "rsync",
            "-a",
            "--inplace",
            "-e",
            " ".join(["ssh", "-p", str(PORT), *self.options]),
        ]
        end = "/" if (self.served / name).is_dir() else ""
        return self._time(
            [*words, f"{self.right.ipv4}:{self.served}/{name}{end}", f"{self.got}{end}"]
        )

    def perf(self, duration_s: int) -> float:
        """What `rawproto perf run` carries, in bit/s."""
        words = [sys.executable, "-m", "rawproto.cli.main", "perf", "run", "--accept-new", "--json"]
        done = self.left.run(
            [
                *priority(),
                *words,
                "--reverse",
                f"--time={duration_s}",
                f"rpt://{self.right.ipv4}:4001",
            ],
            env=self.environment,
            timeout=60,
        )
        return float(json.loads(done.stdout.splitlines()[-1])["goodput_bps"])

    def _choose(self, congestion: str) -> None:
        """For TCP from here on, by the route: a namespace may not choose what its host forbids."""
        for host in (self.left, self.right):
            route = ["10.99.1.0/24", "dev", "eth0", "src", host.ipv4, "congctl", congestion]
            host.run(
                ["ip", "route", "replace", *route, "proto", "kernel", "scope", "link"], check=True
            )

    def _time(self, words: Sequence[str]) -> float:
        if self.got.is_dir():
            # Not removed: to make thousands where thousands just went takes ext4 twice the time.
            self.former += 1
            self.got.rename(self.top / f"former {self.former}")
        self.got.unlink(missing_ok=True)
        begun = time.monotonic()
        process = self.left.popen(
            [*priority(), *words],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=self.environment,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(self.limit_s)
        elapsed = time.monotonic() - begun
        stopped = process.poll() is None
        if stopped:
            process.terminate()
        _, said = process.communicate(timeout=10)
        if process.returncode and not stopped:
            raise SystemExit(f"{words[0]}: exit status {process.returncode}: {said.decode()}")
        return elapsed

    def rate(self, fetch: Callable[[str], float], name: str) -> float:
        """What a way of fetching a file carries, in bit/s."""
        elapsed = fetch(name)
        return (self.got.stat().st_size if self.got.exists() else 0) * 8 / elapsed

    def each(self, fetch: Callable[[str], float], name: str) -> float:
        """How long a directory takes, a file, in s; more, if it took too long."""
        elapsed = fetch(name)
        arrived = len(os.listdir(self.got)) if self.got.exists() else 0
        return elapsed / max(arrived, 1)

    def peers(
        self, measure: Callable[[Callable[[str], float], str], float], name: str, scp: bool = True
    ) -> dict[str, Callable[[], float]]:
        ways: dict[str, Callable[[str], float]] = {"files": self.files}
        for congestion in ("cubic", "bbr"):
            ways[f"rsync {congestion}"] = partial(self.rsync, congestion)
            if scp:
                ways[f"scp {congestion}"] = partial(self.scp, congestion)
        return {way: partial(measure, fetch, name) for way, fetch in ways.items()}


def plant(top: Path, lossy_mb: int, fast_mb: int, directories: dict[str, tuple[int, int]]) -> None:
    """What is served: two files, and directories of so many of so many bytes."""
    for name, size in (("lossy", lossy_mb * MB), ("fast", fast_mb * MB)):
        with (top / name).open("wb") as file:
            for _ in range(size // MB):
                file.write(os.urandom(MB))
    for directory, (count, size) in directories.items():
        (top / directory).mkdir()
        for number in range(count):
            (top / directory / f"{number:05}").write_bytes(os.urandom(size))


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--rounds", type=int, help="of all (3)")
    parser.add_argument("--only", choices=("lossy", "veth"), help="one of the paths")
    arguments = parser.parse_args()
    lab.become_root()
    quick = arguments.quick
    rounds = arguments.rounds or (1 if quick else 3)
    lossy_mb, fast_mb, count, limit_s = (1, 10, 100, 3.0) if quick else (60, 200, 10_000, 30.0)
    link = link_of(100, 50, 1, 1)
    print(f"{lossy_mb} MB over {link.partition(':')[2]}, {fast_mb} MB over a veth;")
    medium = "" if quick else f", {MEDIUM} of 100 KB over the veth"
    print(f"{count} files of 1 KiB over both{medium}; {rounds} rounds")
    print(machine() + "\n", flush=True)
    criteria = []
    paths = {"lossy": lab.pair().changed(link), "veth": lab.pair()}
    # Nothing is removed before the end: ext4 without a journal then looks for new inodes, for some
    # minutes, among all that went, which takes it four times as long as all else.
    with tempfile.TemporaryDirectory() as home:
        for where, topology in paths.items():
            if arguments.only not in (None, where):
                continue
            with lab.up(topology) as network:
                bench = Bench(network, Path(home, where), limit_s)
                bench.served.mkdir(parents=True)
                directories = {"many": (count, 1024)}
                if where == "veth" and not quick:
                    directories["medium"] = (MEDIUM, 100_000)
                plant(bench.served, lossy_mb, fast_mb, directories)
                with bench.serving():
                    name = "lossy" if where == "lossy" else "fast"
                    rated = bench.peers(bench.rate, name)
                    if where == "veth":
                        rated = {"perf": partial(bench.perf, 1 if quick else 3), **rated}
                    rates = interleave(rated, rounds)
                    timed = {
                        name: interleave(bench.peers(bench.each, name, scp=False), rounds)
                        for name in directories
                    }
                times = timed["many"]
                rows = []
                for way, found in rates.items():
                    row = [
                        way,
                        f"{median(found) / 1e6:.1f} Mbit/s",
                        f"{median_ratio(rates['files'], found):.2f}",
                    ]
                    for name, each in timed.items():
                        took, files = each.get(way), each["files"]
                        row += (
                            ["", ""]
                            if took is None
                            else [
                                f"{median(took) * directories[name][0]:.1f} s",
                                f"{median_ratio(took, files):.2f}",
                            ]
                        )
                    rows.append(row)
                if where == "lossy":
                    late = network.link(1).report().lateness["max_ms"]
                    print(f"the emulator was late by {late:.1f} ms at most")
            headings = [where, "a large file", "files is x times"]
            for name in directories:
                number, size = directories[name]
                headings += [f"{number:,} of {size:,}", "files is x times"]
            print(table(headings, rows) + "\n", flush=True)
            if where == "lossy":
                goodput = median(rates["files"]) / 1e6
                criteria.append(
                    at_least("files over the lossy path", goodput, WANTED_LOSSY_MBPS, " Mbit/s")
                )
            else:
                share = median_ratio(rates["files"], rates["perf"])
                criteria.append(at_least("files / perf run, on a veth", share, WANTED_OF_PERF))
            criteria += [
                at_most(
                    f"files / {way}, small files, {where}",
                    median_ratio(times["files"], times[way]),
                    1,
                )
                for way in times
                if way != "files"
            ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
