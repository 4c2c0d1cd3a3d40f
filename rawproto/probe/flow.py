"""Probes of one flow: told apart by what no router hashes (read Augustin et al., IMC 2006).

Routers that balance by flow hash the addresses, the protocol and the first four
bytes behind the IP header: ports, or ICMP's type, code and checksum. So all probes
of a trace keep those, and carry their number where it does no harm, within the
first 8 bytes, which every ICMP error quotes:

    ICMP   number in the sequence number; two bytes of payload hold the checksum still
    UDP    number in the checksum; two bytes of payload make it so. Two more repeat it, for
           errors of which the kernel shows what they quote of the payload alone
    TCP    number in the low half of the sequence number

A NAT rewrites UDP's checksum. The number is then known by the payload, or where a router
quotes none of that, by IPv4's identification, which carries it too.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Protocol

from rawproto.errors import WireError
from rawproto.machine import Datagram
from rawproto.probe.match import Quote
from rawproto.probe.trace_events import TraceConfig
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import DF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.tcp import ACK, RST, SYN, TCPHeader
from rawproto.wire.udp import UDPHeader

if TYPE_CHECKING:
    import random

__all__ = ["Flow", "FlowPackets"]

ICMP, TCP, UDP, ICMPV6 = 1, 6, 17, 58
LEAST_MESSAGE = 12
"""Eight bytes of header, two that balance the checksum, two for UDP's number."""
CUT = 0
"""In place of a number: what is quoted ends before it."""


class Flow(Protocol):
    """The probes of one trace."""

    protocol: int
    """IP protocol of the probes."""

    def message(self, number: int, size: int) -> bytes:
        """A probe of `size` bytes from behind its IP header on; `number` is 1 to 65534."""
        ...

    def quoted(self, data: bytes, identification: int) -> tuple[int, tuple[str, ...]] | None:
        """Which probe an error quotes: (number, fields rewritten), None for a stranger's.

        Args:
            data: from behind the quoted IP header on, at least 8 bytes.
            identification: of that header, `CUT` where it has none that could be ours.
        """
        ...

    def reported(self, original: bytes) -> int | None:
        """Which probe the kernel reports an error about, None for a stranger's.

        Args:
            original: as in `ICMPError`; where it ends too early the answer is `CUT`.
        """
        ...

    def answered(self, datagram: Datagram) -> int | None:
        """Which probe the target itself answers, None for something else."""
        ...


class _ICMPFlow:
    """Echo requests whose checksum stands still."""

    def __init__(self, config: TraceConfig) -> None:
        self._v6 = ":" in config.dst_addr
        self.protocol = ICMPV6 if self._v6 else ICMP
        self._identifier = config.src_port
        self._addresses = {"src_addr": config.src_addr, "dst_addr": config.dst_addr}

    def message(self, number: int, size: int) -> bytes:
        # Sequence number and balance add up to 0xFFFF, which is nothing to the sum.
        payload = (0xFFFF - number).to_bytes(2, "big") + bytes(size - 10)
        if self._v6:
            echo = ICMPv6Echo(identifier=self._identifier, sequence_number=number)
            return echo.emit(payload, **self._addresses)
        return ICMPEcho(identifier=self._identifier, sequence_number=number).emit(payload)

    def quoted(self, data: bytes, identification: int) -> tuple[int, tuple[str, ...]] | None:
        if data[:1] != (b"\x80" if self._v6 else b"\x08"):
            return None
        try:
            echo = (ICMPv6Echo if self._v6 else ICMPEcho).parse(data)[0]
        except WireError:
            return None
        if echo.identifier != self._identifier:
            return None
        return echo.sequence_number, ()

    def reported(self, original: bytes) -> int | None:
        found = self.quoted(original, CUT)
        return found and found[0]

    def answered(self, datagram: Datagram) -> int | None:
        data = datagram.data
        if datagram.protocol != self.protocol or data[:1] != (b"\x81" if self._v6 else b"\x00"):
            return None
        try:
            echo = (ICMPv6Echo if self._v6 else ICMPEcho).parse(data)[0]
        except WireError:
            return None
        return echo.sequence_number if echo.identifier == self._identifier else None


class _UDPFlow:
    """Datagrams whose checksum is the probe's number."""

    protocol = UDP

    def __init__(self, config: TraceConfig) -> None:
        self._header = UDPHeader(src_port=config.src_port, dst_port=config.dst_port)
        self._addresses = {"src_addr": config.src_addr, "dst_addr": config.dst_addr}

    def message(self, number: int, size: int) -> bytes:
        bare = self._header.emit(bytes(size - 8), **self._addresses)
        balance = (int.from_bytes(bare[6:8], "big") - 2 * number) % 0xFFFF
        payload = number.to_bytes(2, "big") + balance.to_bytes(2, "big") + bytes(size - 12)
        return self._header.emit(payload, **self._addresses)

    def quoted(self, data: bytes, identification: int) -> tuple[int, tuple[str, ...]] | None:
        try:
            header = UDPHeader.parse(data)[0]
        except WireError:
            return None
        if header.dst_port != self._header.dst_port:
            return None
        # Eight bytes of header, then the number again; RFC 792 asks for no more than the first.
        number = int.from_bytes(data[8:10], "big") or identification or header.checksum or CUT
        rewritten: tuple[str, ...] = ()
        if header.checksum != number:
            rewritten += ("checksum",)
        if header.src_port != self._header.src_port:
            rewritten += ("src_port",)
        return number, rewritten

    def reported(self, original: bytes) -> int | None:
        # Who quotes less but has extensions to add fills up with zeros (RFC 4884 section 5.1).
        return int.from_bytes(original[:2], "big") if len(original) > 1 else CUT

    def answered(self, datagram: Datagram) -> int | None:
        return None  # a datagram in answer names no probe; the port unreachable does


class _TCPFlow:
    """SYNs that carry their number in the sequence number."""

    protocol = TCP

    def __init__(self, config: TraceConfig, high: int) -> None:
        self._src_port = config.src_port
        self._dst_port = config.dst_port
        self._addresses = {"src_addr": config.src_addr, "dst_addr": config.dst_addr}
        self._high = high << 16
        self._fills = config.find_mtu

    def message(self, number: int, size: int) -> bytes:
        header = TCPHeader(
            src_port=self._src_port,
            dst_port=self._dst_port,
            sequence_number=self._high | number,
            flags=SYN,
            window=5840,
        )
        # A SYN with data is a rare sight: only to fill a link.
        data = bytes(max(0, size - 20)) if self._fills else b""
        return header.emit(data, **self._addresses)

    def quoted(self, data: bytes, identification: int) -> tuple[int, tuple[str, ...]] | None:
        if len(data) < 8:
            return None
        src_port, dst_port = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
        sequence_number = int.from_bytes(data[4:8], "big")
        if dst_port != self._dst_port or sequence_number & 0xFFFF0000 != self._high:
            return None
        rewritten = () if src_port == self._src_port else ("src_port",)
        return sequence_number & 0xFFFF, rewritten

    def reported(self, original: bytes) -> int | None:
        return None  # it takes a raw socket to send such SYNs, and that hears errors whole

    def answered(self, datagram: Datagram) -> int | None:
        if datagram.protocol != TCP:
            return None
        try:
            header = TCPHeader.parse(datagram.data)[0]
        except WireError:
            return None
        if (header.src_port, header.dst_port) != (self._dst_port, self._src_port):
            return None
        if header.flags & (SYN | ACK) != SYN | ACK and not header.flags & RST:
            return None
        sequence_number = header.acknowledgment_number - 1 & 0xFFFFFFFF
        return sequence_number & 0xFFFF if sequence_number & 0xFFFF0000 == self._high else None


class FlowPackets:
    """A flow's probes as whole IP packets, and what quotes of them say."""

    def __init__(self, config: TraceConfig, rng: random.Random) -> None:
        """
        Args:
            config: of the trace.
            rng: for the part of TCP's sequence numbers that strangers must not guess.
        """
        self._config = config
        self._header_bytes = 40 if ":" in config.dst_addr else 20
        self._flow: Flow
        if config.method == "icmp":
            self._flow = _ICMPFlow(config)
        elif config.method == "udp":
            self._flow = _UDPFlow(config)
        else:
            self._flow = _TCPFlow(config, rng.randrange(1 << 16))

    def packet(self, number: int, ttl: int, size: int) -> bytes:
        """Probe `number` (1 to 65534) with its TTL or hop limit.

        Args:
            number: 1 to 65534.
            ttl: 1 to 255.
            size: of the whole packet, in bytes; a little more where its headers need it.
        """
        config, flow = self._config, self._flow
        message = flow.message(number, max(LEAST_MESSAGE, size - self._header_bytes))
        if ":" in config.dst_addr:
            return IPv6Header(
                traffic_class=config.dscp << 2,
                flow_label=config.flow_label,
                next_header=flow.protocol,
                hop_limit=ttl,
                src_addr=config.src_addr,
                dst_addr=config.dst_addr,
            ).emit(message)
        return IPv4Header(
            dscp=config.dscp,
            identification=number,
            flags=DF,
            ttl=ttl,
            protocol=flow.protocol,
            src_addr=config.src_addr,
            dst_addr=config.dst_addr,
        ).emit(message)

    def read_quote(self, quote: Quote, known: Container[int]) -> tuple[int, tuple[str, ...]] | None:
        """Which probe a quote is of: (number, fields rewritten), None for a stranger's.

        Args:
            quote: of any packet.
            known: numbers of probes that were sent. Firewalls that rewrite identifications
                leave none of these.
        """
        if quote.protocol != self._flow.protocol:
            return None
        header = quote.header
        identification = header.identification if isinstance(header, IPv4Header) else CUT
        found = self._flow.quoted(quote.data, identification if identification in known else CUT)
        if found is None:
            return None
        number, rewritten = found
        for name in ("dst_addr", "src_addr"):
            if getattr(header, name) != getattr(self._config, name):
                rewritten = (name, *rewritten)
        return number, rewritten

    def reported(self, original: bytes) -> int | None:
        """Which probe the kernel reports an error about: see `Flow.reported`."""
        return self._flow.reported(original)

    def answered(self, datagram: Datagram) -> int | None:
        """Which probe the target itself answers, None for something else."""
        if datagram.src_addr != self._config.dst_addr:
            return None
        return self._flow.answered(datagram)
