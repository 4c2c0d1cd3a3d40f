"""Packets off the wire as values, as they come: `sniff` blocks, `sniff_async` is awaited.

    for packet in sniff("udp and port 53", interface="eth0", count=10):
        print(packet.time_ns, summary(dissect(packet.data, packet.link_type)))

Both capture from the moment of the call, not of the first packet that is asked for, so
what is sent in between isn't missed. Filtering happens in the kernel.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from functools import lru_cache
from typing import Any, Self

from rawproto.capture.packet import CapturedPacket
from rawproto.drivers.capture_source import ANY, CaptureOptions, CaptureSource
from rawproto.errors import UsageError
from rawproto.filter.instructions import Program
from rawproto.link.admission import COOKED, link_type_of
from rawproto.link.ring import PACKET_OUTGOING, VLAN_VALID, Block, Record, frame_of, tag_of
from rawproto.wire.cooked import LinuxCooked2

__all__ = ["AsyncSniffer", "Sniffer", "cooked_frame", "packets_in", "sniff", "sniff_async"]

_new = object.__new__


def sniff(
    filter: str | Program | None = None,
    *,
    interface: str | Sequence[str] = ANY,
    count: int | None = None,
    timeout_ns: int | None = None,
    **options: Any,
) -> Sniffer:
    """Captures packets, one after the other.

    Args:
        filter: in the language of pcap-filter(7), or a program; None for all packets.
        interface: a name or several; `any` for all that there are and will be.
        count: end after so many; None for no limit.
        timeout_ns: end after so long; None for never.
        options: the other attributes of `CaptureOptions`: `snaplen`, `promiscuous`,
            `buffer_bytes`.

    Returns:
        An iterator of `CapturedPacket`, each with its interface's name and direction. It is a
        context manager, too; it closes itself at its end.

    Raises:
        UsageError: a filter that cannot be read, a value out of range.
        PrivilegeError: the process may not open packet sockets.
        LinkError: no such interface; while iterating, that it is gone.
    """
    return Sniffer(_source(filter, interface, options), count=count, timeout_ns=timeout_ns)


def sniff_async(
    filter: str | Program | None = None,
    *,
    interface: str | Sequence[str] = ANY,
    count: int | None = None,
    timeout_ns: int | None = None,
    **options: Any,
) -> AsyncSniffer:
    """As `sniff`, for `async for`."""
    return AsyncSniffer(_source(filter, interface, options), count=count, timeout_ns=timeout_ns)


def _source(
    filter: str | Program | None, interface: str | Sequence[str], options: dict[str, Any]
) -> CaptureSource:
    interfaces = (interface,) if isinstance(interface, str) else tuple(interface)
    return CaptureSource(CaptureOptions(interfaces=interfaces, filter=filter, **options))


class _Sniffing:
    """What both kinds of sniffer share.

    Args:
        source: where from; owned from here on.
        count: end after so many packets, None for no limit.
        timeout_ns: end after so long, None for never.
    """

    def __init__(
        self, source: CaptureSource, *, count: int | None = None, timeout_ns: int | None = None
    ) -> None:
        if count is not None and count < 1:
            source.close()
            raise UsageError(f"count {count}: must be 1 or more")
        self._source = source
        self._left = count
        self._deadline_ns = None if timeout_ns is None else time.monotonic_ns() + timeout_ns

    @property
    def dropped(self) -> int:
        """Packets that passed the filter and found no room; the reader was too slow."""
        return self._source.ring.dropped

    def close(self) -> None:
        """Ends the capture. May be called twice."""
        self._source.close()

    def _counted(self, block: Block) -> Iterator[CapturedPacket]:
        """The packets of a block, as many as are wanted."""
        for packet in packets_in(block, self._source):
            if self._left is not None:
                self._left -= 1
            yield packet
            if self._left == 0:
                return


class Sniffer(_Sniffing):
    """Packets as they come; see `sniff`."""

    def __init__(
        self, source: CaptureSource, *, count: int | None = None, timeout_ns: int | None = None
    ) -> None:
        super().__init__(source, count=count, timeout_ns=timeout_ns)
        self._packets = self._run()

    def _run(self) -> Iterator[CapturedPacket]:
        with self._source:
            for block in self._source.blocks(self._deadline_ns):
                if block is not None:
                    yield from self._counted(block)
                    if self._left == 0:
                        return

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CapturedPacket:
        return next(self._packets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncSniffer(_Sniffing):
    """Packets as they come, in an event loop; see `sniff_async`."""

    def __init__(
        self, source: CaptureSource, *, count: int | None = None, timeout_ns: int | None = None
    ) -> None:
        super().__init__(source, count=count, timeout_ns=timeout_ns)
        self._packets = self._run()

    async def _run(self) -> AsyncGenerator[CapturedPacket, None]:
        import asyncio

        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        source, ring = self._source, self._source.ring.fileno()
        with source:
            for block in source.blocks(self._deadline_ns, wait=False):
                if block is None:
                    ready.clear()
                    # Listened to while we wait only: it stays readable until it is read.
                    loop.add_reader(ring, ready.set)
                    try:
                        async with asyncio.timeout(source.patience(self._deadline_ns)):
                            await ready.wait()
                    except TimeoutError:
                        pass
                    finally:
                        loop.remove_reader(ring)
                    continue
                for packet in self._counted(block):
                    yield packet
                if self._left == 0:
                    return

    def __aiter__(self) -> AsyncIterator[CapturedPacket]:
        return self._packets

    async def __anext__(self) -> CapturedPacket:
        return await anext(self._packets)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._packets.aclose()
        self.close()


def packets_in(block: Block, source: CaptureSource) -> Iterator[CapturedPacket]:
    """The packets of a block, which is read to its end, or as far as they are asked for.

    Frames of hardware that has no link type of its own come as Linux cooked v2.
    """
    snaplen = source.options.snaplen
    while block.left:
        record = Record.parse(block.data, block.at)
        link_type = link_type_of(record.hardware_type)
        if link_type == COOKED:
            data, length = cooked_frame(record, block.data, block.at, snaplen)
        else:
            data, length = frame_of(record, block.data, block.at, snaplen)
        block.at += record.following
        block.left -= 1
        packet = _new(CapturedPacket)
        packet.time_ns = record.seconds * 1_000_000_000 + record.nanoseconds
        packet.data = data
        packet.original_length = length
        packet.link_type = link_type
        packet.interface = source.describe(record.interface).name
        packet.direction = "out" if record.packet_type == PACKET_OUTGOING else "in"
        packet.comment = ""
        yield packet


def cooked_frame(record: Record, data: bytes, at: int, snaplen: int) -> tuple[bytes, int]:
    """A frame under a Linux cooked header, version 2, instead of its own: as `ring.frame_of`."""
    skipped = record.network - record.frame
    payload = data[at + record.network : at + record.frame + record.captured]
    protocol = int.from_bytes(record.protocol, "big")
    if record.status & VLAN_VALID:
        tag = tag_of(record)
        protocol = int.from_bytes(tag[:2], "big")
        payload = tag[2:] + record.protocol + payload
        skipped -= 4
    frame = _cooked_header(protocol, *record[11:]) + payload
    return frame[:snaplen], max(record.original - skipped + 20, len(frame))


@lru_cache(maxsize=1024)
def _cooked_header(
    protocol: int,
    interface: int,
    hardware_type: int,
    packet_type: int,
    address_length: int,
    address: bytes,
) -> bytes:
    """Packets of one sender by one interface have the same."""
    return LinuxCooked2(
        protocol_type=protocol,
        interface_index=interface,
        arphrd_type=hardware_type,
        packet_type=packet_type,
        address_length=address_length,
        address=address,
    ).emit()
