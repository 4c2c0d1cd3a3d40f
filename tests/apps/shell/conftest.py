"""A shell server of this user's, on loopback."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rawproto.apps.shell.proof import public_half
from rawproto.identity.keys import PublicKey
from tests.apps.shell.sessions import ME, PRIVATE


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("shell")
    admitted = home / "admitted"
    admitted.write_text(f"{ME},no-such-user {PublicKey(public_half(PRIVATE))}\n")
    admitted.chmod(0o600)
    words = ("shell", "serve", "--allow-root", "--authorized", str(admitted))
    server = subprocess.Popen(
        [sys.executable, "-m", "rawproto.cli.main", *words, "--listen", "rpt+udp://127.0.0.1:0"],
        stderr=subprocess.PIPE,
        env={**os.environ, "XDG_CONFIG_HOME": str(home), "XDG_STATE_HOME": str(home)},
    )
    assert server.stderr is not None
    fcntl.fcntl(server.stderr, fcntl.F_SETPIPE_SZ, 1 << 20)  # nobody reads the log meanwhile
    while not (line := server.stderr.readline()).startswith(b"listening "):
        assert line
    yield line.split()[1].decode()
    server.terminate()
    server.communicate(timeout=15)
    assert server.returncode == 0
