"""A carrier that writes down what it carries: whole IP packets, both ways, into a capture.

The packets are laid out anew by `wire/`, as they were on the wire but for what the kernel
fills in. Where the file is a pcapng, `write_secrets` puts the key log beside them, so that
whoever has the file can open it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Literal

from rawproto.capture import RPT_KEY_LOG, CapturedPacket, PcapngWriter, Writer
from rawproto.errors import LinkError
from rawproto.link.rpt_carrier import Address, Carrier, wildcard
from rawproto.link.rpt_errors import CarrierError
from rawproto.wire.dissect import RAW
from rawproto.wire.ipv4 import DF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer
from rawproto.wire.rpt import IP_PROTOCOL
from rawproto.wire.udp import UDPHeader

__all__ = ["TappedCarrier", "write_secrets"]

_log = logging.getLogger("rawproto")


class TappedCarrier:
    """A carrier beside which a capture is written, until its disk is full: what is carried goes on.

    Args:
        carrier: the one that carries.
        writer: of the capture; it stays open.
    """

    def __init__(self, carrier: Carrier, writer: Writer) -> None:
        self._carrier = carrier
        self._writer = writer
        self._broken = False
        self.port = carrier.port
        self.ceiling = carrier.ceiling
        self.udp = carrier.udp

    def filenos(self) -> list[int]:
        return self._carrier.filenos()

    def receive(
        self, limit: int, descriptor: int | None = None
    ) -> list[tuple[bytes, Address, int]]:
        packets = self._carrier.receive(limit, descriptor)
        for data, address, ecn in packets:
            self._write("in", data, address, ecn)
        return packets

    def send(self, data: bytes, address: Address, ecn: int = 0) -> None:
        self._carrier.send(data, address, ecn)
        self._write("out", data, address, ecn)

    def send_many(self, packets: Sequence[bytes], address: Address, ecn: int = 0) -> int:
        sent = self._carrier.send_many(packets, address, ecn)
        for data in packets[:sent]:
            self._write("out", data, address, ecn)
        return sent

    def largest_to(self, addr: str) -> int:
        return self._carrier.largest_to(addr)

    def local_to(self, addr: str) -> str:
        return self._carrier.local_to(addr)

    @property
    def echoed(self) -> bool:
        return self._carrier.echoed

    def errors(self) -> list[CarrierError]:
        return self._carrier.errors()

    def moved(self) -> bool:
        moved = self._carrier.moved()
        self.ceiling = self._carrier.ceiling
        return moved

    def close(self) -> None:
        self._carrier.close()

    def _write(
        self, direction: Literal["in", "out"], data: bytes, address: Address, ecn: int
    ) -> None:
        if self._broken:
            return
        try:
            here = self._carrier.local_to(address[0]), self.port
        except LinkError:  # there is no way to it just now
            here = wildcard(6 if ":" in address[0] else 4), self.port
        source, target = (here, address) if direction == "out" else (address, here)
        protocol = 17 if self.udp else IP_PROTOCOL
        src_addr, dst_addr = source[0].partition("%")[0], target[0].partition("%")[0]
        header: Layer
        if ":" in src_addr:
            header = IPv6Header(
                src_addr=src_addr, dst_addr=dst_addr, next_header=protocol, traffic_class=ecn
            )
        else:
            header = IPv4Header(
                src_addr=src_addr, dst_addr=dst_addr, protocol=protocol, flags=DF, ecn=ecn
            )
        packet = header / data
        if self.udp:
            packet = header / UDPHeader(src_port=source[1], dst_port=target[1]) / data
        captured = CapturedPacket(
            time_ns=time.time_ns(),
            data=packet.emit(),
            link_type=RAW,
            interface="rpt",
            direction=direction,
        )
        try:
            self._writer.write(captured)
        except OSError as error:  # the writer's owner hears of it again when he closes it
            self._broken = True
            _log.error("the capture is cut short: %s", error)


def write_secrets(writer: Writer, lines: str) -> None:
    """Puts key log lines into a capture, if its format has a place for them."""
    if isinstance(writer, PcapngWriter):
        writer.write_secrets(RPT_KEY_LOG, lines.encode())
