"""`rawproto shell` beside OpenSSH: how long a key takes to be echoed, and bulk output.

Two hosts on a veth, one sshd, one `rawproto shell serve`, root at both. Keys: sessions with a
terminal, typed into one key at a time, each once the one before has come back, over 100 ms and
2 % loss each way (the lab's emulator). Bulk: a command that writes zeros, without a terminal,
over that way and over the bare veth, where each is bound by its CPU.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import mean, median

from report import at_least, at_most, conclude, interleave, machine, median_ratio, options, quantile
from report import table as table_of
from rpt_server import environment, verb

from rawproto import lab
from rawproto.identity.keys import new_identity
from rawproto.identity.known import KnownPeers

WANTED_ECHO, WANTED_BULK = 1.05, 0.8
WAY = "delay=50ms,loss=2%,seed=11"
QUICK_WAY = "delay=5ms,loss=2%,seed=11"
SSHD_PORT = 2222
PATIENCE_S = 60
KEYS = "abcdefghijklmnopqrstuvwxyz"

Commands = dict[str, Sequence[str]]
"""How each of the two is called, up to the command."""


@contextmanager
def openssh(far: lab.LiveHost, home: Path) -> Iterator[Sequence[str]]:
    """sshd, ready, and how to call it."""
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)]
        subprocess.run(words, check=True)
    config = home / "config"
    config.write_text(
        f"HostKey {home}/host\nListenAddress {far.ipv4}:{SSHD_PORT}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {home}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
        "MaxStartups 100\nPrintMotd no\n"
    )
    sshd = str(shutil.which("sshd", path="/usr/sbin"))
    words = ["sh", "-c", 'mkdir -p /run/sshd; exec "$@"', "sh", sshd, "-D", "-e", "-f", str(config)]
    process = far.popen(words, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        if b"listening" not in process.stderr.readline():
            raise SystemExit("sshd did not start")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield [
            *("ssh", "-F", "none", "-p", str(SSHD_PORT), "-i", str(home / "user")),
            *("-o", "StrictHostKeyChecking=no", "-o", "LogLevel=error"),
            *("-o", f"UserKnownHostsFile={home}/known", f"root@{far.ipv4}"),
        ]
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def rawproto(far: lab.LiveHost, home: Path) -> Iterator[Sequence[str]]:
    """`rawproto shell serve`, ready, and how to call it."""
    mine = new_identity(home / "rawproto" / "identity", "bench").public
    admitted = home / "admitted"
    admitted.write_text(f"root {mine}\n")
    admitted.chmod(0o600)
    words = (
        "shell",
        "serve",
        "--allow-root",
        "--authorized",
        str(admitted),
        "--log",
        "none",
        "--grace",
        "0",
    )
    address = f"rpt://{far.ipv4}:4000"
    with verb(far, str(home), *words, "--listen", address):
        KnownPeers(home / "rawproto" / "known_peers").trust(address, mine)
        yield [sys.executable, "-m", "rawproto.cli.main", "shell", f"root@{address}"]


@contextmanager
def sessions(network: lab.Network, home: Path) -> Iterator[Commands]:
    """Both, on one network."""
    with ExitStack() as stack:
        far = network.host("h2")
        yield {
            "rawproto shell": stack.enter_context(rawproto(far, home)),
            "ssh": stack.enter_context(openssh(far, home)),
        }


def typed(near: lab.LiveHost, home: Path, words: Sequence[str], keys: int) -> list[float]:
    """How long each key took to come back from a terminal there, in ms."""
    terminal, theirs = pty.openpty()
    # The first word is the program; what it takes, -tt among it, comes behind.
    at = words.index("shell") + 1 if "shell" in words else 1
    command = [*words[:at], "-tt", *words[at:], "stty -icanon; echo ready; exec cat > /dev/null"]
    process = near.popen(
        ["setsid", "-c", *command], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**environment(str(home)), "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)

    def until(wanted: bytes) -> None:
        seen = b""
        while wanted not in seen:
            if not select.select([terminal], [], [], PATIENCE_S)[0]:
                raise SystemExit(f"{words[0]}: nothing came, after {seen!r}")
            seen += os.read(terminal, 4096)

    try:
        until(b"ready\r\n")
        times = []
        for number in range(keys):
            key = KEYS[number % len(KEYS)].encode()
            began = time.perf_counter()
            os.write(terminal, key)
            until(key)
            times.append((time.perf_counter() - began) * 1e3)
        return times
    finally:
        process.kill()
        process.wait(timeout=10)
        os.close(terminal)


def echoes(
    near: lab.LiveHost, home: Path, commands: Commands, at_once: int, keys: int
) -> dict[str, list[float]]:
    """Keys' delays of several sessions at once, of each."""
    found: dict[str, list[float]] = {}
    for name, words in commands.items():
        times: list[float] = []
        threads = [
            threading.Thread(target=lambda w=words, t=times: t.extend(typed(near, home, w, keys)))
            for _ in range(at_once)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found[name] = times
    return found


def bulk(near: lab.LiveHost, home: Path, words: Sequence[str], size: int) -> float:
    """How many MB a second a command's output comes in."""
    command = [*words, f"echo; head -c {size} /dev/zero"]
    process = near.popen(command, stdout=subprocess.PIPE, env=environment(str(home)))
    assert process.stdout is not None
    process.stdout.read(1)  # it is in
    began = time.perf_counter()
    got = 0
    while data := process.stdout.read(1 << 16):
        got += len(data)
    seconds = time.perf_counter() - began
    status = process.wait(timeout=10)
    if got != size or status:
        raise SystemExit(f"{words[0]}: {got} of {size} bytes, exit status {status}")
    return size / seconds / 1e6


def main() -> int:
    parser = options(__doc__ or "")
    arguments = parser.parse_args()
    lab.become_root()
    quick = arguments.quick
    at_once, keys, rounds = (1, 3, 1) if quick else (10, 100, 3)
    way = QUICK_WAY if quick else WAY
    print(f"keys of {at_once} sessions at once, bulk output; each way of the lossy one: {way}")
    print(machine() + "\n", flush=True)
    figures: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory, "lossy")
        home.mkdir()
        with (
            lab.up(lab.pair().changed(f"1:{way}")) as network,
            sessions(network, home) as commands,
        ):
            near = network.host("h1")
            figures["echo"] = echoes(near, home, commands, at_once, keys)
            size = 50_000 if quick else 2_000_000
            figures["lossy"] = interleave(
                {each: partial(bulk, near, home, commands[each], size) for each in commands}, rounds
            )
        home = Path(directory, "veth")
        home.mkdir()
        with lab.up(lab.pair()) as network, sessions(network, home) as commands:
            near = network.host("h1")
            size = 5_000_000 if quick else 200_000_000
            figures["veth"] = interleave(
                {each: partial(bulk, near, home, commands[each], size) for each in commands}, rounds
            )
    echo = figures["echo"]
    rows = [
        [
            name,
            f"{median(echo[name]):.1f} ms",
            f"{mean(echo[name]):.1f} ms",
            f"{quantile(echo[name], 0.95):.1f} ms",
            f"{median(figures['lossy'][name]):.2f} MB/s",
            f"{median(figures['veth'][name]):.0f} MB/s",
        ]
        for name in echo
    ]
    ours, theirs = echo.values()
    ratios = {what: median_ratio(*figures[what].values()) for what in ("lossy", "veth")}
    rows.append(
        [
            "rawproto / ssh",
            f"{median(ours) / median(theirs):.2f}",
            f"{mean(ours) / mean(theirs):.2f}",
            f"{quantile(ours, 0.95) / quantile(theirs, 0.95):.2f}",
            f"{ratios['lossy']:.2f}",
            f"{ratios['veth']:.2f}",
        ]
    )
    print(table_of(["", "key, median", "mean", "95 %", "bulk, lossy", "bulk, veth"], rows))
    if quick:
        print("\nBoth work. A few keys, of which one may have been lost, are nothing to judge by.")
        return 0
    criteria = [
        at_most("rawproto / ssh, mean delay of a key", mean(ours) / mean(theirs), WANTED_ECHO),
        at_least("rawproto / ssh, bulk over the lossy way", ratios["lossy"], WANTED_BULK),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
