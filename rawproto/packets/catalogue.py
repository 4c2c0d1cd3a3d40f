"""Every layer, option and record by name, with its fields: what the notation and `layers` read.

A layer goes by the name of its module in `wire/`; where a module holds several, each has
a name of its own (`vlan`, `ipv6_fragment`). A layer whose class depends on one number (the
messages of `icmp`, the routing headers) is one entry with a form for each class, picked
by that field, the selector.

What a field takes is read off its class: annotation, `layout`, `value_names`,
`flag_names`. Only what annotations cannot tell is written down here: the names of
options, and which texts are addresses or domain names.

It knows no notation: how values are written is in `values` and `notation`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from inspect import cleandoc
from typing import Any

from rawproto.packets.shapes import Field, Form, Items, Kind, Row, Scalar, Shape, Struct
from rawproto.packets.synonyms import EXTRA_NAMES, TCP_LETTERS
from rawproto.wire import (
    dns_rdata,
    icmp,
    icmp_objects,
    icmpv6,
    ipv4_options,
    ipv6_ext,
    ipv6_options,
    ndp,
    ndp_options,
    rpt,
    tcp_options,
)
from rawproto.wire.arp import ARPMessage
from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_record import DNSQuestion, DNSRecord, EDNSOption, OPTRecord
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Layer
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader

__all__ = ["LAYERS", "LayerEntry", "layer_entry"]


@dataclass(slots=True, eq=False, kw_only=True)
class LayerEntry:
    """A layer by name.

    Attributes:
        name: as it is written.
        title: what it is, in a line.
        selector: the field whose number picks the form, "" where there is one form only.
        forms: the first is taken where the selector isn't given.
    """

    name: str
    title: str
    selector: str
    forms: tuple[Form, ...]

    def form_for(self, number: int) -> Form:
        """The form that a number of the selector picks."""
        for form in self.forms:
            if number in form.numbers:
                return form
        return next(form for form in self.forms if not form.numbers)

    @property
    def selector_names(self) -> dict[int, str]:
        """The names of the selector's numbers, of all forms."""
        names: dict[int, str] = {}
        for form in self.forms:
            shape = form.fields[self.selector].shape
            assert isinstance(shape, Scalar)
            names |= {
                number: name
                for number, name in shape.names.items()
                if not form.numbers or number in form.numbers
            }
        return dict(sorted(names.items()))


_ROUTING = "routing_type"
_ICMP = "icmp_type"

# name: (what it is, the selector, its classes with the numbers that pick each)
_LAYERS: dict[str, tuple[str, str, tuple[tuple[type[Layer], Iterable[int]], ...]]] = {
    "ethernet": ("an Ethernet header", "", ((EthernetHeader, ()),)),
    "vlan": ("a VLAN tag, 802.1Q or 802.1ad", "", ((VLANTag, ()),)),
    "arp": ("an ARP message", "", ((ARPMessage, ()),)),
    "cooked": ("a Linux cooked header, version 1", "", ((LinuxCooked, ()),)),
    "cooked2": ("a Linux cooked header, version 2", "", ((LinuxCooked2, ()),)),
    "loopback": ("a BSD loopback header", "", ((LoopbackHeader, ()),)),
    "ipv4": ("an IPv4 header and its options", "", ((IPv4Header, ()),)),
    "ipv6": ("an IPv6 header", "", ((IPv6Header, ()),)),
    "ipv6_hop_by_hop": ("IPv6 hop-by-hop options", "", ((ipv6_ext.HopByHopOptions, ()),)),
    "ipv6_destination": ("IPv6 destination options", "", ((ipv6_ext.DestinationOptions, ()),)),
    "ipv6_routing": (
        "an IPv6 routing header, its form by routing_type",
        _ROUTING,
        (
            (ipv6_ext.RoutingHeader, (0, 2)),
            (ipv6_ext.SegmentRoutingHeader, (4,)),
            (ipv6_ext.UnknownRoutingHeader, ()),
        ),
    ),
    "ipv6_unknown_routing": (
        "an IPv6 routing header of any type, its data as bytes",
        "",
        ((ipv6_ext.UnknownRoutingHeader, ()),),
    ),
    "ipv6_fragment": ("an IPv6 fragment header", "", ((ipv6_ext.FragmentHeader, ()),)),
    "icmp": (
        "an ICMP message, its form by icmp_type",
        _ICMP,
        tuple(
            (kind, kind.icmp_types)
            for kind in (
                icmp.ICMPEcho,
                icmp.ICMPTimestamp,
                icmp.ICMPDestinationUnreachable,
                icmp.ICMPTimeExceeded,
                icmp.ICMPParameterProblem,
                icmp.ICMPRedirect,
                icmp.ICMPExtendedEcho,
                icmp.ICMPExtendedEchoReply,
                icmp.ICMPUnknown,
            )
        ),
    ),
    "icmp_unknown": (
        "an ICMP message of any type, all behind its checksum payload",
        "",
        ((icmp.ICMPUnknown, ()),),
    ),
    "icmpv6": (
        "an ICMPv6 message, neighbour discovery too, its form by icmp_type",
        _ICMP,
        tuple(
            (kind, kind.icmp_types)
            for kind in (
                icmpv6.ICMPv6Echo,
                icmpv6.ICMPv6DestinationUnreachable,
                icmpv6.ICMPv6PacketTooBig,
                icmpv6.ICMPv6TimeExceeded,
                icmpv6.ICMPv6ParameterProblem,
                ndp.RouterSolicitation,
                ndp.RouterAdvertisement,
                ndp.NeighborSolicitation,
                ndp.NeighborAdvertisement,
                ndp.ICMPv6Redirect,
                icmpv6.ICMPv6ExtendedEcho,
                icmpv6.ICMPv6ExtendedEchoReply,
                icmpv6.ICMPv6Unknown,
            )
        ),
    ),
    "icmpv6_unknown": (
        "an ICMPv6 message of any type, all behind its checksum payload",
        "",
        ((icmpv6.ICMPv6Unknown, ()),),
    ),
    "udp": ("a UDP header", "", ((UDPHeader, ()),)),
    "tcp": ("a TCP header and its options", "", ((TCPHeader, ()),)),
    "dns": ("a DNS message", "", ((DNSMessage, ()),)),
    "rpt_data": ("an RPT data packet, its sealed frames as payload", "", ((rpt.RPTShort, ()),)),
    "rpt_init": ("a client's first RPT packet", "", ((rpt.RPTInit, ()),)),
    "rpt_retry": ("an RPT listener's demand to prove an address", "", ((rpt.RPTRetry, ()),)),
    "rpt_handshake": ("an RPT packet with Noise message 2 or 3", "", ((rpt.RPTHandshake, ()),)),
    "rpt_reset": ("an RPT refusal or end of a connection", "", ((rpt.RPTReset, ()),)),
    "rpt_version": ("the versions that an RPT listener speaks", "", ((rpt.RPTVersion, ()),)),
}

LAYERS: dict[str, str] = {name: title for name, (title, _, _) in _LAYERS.items()}
"""Every layer by name, with what it is."""

# Options and objects by the annotation of the field that holds them.
_OPTIONS: dict[str, dict[str, type]] = {
    "IPv4Option": {
        "nop": ipv4_options.NoOperation,
        "eol": ipv4_options.EndOfOptions,
        "record_route": ipv4_options.RecordRoute,
        "source_route": ipv4_options.SourceRoute,
        "timestamp": ipv4_options.Timestamp,
        "router_alert": ipv4_options.RouterAlert,
        "unknown": ipv4_options.UnknownOption,
        "raw": ipv4_options.RawOptions,
    },
    "IPv6Option": {
        "pad1": ipv6_options.Pad1,
        "padn": ipv6_options.PadN,
        "router_alert": ipv6_options.RouterAlert,
        "jumbo_payload": ipv6_options.JumboPayload,
        "unknown": ipv6_options.UnknownOption,
        "raw": ipv6_options.RawOptions,
    },
    "TCPOption": {
        "nop": tcp_options.NoOperation,
        "eol": tcp_options.EndOfOptions,
        "mss": tcp_options.MSS,
        "window_scale": tcp_options.WindowScale,
        "sack_permitted": tcp_options.SACKPermitted,
        "sack": tcp_options.SACK,
        "timestamps": tcp_options.Timestamps,
        "md5_signature": tcp_options.MD5Signature,
        "fast_open": tcp_options.FastOpen,
        "unknown": tcp_options.UnknownOption,
        "raw": tcp_options.RawOptions,
    },
    "NDPOption": {
        "source_link_layer_address": ndp_options.SourceLinkLayerAddress,
        "target_link_layer_address": ndp_options.TargetLinkLayerAddress,
        "prefix_information": ndp_options.PrefixInformation,
        "redirected_header": ndp_options.RedirectedHeader,
        "mtu": ndp_options.MTUOption,
        "recursive_dns_server": ndp_options.RecursiveDNSServer,
        "unknown": ndp_options.UnknownNDPOption,
        "raw": ndp_options.RawOptions,
    },
    "ICMPObject": {
        "mpls": icmp_objects.MPLSLabelStack,
        "interface_information": icmp_objects.InterfaceInformation,
        "interface_identification": icmp_objects.InterfaceIdentification,
        "unknown": icmp_objects.UnknownObject,
        "raw": icmp_objects.RawObjects,
    },
    "MPLSLabel": {"label": icmp_objects.MPLSLabel},
    "ICMPExtensions": {"extensions": ICMPExtensions},
    "DNSQuestion": {"question": DNSQuestion},
    "EDNSOption": {"option": EDNSOption},
}

_RECORD_DATA: dict[str, type[dns_rdata.RecordData]] = {
    **{
        kind.__name__: kind
        for kind in (
            dns_rdata.A,
            dns_rdata.AAAA,
            dns_rdata.NS,
            dns_rdata.CNAME,
            dns_rdata.PTR,
            dns_rdata.SOA,
            dns_rdata.MX,
            dns_rdata.TXT,
            dns_rdata.SRV,
            dns_rdata.CAA,
        )
    },
    "unknown": dns_rdata.UnknownData,
}

_ADDRESS_BITS: dict[int, Kind] = {32: "ipv4", 48: "mac", 128: "ipv6"}

# Texts outside layouts, by field, or by class and field where a name means two things.
_TEXTS: dict[str, Kind] = {
    "mac_addr": "mac",
    "prefix": "ipv6",
    "if_addr": "address",
    "if_name": "text",
    "tag": "text",
    "segment_list": "ipv6",
    "RecordRoute.addresses": "ipv4",
    "SourceRoute.addresses": "ipv4",
    "RoutingHeader.addresses": "ipv6",
    "RecursiveDNSServer.addresses": "ipv6",
    "A.address": "ipv4",
    "AAAA.address": "ipv6",
    **dict.fromkeys(
        (
            "qname",
            "name",
            "nsdname",
            "cname",
            "ptrdname",
            "mname",
            "rname",
            "exchange",
            "target",
        ),
        "domain",
    ),
}


@cache
def layer_entry(name: str) -> LayerEntry:
    """The layer of that name. Raises KeyError."""
    title, selector, classes = _LAYERS[name]
    return LayerEntry(
        name=name,
        title=title,
        selector=selector,
        forms=tuple(_form(name, kind, numbers) for kind, numbers in classes),
    )


@cache
def _forms(annotation: str) -> Struct:
    if annotation == "DNSRecord | OPTRecord":
        records = {name: _record_form(name, kind) for name, kind in _RECORD_DATA.items()}
        return Struct({**records, "OPT": _form("OPT", OPTRecord)})
    return Struct({name: _form(name, kind) for name, kind in _OPTIONS[annotation].items()})


def _form(name: str, kind: type, numbers: Iterable[int] = ()) -> Form:
    return Form(
        name=name,
        title=_title(kind),
        make=kind,
        fields=_fields(kind),
        numbers=frozenset(numbers),
    )


def _record_form(name: str, kind: type[dns_rdata.RecordData]) -> Form:
    """A record's own fields and those of its data side by side, as zone files have them."""
    own = {each: field for each, field in _fields(DNSRecord).items() if each != "rdata"}

    def make(**given: Any) -> DNSRecord:
        outer = {each: given.pop(each) for each in own if each in given}
        return DNSRecord(**outer, rdata=kind(**given))

    return Form(name=name, title=_title(kind), make=make, fields={**own, **_fields(kind)})


def _fields(kind: Any) -> dict[str, Field]:
    meanings = _meanings(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if kind is DNSRecord and field.name == "rdata":
            continue
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found[field.name] = Field(
            name=field.name,
            shape=_shape(kind, field.name, str(field.type)),
            default=default,
            computed=default is None and field.name in getattr(kind, "computed", ()),
            meaning=meanings.get(field.name, ""),
        )
    return found


def _shape(kind: Any, name: str, annotation: str) -> Shape:
    annotation = annotation.removesuffix(" | None")
    inner = re.fullmatch(r"tuple\[(.*), \.\.\.\]", annotation)
    if inner:
        return Items(_shape(kind, name, inner[1]))
    row = re.fullmatch(r"tuple\[(.*), int\]", annotation)
    if row:  # (left edge, right edge) or (address or None, time)
        first = Scalar(kind="number", bits=32)
        if row[1] == "str | None":
            first = Scalar(kind="ipv4", optional=True)
        return Row((first, Scalar(kind="number", bits=32)))
    if annotation in _OPTIONS or annotation.startswith("DNSRecord"):
        return _forms(annotation)
    return _scalar(kind, name, annotation)


def _scalar(kind: Any, name: str, annotation: str) -> Scalar:
    bits = dict(getattr(kind, "layout", ())).get(name)
    declared = next(str(f.type) for f in dataclasses.fields(kind) if f.name == name)
    optional = declared.endswith("| None")
    if annotation == "int":
        names = getattr(kind, "value_names", {}).get(name) or EXTRA_NAMES.get((kind, name), {})
        if name == "role":
            names = icmp_objects.InterfaceInformation.roles
        flags = getattr(kind, "flag_names", {}).get(name)
        return Scalar(
            kind="number",
            bits=bits,
            optional=optional,
            names=names,
            flags=flags,
            letters=TCP_LETTERS if flags is TCPHeader.flag_names["flags"] else {},
        )
    if annotation == "bool":
        return Scalar(kind="boolean", bits=bits)
    if annotation == "bytes":
        return Scalar(kind="bytes", bits=bits)
    if annotation.startswith("Literal["):
        return Scalar(kind="text", words=tuple(re.findall(r"'(\w+)'", annotation)))
    assert annotation == "str", f"{kind.__name__}.{name}: {annotation}"
    if kind is ARPMessage:
        return Scalar(kind="arp", bits=bits)
    if bits is not None:
        return Scalar(kind=_ADDRESS_BITS[bits], bits=bits)
    text = _TEXTS.get(f"{kind.__name__}.{name}") or _TEXTS[name]
    return Scalar(kind=text, optional=optional)


def _title(kind: type) -> str:
    """The first sentence of a class's docstring."""
    return _plain(" ".join((kind.__doc__ or "").split("\n\n")[0].split()))


def _plain(text: str) -> str:
    return text.strip().rstrip(".").replace("`", "")


_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")


def _meanings(kind: type) -> dict[str, str]:
    """What the docstrings of a class and of its bases say of their fields."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        # From Python 3.13 on the compiler itself takes the indentation away.
        _, _, section = cleandoc(base.__doc__ or "").partition("Attributes:\n")
        name = ""
        for line in section.split("\n\n")[0].splitlines():
            indent = len(line) - len(line.lstrip())
            entry = _ATTRIBUTE.match(line.strip())
            if entry and indent == 4:
                name = entry[1]
                found[name] = entry[2]
            elif name:
                found[name] += f" {line.strip()}"
    return {name: _plain(text) for name, text in found.items()}
