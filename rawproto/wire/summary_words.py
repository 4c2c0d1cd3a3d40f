"""What messages say of themselves on the one line of `summary`: ARP, ICMP, ICMPv6 and DNS.

The words are tcpdump's, as far as one message alone can give them. An ICMP error
names the packet that it quotes: where that was going, and to which port.
"""

from __future__ import annotations

from rawproto.wire.arp import REPLY, REQUEST, ARPMessage
from rawproto.wire.dissect import RAW, dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_rdata import UnknownData
from rawproto.wire.dns_record import TYPE_NAMES, DNSRecord, OPTRecord
from rawproto.wire.icmp import (
    ICMPDestinationUnreachable,
    ICMPEcho,
    ICMPMessage,
    ICMPParameterProblem,
    ICMPRedirect,
    ICMPTimeExceeded,
    ICMPTimestamp,
)
from rawproto.wire.icmpv6 import (
    ICMPv6DestinationUnreachable,
    ICMPv6Echo,
    ICMPv6Message,
    ICMPv6PacketTooBig,
    ICMPv6ParameterProblem,
    ICMPv6TimeExceeded,
)
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IP_PROTOCOLS, IPv6Header
from rawproto.wire.ndp import ICMPv6Redirect, NeighborAdvertisement, NeighborSolicitation
from rawproto.wire.udp import UDPHeader
from rawproto.wire.words import field_names

__all__ = ["arp_words", "dns_words", "icmp_words", "icmpv6_words", "protocol_words"]

_UNREACHABLE = {
    0: "net {} unreachable",
    1: "host {} unreachable",
    4: "{} unreachable - need to frag (mtu {})",
    5: "{} unreachable - source route failed",
    6: "net {} unreachable - unknown",
    7: "host {} unreachable - unknown",
    8: "{} unreachable - source host isolated",
    9: "net {} unreachable - admin prohibited",
    10: "host {} unreachable - admin prohibited",
    11: "net {} unreachable - tos prohibited",
    12: "host {} unreachable - tos prohibited",
    13: "host {} unreachable - admin prohibited filter",
    14: "host {} unreachable - host precedence violation",
    15: "host {} unreachable - precedence cutoff",
}
_UNREACHABLE_V6 = {
    0: "unreachable route {}",
    1: "unreachable prohibited {}",
    2: "beyond scope {}",
    3: "unreachable address {}",
    5: "source address failed policy {}",
    6: "reject route {}",
}
_PROBLEMS_V6 = {0: "erroneous", 1: "next header", 2: "option", 3: "incomplete header chain"}
_REDIRECTS = {0: "net", 1: "host", 2: "tos and net", 3: "tos and host"}
_RCODES = {1: "FormErr", 2: "ServFail", 3: "NXDomain", 4: "NotImp", 5: "Refused"}

_MOST_RECORDS = 8
"""Answers that a line lists; a message may hold thousands."""


def protocol_words(protocol: int | None) -> str:
    """An IP protocol by name, as far as it has one."""
    return IP_PROTOCOLS.get(protocol or 0) or f"ip-proto-{protocol}"


def arp_words(message: ARPMessage) -> str:
    """An ARP message without its length."""
    sender, target = message.sender_protocol_addr, message.target_protocol_addr
    if message.operation == REQUEST:
        return f"Request who-has {target} tell {sender}"
    if message.operation == REPLY:
        return f"Reply {sender} is-at {message.sender_hardware_addr}"
    name = message.value_names["operation"].get(message.operation)
    return f"{name or f'operation {message.operation}'} {sender} > {target}"


def icmp_words(message: ICMPMessage) -> str:
    """An ICMP message without its length."""
    if isinstance(message, ICMPEcho):
        which = "reply" if message.icmp_type == 0 else "request"
        return f"echo {which}, id {message.identifier}, seq {message.sequence_number}"
    if isinstance(message, ICMPDestinationUnreachable):
        return _unreachable(message)
    if isinstance(message, ICMPTimeExceeded):
        known = {0: "time exceeded in-transit", 1: "ip reassembly time exceeded"}
        return known.get(message.code, f"time exceeded, code {message.code}")
    if isinstance(message, ICMPRedirect):
        dst_addr, _, _ = _quoted(message.original_datagram)
        what = _REDIRECTS.get(message.code, f"code {message.code}")
        return f"redirect {dst_addr} to {what} {message.gateway_addr}"
    if isinstance(message, ICMPParameterProblem):
        if message.code:
            return f"parameter problem - code {message.code}"
        return f"parameter problem - octet {message.pointer}"
    if isinstance(message, ICMPTimestamp):
        which = "reply" if message.icmp_type == 14 else "query"
        return f"time stamp {which} id {message.identifier} seq {message.sequence_number}"
    return _type_words(message)


def icmpv6_words(message: ICMPv6Message) -> str:
    """An ICMPv6 message without its length."""
    if isinstance(message, ICMPv6Echo):
        which = "reply" if message.icmp_type == 129 else "request"
        return f"echo {which}, id {message.identifier}, seq {message.sequence_number}"
    if isinstance(message, NeighborSolicitation):
        return f"neighbor solicitation, who has {message.target_addr}"
    if isinstance(message, NeighborAdvertisement):
        return f"neighbor advertisement, tgt is {message.target_addr}"
    if isinstance(message, ICMPv6Redirect):
        return f"redirect, {message.destination_addr} to {message.target_addr}"
    if isinstance(message, ICMPv6PacketTooBig):
        return f"packet too big, mtu {message.mtu}"
    if isinstance(message, ICMPv6DestinationUnreachable):
        dst_addr, protocol, port = _quoted(message.original_datagram)
        if message.code == 4:
            reason = f"unreachable port, {dst_addr} {protocol} port {port}"
        else:
            words = _UNREACHABLE_V6.get(message.code, f"code {message.code} {{}}")
            reason = words.format(dst_addr)
        return f"destination unreachable, {reason}"
    if isinstance(message, ICMPv6TimeExceeded):
        dst_addr, _, _ = _quoted(message.original_datagram)
        known = {0: f"time exceeded in-transit for {dst_addr}", 1: "time exceeded (reassembly)"}
        return known.get(message.code, f"time exceeded, code {message.code}")
    if isinstance(message, ICMPv6ParameterProblem):
        what = _PROBLEMS_V6.get(message.code, f"code {message.code}")
        return f"parameter problem, {what} - octet {message.pointer}"
    return _type_words(message).replace("-", " ")


def _unreachable(message: ICMPDestinationUnreachable) -> str:
    dst_addr, protocol, port = _quoted(message.original_datagram)
    if message.code == 2:
        return f"{dst_addr} protocol {protocol} unreachable"
    if message.code == 3:
        return f"{dst_addr} {protocol} port {port} unreachable"
    words = _UNREACHABLE.get(message.code, f"{{}} unreachable - code {message.code}")
    return words.format(dst_addr, message.next_hop_mtu)


def _type_words(message: ICMPMessage | ICMPv6Message) -> str:
    name = message.value_names.get("icmp_type", {}).get(message.icmp_type)
    code = f", code {message.code}" if message.code else ""
    return (name or f"type-#{message.icmp_type}") + code


def _quoted(original: bytes) -> tuple[str, str, int | str]:
    """Where the packet that an error quotes was going: (address, protocol, port).

    The transport header is often only half there; its ports are the first four bytes.
    """
    found = dissect(original, RAW)
    dst_addr, protocol, header = "?", "?", found.payload
    for layer in found.layers:
        if isinstance(layer, IPv4Header):
            dst_addr, protocol = layer.dst_addr, protocol_words(layer.protocol)
        elif isinstance(layer, IPv6Header):
            dst_addr, protocol = layer.dst_addr, protocol_words(layer.next_header)
        elif (number := getattr(layer, "next_header", None)) is not None:
            protocol = protocol_words(number)
        elif isinstance(layer, UDPHeader):
            return dst_addr, protocol, layer.dst_port
    for layer, offset in zip(found.layers, found.offsets, strict=True):
        if layer.layer == "tcp":
            header = found.data[offset:]
    return dst_addr, protocol, int.from_bytes(header[2:4], "big") if len(header) >= 4 else "?"


def dns_words(message: DNSMessage, length: int) -> str:
    """A DNS message; `length` is its own, in bytes."""
    if not message.qr:
        flags = ("+" if message.rd else "") + ("%" if message.cd else "")
        extra = f" [{len(message.additionals)}au]" if message.additionals else ""
        asked = ", ".join(
            f"{TYPE_NAMES.get(each.qtype, f'Type{each.qtype}')}? {each.qname}"
            for each in message.questions[:_MOST_RECORDS]
        )
        return f"{message.identifier}{flags}{extra} {asked} ({length})"
    flags = "*" if message.aa else ""
    flags += "" if message.ra else "-"
    flags += ("|" if message.tc else "") + ("$" if message.ad else "")
    rcode = f" {_RCODES.get(message.rcode, f'rcode {message.rcode}')}" if message.rcode else ""
    counts = f"{len(message.answers)}/{len(message.authorities)}/{len(message.additionals)}"
    answers = ", ".join(_record_words(each) for each in message.answers[:_MOST_RECORDS])
    more = ", ..." if len(message.answers) > _MOST_RECORDS else ""
    words = [f"{message.identifier}{flags}{rcode} {counts}", answers + more, f"({length})"]
    return " ".join(filter(None, words))


def _record_words(record: DNSRecord | OPTRecord) -> str:
    name = TYPE_NAMES.get(record.rtype, f"Type{record.rtype}")
    if isinstance(record, OPTRecord):
        return name
    if isinstance(record.rdata, UnknownData):
        return f"{name} ({len(record.rdata.data)} bytes)"
    values = [getattr(record.rdata, field) for field in field_names(record.rdata)]
    return " ".join([name, *(_value_words(value) for value in values)])


def _value_words(value: object) -> str:
    if isinstance(value, bytes):
        return repr(value.decode("ascii", "backslashreplace"))
    if isinstance(value, tuple):
        return " ".join(map(_value_words, value))
    return str(value)
