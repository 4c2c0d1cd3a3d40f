"""What a golden capture is: packets, and what each must decode to, put down by hand.

The packets come from scapy or, where it has no class, byte by byte from the
RFC's figures; the expectations are literals. Neither has seen rawproto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from scapy.packet import Packet

ETHERNET, NULL, RAW, SLL, SLL2 = 1, 0, 101, 113, 276

MAC_1, MAC_2 = "02:00:00:00:00:01", "02:00:00:00:00:02"
# Addresses of the documentation's networks (RFC 5737, RFC 3849).
HOST_1, HOST_2, ROUTER = "192.0.2.1", "198.51.100.2", "203.0.113.254"
HOST_1_V6, HOST_2_V6, ROUTER_V6 = "2001:db8:1::1", "2001:db8:2::2", "2001:db8:ffff::1"


@dataclass(kw_only=True)
class Golden:
    """One packet of a capture.

    Attributes:
        packet: scapy's, or its bytes.
        note: what it shows, for the reader of captures/README.md.
        stack: our classes, outermost first, as `dissect` must find them.
        expect: what must stand where: `"IPv4Header.ttl": 64`. A number in the path picks
            from a tuple. `"payload"` is what no layer took, `"trailer"` what stands behind all.
        wrong: indices in the stack of the layers whose checksum must be found wrong.
        damaged: whether the packet must be found to contradict itself.
        caplen: how many bytes the capture keeps; all where None.
        computes: whether it emits the same with all computed, lengths, checksums and forms.
        scapy_reads: how many of the layers scapy reads; all where None.
        scapy_errs: fields that scapy reads otherwise than the RFC says.
    """

    packet: Packet | bytes
    note: str
    stack: str
    expect: dict[str, object] = field(default_factory=dict)
    wrong: tuple[int, ...] = ()
    damaged: bool = False
    caplen: int | None = None
    computes: bool = True
    scapy_reads: int | None = None
    scapy_errs: frozenset[str] = frozenset()

    @property
    def wire(self) -> bytes:
        """The packet as it was on the wire."""
        return bytes(self.packet)

    @property
    def captured(self) -> bytes:
        """The packet as it stands in the capture."""
        return self.wire[: self.caplen]


@dataclass
class Capture:
    """One file."""

    name: str
    link_type: int
    title: str
    packets: Callable[[], Iterator[Golden]]


CAPTURES: dict[str, Capture] = {}


def capture(
    name: str, title: str, link_type: int = ETHERNET
) -> Callable[[Callable[[], Iterator[Golden]]], Callable[[], Iterator[Golden]]]:
    """Lists a function that yields a capture's packets."""

    def register(packets: Callable[[], Iterator[Golden]]) -> Callable[[], Iterator[Golden]]:
        CAPTURES[name] = Capture(name, link_type, title, packets)
        return packets

    return register
