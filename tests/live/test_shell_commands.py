"""Commands of `rawproto shell` between two hosts: pipes, status, environment; OpenSSH beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.peers import Peer, address_of, await_ready
from tests.live.shells import (
    PATIENCE_S,
    REAL,
    UID,
    ShellHost,
    brings,
    serving,
)

pytestmark = pytest.mark.live

MIB = 1 << 20


@pytest.mark.parametrize("carrier", ["rpt", "rpt+udp"])
def test_command_has_pipes_that_are_clean_and_its_own_status(
    carrier: str, hosts: tuple[Peer, ShellHost]
) -> None:
    near, far = hosts
    data = os.urandom(4 * MIB)
    with serving(far, carrier=carrier, port=4001) as (ada, _):
        code, output, said = near.run("shell", ada, "cat; echo done >&2; exit 7", data=data)
        assert (code, output == data, said) == (7, True, "done\n")
        assert near.run("shell", ada, "kill -TERM $$")[0] == 128 + signal.SIGTERM
        assert near.run("shell", ada, "kill -40 $$")[0] == 128 + 40
        code, output, _ = near.run("shell", "-T", ada, data=b"echo $0 from a pipe\n")
        assert (code, output) == (0, b"-bash from a pipe\n")
        code, output, _ = near.run("shell", ada, "echo $USER; pwd; echo $HOME; ulimit -n; umask")
        home = str(far.home)
        assert output.decode().split() == ["ada", home, home, "1024", "0022"]
        assert near.run("shell", "-n", ada, "cat; echo nothing")[1] == b"nothing\n"


def test_session_has_the_accounts_variables_and_few_of_the_clients(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, far = brings(hosts[0]), hosts[1]
    near.environment |= {
        "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo", "LD_PRELOAD": "/tmp/x.so", "BASH_ENV": "/tmp/x",
        "LC_TIME": "$(reboot)", "PATH": os.environ["PATH"] + ":/mine",
    }  # fmt: skip
    output = near.run("shell", ada, "env")[1].decode()
    found = dict(line.split("=", 1) for line in output.splitlines())
    for name in ("RAWPROTO_PEER", "_", "SHLVL", "PWD", "LANG"):
        found.pop(name, None)
    assert found == {
        "HOME": str(far.home), "SHELL": "/bin/bash", "USER": "ada", "LOGNAME": "ada",
        "MAIL": "/var/mail/ada", "LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo",
        "PATH": "/usr/local/bin:/usr/bin:/bin" if REAL else found["PATH"],
    }  # fmt: skip


def test_nothing_of_the_servers_is_left_in_a_session(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, _ = hosts
    look = "ls -l /proc/self/fd | grep -c socket; grep -E '^(Sig(Ign|Blk)|NoNewPrivs)' "
    look += "/proc/self/status; ps -o pgid=,sid= -p $$; cat /proc/$PPID/environ; echo; id -G"

    lines = near.run("shell", ada, look)[1].decode().split("\n")
    assert lines[0] == "0", "a socket of the server's is open"
    assert [line.split()[1].strip("0") for line in lines[1:4]] == ["", "", ""], lines
    group, session = lines[4].split()
    assert group == session
    if REAL:
        assert lines[-2] == str(UID)
        assert lines[5] == "", "ada may not look into the process that attends her"


def test_interrupt_reaches_a_command_without_terminal(
    hosts: tuple[Peer, ShellHost], ada: str
) -> None:
    near, _ = hosts
    process = near.start("shell", ada, "trap 'echo told; exit 9' INT; echo on; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (9, b"told\n")
    process = near.start("shell", ada, "trap 'echo told' INT; echo on; while :; do read x; done")
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == b"told\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=PATIENCE_S)[1] == b""
    assert process.returncode == 130


def test_reader_that_has_enough_ends_it(hosts: tuple[Peer, ShellHost], ada: str) -> None:
    near, far = hosts
    with near.start("shell", ada, "yes rawproto-flood") as process:
        assert process.stdout is not None
        assert process.stdout.read(100_000).startswith(b"rawproto-flood\n")
        process.stdout.close()
        assert process.wait(PATIENCE_S) == 141
    far.until_gone("yes rawproto-flood")


def test_git_goes_over_it_by_a_script(
    hosts: tuple[Peer, ShellHost], ada: str, tmp_path: Path
) -> None:
    """As docs/shell.md has it."""
    near, far = hosts
    script, clone, there = tmp_path / "h2", tmp_path / "clone", far.home / "r"
    rawproto = f"{sys.executable} -m rawproto.cli.main"
    script.write_text(f'#!/bin/sh\nshift\nexec {rawproto} shell {ada} "$@"\n')
    script.chmod(0o755)
    command = (
        f"git init -q {there} && cd {there} && head -c 300000 /dev/urandom > data && git add . "
    )
    command += "&& git -c user.name=a -c user.email=a@b commit -q -m one"
    assert near.run("shell", ada, command)[0] == 0
    near.host.run(
        ["git", "clone", "-q", f"ssh://h2{there}", str(clone)],
        check=True,
        env={**near.environment, "GIT_SSH": str(script), "GIT_SSH_VARIANT": "simple"},
    )
    assert (clone / "data").read_bytes() == (there / "data").read_bytes()


# --- beside OpenSSH ------------------------------------------------------------------------------


def test_ssh_goes_through_a_relay_by_its_proxy_command(
    hosts: tuple[Peer, ShellHost], home: Path
) -> None:
    """As docs/shell.md says it: the same commands."""
    near, far = hosts
    keys = home / "ssh"
    keys.mkdir()
    for name in ("host", "user"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
        subprocess.run(words, check=True)
    (keys / "config").write_text(
        f"HostKey {keys}/host\nListenAddress 127.0.0.1:2222\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\nPermitRootLogin yes\n"
    )
    address = address_of(far, port=4001)
    sshd = far.host.popen(
        [
            *("sh", "-c", 'mkdir -p /run/sshd; exec "$@"', "sh"),
            *(str(shutil.which("sshd", path="/usr/sbin")), "-D", "-e", "-f", f"{keys}/config"),
        ],
        stderr=subprocess.PIPE,
    )
    relay = far.start("relay", f"rpt-listen:{far.host.ipv4}:4001", "tcp:127.0.0.1:2222")
    try:
        assert sshd.stderr is not None
        assert b"listening" in sshd.stderr.readline()
        await_ready(relay)
        proxy = f"{sys.executable} -m rawproto.cli.main connect {address}"
        words = [
            "ssh", "-F", "none", "-i", str(keys / "user"), "-o", "StrictHostKeyChecking=no",
            "-o", f"UserKnownHostsFile={keys}/known", "-o", f"ProxyCommand={proxy}",
            "root@far", "cat; exit 3",
        ]  # fmt: skip
        done = near.host.popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=near.environment,
        )  # fmt: skip
        data = os.urandom(MIB)
        output, said = done.communicate(data, timeout=PATIENCE_S)
        assert (done.returncode, output == data) == (3, True), said
        # ssh ends its ProxyCommand by SIGHUP.
        assert relay.stderr is not None
        assert b"does not answer" not in relay.stderr.readline()
    finally:
        for process in (relay, sshd):
            process.terminate()
            process.communicate(timeout=10)
