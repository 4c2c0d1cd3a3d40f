"""Sends made packets: `send` blocks, `send_async` is awaited.

    rawproto.send(IPv4Header(dst_addr="10.0.0.2") / UDPHeader(dst_port=9) / b"hello")

What a person leaves out is filled in (see `packets.complete`), and what the kernel would
rewrite goes by a packet socket (see `link.bench`). Nothing is heard: `ask` does that.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from random import randrange
from typing import Any

from rawproto.capture.packet import CapturedPacket
from rawproto.errors import LinkError, UsageError
from rawproto.link.bench import BenchLink
from rawproto.link.interfaces import interface_mtu
from rawproto.link.ways import Ways
from rawproto.machine import Transmit
from rawproto.packets.complete import Completed, complete
from rawproto.packets.made import fragments
from rawproto.wire.address import unpack_ipv4, unpack_ipv6
from rawproto.wire.dissect import ETHERNET, RAW
from rawproto.wire.layer import Layer, Packet

__all__ = [
    "Outgoing",
    "Pace",
    "SendResult",
    "Sendable",
    "Sender",
    "Sending",
    "each_of",
    "send",
    "send_async",
]

Sendable = Packet | Layer | bytes | CapturedPacket
"""A stack of layers, one layer, an IP packet as bytes, or a packet of a capture file.

Bytes and captured packets go out as they are; nothing is filled in."""

RAW_LINK_TYPES = (RAW, 12, 14, 228, 229)
MOST_PREPARED = 4096
LONGEST_INTERVAL_NS = 86_400 * 10**9
BURST = 64
"""Packets sent between two looks at the clock or at what else there is to do."""
BACKLOG_NS = 10_000_000
"""How far behind its schedule a sender may catch up; what it is later than that is given up."""
FULL_WAIT_NS = 200_000
"""How long to wait before trying again where the kernel has no room."""
FULL_PATIENCE_NS = 2 * 10**9


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """A packet ready to be sent.

    Attributes:
        packet: its layers, everything filled in; None for what came as bytes.
        data: what goes out, from the first byte of `link_type` on.
        link_type: `ETHERNET`, or `RAW` from an IP header on.
        dst_addr: the IP address that decides where it goes, "" for a frame without one.
        interface: that a frame leaves by.
        group: whether more than one host may answer.
        transmit: what a link of IP packets takes, None for a frame.
        fragments: what goes out instead of `data`, where it was cut.
        nobody: why it can't be sent: its next hop answers to nothing.
    """

    packet: Packet | None
    data: bytes
    link_type: int
    dst_addr: str
    interface: str = ""
    group: bool = False
    transmit: Transmit | None = None
    fragments: tuple[Outgoing, ...] = ()
    nobody: LinkError | None = None


@dataclass(slots=True, kw_only=True)
class SendResult:
    """What was sent.

    Attributes:
        packets: how many.
        pieces: how many left: `packets`, and more where some were cut into fragments.
        bytes: how many left, headers included as far as they are ours.
        duration_ns: from the first to the last.
    """

    packets: int = 0
    pieces: int = 0
    bytes: int = 0
    duration_ns: int = 0


class Sender:
    """Makes packets ready and sends them.

    Args:
        interface: by name, what everything leaves by; None for the kernel's choice.
        fill: whether to fill in what is missing.
        fragment_bytes: cut packets into IP fragments of at most that; None leaves them whole.
        listen: whether the link is to hear what comes in, and stamp what goes out.

    Raises:
        PrivilegeError: the process may not open raw sockets.
        LinkError: no such interface.
    """

    def __init__(
        self,
        interface: str | None = None,
        *,
        fill: bool = True,
        fragment_bytes: int | None = None,
        listen: bool = False,
    ) -> None:
        if fragment_bytes is not None and fragment_bytes < 1:
            raise UsageError(f"fragments of {fragment_bytes} bytes: must be a size in bytes")
        self.ways = Ways(interface)
        self.link = BenchLink(interface, listen=listen)
        self._fill = fill
        self._fragment_bytes = fragment_bytes
        self._identification = randrange(1 << 16)

    def ready(self, item: Sendable) -> Outgoing:
        """Fills a packet in and lays it out.

        Raises:
            UsageError: it is none, or lacks what nobody can guess.
            EmitError: a field does not fit.
            LinkError: no way to its destination.
        """
        if isinstance(item, bytes):
            return self._ready_bytes(item)
        if isinstance(item, CapturedPacket):
            return self._ready_captured(item)
        packet = Packet((item,)) if isinstance(item, Layer) else item
        if not isinstance(packet, Packet):
            raise UsageError(f"a {type(item).__name__} is no packet")
        self._identification = self._identification % 0xFFFF + 1
        completed = complete(
            packet, self.ways, fill=self._fill, identification=self._identification
        )
        outgoing = _outgoing(completed, completed.packet)
        if self._fragment_bytes is not None:
            # After everything was filled in: the checksum covers the addresses.
            pieces = fragments(
                completed.packet, self._fragment_bytes, identification=randrange(1 << 32)
            )
            if len(pieces) > 1:
                outgoing.fragments = tuple(_outgoing(completed, piece) for piece in pieces)
        return outgoing

    def send(self, outgoing: Outgoing, token: int = 0) -> int:
        """Sends one packet, or all its fragments: when the last system call was entered.

        Args:
            outgoing: what `ready` answered.
            token: stamps come back under it.

        Returns:
            Monotonic ns.

        Raises:
            LinkError: the kernel refuses, or there is nobody to take it (EHOSTUNREACH);
                some fragments may have gone.
        """
        if outgoing.nobody is not None:
            raise outgoing.nobody
        if outgoing.fragments:
            for piece in outgoing.fragments[:-1]:
                self.send(piece)
            return self.send(outgoing.fragments[-1], token)
        transmit = outgoing.transmit
        try:
            if transmit is None:
                return self.link.send_frame(outgoing.data, outgoing.interface, token)
            transmit.token = token
            return self.link.send_packet(transmit)
        except LinkError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            raise self._too_large(error, outgoing) from None

    def close(self) -> None:
        """Gives every descriptor back."""
        self.link.close()

    def _too_large(self, error: LinkError, outgoing: Outgoing) -> LinkError:
        """The same error with the MTU in its text, where that can be found out."""
        try:
            interface = outgoing.interface or self.ways.route(outgoing.dst_addr).interface
            mtu = interface_mtu(interface)
        except LinkError:  # it went away meanwhile
            return error
        return LinkError(
            error.operation,
            error.address,
            error.errno,
            f"{len(outgoing.data)} bytes are more than the MTU of {interface}, {mtu}",
        )

    def _ready_bytes(self, data: bytes) -> Outgoing:
        version = data[0] >> 4 if data else 0
        if version == 4 and len(data) >= 20:
            dst_addr = unpack_ipv4(data[16:20])
        elif version == 6 and len(data) >= 40:
            dst_addr = unpack_ipv6(data[24:40])
        else:
            raise UsageError("bytes to be sent begin with an IP header; these do not")
        transmit = Transmit(data=data, dst_addr=dst_addr, token=0)
        return Outgoing(packet=None, data=data, link_type=RAW, dst_addr=dst_addr, transmit=transmit)

    def _ready_captured(self, item: CapturedPacket) -> Outgoing:
        if item.link_type in RAW_LINK_TYPES:
            return self._ready_bytes(item.data)
        if item.link_type != ETHERNET:
            raise UsageError(f"captured packets of link type {item.link_type} cannot be sent")
        if not self.ways.interface:
            raise UsageError("captured frames need an interface to leave by")
        return Outgoing(
            packet=None,
            data=item.data,
            link_type=ETHERNET,
            dst_addr="",
            interface=self.ways.interface,
        )


def _outgoing(completed: Completed, packet: Packet) -> Outgoing:
    data = packet.emit()
    outgoing = Outgoing(
        packet=packet,
        data=data,
        link_type=completed.link_type,
        dst_addr=completed.dst_addr,
        interface=completed.interface,
        group=completed.group,
        nobody=completed.nobody,
    )
    if completed.link_type == RAW:
        outgoing.transmit = Transmit(data=data, dst_addr=completed.dst_addr, token=0)
    return outgoing


class Pace:
    """When the next packet may go.

    Args:
        interval_ns: from one packet to the next; 0 for as fast as it goes.
        rate_pps: the same as a rate.

    Raises:
        UsageError: both are given, or one is out of range.
    """

    def __init__(self, interval_ns: int = 0, rate_pps: float | None = None) -> None:
        if rate_pps is not None:
            if interval_ns:
                raise UsageError("an interval and a rate say the same: give one of them")
            if not rate_pps > 0:
                raise UsageError(f"a rate of {rate_pps:g} packets a second: must be more than 0")
            interval_ns = round(min(1e9 / rate_pps, 2 * LONGEST_INTERVAL_NS))
        if not 0 <= interval_ns <= LONGEST_INTERVAL_NS:
            raise UsageError("an interval must be 0 to 86400 seconds")
        self.interval_ns = interval_ns
        self.due_ns = 0

    def took(self, now_ns: int) -> None:
        """A packet goes now: the next is due one interval after this one was."""
        if self.interval_ns:
            self.due_ns = max(self.due_ns or now_ns, now_ns - BACKLOG_NS) + self.interval_ns


def each_of(packets: Sendable | Iterable[Sendable], count: int = 1) -> Iterator[Sendable]:
    """The packets to send, one after the other, `count` times over.

    Raises:
        UsageError: a count below 1.
    """
    if count < 1:
        raise UsageError(f"count {count}: must be 1 or more")
    if isinstance(packets, Packet | Layer | bytes | CapturedPacket):
        packets = (packets,)
    elif count > 1 and iter(packets) is packets:
        packets = list(packets)  # it can be gone through only once
    return chain.from_iterable(repeat(packets, count))


class Sending:
    """A run of packets that go out; see `send` for the arguments.

    Attributes:
        result: what was sent so far.
        on_sent: called with each packet right after it was sent, and when (monotonic ns).
    """

    def __init__(
        self,
        packets: Sendable | Iterable[Sendable],
        *,
        interface: str | None = None,
        count: int = 1,
        interval_ns: int = 0,
        rate_pps: float | None = None,
        fill: bool = True,
        fragment_bytes: int | None = None,
        on_sent: Callable[[Outgoing, int], None] | None = None,
    ) -> None:
        self.result = SendResult()
        self.on_sent = on_sent
        self._pace = Pace(interval_ns, rate_pps)
        self._items = each_of(packets, count)
        self._remembers = count > 1
        # Packets that come again, with the object itself lest its id be another's.
        self._prepared: dict[int, tuple[Sendable, Outgoing]] = {}
        self._sender = Sender(interface, fill=fill, fragment_bytes=fragment_bytes)

    def steps(self) -> Iterator[int]:
        """Sends them all; yields for how many ns to wait before going on, 0 for a moment."""
        pace, result, on_sent, send = self._pace, self.result, self.on_sent, self._sender.send
        first_ns = 0
        for number, item in enumerate(self._items, 1):
            outgoing = self._ready(item)
            while pace.interval_ns and (left_ns := pace.due_ns - time.monotonic_ns()) > 0:
                yield left_ns
            full_until = 0
            while True:
                try:
                    sent_ns = send(outgoing)
                    break
                except LinkError as error:
                    full_until = wait_for_room(error, full_until)
                yield FULL_WAIT_NS
            pace.took(sent_ns)
            first_ns = first_ns or sent_ns
            result.packets = number
            pieces = outgoing.fragments or (outgoing,)
            result.pieces += len(pieces)
            result.bytes += sum(len(piece.data) for piece in pieces)
            result.duration_ns = sent_ns - first_ns
            if on_sent is not None:
                on_sent(outgoing, sent_ns)
            if not number % BURST:
                yield 0

    def close(self) -> None:
        """Gives every descriptor back."""
        self._sender.close()

    def _ready(self, item: Sendable) -> Outgoing:
        if not self._remembers:
            return self._sender.ready(item)
        known = self._prepared.get(id(item))
        if known is None:
            known = item, self._sender.ready(item)
            if len(self._prepared) < MOST_PREPARED:
                self._prepared[id(item)] = known
        return known[1]


def wait_for_room(error: LinkError, until_ns: int) -> int:
    """Until when (monotonic ns) to go on trying a send that found no room in the kernel.

    Args:
        error: what the send raised; raised again if it is about anything else.
        until_ns: what this answered before about the same packet, 0 for the first time.
    """
    if error.errno not in (errno.EAGAIN, errno.ENOBUFS):
        raise error
    now_ns = time.monotonic_ns()
    if until_ns and now_ns > until_ns:
        raise error
    return until_ns or now_ns + FULL_PATIENCE_NS


def send(packets: Sendable | Iterable[Sendable], **options: Any) -> SendResult:
    """Sends packets; what is missing in them is filled in.

    Args:
        packets: one, or as many as you like, iterated lazily.
        options: `interface`: by name, what they leave by, None for the kernel's choice;
            `count`: how many times over (1); `interval_ns` from one packet to the next, or
            `rate_pps` (as fast as it goes); `fill`: False to send exactly what stands there;
            `fragment_bytes`: cut packets into IP fragments of at most that.

    Raises:
        UsageError: something is no packet, or a value is out of range.
        EmitError: a field does not fit.
        LinkError: no way, no such interface, or it is too large; those before it were sent.
        PrivilegeError: no raw socket may be opened; its text says what would help.
    """
    sending = Sending(packets, **options)
    try:
        for wait_ns in sending.steps():
            if wait_ns:
                time.sleep(wait_ns / 1e9)
    finally:
        sending.close()
    return sending.result


async def send_async(packets: Sendable | Iterable[Sendable], **options: Any) -> SendResult:
    """As `send`, awaited; other tasks get their turn while it waits and after every 64 packets."""
    from asyncio import sleep

    sending = Sending(packets, **options)
    try:
        for wait_ns in sending.steps():
            await sleep(wait_ns / 1e9)
    finally:
        sending.close()
    return sending.result
