"""A host that answers echo requests by our own links and layers, as a script tells it.

The kernel of that host is told to keep silent. A script gets each request and says
which packets to send; it can keep some back until a later request comes, so that
replies are late or overtaken without anybody waiting for time.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rawproto.lab import LiveHost
from rawproto.link.base import Link
from rawproto.link.packet import PacketLink
from rawproto.link.raw import RawLink
from rawproto.machine import Datagram, Transmit
from rawproto.wire.fragment import fragment_ipv4, fragment_ipv6
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo, peek_echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from tests.live.pinging import set_sysctl

MTU = 1500
MOST = 10_000
"""So many requests are answered at most."""


@dataclass
class Request:
    """An echo request that arrived.

    Attributes:
        datagram: as the link gave it.
        identifier: of the echo.
        sequence_number: of the echo.
    """

    datagram: Datagram
    identifier: int
    sequence_number: int

    @property
    def payload(self) -> bytes:
        """Of the echo."""
        return self.datagram.data[8:]

    def reply(self, payload: bytes | None = None, **fields: Any) -> bytes:
        """The whole packet that answers it; `fields` are those of the echo."""
        datagram = self.datagram
        payload = self.payload if payload is None else payload
        echo = {"identifier": self.identifier, "sequence_number": self.sequence_number, **fields}
        here, there = datagram.dst_addr, datagram.src_addr
        if ":" in here:
            header = IPv6Header(src_addr=here, dst_addr=there, hop_limit=64)
            return (header / ICMPv6Echo(icmp_type=129, **echo) / payload).emit()
        ipv4 = IPv4Header(src_addr=here, dst_addr=there, identification=self.sequence_number)
        return (ipv4 / ICMPEcho(icmp_type=0, **echo) / payload).emit()


Script = Callable[[Request], Iterable[bytes]]


def honestly(request: Request) -> list[bytes]:
    """The script of a host as it should be."""
    return [request.reply()]


class Responder:
    """Answers in a thread of its own while its `with` block lasts.

    Args:
        host: where.
        script: what to answer.
        frames: by a packet socket on eth0, frames and all, instead of raw sockets.
    """

    def __init__(self, host: LiveHost, script: Script = honestly, *, frames: bool = False) -> None:
        self._host = host
        self._script = script
        self._error: BaseException | None = None
        self._stop_reader, self._stop_writer = os.pipe()
        with host.entered():
            self._links: list[Link] = (
                [PacketLink("eth0", ignore_outgoing=True)]
                if frames
                else [RawLink(4, 1), RawLink(6, 58)]
            )
            if frames:
                # While the thread is here: a packet socket resolves next hops where it is used.
                for address in ("10.99.1.1", "fd99:1::1"):
                    self._links[0].resolve(address)  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Responder:
        self._mute("1")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.write(self._stop_writer, b"!")
        self._thread.join()
        self._mute("0")
        for link in self._links:
            link.close()
        os.close(self._stop_reader)
        os.close(self._stop_writer)
        if self._error is not None and error is None:
            raise self._error

    def _mute(self, value: str) -> None:
        for name in ("ipv4/icmp_echo_ignore_all", "ipv6/icmp/echo_ignore_all"):
            set_sysctl(self._host, name, value)

    def _run(self) -> None:
        waiting = [self._stop_reader, *(link.fileno() for link in self._links)]
        try:
            for _ in range(MOST):
                ready = select.select(waiting, [], [])[0]
                if self._stop_reader in ready:
                    return
                for link in self._links:
                    if link.fileno() in ready:
                        self._answer(link)
        except BaseException as error:
            self._error = error

    def _answer(self, link: Link) -> None:
        for arrival in link.receive():
            echo = peek_echo(arrival.data) if isinstance(arrival, Datagram) else None
            if echo is None or echo[0] not in (8, 128):
                continue
            request = Request(arrival, echo[1], echo[2])
            for packet in self._script(request):
                for fragment in self._cut(packet, request):
                    link.send(Transmit(data=fragment, dst_addr=arrival.src_addr, token=0))

    def _cut(self, packet: bytes, request: Request) -> list[bytes]:
        if packet[0] >> 4 == 4:
            return fragment_ipv4(packet, MTU)
        return fragment_ipv6(packet, MTU, request.sequence_number)
