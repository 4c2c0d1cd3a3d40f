"""A host on which users can log in: accounts of its own, over this machine's, and keys."""

from __future__ import annotations

import copy
import fcntl
import itertools
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rawproto import lab
from rawproto.identity.keys import Identity, load_identity, new_identity
from rawproto.identity.known import KnownPeers
from tests.live.peers import CARRIERS, Peer, address_of, await_ready

PATIENCE_S = 30
REAL = Path("/proc/self/uid_map").read_text().split()[2] != "1"
"""Whether there are other users: a user namespace has but one, who is then everybody's."""
UID = 4711 if REAL else 0
_MOUNT = 'mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/group" /etc/group && '
_MOUNT += 'mount --bind "$0/nologin" /etc/nologin 2> /dev/null; exec "$@"'


def brings(peer: Peer) -> Peer:
    """The same, with an environment of its own."""
    other = copy.copy(peer)
    other.environment = dict(peer.environment)
    return other


def directory_of(peer: Peer) -> Path:
    return Path(peer.environment["XDG_CONFIG_HOME"]) / "rawproto"


def identity_of(peer: Peer) -> Identity:
    """A peer's key, made if it has none."""
    path = directory_of(peer) / "identity"
    return load_identity(path) if path.exists() else new_identity(path, "somebody")


class ShellHost(Peer):
    """`rawproto shell serve` where ada has an account; nothing of that is seen elsewhere."""

    def __init__(self, host: lab.LiveHost, home: Path) -> None:
        super().__init__(host, home)
        self.root = home
        home.chmod(0o755)
        self.before: tuple[str, ...] = ()  # what rawproto is started by
        self.home = home / "ada"
        self.home.mkdir()
        # The same prompt whoever she is: root's ends otherwise.
        (self.home / ".bash_profile").write_text("PS1='ada@h2:~$ '\n")
        self._lines: dict[str, list[str]] = {"passwd": [], "group": [f"ada:x:{UID}:"]}
        self.account("ada", UID, "/bin/bash")

    def account(self, name: str, uid: int, shell: str) -> None:
        """Makes one; all are at home with ada."""
        self._lines["passwd"].append(f"{name}:x:{uid}:{uid}::{self.home}:{shell}")
        for file, lines in self._lines.items():
            before = Path("/etc", file).read_text()
            (self.root / file).write_text(before + "".join([f"{line}\n" for line in lines]))

    def admit(self, *peers: Peer) -> None:
        """Into ada's own file; and they get to know this host."""
        file = self.home / ".config" / "rawproto" / "authorized"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as lines:
            for peer in peers:
                lines.write(f"{identity_of(peer).public}\n".encode())
                known = KnownPeers(directory_of(peer) / "known_peers")
                for carrier, port in itertools.product(CARRIERS, (4000, 4001)):
                    known.trust(address_of(self, carrier, port=port), identity_of(self).public)
        for path in (self.home, self.home / ".config", file.parent, file):
            os.chown(path, UID, UID)

    def command(self, *words: str) -> list[str]:
        """What starts rawproto where ada has her account."""
        if words[:2] == ("shell", "serve") and not REAL:
            words = (*words, "--allow-root")
        inner = [*self.before, sys.executable, "-m", "rawproto.cli.main", *words]
        return ["unshare", "-m", "sh", "-c", _MOUNT, str(self.root), *inner]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return self.host.popen(
            self.command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
        )

    def processes(self, words: str) -> list[int]:
        """Of the lab's processes, those in whose command line the words stand."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if words in line and " -m rawproto" not in line and "tmux" not in line:
                found.append(int(path.parent.name))
        return found

    def until_gone(self, words: str) -> None:
        """No such process is left, soon."""
        end = time.monotonic() + PATIENCE_S
        while self.processes(words):
            assert time.monotonic() < end, f"{words}: still there"
            select.select([], [], [], 0.02)


def hosts_of(network: lab.Network, home: Path) -> tuple[Peer, ShellHost]:
    """Who connects, and where ada may be; each knows the other's key."""
    near, far = Peer(network.host("h1"), home / "near"), ShellHost(network.host("h2"), home / "far")
    far.admit(near)
    return near, far


def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        select.select([], [], [], 0.02)


@contextmanager
def serving(
    server: ShellHost, *words: str, carrier: str = "rpt", port: int = 4000
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A shell server that is ready: ada's address there; what it says is in `log` at the end."""
    address = address_of(server, carrier, port=port)
    process = server.start("shell", "serve", "--listen", address, *words)
    assert process.stderr is not None
    fcntl.fcntl(process.stderr, fcntl.F_SETPIPE_SZ, 1 << 20)  # nobody reads the log meanwhile
    try:
        await_ready(process)
        yield f"ada@{address}", process
    finally:
        if process.poll() is None:
            process.terminate()
        (server.root / "log").write_bytes(process.communicate(timeout=15)[1])


_SHELL = ("setsid", "-c", sys.executable, "-m", "rawproto.cli.main", "shell")


class Terminal:
    """`rawproto shell` on a terminal of its own, whose bytes are looked at."""

    def __init__(
        self,
        peer: Peer,
        *words: str,
        size: tuple[int, int] = (80, 24),
        argv: Sequence[str] = _SHELL,
    ) -> None:
        self._fd, self._theirs = pty.openpty()
        self._size(size)
        self.before = termios.tcgetattr(self._theirs)
        self.process = peer.host.popen(
            [*argv, *words],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={**peer.environment, "TERM": "xterm-256color"},
        )
        self.seen = b""

    def _size(self, size: tuple[int, int]) -> None:
        packed = struct.pack("HHHH", size[1], size[0], 0, 0)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, packed)

    def resize(self, size: tuple[int, int]) -> None:
        """The kernel tells whoever is in the foreground."""
        self._size(size)

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, words: str, patience_s: float = PATIENCE_S) -> bytes:
        """What comes up to the words, which have come then; what was waited for before is gone."""
        deadline = time.monotonic() + patience_s
        while words.encode() not in self.seen:
            assert select.select([self._fd], [], [], max(deadline - time.monotonic(), 0))[0], (
                f"no {words!r} in {self.seen[-2000:]!r}"
            )
            self.seen += os.read(self._fd, 65_536)
        before, _, self.seen = self.seen.partition(words.encode())
        return before

    @property
    def restored(self) -> bool:
        """Whether it is as it was."""
        return termios.tcgetattr(self._theirs) == self.before

    def hang_up(self) -> None:
        """It is gone, as when its window is closed."""
        os.close(self._theirs)
        os.close(self._fd)
        self._fd = self._theirs = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        if self._fd >= 0:
            self.hang_up()
