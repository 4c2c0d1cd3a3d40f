"""All that the packet bench sends and hears, behind one descriptor.

What goes out by which socket::

    IP packet    raw socket of its family: the kernel routes, finds the neighbour, loops back
    the same, if the kernel would rewrite its header    packet socket, to a resolved next hop
    frame        packet socket of its interface

All comes in by one packet socket that hears every interface, since an answer may come
back by another way than the question left, and this host's own ICMP errors come by the
loopback. Sockets are opened when they are first needed, in the network namespace of
the calling thread. It knows nothing of what answers what.
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from rawproto.errors import LinkError
from rawproto.link.base import Transmitted
from rawproto.link.interfaces import ARPHRD_ETHER, ARPHRD_LOOPBACK
from rawproto.link.packet import Frame, PacketLink
from rawproto.link.raw import RawLink, RewriteError
from rawproto.link.routes import PATIENCE_NS
from rawproto.link.sockets import SocketLink
from rawproto.link.timestamps import ClockBridge
from rawproto.machine import StampSource, Transmit

__all__ = ["BenchLink", "Heard"]

ETHERNET, RAW = 1, 101
"""Link types of what is heard, as `wire.dissect` takes them."""

L = TypeVar("L", bound=SocketLink)

_NO_PROTOCOL = 255
"""A raw socket that receives nothing."""
_NOBODYS = 0xFFFF
"""An EtherType that no frame has (RFC 1701): a packet socket that as good as receives nothing."""


@dataclass(slots=True, kw_only=True)
class Heard:
    """A frame that came in.

    Attributes:
        frame: as the device had it.
        link_type: what it begins with: 1 Ethernet, 101 an IP header.
        received_ns: when, monotonic.
        stamp_source: who took `received_ns`.
    """

    frame: Frame
    link_type: int
    received_ns: int
    stamp_source: StampSource


class BenchLink:
    """Sends made packets of every kind, and hears what comes in. Needs CAP_NET_RAW.

    Args:
        interface: by name, what everything is to leave by; None for the kernel's choice.
        listen: whether to hear anything, and to have kernel stamps for what is sent.

    Raises:
        PrivilegeError: the process may not open such sockets.
        LinkError: no such interface.
    """

    def __init__(self, interface: str | None = None, *, listen: bool = True) -> None:
        self.interface = interface
        self._listen = listen
        self._bridge = ClockBridge()
        self._quiet_ns = self._bridge.sample()
        self._raw: dict[int, RawLink] = {}
        self._by_interface: dict[str, PacketLink] = {}
        self._forced: PacketLink | None = None
        self._epoll = select.epoll()
        self._listener: PacketLink | None = None
        self._failure: LinkError | None = None
        try:
            if interface is not None:
                # It tells too when the interface goes down or away.
                self._frames_by(interface)
            if listen:
                self._listener = PacketLink(
                    ignore_outgoing=True, timestamps=True, bridge=self._bridge
                )
                self._epoll.register(self._listener.fileno(), select.EPOLLIN)
        except BaseException:
            self.close()
            raise

    @property
    def failing(self) -> bool:
        """Whether the next `receive` raises, which no descriptor tells."""
        return self._failure is not None

    @property
    def dropped(self) -> int:
        """Frames that this host dropped before we could read them."""
        return self._listener.dropped if self._listener else 0

    def fileno(self) -> int:
        """Readable when `receive` has something to say; -1 when closed."""
        return -1 if self._epoll.closed else self._epoll.fileno()

    def send_packet(self, transmit: Transmit, *, patience_ns: int = PATIENCE_NS) -> int:
        """Sends an IP packet exactly as it is: when the call was entered, monotonic ns.

        Args:
            transmit: the packet.
            patience_ns: how long a neighbour may take to answer, where we have to ask for it.

        Raises:
            LinkError: no way, nobody there to take it, or the kernel refuses.
        """
        family: Literal[4, 6] = 6 if ":" in transmit.dst_addr else 4
        raw = self._raw.get(family)
        if raw is None:
            raw = self._raw[family] = self._opened(
                RawLink(
                    family,
                    _NO_PROTOCOL,
                    interface=self.interface,
                    broadcast=True,
                    timestamps=self._listen,
                    bridge=self._bridge,
                )
            )
        try:
            return raw.send(transmit)
        except RewriteError:
            return self._forced_link().send(transmit, patience_ns=patience_ns)

    def send_frame(self, frame: bytes, interface: str, token: int) -> int:
        """Sends a frame exactly as it is: when the call was entered, monotonic ns.

        Raises:
            LinkError: no such interface, or the kernel refuses.
        """
        return self._frames_by(interface).send_frame(frame, token=token)

    def receive(self, limit: int = 64) -> tuple[list[Transmitted], list[Heard]]:
        """What has come, without blocking: (stamps of what was sent, frames).

        Args:
            limit: at most so many frames.

        Raises:
            LinkError: the interface that all was to leave by is down or gone.
        """
        heard: list[Heard] = []
        stamps: list[Transmitted] = []
        if self._listener is not None:
            started_ns = self._bridge.sample()
            # Frames before stamps: by then each answer's question has been stamped.
            frames = self._listener.receive_frames(limit)
            heard = [self._timed(frame) for frame in frames]
            if len(frames) < limit:
                self._quiet_ns = started_ns
        ready = {fd for fd, _ in self._epoll.poll(0)}
        for link in (*self._raw.values(), *self._by_interface.values(), self._forced):
            if link is not None and link.fileno() in ready:
                try:
                    stamps += [each for each in link.receive() if isinstance(each, Transmitted)]
                except LinkError as error:
                    self._failure = error
        # What had arrived before comes first.
        if self._failure is not None and not (stamps or heard):
            raise self._failure
        return stamps, heard

    def close(self) -> None:
        """Gives every descriptor back."""
        self._epoll.close()
        for link in (
            *self._raw.values(),
            *self._by_interface.values(),
            self._forced,
            self._listener,
        ):
            if link is not None:
                link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _timed(self, frame: Frame) -> Heard:
        received_ns, source = None, frame.stamp_source
        if source == "kernel":
            received_ns = self._bridge.received_at(frame.real_ns, self._quiet_ns)
        if received_ns is None:
            received_ns, source = self._bridge.sample(), "user"
        ethernet = frame.hardware_type in (ARPHRD_ETHER, ARPHRD_LOOPBACK)
        return Heard(
            frame=frame,
            link_type=ETHERNET if ethernet else RAW,
            received_ns=received_ns,
            stamp_source=source,
        )

    def _frames_by(self, interface: str) -> PacketLink:
        link = self._by_interface.get(interface)
        if link is None:
            link = self._by_interface[interface] = self._opened(
                PacketLink(
                    interface,
                    # Who receives nothing at all isn't told when the interface goes away.
                    ethertype=_NOBODYS,
                    timestamps=self._listen,
                    bridge=self._bridge,
                )
            )
        return link

    def _forced_link(self) -> PacketLink:
        if self._forced is None:
            self._forced = self._opened(
                PacketLink(
                    self.interface, ethertype=0, timestamps=self._listen, bridge=self._bridge
                )
            )
        return self._forced

    def _opened(self, link: L) -> L:
        self._epoll.register(link.fileno(), select.EPOLLIN)
        return link
