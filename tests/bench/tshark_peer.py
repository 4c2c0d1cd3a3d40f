"""A packet as rawproto reads it beside the same as tshark does: the table, and the comparison.

tshark answers `-T fields`: a column a field, and in it a value for each layer that has one,
outermost first, those inside tunnels and ICMP errors behind ours. Reassembly is switched
off and checksums are validated, so that both are asked the same.
"""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rawproto.capture import CapturedPacket
from rawproto.errors import TruncatedError
from rawproto.wire.arp import ARPMessage
from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
from rawproto.wire.dissect import Dissection, checksums, dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.icmp_message import ICMPMessage, ICMPv6Message
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import SourceRoute
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_ext import (
    DestinationOptions,
    FragmentHeader,
    HopByHopOptions,
    RoutingHeader,
    SegmentRoutingHeader,
    UnknownRoutingHeader,
)
from rawproto.wire.layer import Layer
from rawproto.wire.show import fields, summary
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader

__all__ = ["EXCUSES", "Difference", "Row", "compare", "read_ours", "read_theirs"]

# A class of ours: tshark's names of it in frame.protocols, and which of tshark's fields (or
# else which other) hold what ours do. One that ends in `.status` holds a checksum's verdict.
PEERS: dict[type[Layer], tuple[str, str]] = {
    EthernetHeader: ("eth", "eth.src=src_addr eth.dst=dst_addr eth.type,eth.len=ethertype"),
    VLANTag: ("vlan", "vlan.id=vid"),
    LinuxCooked: ("sll", "sll.pkttype=packet_type sll.hatype=arphrd_type sll.halen=address_length"),
    LinuxCooked2: (
        "sll",
        (
            "sll.pkttype=packet_type sll.hatype=arphrd_type sll.halen=address_length "
            "sll.ifindex=interface_index"
        ),
    ),
    LoopbackHeader: ("null", "null.family=family"),
    ARPMessage: (
        "arp",
        (
            "arp.opcode=operation arp.hw.type=hardware_type arp.hw.size=hardware_length "
            "arp.proto.size=protocol_length "
            "arp.src.hw_mac,arp.src.hw=sender_hardware_addr "
            "arp.dst.hw_mac,arp.dst.hw=target_hardware_addr "
            "arp.src.proto_ipv4,arp.src.proto=sender_protocol_addr "
            "arp.dst.proto_ipv4,arp.dst.proto=target_protocol_addr"
        ),
    ),
    IPv4Header: (
        "ip",
        (
            "ip.src=src_addr ip.dst=dst_addr ip.proto=protocol ip.len=total_length "
            "ip.hdr_len=4*ihl ip.ttl=ttl ip.id=identification ip.flags=flags "
            "ip.frag_offset=fragment_offset ip.checksum.status"
        ),
    ),
    IPv6Header: (
        "ipv6",
        (
            "ipv6.src=src_addr ipv6.dst=dst_addr ipv6.nxt=next_header ipv6.plen=payload_length "
            "ipv6.hlim=hop_limit ipv6.flow=flow_label"
        ),
    ),
    HopByHopOptions: ("ipv6.hopopts", "ipv6.hopopts.nxt=next_header ipv6.hopopts.len=hdr_ext_len"),
    DestinationOptions: (
        "ipv6.dstopts",
        "ipv6.dstopts.nxt=next_header ipv6.dstopts.len=hdr_ext_len",
    ),
    RoutingHeader: (
        "ipv6.routing",
        (
            "ipv6.routing.nxt=next_header ipv6.routing.len=hdr_ext_len "
            "ipv6.routing.type=routing_type ipv6.routing.segleft=segments_left"
        ),
    ),
    FragmentHeader: (
        "ipv6.fraghdr",
        (
            "ipv6.fraghdr.nxt=next_header ipv6.fraghdr.offset=fragment_offset "
            "ipv6.fraghdr.ident=identification"
        ),
    ),
    ICMPMessage: ("icmp", "icmp.type=icmp_type icmp.code=code icmp.checksum.status"),
    ICMPv6Message: ("icmpv6", "icmpv6.type=icmp_type icmpv6.code=code icmpv6.checksum.status"),
    TCPHeader: (
        "tcp",
        (
            "tcp.srcport=src_port tcp.dstport=dst_port tcp.hdr_len=4*data_offset "
            "tcp.seq=sequence_number tcp.ack=acknowledgment_number tcp.window_size_value=window "
            "tcp.checksum.status"
        ),
    ),
    UDPHeader: (
        "udp",
        "udp.srcport=src_port udp.dstport=dst_port udp.length=length udp.checksum.status",
    ),
    DNSMessage: (
        "dns mdns llmnr",
        (
            "dns.id=identifier dns.count.queries=qdcount dns.count.answers=ancount "
            "dns.count.auth_rr=nscount dns.count.add_rr=arcount"
        ),
    ),
}
# Kinds of the routing header that are classes of their own to us.
PEERS[SegmentRoutingHeader] = PEERS[UnknownRoutingHeader] = PEERS[RoutingHeader]
SERVICE_TAG = ("ieee8021ad", "ieee8021ad.id=vid")

# tshark's names of layers, and of what it puts between them without being one.
KNOWN = {name for names, _ in (*PEERS.values(), SERVICE_TAG) for name in names.split()}
NO_LAYERS = {"ethertype", "raw", "data"}

FRAME = ["frame.len", "frame.cap_len", "frame.time_epoch", "frame.protocols"]
COLUMNS = FRAME + list(
    dict.fromkeys(
        name
        for _, words in (*PEERS.values(), SERVICE_TAG)
        for word in words.split()
        for name in word.partition("=")[0].split(",")
    )
)
PREFERENCES = (
    "ip.check_checksum:TRUE tcp.check_checksum:TRUE udp.check_checksum:TRUE ip.defragment:FALSE "
    "ipv6.defragment:FALSE tcp.desegment_tcp_streams:FALSE tcp.relative_sequence_numbers:FALSE"
)
VERDICTS = {"0": "bad", "1": "good", "2": "not judged", "3": "not judged", "4": "bad"}
"""tshark's: bad, good, unverified, not present, missing where it must not be."""
OURS = {True: "good", False: "bad", None: "not judged"}

Row = dict[str, str]
"""What tshark says of one packet: a column's name -> its values, joined by bars."""


# --- both sides ----------------------------------------------------------------------------------


def read_ours(packet: CapturedPacket) -> Dissection:
    """Everything that we can say of a packet is said once, and it is emitted again.

    Raises:
        AssertionError: that gives other bytes.
    """
    found = dissect(packet.data, packet.link_type)
    summary(found)
    json.dumps([fields(layer) for layer in found.layers])
    if found.packet.emit() + found.trailer != packet.data:
        raise AssertionError("emits other bytes than it was parsed from")
    return found


def read_theirs(path: Path) -> tuple[list[Row], str]:
    """A row a packet, and tshark's complaint if it could not read the file."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields"]
    command += ["-E", "occurrence=a", "-E", "aggregator=|"]
    for column in COLUMNS:
        command += ["-e", column]
    for preference in PREFERENCES.split():
        command += ["-o", preference]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    rows = [dict(zip(COLUMNS, line, strict=True)) for line in lines]
    complaint = done.stderr.strip().splitlines()[-1] if done.returncode else ""
    return rows, complaint


# --- side by side --------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class Difference:
    """One value on which the two do not agree."""

    capture: str
    number: int
    what: str
    ours: object
    theirs: object
    packet: CapturedPacket
    found: Dissection

    def __str__(self) -> str:
        return f"{self.capture} packet {self.number}: {self.what}: {self.ours} / {self.theirs}"


def compare(
    capture: str, number: int, packet: CapturedPacket, row: Row
) -> tuple[int, list[Difference]]:
    """One packet, value by value: how many there were, and those that are not the same."""
    found = read_ours(packet)
    pairs = [*_frame(packet, row), ("stack", *_stacks(found, row)), *_layers(found, row)]
    differences = [
        Difference(
            capture=capture,
            number=number,
            what=what,
            ours=ours,
            theirs=theirs,
            packet=packet,
            found=found,
        )
        for what, ours, theirs in pairs
        if ours != theirs
    ]
    return len(pairs), differences


def _frame(packet: CapturedPacket, row: Row) -> Iterator[tuple[str, object, object]]:
    seconds, _, fraction = row["frame.time_epoch"].partition(".")
    # The sign of a negative fraction stands in front of the seconds.
    sign = -1 if seconds.startswith("-") else 1
    their_ns = abs(int(seconds)) * 10**9 + sign * int(fraction.ljust(9, "0"))
    yield "time", packet.time_ns, their_ns
    yield "frame.len", packet.original_length, int(row["frame.len"])
    yield "frame.cap_len", len(packet.data), int(row["frame.cap_len"])


def _stacks(found: Dissection, row: Row) -> tuple[str, str]:
    """Our layers and theirs in tshark's words; theirs as far as we know such layers."""
    theirs: list[str] = []
    for word in row["frame.protocols"].split(":"):
        if word in NO_LAYERS or (word == "arp" and theirs[-1:] == ["arp"]):
            continue
        # What an ICMP error quotes stands behind it, and is no layer to us.
        if word not in KNOWN or theirs[-1:] in (["icmp"], ["icmpv6"]):
            break
        theirs.append(word)
    ours = []
    for index, layer in enumerate(_shared(found)):
        names = _peer(layer)[0].split()
        same = index < len(theirs) and theirs[index] in names
        ours.append(theirs[index] if same else names[0])
    return " ".join(ours), " ".join(theirs)


def _layers(found: Dissection, row: Row) -> Iterator[tuple[str, object, object]]:
    verdicts = dict(checksums(found))
    seen: Counter[str] = Counter()
    for index, layer in enumerate(_shared(found)):
        for word in _peer(layer)[1].split():
            names, _, attribute = word.partition("=")
            factor, _, attribute = attribute.rpartition("*")
            ours: object = getattr(layer, attribute) if attribute else OURS[verdicts[index]]
            if isinstance(ours, int) and factor:
                ours *= int(factor)
            theirs: str | None = None
            for name in names.split(","):
                values = row[name].split("|") if row[name] else []
                if seen[name] < len(values):
                    theirs = values[seen[name]]
                    seen[name] += 1
                    break
            # An address of no bytes is "" to us.
            theirs = ours if ours == "" and theirs is None else theirs
            yield names, ours, _alike(theirs, ours) if theirs is not None else None


def _shared(found: Dissection) -> list[Layer]:
    """The layers that tshark has too; RPT, which stands innermost, is ours alone."""
    return [layer for layer in found.layers if layer.layer != "rpt"]


def _peer(layer: Layer) -> tuple[str, str]:
    if isinstance(layer, VLANTag) and layer.tpid != 0x8100:
        return SERVICE_TAG
    return next(each for kind, each in PEERS.items() if isinstance(layer, kind))


def _alike(theirs: str, ours: object) -> object:
    """tshark's word in the form that our value has."""
    if isinstance(ours, int):
        return int(theirs, 0)
    if ours in ("good", "bad", "not judged"):
        return VERDICTS[theirs]
    # Addresses of which it knows no form come as plain hexadecimal.
    plain = ":" not in theirs and "." not in theirs
    return ours if plain and theirs == str(ours).replace(":", "") else theirs


# --- why the two may differ ----------------------------------------------------------------------


def _wraps(each: Difference) -> bool:
    if each.what != "time" or not isinstance(each.ours, int) or not isinstance(each.theirs, int):
        return False
    return (each.ours - each.theirs) % 2**32 == 0


def _stops_at_damage(each: Difference) -> bool:
    ours, theirs = str(each.ours), str(each.theirs)
    return each.what == "stack" and each.found.damage is not None and theirs.startswith(ours)


def _other_dns(each: Difference) -> bool:
    return each.what == "stack" and each.theirs in (f"{each.ours} dns", f"{each.ours} mdns")


def _isl(each: Difference) -> bool:
    return each.found.data[:5] in (b"\x01\x00\x0c\x00\x00", b"\x03\x00\x0c\x00\x00")


def _ethernet_inside(each: Difference) -> bool:
    last = each.found.layers[-1:]
    return each.what == "stack" and bool(last) and getattr(last[0], "next_header", 0) == 143


def _lies_about_length(each: Difference) -> bool:
    whole = len(each.packet.data) == each.packet.original_length
    cut = isinstance(each.found.damage, TruncatedError)
    return each.what.endswith(".status") and each.ours == "not judged" and whole and cut


def _length_of_zero(each: Difference) -> bool:
    return (
        each.theirs is None
        and IPv6Header in each.found
        and each.found[IPv6Header].payload_length == 0
    )


def _atm_arp(each: Difference) -> bool:
    return each.what.startswith("arp.") and each.found[ARPMessage].hardware_type == 19


def _rarp(each: Difference) -> bool:
    found = each.found
    return EthernetHeader in found and found[EthernetHeader].ethertype == 0x8035


def _source_route(each: Difference) -> bool:
    options = each.found[IPv4Header].options if IPv4Header in each.found else ()
    routed = any(isinstance(each, SourceRoute) for each in options)
    return each.what == "ip.dst" and routed


def _atm(each: Difference) -> bool:
    return each.packet.link_type == 123 and each.what in ("frame.len", "frame.cap_len")


EXCUSES: dict[str, Callable[[Difference], bool]] = {
    "microseconds of more than a second: tshark keeps the fraction in 32 bits": _wraps,
    "we stop where a layer is cut short or contradicts itself, and say where": _stops_at_damage,
    "DNS over TCP, or where no port of DNS announces it: a guess of tshark's": _other_dns,
    "Cisco ISL in front of the Ethernet header, told by its address; we don't read it": _isl,
    "Ethernet inside IPv6 (next header 143, RFC 8986); we don't read it": _ethernet_inside,
    "IP says more bytes than the frame had: tshark sums those there are": _lies_about_length,
    "IPv6 payload length 0 without a jumbo option: tshark takes nothing inside": _length_of_zero,
    "ARP of ATM (RFC 2225) has another layout; we don't read it": _atm_arp,
    "RARP (RFC 903); we don't read it": _rarp,
    "a source route: tshark shows its last address for the header's destination": _source_route,
    "the pseudo-header of ATM: tshark takes it off the lengths": _atm,
}
"""Where both are right, or one knows what the other does not."""
