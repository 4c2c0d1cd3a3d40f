"""What one of our own routers goes by: plain values, told to its process by the lab's owner.

Worked out from a topology in `routers`, followed by `forwarding` and `userspace`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["INSIDE", "Entry", "Port", "RouterConfig"]

INSIDE = 0
"""The port behind which a NAT hides everybody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One interface of the router.

    Attributes:
        name: `"eth0"`.
        mtu: in bytes.
        addresses: its own, at most one of each family.
        peers: those of the host at the other end.
        mac_addresses: destination and source of every frame that leaves by it, 12 bytes.
        if_index: the kernel's number for it, 0 while unknown.
    """

    name: str
    mtu: int
    addresses: tuple[str, ...]
    peers: tuple[str, ...]
    mac_addresses: bytes = bytes(12)
    if_index: int = 0

    def address(self, version: int) -> str | None:
        """Its own address of that family, if it has one."""
        return next((one for one in self.addresses if (":" in one) == (version == 6)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the routing table.

    Attributes:
        network: the packed prefix, 4 or 16 bytes.
        prefix_length: in bits.
        ports: by number; several share the flows.
        on_link: whether the destination itself has to be at the other end.
    """

    network: bytes
    prefix_length: int
    ports: tuple[int, ...]
    on_link: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterConfig:
    """All that a router goes by.

    Attributes:
        host: its name, and that of its namespace.
        ports: its interfaces; the first is inside, if there is NAT.
        entries: its routing table.
        mtu: of all that it forwards, None for the ports' own.
        per_packet: whether several ports share packets in turn, and not flows.
        drop_ptb: whether it lets no Packet Too Big pass.
        nat: what of quotes is put right; None for no NAT.
        mpls: labels in its errors.
        interface_info: whether its errors name the incoming interface.
    """

    host: str
    ports: Sequence[Port]
    entries: Sequence[Entry]
    mtu: int | None = None
    per_packet: bool = False
    drop_ptb: bool = False
    nat: str | None = None
    mpls: tuple[int, ...] = ()
    interface_info: bool = False
