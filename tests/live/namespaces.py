"""Two hosts joined by one cable, for the tests of links.

    a 10.98.0.1 fd98::1 [rplk-a]----veth----[rplk-b] 10.98.0.2 fd98::2 b

The namespaces have no names: a descriptor each keeps them, so they are gone when
the test is, whatever ends it.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rawproto.link.options import SO_TIMESTAMPING
from rawproto.link.timestamps import RECEIVE_STAMPS

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Namespace:
    """A network namespace, held by a descriptor."""

    fd: int

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread is inside: sockets opened now belong to the namespace for good."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self.fd)
            try:
                yield
            finally:
                _setns(back)
        finally:
            os.close(back)

    def run(self, *command: str, stdin: str = "") -> str:
        """Runs a command inside: its output."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", *command],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=10,
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def ip(self, *lines: str) -> None:
        """Runs lines of `ip -batch` inside."""
        self.run("ip", "-batch", "-", stdin="\n".join(lines) + "\n")

    def nft(self, rules: str) -> None:
        """Loads a rule set inside."""
        self.run("nft", "-f", "-", stdin=rules)

    def sysctl(self, name: str, value: str) -> None:
        """Writes a setting of the namespace."""
        with self.entered(), open(f"/proc/sys/{name}", "w") as file:
            file.write(value)


@contextmanager
def namespace() -> Iterator[Namespace]:
    """A host of its own with nothing but a loopback, up."""
    made: list[int | OSError] = []

    def unshare() -> None:
        if _libc.unshare(_CLONE_NEWNET):
            made.append(OSError(ctypes.get_errno(), "unshare"))
        else:
            made.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=unshare)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    host = Namespace(made[0])
    try:
        # Link-local addresses are good at once, without duplicate address detection.
        host.sysctl("net/ipv6/conf/default/accept_dad", "0")
        host.ip("link set lo up")
        yield host
    finally:
        os.close(host.fd)


@contextmanager
def namespace_pair() -> Iterator[tuple[Namespace, Namespace]]:
    """Two hosts on one veth cable, with addresses of both families and no offloads."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as early,
        namespace() as a,
        namespace() as b,
    ):
        # The kernel stamps what arrives a while after the first socket on the machine wants
        # it: this one does before any test looks.
        early.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, RECEIVE_STAMPS)
        a.ip(
            f"link add rplk-a type veth peer name rplk-b netns {b.path}",
            "link set rplk-a up",
            "addr add 10.98.0.1/24 dev rplk-a",
            "addr add fd98::1/64 dev rplk-a nodad",
        )
        b.ip(
            "link set rplk-b up",
            "addr add 10.98.0.2/24 dev rplk-b",
            "addr add fd98::2/64 dev rplk-b nodad",
        )
        for host, device in ((a, "rplk-a"), (b, "rplk-b")):
            host.run("ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "off")
        yield a, b


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
