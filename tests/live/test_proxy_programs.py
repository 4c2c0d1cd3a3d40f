"""Stock programs through `rawproto proxy`: curl, git, ssh."""

from __future__ import annotations

import hashlib
import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import Peer
from tests.live.proxies import (
    PATIENCE_S,
    Proxy,
    certificate_for,
    curl,
    website,
)

pytestmark = pytest.mark.live


@pytest.mark.parametrize(("carrier", "family"), [("rpt", 4), ("rpt+udp", 6)])
def test_curl_and_git_reach_by_socks_and_http_what_the_exit_reaches(
    carrier: str, family: int, peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    root = tmp_path / "www"
    root.mkdir()
    data = os.urandom(3_000_000)
    (root / "data").write_bytes(data)
    made_repository(root / "r.git", tmp_path)
    certificate = certificate_for("localhost", tmp_path)
    with ExitStack() as stack:
        port = stack.enter_context(website(right.host, root))
        secure = stack.enter_context(website(right.host, root, certificate))
        proxy = Proxy(stack, left, right, tmp_path, carrier=carrier, family=family)
        plain, tls = f"http://localhost:{port}/data", f"https://localhost:{secure}/data"
        by_socks, by_http = ("--socks5-hostname", proxy.socks), ("-x", proxy.http)
        assert curl(left.host, plain)[0] == 7, "not without"
        for way in (by_socks, by_http):
            assert curl(left.host, *way, plain) == (0, data)
            assert curl(left.host, *way, "--cacert", certificate, tls) == (0, data)
        both = curl(left.host, *by_http, plain, plain)
        assert both == (0, data + data), "one connection, two requests"
        sent = ("--data-binary", f"@{root}/data", f"http://localhost:{port}/")
        assert curl(left.host, *by_http, *sent) == (0, hashlib.sha256(data).hexdigest().encode())
        for number, url in enumerate((f"socks5h://{proxy.socks}", proxy.http)):
            clone(left.host, url, f"http://localhost:{port}/r.git", tmp_path / f"clone{number}")
            assert (tmp_path / f"clone{number}" / "file").read_text() == "cloned\n"
        # Its own words for what cannot be.
        assert curl(left.host, *by_socks, "http://localhost:1/")[0] == 97
        status = ("-o", "/dev/null", "-w", "%{http_code}")
        assert curl(left.host, *by_http, *status, "http://localhost:1/") == (0, b"502")
        assert curl(left.host, *by_http, *status, "http://169.254.1.1/") == (0, b"403")
        assert curl(left.host, *by_http, *status, "http://nowhere.invalid/") == (0, b"502")


def made_repository(bare: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", str(work)], check=True)
    (work / "file").write_text("cloned\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "one"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(work), str(bare)], check=True)
    subprocess.run(["git", "-C", str(bare), "update-server-info"], check=True)


def clone(host: lab.LiveHost, proxy: str, url: str, into: Path) -> None:
    process = host.popen(
        ["git", "-c", f"http.proxy={proxy}", "clone", "-q", url, str(into)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, said.decode()


def test_ssh_gets_through_by_socks_http_and_a_forwarded_port(
    peers: tuple[Peer, Peer], tmp_path: Path
) -> None:
    left, right = peers
    keys = tmp_path / "ssh"
    keys.mkdir(0o700)
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True
        )
    (keys / "config").write_text(
        f"HostKey {keys}/host\nPort 2222\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {keys}/user.pub\nStrictModes no\n"
    )
    with ExitStack() as stack:
        sshd = right.host.popen(
            ["sh", "-c", 'mkdir -p /run/sshd; exec "$@"', "sh",
             "/usr/sbin/sshd", "-D", "-e", "-f", str(keys / "config")],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(sshd.communicate)
        stack.callback(sshd.kill)
        assert sshd.stderr is not None
        assert b"listening" in sshd.stderr.readline()
        proxy = Proxy(
            stack, left, right, tmp_path,
            "--socks", "0", "--http", "0", "-L", "0:localhost:2222",
        )  # fmt: skip
        http = proxy.http.removeprefix("http://")
        for way in (
            ("-p", "2222", "-o", f"ProxyCommand=nc -X 5 -x {proxy.socks} %h %p", "root@localhost"),
            ("-p", "2222", "-o", f"ProxyCommand=nc -X connect -x {http} %h %p", "root@localhost"),
            ("-p", str(proxy.port("tcp")), "root@127.0.0.1"),
        ):
            process = left.host.popen(
                ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "BatchMode=yes", "-o",
                 "UserKnownHostsFile=/dev/null", "-i", str(keys / "user"), *way, "cat; exit 3"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            output, said = process.communicate(b"through", timeout=PATIENCE_S)
            assert (process.returncode, output) == (3, b"through"), said.decode()
