"""rawproto: packets built by hand, paths measured exactly, for Linux.

    from rawproto import IPv4Header, UDPHeader, dissect, ping

    packet = IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2", ttl=3) / UDPHeader(dst_port=53)
    (result,) = ping("10.0.0.2", count=3)

This is the shop window: each public name lives in a room of its own and is loaded
when first used, so that importing the package costs nothing (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawproto.capture import CapturedPacket, open_writer, read, write
    from rawproto.drivers.ask import ask, ask_async
    from rawproto.drivers.ping import PingResult, ping, ping_async
    from rawproto.drivers.ping_session import PingOptions
    from rawproto.drivers.rpt.connection import RPTConnection
    from rawproto.drivers.rpt.coroutines import Server, connect, serve
    from rawproto.drivers.rpt.create import create_connection, create_server
    from rawproto.drivers.rpt.options import (
        RPT_CONGESTION,
        RPT_IDENTITY,
        RPT_MAXSEG,
        RPT_NODELAY,
        RPT_PEER_KEY,
        RPT_PSK,
        SOL_RPT,
    )
    from rawproto.drivers.rpt.servers import ForkingRPTServer, RPTServer, ThreadingRPTServer
    from rawproto.drivers.rpt.socket import RPTSocket, socket
    from rawproto.drivers.rpt.stream import RPTStream
    from rawproto.drivers.rpt.transport import RPTTransport
    from rawproto.drivers.rpt.transport_api import (
        TransportServer,
        create_rpt_connection,
        create_rpt_server,
        create_stream_transport,
        open_rpt_connection,
        start_rpt_server,
    )
    from rawproto.drivers.rpt.workers import WorkerServer
    from rawproto.drivers.send import SendResult, send, send_async
    from rawproto.drivers.sniff import AsyncSniffer, Sniffer, sniff, sniff_async
    from rawproto.drivers.trace_session import TraceOptions
    from rawproto.drivers.traceroute import TraceResult, traceroute, traceroute_async
    from rawproto.errors import (
        ConnectionLostError,
        EmitError,
        HandshakeError,
        LinkError,
        LocalProtocolError,
        MalformedError,
        NotAuthorizedError,
        PeerMismatchError,
        PrivilegeError,
        ProtocolError,
        RawprotoError,
        RefusedError,
        RemoteProtocolError,
        TruncatedError,
        UnknownPeerError,
        UsageError,
        WireError,
    )
    from rawproto.filter.compiler import FilterError, compile_filter
    from rawproto.machine import Datagram, ICMPError, Transmit
    from rawproto.packets.answers import Answer
    from rawproto.packets.notation import craft
    from rawproto.probe.ping_events import PingError, PingLost, PingReply
    from rawproto.probe.trace_events import TraceAnswer, TraceHop
    from rawproto.wire.arp import ARPMessage
    from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
    from rawproto.wire.dissect import Dissection, checksums, dissect
    from rawproto.wire.dns import DNSMessage
    from rawproto.wire.dns_record import DNSQuestion, DNSRecord
    from rawproto.wire.ethernet import EthernetHeader, VLANTag
    from rawproto.wire.fragment import fragment_ipv4, fragment_ipv6
    from rawproto.wire.icmp import (
        ICMPDestinationUnreachable,
        ICMPEcho,
        ICMPExtendedEcho,
        ICMPExtendedEchoReply,
        ICMPParameterProblem,
        ICMPRedirect,
        ICMPTimeExceeded,
        ICMPTimestamp,
        ICMPUnknown,
        parse_icmp,
    )
    from rawproto.wire.icmp_ext import ICMPExtensions
    from rawproto.wire.icmpv6 import (
        ICMPv6DestinationUnreachable,
        ICMPv6Echo,
        ICMPv6ExtendedEcho,
        ICMPv6ExtendedEchoReply,
        ICMPv6PacketTooBig,
        ICMPv6ParameterProblem,
        ICMPv6TimeExceeded,
        ICMPv6Unknown,
        parse_icmpv6,
    )
    from rawproto.wire.ipv4 import IPv4Header
    from rawproto.wire.ipv6 import IPv6Header
    from rawproto.wire.ipv6_ext import (
        DestinationOptions,
        FragmentHeader,
        HopByHopOptions,
        RoutingHeader,
        SegmentRoutingHeader,
        UnknownRoutingHeader,
    )
    from rawproto.wire.layer import Layer, Packet
    from rawproto.wire.ndp import (
        ICMPv6Redirect,
        NeighborAdvertisement,
        NeighborSolicitation,
        RouterAdvertisement,
        RouterSolicitation,
    )
    from rawproto.wire.rpt import (
        RPTHandshake,
        RPTInit,
        RPTReset,
        RPTRetry,
        RPTShort,
        RPTVersion,
    )
    from rawproto.wire.show import diagram, fields, hexdump, summary
    from rawproto.wire.tcp import TCPHeader
    from rawproto.wire.udp import UDPHeader

__version__ = "0.1.0"

_HOMES = {
    "capture": (
        "CapturedPacket",
        "open_writer",
        "read",
        "write",
    ),
    "drivers.ask": (
        "ask",
        "ask_async",
    ),
    "drivers.ping": (
        "PingResult",
        "ping",
        "ping_async",
    ),
    "drivers.ping_session": ("PingOptions",),
    "drivers.rpt.coroutines": (
        "Server",
        "connect",
        "serve",
    ),
    "drivers.rpt.connection": ("RPTConnection",),
    "drivers.rpt.workers": ("WorkerServer",),
    "drivers.rpt.create": (
        "create_connection",
        "create_server",
    ),
    "drivers.rpt.options": (
        "RPT_CONGESTION",
        "RPT_IDENTITY",
        "RPT_MAXSEG",
        "RPT_NODELAY",
        "RPT_PEER_KEY",
        "RPT_PSK",
        "SOL_RPT",
    ),
    "drivers.rpt.servers": (
        "ForkingRPTServer",
        "RPTServer",
        "ThreadingRPTServer",
    ),
    "drivers.rpt.socket": (
        "RPTSocket",
        "socket",
    ),
    "drivers.rpt.stream": ("RPTStream",),
    "drivers.rpt.transport": ("RPTTransport",),
    "drivers.rpt.transport_api": (
        "TransportServer",
        "create_rpt_connection",
        "create_rpt_server",
        "create_stream_transport",
        "open_rpt_connection",
        "start_rpt_server",
    ),
    "drivers.send": (
        "SendResult",
        "send",
        "send_async",
    ),
    "drivers.sniff": (
        "AsyncSniffer",
        "Sniffer",
        "sniff",
        "sniff_async",
    ),
    "drivers.trace_session": ("TraceOptions",),
    "drivers.traceroute": (
        "TraceResult",
        "traceroute",
        "traceroute_async",
    ),
    "errors": (
        "ConnectionLostError",
        "EmitError",
        "HandshakeError",
        "LinkError",
        "LocalProtocolError",
        "MalformedError",
        "NotAuthorizedError",
        "PeerMismatchError",
        "PrivilegeError",
        "ProtocolError",
        "RawprotoError",
        "RefusedError",
        "RemoteProtocolError",
        "TruncatedError",
        "UnknownPeerError",
        "UsageError",
        "WireError",
    ),
    "filter.compiler": (
        "FilterError",
        "compile_filter",
    ),
    "machine": (
        "Datagram",
        "ICMPError",
        "Transmit",
    ),
    "packets.notation": ("craft",),
    "packets.answers": ("Answer",),
    "probe.ping_events": (
        "PingError",
        "PingLost",
        "PingReply",
    ),
    "probe.trace_events": (
        "TraceAnswer",
        "TraceHop",
    ),
    "wire.arp": ("ARPMessage",),
    "wire.cooked": (
        "LinuxCooked",
        "LinuxCooked2",
        "LoopbackHeader",
    ),
    "wire.dissect": (
        "Dissection",
        "checksums",
        "dissect",
    ),
    "wire.dns": ("DNSMessage",),
    "wire.dns_record": (
        "DNSQuestion",
        "DNSRecord",
    ),
    "wire.ethernet": (
        "EthernetHeader",
        "VLANTag",
    ),
    "wire.fragment": (
        "fragment_ipv4",
        "fragment_ipv6",
    ),
    "wire.icmp": (
        "ICMPDestinationUnreachable",
        "ICMPEcho",
        "ICMPExtendedEcho",
        "ICMPExtendedEchoReply",
        "ICMPParameterProblem",
        "ICMPRedirect",
        "ICMPTimeExceeded",
        "ICMPTimestamp",
        "ICMPUnknown",
        "parse_icmp",
    ),
    "wire.icmp_ext": ("ICMPExtensions",),
    "wire.icmpv6": (
        "ICMPv6DestinationUnreachable",
        "ICMPv6Echo",
        "ICMPv6ExtendedEcho",
        "ICMPv6ExtendedEchoReply",
        "ICMPv6PacketTooBig",
        "ICMPv6ParameterProblem",
        "ICMPv6TimeExceeded",
        "ICMPv6Unknown",
        "parse_icmpv6",
    ),
    "wire.ipv4": ("IPv4Header",),
    "wire.ipv6": ("IPv6Header",),
    "wire.ipv6_ext": (
        "DestinationOptions",
        "FragmentHeader",
        "HopByHopOptions",
        "RoutingHeader",
        "SegmentRoutingHeader",
        "UnknownRoutingHeader",
    ),
    "wire.layer": (
        "Layer",
        "Packet",
    ),
    "wire.ndp": (
        "ICMPv6Redirect",
        "NeighborAdvertisement",
        "NeighborSolicitation",
        "RouterAdvertisement",
        "RouterSolicitation",
    ),
    "wire.show": (
        "diagram",
        "fields",
        "hexdump",
        "summary",
    ),
    "wire.rpt": (
        "RPTHandshake",
        "RPTInit",
        "RPTReset",
        "RPTRetry",
        "RPTShort",
        "RPTVersion",
    ),
    "wire.tcp": ("TCPHeader",),
    "wire.udp": ("UDPHeader",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "RPT_CONGESTION",
    "RPT_IDENTITY",
    "RPT_MAXSEG",
    "RPT_NODELAY",
    "RPT_PEER_KEY",
    "RPT_PSK",
    "SOL_RPT",
    "ARPMessage",
    "Answer",
    "AsyncSniffer",
    "CapturedPacket",
    "ConnectionLostError",
    "DNSMessage",
    "DNSQuestion",
    "DNSRecord",
    "Datagram",
    "DestinationOptions",
    "Dissection",
    "EmitError",
    "EthernetHeader",
    "FilterError",
    "ForkingRPTServer",
    "FragmentHeader",
    "HandshakeError",
    "HopByHopOptions",
    "ICMPDestinationUnreachable",
    "ICMPEcho",
    "ICMPError",
    "ICMPExtendedEcho",
    "ICMPExtendedEchoReply",
    "ICMPExtensions",
    "ICMPParameterProblem",
    "ICMPRedirect",
    "ICMPTimeExceeded",
    "ICMPTimestamp",
    "ICMPUnknown",
    "ICMPv6DestinationUnreachable",
    "ICMPv6Echo",
    "ICMPv6ExtendedEcho",
    "ICMPv6ExtendedEchoReply",
    "ICMPv6PacketTooBig",
    "ICMPv6ParameterProblem",
    "ICMPv6Redirect",
    "ICMPv6TimeExceeded",
    "ICMPv6Unknown",
    "IPv4Header",
    "IPv6Header",
    "Layer",
    "LinkError",
    "LinuxCooked",
    "LinuxCooked2",
    "LocalProtocolError",
    "LoopbackHeader",
    "MalformedError",
    "NeighborAdvertisement",
    "NeighborSolicitation",
    "NotAuthorizedError",
    "Packet",
    "PeerMismatchError",
    "PingError",
    "PingLost",
    "PingOptions",
    "PingReply",
    "PingResult",
    "PrivilegeError",
    "ProtocolError",
    "RPTConnection",
    "RPTHandshake",
    "RPTInit",
    "RPTReset",
    "RPTRetry",
    "RPTServer",
    "RPTShort",
    "RPTSocket",
    "RPTStream",
    "RPTTransport",
    "RPTVersion",
    "RawprotoError",
    "RefusedError",
    "RemoteProtocolError",
    "RouterAdvertisement",
    "RouterSolicitation",
    "RoutingHeader",
    "SegmentRoutingHeader",
    "SendResult",
    "Server",
    "Sniffer",
    "TCPHeader",
    "ThreadingRPTServer",
    "TraceAnswer",
    "TraceHop",
    "TraceOptions",
    "TraceResult",
    "Transmit",
    "TransportServer",
    "TruncatedError",
    "UDPHeader",
    "UnknownPeerError",
    "UnknownRoutingHeader",
    "UsageError",
    "VLANTag",
    "WireError",
    "WorkerServer",
    "__version__",
    "ask",
    "ask_async",
    "checksums",
    "compile_filter",
    "connect",
    "craft",
    "create_connection",
    "create_rpt_connection",
    "create_rpt_server",
    "create_server",
    "create_stream_transport",
    "diagram",
    "dissect",
    "fields",
    "fragment_ipv4",
    "fragment_ipv6",
    "hexdump",
    "open_rpt_connection",
    "open_writer",
    "parse_icmp",
    "parse_icmpv6",
    "ping",
    "ping_async",
    "read",
    "send",
    "send_async",
    "serve",
    "sniff",
    "sniff_async",
    "socket",
    "start_rpt_server",
    "summary",
    "traceroute",
    "traceroute_async",
    "write",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
