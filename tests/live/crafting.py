"""For the live tests of craft, send and ask: two hosts, a service or two, and what came by."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

from scapy.layers.l2 import Ether
from scapy.packet import Packet as Scapy

from rawproto import lab
from rawproto.cli.main import main
from rawproto.link.packet import Frame
from tests.live.pinging import Said, Wire

H1, H2 = "10.99.1.1", "10.99.1.2"
H1_V6, H2_V6 = "fd99:1::1", "fd99:1::2"
OPEN, CLOSED, ECHO = 8080, 8081, 7
"""Ports of h2: TCP and UDP that listen in silence, one that doesn't, UDP that answers."""


def say(host: lab.LiveHost, *words: str) -> Said:
    """Runs `rawproto craft WORDS` on a host, in this thread."""
    out, error = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    with host.entered(), redirect_stdout(out), redirect_stderr(error):
        try:
            code = main(["craft", *words])
        except SystemExit as exit_:
            code = int(exit_.code or 0)
    out.seek(0)
    return Said(code, out.read(), error.getvalue())


class Passing(Wire):
    """What passes at a host and is wanted, as scapy reads it."""

    def __init__(self, host: lab.LiveHost, want: Callable[[Scapy], bool]) -> None:
        super().__init__(host, "eth0")
        self._want = want
        self._kind: type[Scapy] = Ether

    def wanted(self, frame: Frame) -> bool:
        packet = Ether(frame.data)
        return self._kind in packet and self._want(packet)

    def taken(self, count: int, kind: type[Scapy] = Ether) -> list[Scapy]:
        """The wanted ones since the last call that have such a layer, `count` at least."""
        self._kind = kind
        return [Ether(frame.data) for frame in self.frames(count)]


@contextmanager
def services(host: lab.LiveHost) -> Iterator[socket.socket]:
    """Real sockets on the open ports, both families at once; gives the silent UDP one."""
    with ExitStack() as stack:
        with host.entered():
            tcp = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            silent = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
            echo = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        tcp.bind(("::", OPEN))
        tcp.listen()
        silent.bind(("::", OPEN))
        silent.settimeout(5)
        echo.bind(("::", ECHO))
        stack.enter_context(answering(echo, lambda data: data[::-1]))
        yield silent


@contextmanager
def answering(sock: socket.socket, reply: Callable[[bytes], bytes]) -> Iterator[None]:
    """A thread that answers every datagram of a socket while it lasts."""

    def run() -> None:
        while True:
            data, address = sock.recvfrom(65_536)
            if data == b"end":
                return
            sock.sendto(reply(data), address)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        # From the socket to itself, in the namespace where it lives.
        sock.sendto(b"end", ("::1", sock.getsockname()[1]))
        thread.join()
