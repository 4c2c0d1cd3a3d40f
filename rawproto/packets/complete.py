"""What a person leaves out of a packet, filled in from what the kernel knows of the way.

Read RFC 826 and RFC 4861 for the addresses of the link, RFC 6864 for identification.
Filled in is what stands as a class has it by default, and nothing else:

- IP: the source address; IPv4's identification, which tells packets apart when an ICMP
  error quotes them (a fragment's stays: its siblings have the same). TTL, protocol
  and next header have defaults, and are computed, in `wire/`.
- Ethernet: both MAC addresses; ARP and VLAN tags get an Ethernet header in front.
- ARP: the sender's addresses.
- A DNS query over UDP: the destination port 53.
- Neighbour discovery: the destination group, the hop limit of 255 without which nobody
  listens, and the link-layer address of the sender.

So a source of 0.0.0.0 that is meant (an ARP probe, DHCP) needs `fill=False`, which
sends what stands there. It opens no socket: what it must know it asks of `Surroundings`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rawproto.errors import LinkError, UsageError
from rawproto.wire.address import pack_ipv6, pack_mac, unpack_ipv6
from rawproto.wire.arp import REPLY, ARPMessage
from rawproto.wire.dissect import ETHERNET, RAW
from rawproto.wire.ethernet import BROADCAST, EthernetHeader, VLANTag
from rawproto.wire.ipv4 import MF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer, Packet
from rawproto.wire.udp import UDPHeader

__all__ = ["Completed", "RouteLike", "Surroundings", "complete"]

NO_MAC = "00:00:00:00:00:00"
DISCOVERY_HOP_LIMIT = 255
DNS_PORT = 53

_DISCOVERY = range(133, 138)
"""ICMPv6 types of RFC 4861."""


class RouteLike(Protocol):
    """What must be known of the way to a destination; `link.routes.Route` is one."""

    @property
    def src_addr(self) -> str: ...
    @property
    def interface(self) -> str: ...
    @property
    def next_hop(self) -> str: ...
    @property
    def kind(self) -> str: ...


class Surroundings(Protocol):
    """Where this host stands; `link.ways.Ways` asks the kernel.

    Attributes:
        interface: the one that everything is to leave by, "" where routes decide.
    """

    interface: str

    def route(self, dst_addr: str) -> RouteLike:
        """The way to a host. Raises LinkError."""
        ...

    def mac_addr(self, interface: str) -> str:
        """Of an interface of this host's. Raises LinkError where it takes no Ethernet frames."""
        ...

    def neighbor(self, next_hop: str, interface: str) -> str:
        """The MAC address of a host on the link. Raises LinkError where nobody answers."""
        ...


@dataclass(slots=True, kw_only=True)
class Completed:
    """A packet that can be sent.

    Attributes:
        packet: with everything filled in.
        link_type: what it begins with: `ETHERNET`, or `RAW` for an IP header.
        dst_addr: the IP address that decides where it goes, "" for a frame without one.
        interface: that a frame leaves by; "" leaves it to the kernel's routes.
        group: whether more than one host may answer.
        nobody: why a frame has nobody to go to: its next hop answers to nothing.
    """

    packet: Packet
    link_type: int
    dst_addr: str = ""
    interface: str = ""
    group: bool = False
    nobody: LinkError | None = None


def complete(
    packet: Packet, around: Surroundings, *, fill: bool = True, identification: int = 0
) -> Completed:
    """Fills in what is missing, and says where the packet goes.

    Args:
        packet: from an IP header, an Ethernet header or an ARP message on.
        around: the host that sends it.
        fill: False changes no field, and only finds out where it goes.
        identification: for an IPv4 header that has none, 0 leaves it so.

    Raises:
        UsageError: it begins with something else, or lacks what nobody can guess.
        LinkError: no way to its destination.
    """
    layers = list(packet.layers)
    if layers and isinstance(layers[0], ARPMessage | VLANTag):
        layers.insert(0, EthernetHeader())
    first = layers[0] if layers else None
    if isinstance(first, EthernetHeader):
        return _complete_frame(first, layers, around, fill, identification)
    if isinstance(first, IPv4Header | IPv6Header):
        header, route = _complete_ip(first, 0, layers, around, fill, identification)
        return Completed(
            packet=Packet(tuple(layers)),
            link_type=RAW,
            dst_addr=header.dst_addr,
            group=_is_group(header, route, layers[1:2]),
        )
    name = first.layer if isinstance(first, Layer) else "plain bytes" if layers else "nothing"
    raise UsageError(
        f"a packet that can be sent begins with ethernet, arp, ipv4 or ipv6, not {name}"
    )


def _complete_frame(
    frame: EthernetHeader,
    layers: list[Any],
    around: Surroundings,
    fill: bool,
    identification: int,
) -> Completed:
    at = next(
        (i for i, each in enumerate(layers) if not isinstance(each, EthernetHeader | VLANTag)), 0
    )
    inner = layers[at] if at else None
    route: RouteLike | None = None
    dst_addr, group = "", False
    if isinstance(inner, IPv4Header | IPv6Header):
        header, route = _complete_ip(
            inner, at, layers, around, fill, identification, needs_route=True
        )
        dst_addr, group = header.dst_addr, _is_group(header, route, layers[at + 1 : at + 2])
    elif isinstance(inner, ARPMessage) and _needs_route(inner, around, fill):
        route = around.route(inner.target_protocol_addr)
    interface = around.interface or (route.interface if route else "")
    if not interface:
        raise UsageError("a frame without an IP address in it needs an interface to leave by")
    mac_addr = around.mac_addr(interface)
    nobody: LinkError | None = None
    if fill:
        if isinstance(inner, ARPMessage):
            layers[at] = inner = _fill_arp(inner, mac_addr, route)
        src_addr, to = frame.src_addr, frame.dst_addr
        if _is_zero(to):
            try:
                to = _destination(inner, route, interface, around)
            except LinkError as error:
                if error.errno != errno.EHOSTUNREACH:
                    raise
                nobody = error
        layers[0] = replace(
            frame, src_addr=mac_addr if _is_zero(src_addr) else src_addr, dst_addr=to
        )
    return Completed(
        packet=Packet(tuple(layers)),
        link_type=ETHERNET,
        dst_addr=dst_addr,
        interface=interface,
        group=group,
        nobody=nobody,
    )


def _needs_route(message: ARPMessage, around: Surroundings, fill: bool) -> bool:
    if "." not in message.target_protocol_addr:
        return False
    return not around.interface or (fill and _without(message.sender_protocol_addr))


def _complete_ip(
    header: IPv4Header | IPv6Header,
    at: int,
    layers: list[Any],
    around: Surroundings,
    fill: bool,
    identification: int,
    needs_route: bool = False,
) -> tuple[IPv4Header | IPv6Header, RouteLike | None]:
    """Fills in the outermost IP header and what it carries, in `layers`."""
    inner = layers[at + 1] if at + 1 < len(layers) else None
    if fill and isinstance(header, IPv6Header):
        header = _fill_discovery(header, inner)
    if _without(header.dst_addr) and (fill or needs_route):
        raise UsageError(f"{header.layer}: dst_addr is not given, and nobody can guess it")
    if not fill and not needs_route:
        return header, None
    route = around.route(header.dst_addr)
    if fill:
        changes: dict[str, Any] = {}
        if _without(header.src_addr) and route.src_addr:
            changes["src_addr"] = route.src_addr
        if isinstance(header, IPv4Header) and identification and _wants_identification(header):
            changes["identification"] = identification
        layers[at] = header = replace(header, **changes) if changes else header
        if isinstance(inner, UDPHeader) and not inner.dst_port and _is_query(layers[at + 2 :]):
            layers[at + 1] = replace(inner, dst_port=DNS_PORT)
        options = getattr(inner, "options", None)
        if isinstance(header, IPv6Header) and _asks_on_link(inner) and options == ():
            layers[at + 1] = _with_link_layer_addr(inner, around, route.interface)
    return header, route


def _is_query(inside: list[Any]) -> bool:
    return bool(inside) and getattr(inside[0], "layer", "") == "dns" and not inside[0].qr


def _wants_identification(header: IPv4Header) -> bool:
    return not (header.identification or header.fragment_offset or header.flags & MF)


def _fill_discovery(header: IPv6Header, inner: object) -> IPv6Header:
    """Neighbour discovery's own hop limit, and the group that a question goes to."""
    if not _is_discovery(inner):
        return header
    if header.hop_limit == 64:
        header = replace(header, hop_limit=DISCOVERY_HOP_LIMIT)
    if _without(header.dst_addr):
        target = getattr(inner, "target_addr", None)
        if getattr(inner, "icmp_type", 0) == 135 and target:
            # Solicited-node multicast (RFC 4291 section 2.7.1).
            group = pack_ipv6("ff02::1:ff00:0")[:13] + pack_ipv6(target)[13:]
            header = replace(header, dst_addr=unpack_ipv6(group))
        elif getattr(inner, "icmp_type", 0) == 133:
            header = replace(header, dst_addr="ff02::2")
    return header


def _is_discovery(inner: object) -> bool:
    return getattr(inner, "layer", "") == "icmpv6" and getattr(inner, "icmp_type", 0) in _DISCOVERY


def _asks_on_link(inner: object) -> bool:
    return _is_discovery(inner) and getattr(inner, "icmp_type", 0) in (133, 135)


def _with_link_layer_addr(inner: Any, around: Surroundings, interface: str) -> Any:
    """The question with where its answer may go, as RFC 4861 section 4.3 wants it."""
    # Loaded with the first of them.
    from rawproto.wire.ndp_options import SourceLinkLayerAddress

    try:
        mac_addr = around.mac_addr(interface)
    except LinkError:  # a link without such addresses
        return inner
    if _is_zero(mac_addr):
        return inner
    return replace(inner, options=(SourceLinkLayerAddress(mac_addr=mac_addr),))


def _fill_arp(message: ARPMessage, mac_addr: str, route: RouteLike | None) -> ARPMessage:
    changed: dict[str, str] = {}
    if _is_zero(message.sender_hardware_addr):
        changed["sender_hardware_addr"] = mac_addr
    if _without(message.sender_protocol_addr) and route is not None and route.src_addr:
        changed["sender_protocol_addr"] = route.src_addr
    return replace(message, **changed) if changed else message  # type: ignore[arg-type]


def _destination(
    inner: object, route: RouteLike | None, interface: str, around: Surroundings
) -> str:
    """The MAC address that a frame goes to."""
    if isinstance(inner, ARPMessage):
        if inner.operation == REPLY and not _is_zero(inner.target_hardware_addr):
            return inner.target_hardware_addr
        return BROADCAST
    if route is not None:
        return around.neighbor(route.next_hop, interface)
    if _is_zero(around.mac_addr(interface)):  # a loopback, where this is everybody's address
        return NO_MAC
    raise UsageError("ethernet: dst_addr is not given, and what is inside has no address to find")


def _is_group(header: IPv4Header | IPv6Header, route: RouteLike | None, inner: list[Any]) -> bool:
    if inner and getattr(inner[0], "icmp_type", 0) == 135 and _is_discovery(inner[0]):
        return False  # a group is asked, but only the one whose address it is answers
    if route is not None and route.kind in ("broadcast", "multicast"):
        return True
    address = header.dst_addr.lower()
    if isinstance(header, IPv6Header):
        return address.startswith("ff")
    return 224 <= int(address.partition(".")[0] or 0) < 240 or address == "255.255.255.255"


def _without(address: str) -> bool:
    return address in ("0.0.0.0", "::", "")


def _is_zero(mac_addr: str) -> bool:
    try:
        return not any(pack_mac(mac_addr))
    except ValueError:
        return False
