"""scapy as the oracle of captures: for each layer of ours, scapy's and how its fields compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from scapy.layers import inet6 as six
from scapy.layers.dns import DNS, DNSRR, DNSRRMX, DNSRROPT, DNSRRSOA, DNSRRSRV
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import (
    ARP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
    Loopback,
    LoopbackOpenBSD,
)
from scapy.packet import NoPayload, Packet, Raw

from rawproto.wire import dns_rdata as rdata
from rawproto.wire.dns_record import OPTRecord
from rawproto.wire.layer import Layer

__all__ = ["match", "same_fields", "scapy_layers"]

# Of our field: the name of scapy's, or what to compute from scapy's layer.
Fields = Mapping[str, str | Callable[[Any], object]]


def _padded(data: bytes) -> bytes:
    """Options up to 32 bits: scapy takes the padding for options, we don't."""
    return data + bytes(-len(data) % 4)


def _bytes_of(name: str) -> Callable[[Any], object]:
    """A list of scapy's options as one string of bytes."""
    return lambda packet: _padded(b"".join(bytes(each) for each in getattr(packet, name)))


_IP: Fields = {
    "version": "version",
    "ihl": "ihl",
    "dscp": lambda ip: ip.tos >> 2,
    "ecn": lambda ip: ip.tos & 3,
    "total_length": "len",
    "identification": "id",
    "flags": lambda ip: int(ip.flags),
    "fragment_offset": "frag",
    "ttl": "ttl",
    "protocol": "proto",
    "checksum": "chksum",
    "src_addr": "src",
    "dst_addr": "dst",
    "options": _bytes_of("options"),
}
_EXTENSION: Fields = {"next_header": "nh", "hdr_ext_len": "len", "options": _bytes_of("options")}
_ICMP: Fields = {"icmp_type": "type", "code": "code", "checksum": "chksum"}
_ICMP_ERROR: Fields = _ICMP | {
    "length": "length",
    "extensions": lambda icmp: bytes(icmp.ext or b""),
}
_ICMPV6: Fields = {"icmp_type": "type", "code": "code", "checksum": "cksum"}
_ICMPV6_ERROR: Fields = _ICMPV6 | {
    "length": "length",
    "unused": "unused",
    "extensions": lambda icmp: bytes(icmp.ext or b""),
}
_ND: Fields = _ICMPV6 | {"options": lambda message: bytes(message.payload)}


def _tcp_option(name: str, value: Any) -> bytes:
    """scapy tells options by name and value; these are their bytes, for comparing."""
    kinds = {"MSS": (2, 2), "WScale": (3, 1), "Timestamp": (8, 4), "SAck": (5, 4), "TFO": (34, 4)}
    if name == "NOP":
        return b"\x01"
    if name == "EOL":
        return b""
    if name == "SAckOK":
        return b"\x04\x02"
    if name in kinds:
        kind, width = kinds[name]
        numbers = value if isinstance(value, tuple) else (value,)
        data = b"".join(int(each).to_bytes(width, "big") for each in numbers)
    else:
        kind, data = (19 if name == "MD5" else name), value
        data = data[0] if isinstance(data, tuple) else data
    return bytes((kind, 2 + len(data))) + data


FIELDS: dict[str, tuple[tuple[type[Packet], ...], Fields]] = {
    "EthernetHeader": (
        (Ether, Dot3),
        {
            "dst_addr": "dst",
            "src_addr": "src",
            "ethertype": lambda ether: ether.len if isinstance(ether, Dot3) else ether.type,
        },
    ),
    "VLANTag": (
        (Dot1Q, Dot1AD),
        {
            "pcp": "prio",
            "dei": "dei",
            "vid": "vlan",
            "ethertype": "type",
            "tpid": lambda tag: 0x88A8 if isinstance(tag, Dot1AD) else 0x8100,
        },
    ),
    "ARPMessage": (
        (ARP,),
        {
            "hardware_type": "hwtype",
            "protocol_type": "ptype",
            "hardware_length": "hwlen",
            "protocol_length": "plen",
            "operation": "op",
            "sender_hardware_addr": "hwsrc",
            "sender_protocol_addr": "psrc",
            "target_hardware_addr": "hwdst",
            "target_protocol_addr": "pdst",
        },
    ),
    "LinuxCooked": (
        (CookedLinux,),
        {
            "packet_type": "pkttype",
            "arphrd_type": "lladdrtype",
            "address_length": "lladdrlen",
            "address": "src",
            "protocol_type": "proto",
        },
    ),
    "LinuxCooked2": (
        (CookedLinuxV2,),
        {
            "protocol_type": "proto",
            "reserved": "reserved",
            "interface_index": "ifindex",
            "arphrd_type": "lladdrtype",
            "packet_type": "pkttype",
            "address_length": "lladdrlen",
            "address": "src",
        },
    ),
    "LoopbackHeader": ((Loopback, LoopbackOpenBSD), {"family": "type"}),
    "IPv4Header": ((IP,), _IP),
    "IPv6Header": (
        (six.IPv6,),
        {
            "version": "version",
            "traffic_class": "tc",
            "flow_label": "fl",
            "payload_length": "plen",
            "next_header": "nh",
            "hop_limit": "hlim",
            "src_addr": "src",
            "dst_addr": "dst",
        },
    ),
    "HopByHopOptions": ((six.IPv6ExtHdrHopByHop,), _EXTENSION),
    "DestinationOptions": ((six.IPv6ExtHdrDestOpt,), _EXTENSION),
    "RoutingHeader": (
        (six.IPv6ExtHdrRouting,),
        {
            "next_header": "nh",
            "hdr_ext_len": "len",
            "routing_type": "type",
            "segments_left": "segleft",
            "reserved": "reserved",
            "addresses": lambda header: tuple(header.addresses),
        },
    ),
    "SegmentRoutingHeader": (
        (six.IPv6ExtHdrSegmentRouting,),
        {
            "next_header": "nh",
            "hdr_ext_len": "len",
            "routing_type": "type",
            "segments_left": "segleft",
            "last_entry": "lastentry",
            "tag": "tag",
            "segment_list": lambda header: tuple(header.addresses),
        },
    ),
    # scapy takes what stands in one of any type for addresses.
    "UnknownRoutingHeader": (
        (six.IPv6ExtHdrRouting,),
        {
            "next_header": "nh",
            "hdr_ext_len": "len",
            "routing_type": "type",
            "segments_left": "segleft",
        },
    ),
    "FragmentHeader": (
        (six.IPv6ExtHdrFragment,),
        {
            "next_header": "nh",
            "reserved": "res1",
            "fragment_offset": "offset",
            "flags": lambda header: header.res2 << 1 | header.m,
            "identification": "id",
        },
    ),
    "UDPHeader": (
        (UDP,),
        {"src_port": "sport", "dst_port": "dport", "length": "len", "checksum": "chksum"},
    ),
    "TCPHeader": (
        (TCP,),
        {
            "src_port": "sport",
            "dst_port": "dport",
            "sequence_number": "seq",
            "acknowledgment_number": "ack",
            "data_offset": "dataofs",
            # scapy keeps AE, the lowest of RFC 9293's four reserved bits, with the flags.
            "reserved": "reserved",
            "flags": lambda tcp: int(tcp.flags),
            "window": "window",
            "checksum": "chksum",
            "urgent_pointer": "urgptr",
            "options": lambda tcp: _padded(b"".join(_tcp_option(*each) for each in tcp.options)),
        },
    ),
    "ICMPEcho": ((ICMP,), _ICMP | {"identifier": "id", "sequence_number": "seq"}),
    "ICMPTimestamp": (
        (ICMP,),
        _ICMP
        | {
            "identifier": "id",
            "sequence_number": "seq",
            "originate_timestamp": "ts_ori",
            "receive_timestamp": "ts_rx",
            "transmit_timestamp": "ts_tx",
        },
    ),
    "ICMPDestinationUnreachable": (
        (ICMP,),
        _ICMP_ERROR | {"next_hop_mtu": "nexthopmtu", "unused": "reserved"},
    ),
    "ICMPTimeExceeded": (
        (ICMP,),
        _ICMP_ERROR | {"unused": "reserved", "unused_low": "unused"},
    ),
    "ICMPParameterProblem": ((ICMP,), _ICMP_ERROR | {"pointer": "ptr", "unused": "unused"}),
    "ICMPRedirect": ((ICMP,), _ICMP | {"gateway_addr": "gw"}),
    # scapy has no fields for these two beyond the first.
    "ICMPExtendedEcho": ((ICMP,), _ICMP),
    "ICMPExtendedEchoReply": ((ICMP,), _ICMP),
    "ICMPUnknown": ((ICMP,), _ICMP),
    "ICMPv6Echo": (
        (six.ICMPv6EchoRequest, six.ICMPv6EchoReply),
        _ICMPV6 | {"identifier": "id", "sequence_number": "seq"},
    ),
    "ICMPv6DestinationUnreachable": ((six.ICMPv6DestUnreach,), _ICMPV6_ERROR),
    "ICMPv6TimeExceeded": ((six.ICMPv6TimeExceeded,), _ICMPV6_ERROR),
    "ICMPv6PacketTooBig": ((six.ICMPv6PacketTooBig,), _ICMPV6 | {"mtu": "mtu"}),
    "ICMPv6ParameterProblem": ((six.ICMPv6ParamProblem,), _ICMPV6 | {"pointer": "ptr"}),
    "ICMPv6ExtendedEcho": ((six.ICMPv6Unknown, Raw), {}),
    "ICMPv6ExtendedEchoReply": ((six.ICMPv6Unknown, Raw), {}),
    "ICMPv6Unknown": (
        (six.ICMPv6MLQuery, six.ICMPv6MLQuery2, six.ICMPv6MLReport2, six.ICMPv6Unknown),
        {"icmp_type": "type", "checksum": "cksum"},
    ),
    "RouterSolicitation": ((six.ICMPv6ND_RS,), _ND | {"reserved": "res"}),
    "RouterAdvertisement": (
        (six.ICMPv6ND_RA,),
        _ND
        | {
            "cur_hop_limit": "chlim",
            "flags": lambda ra: (
                ra.M << 7 | ra.O << 6 | ra.H << 5 | ra.prf << 3 | ra.P << 2 | ra.res
            ),
            "router_lifetime_s": "routerlifetime",
            "reachable_time_ms": "reachabletime",
            "retrans_timer_ms": "retranstimer",
        },
    ),
    "NeighborSolicitation": ((six.ICMPv6ND_NS,), _ND | {"reserved": "res", "target_addr": "tgt"}),
    "NeighborAdvertisement": (
        (six.ICMPv6ND_NA,),
        _ND
        | {
            "flags": lambda na: na.R << 2 | na.S << 1 | na.O,
            "reserved": "res",
            "target_addr": "tgt",
        },
    ),
    "ICMPv6Redirect": (
        (six.ICMPv6ND_Redirect,),
        _ND | {"reserved": "res", "target_addr": "tgt", "destination_addr": "dst"},
    ),
    "DNSMessage": (
        (DNS,),
        {
            "identifier": "id",
            **{name: name for name in ("opcode", "rcode", "qdcount", "ancount", "nscount")},
            **{name: name for name in ("qr", "aa", "tc", "rd", "ra", "z", "ad", "cd", "arcount")},
            "questions": lambda dns: [(each.qname, each.qtype, each.qclass) for each in dns.qd],
            "answers": lambda dns: [_record(each) for each in dns.an],
            "authorities": lambda dns: [_record(each) for each in dns.ns],
            "additionals": lambda dns: [_record(each) for each in dns.ar],
        },
    ),
}


def _record(each: Packet) -> tuple[object, ...]:
    """scapy's record as a tuple to compare."""
    if isinstance(each, DNSRROPT):
        options = tuple((option.optcode, option.optdata) for option in each.rdata)
        return each.type, each.rclass, each.extrcode, each.version, each.z, options
    head = (each.rrname, each.type, each.rclass, each.ttl)
    if isinstance(each, DNSRRMX):
        return *head, each.preference, each.exchange
    if isinstance(each, DNSRRSRV):
        return *head, each.priority, each.weight, each.port, each.target
    if isinstance(each, DNSRRSOA):
        numbers = (each.serial, each.refresh, each.retry, each.expire, each.minimum)
        return *head, each.mname, each.rname, *numbers
    assert isinstance(each, DNSRR)
    return *head, tuple(each.rdata) if isinstance(each.rdata, list) else each.rdata


def _our_record(each: Any) -> tuple[object, ...]:
    """Our record in the form of `_record`."""
    if isinstance(each, OPTRecord):
        options = tuple((option.code, option.data) for option in each.options)
        size, rcode = each.udp_payload_size, each.extended_rcode
        return each.rtype, size, rcode, each.version, each.flags, options
    head = (each.name.encode(), each.rtype, each.rclass, each.ttl)
    data = each.rdata
    if isinstance(data, rdata.A | rdata.AAAA):
        return *head, data.address
    if isinstance(data, rdata.TXT):
        return *head, data.strings
    if isinstance(data, rdata.UnknownData):
        return *head, data.data
    if isinstance(data, rdata.CAA):
        tag = data.tag.encode()
        return *head, bytes((data.flags, len(tag))) + tag + data.value
    values = (getattr(data, name) for name in type(data).__slots__)
    return *head, *(each.encode() if isinstance(each, str) else each for each in values)


def _in_scapys_form(name: str, value: Any) -> object:
    """What we hold in a field, in the form in which scapy's is compared."""
    if name == "options":
        return _padded(b"".join(each.emit() for each in value))
    if name == "extensions":
        return value.emit() if value else b""
    if name == "questions":
        return [(each.qname.encode(), each.qtype, each.qclass) for each in value]
    if name in {"answers", "authorities", "additionals"}:
        return [_our_record(each) for each in value]
    return value


def scapy_layers(packet: Packet) -> list[Packet]:
    """scapy's layers, outermost first."""
    layers = []
    while not isinstance(packet, NoPayload):
        layers.append(packet)
        packet = packet.payload
    return layers


def match(layer: Layer, theirs: list[Packet]) -> Packet:
    """The next of scapy's layers that is ours; it and those before it are taken off the list."""
    kinds, _ = FIELDS[type(layer).__name__]
    while theirs:
        packet = theirs.pop(0)
        if type(packet) in kinds:
            return packet
    raise AssertionError(f"scapy has no layer for {layer!r}")


def same_fields(layer: Layer, theirs: Packet, leave_out: frozenset[str]) -> None:
    """Asserts that each field that both know, and that is not left out, holds the same."""
    _, fields = FIELDS[type(layer).__name__]
    for name, theirs_name in fields.items():
        if name in leave_out:
            continue
        wanted = (
            getattr(theirs, theirs_name) if isinstance(theirs_name, str) else theirs_name(theirs)
        )
        assert _in_scapys_form(name, getattr(layer, name)) == wanted, f"{layer.layer}.{name}"
