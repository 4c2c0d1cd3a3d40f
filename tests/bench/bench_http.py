"""`rawproto http` behind a gateway, beside the same uvicorn by TCP: plain, by socat, by `ssh -L`.

Two hosts on a veth: the servers on one, the clients (`http_load.py`) and what lets them in on
the other. All serve the same directory by the same protocol class. `ssh -L` is what else
brings a page across encrypted. A connection through the gateway costs a handshake of RPT's;
those that are kept do not, and browsers keep theirs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from report import at_least, conclude, interleave, machine, median_ratio, options, table
from rpt_server import peak_bytes, result, start, verb

from rawproto import lab

WANTED_REQUESTS = 0.3
WANTED_DOWNLOAD = 0.1
TCP_PORT, SOCAT_PORT, SSH_PORT, GATEWAY_PORT = 9000, 9001, 9002, 8080
SMALL_BYTES = 1000
LARGE_BYTES = 64 << 30  # sparse
WHATS = ("requests", "visits", "download")


def started(host: lab.LiveHost, port: int, words: list[str]) -> subprocess.Popen[bytes]:
    """A command that listens on a port, once it does."""
    process = host.popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not host.run(["ss", "-Hltn", f"sport = {port}"]).stdout:
        if process.poll() is not None:
            raise SystemExit(f"{words[0]} did not start")
    return process


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def forwarded(left: lab.LiveHost, right: lab.LiveHost, top: Path) -> Iterator[None]:
    """`ssh -L` from the one host to uvicorn on the other."""
    for name in ("host", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(top / name)], check=True
        )
    Path("/run/sshd").mkdir(exist_ok=True)
    (top / "sshd").write_text(
        f"Port 2222\nHostKey {top}/host\nAuthorizedKeysFile {top}/key.pub\nStrictModes no\n"
        "PermitRootLogin yes\nPidFile none\nUsePAM no\n"
    )
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    server = started(right, 2222, [sshd, "-D", "-f", str(top / "sshd")])
    with ended(server):
        client = [
            "ssh", "-N", "-p", "2222", "-i", str(top / "key"), "-o", "StrictHostKeyChecking=no",
            "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
            "-L", f"127.0.0.1:{SSH_PORT}:{right.ipv4}:{TCP_PORT}", f"root@{right.ipv4}",
        ]  # fmt: skip
        with ended(started(left, SSH_PORT, client)):
            yield


def main() -> int:
    parser = options(__doc__ or "")
    parser.add_argument("--seconds", type=float, help="a measurement (3)")
    parser.add_argument("--rounds", type=int, help="of all (3)")
    arguments = parser.parse_args()
    lab.become_root()
    seconds = arguments.seconds or (0.5 if arguments.quick else 3.0)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    print(f"HTTP between two hosts on a veth, {rounds} rounds of {seconds:g} s each")
    print(machine() + "\n", flush=True)
    found: dict[str, dict[str, list[float]]] = {}
    with ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory())
        network = stack.enter_context(lab.up(lab.pair()))
        left, right = network.host("h1"), network.host("h2")
        top = Path(home) / "site"
        top.mkdir()
        (top / "small").write_bytes(os.urandom(SMALL_BYTES))
        with (top / "large").open("wb") as file:
            file.truncate(LARGE_BYTES)
        plain = start(right, "http_peer.py", top, right.ipv4, TCP_PORT)
        stack.enter_context(ended(plain))
        assert plain.stdout is not None
        assert plain.stdout.readline() == b"listening %d\n" % TCP_PORT
        address = f"rpt://{right.ipv4}:4000"
        quiet = ("--log", "none")
        server, _ = stack.enter_context(
            verb(right, home, "http", "serve", str(top), "--listen", address, *quiet)
        )
        gateway, _ = stack.enter_context(
            verb(left, home, "http", "gateway", "--accept-new", *quiet, address)
        )
        socat = ["socat", "-b65536", f"TCP-LISTEN:{SOCAT_PORT},fork,reuseaddr,backlog=512",
                 f"TCP:{right.ipv4}:{TCP_PORT}"]  # fmt: skip
        stack.enter_context(ended(started(left, SOCAT_PORT, socat)))
        stack.enter_context(forwarded(left, right, Path(home)))
        ways = {
            "gateway, RPT": ("127.0.0.1", GATEWAY_PORT),
            "TCP": (right.ipv4, TCP_PORT),
            "socat, TCP": ("127.0.0.1", SOCAT_PORT),
            "ssh -L": ("127.0.0.1", SSH_PORT),
        }

        def one(name: str, what: str) -> float:
            process = start(left, "http_load.py", what, *ways[name], seconds)
            return float(result(process, seconds + 60)["figure"])

        one("gateway, RPT", "requests")  # which pins the key
        for what in WHATS:
            figures = interleave({name: partial(one, name, what) for name in ways}, rounds)
            for name, values in figures.items():
                found.setdefault(name, {})[what] = values
        memory = peak_bytes(server.pid), peak_bytes(gateway.pid)
    ours = found["gateway, RPT"]
    rows = [
        [
            name,
            f"{median(each['requests']):.0f}",
            f"{median(each['visits']):.0f}",
            f"{median(each['download']) / 1e6:.0f} Mbit/s",
        ]
        for name, each in found.items()
    ]
    for name in ("TCP", "socat, TCP", "ssh -L"):
        ratios = [f"{median_ratio(ours[what], found[name][what]):.2f}" for what in WHATS]
        rows.append([f"gateway / {name}", *ratios])
    print(table(["", "requests/s, kept", "own connection each", "download"], rows))
    print(f"\nmemory at most: server {memory[0] >> 20} MiB, gateway {memory[1] >> 20} MiB")
    criteria = [
        at_least(
            "gateway / TCP, requests a second over kept connections",
            median_ratio(ours["requests"], found["TCP"]["requests"]),
            WANTED_REQUESTS,
        ),
        at_least(
            "gateway / TCP, a large download",
            median_ratio(ours["download"], found["TCP"]["download"]),
            WANTED_DOWNLOAD,
        ),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
