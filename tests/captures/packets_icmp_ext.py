"""Golden packets of ICMP extensions and of extended echo."""

from __future__ import annotations

from collections.abc import Iterator

from scapy.contrib.mpls import MPLS, ICMPExtension_MPLS
from scapy.layers.inet import (
    ICMP,
    IP,
    ICMPExtension_Header,
    ICMPExtension_InterfaceInformation,
    ICMPExtension_Object,
)
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6TimeExceeded, ICMPv6Unknown
from scapy.packet import Packet, Raw

from tests.captures.golden import HOST_1, HOST_2, Golden, capture
from tests.captures.packets_icmp import (
    BACK,
    BACK_V6,
    ETHER,
    QUOTE,
    QUOTE_V6,
    TO_V6,
    by_hand,
)

PADDED = QUOTE.ljust(128, b"\0")
PADDED_V6 = QUOTE_V6.ljust(128, b"\0")

LABELS = ICMPExtension_MPLS(
    stack=[MPLS(label=24001, cos=3, s=0, ttl=1), MPLS(label=300016, cos=0, s=1, ttl=1)]
)
INCOMING = ICMPExtension_InterfaceInformation(
    classtype=0,
    has_ifindex=1,
    has_ipaddr=1,
    has_ifname=1,
    has_mtu=1,
    ifindex=17,
    afi=1,
    ip4="203.0.113.254",
    # scapy leaves the padding and the length byte's own count to its caller.
    ifname_len=12,
    ifname=b"ge-0/0/1".ljust(11, b"\0"),
    mtu=9000,
)
# scapy would count the second object as part of the first.
BOTH = Raw(bytes(INCOMING) + bytes(LABELS))


def error(message: ICMP) -> Packet:
    return ETHER / BACK / message / Raw(PADDED)


def error_v6(message: Packet) -> Packet:
    return ETHER / BACK_V6 / message / Raw(PADDED_V6)


@capture(
    "icmp-extensions.pcap", "Extensions of ICMP errors, new and old form (RFC 4884, 4950, 5837)"
)
def icmp_extensions() -> Iterator[Golden]:
    exceeded = "EthernetHeader / IPv4Header / ICMPTimeExceeded"
    yield Golden(
        packet=error(ICMP(type=11, length=32, ext=ICMPExtension_Header() / LABELS)),
        note="two MPLS labels, in the form of RFC 4884",
        stack=exceeded,
        expect={
            "ICMPTimeExceeded.length": 32,
            "ICMPTimeExceeded.noncompliant": False,
            "ICMPTimeExceeded.original_datagram": PADDED,
            "ICMPTimeExceeded.extensions.version": 2,
            "ICMPTimeExceeded.extensions.objects.0.labels.0.label": 24001,
            "ICMPTimeExceeded.extensions.objects.0.labels.0.exp": 3,
            "ICMPTimeExceeded.extensions.objects.0.labels.0.ttl": 1,
            "ICMPTimeExceeded.extensions.objects.0.labels.0.bottom_of_stack": False,
            "ICMPTimeExceeded.extensions.objects.0.labels.1.label": 300016,
            "ICMPTimeExceeded.extensions.objects.0.labels.1.bottom_of_stack": True,
        },
    )
    yield Golden(
        packet=error(ICMP(type=11, length=0, ext=ICMPExtension_Header() / LABELS)),
        note="the same from an older router: no length, but a structure at byte 128",
        stack=exceeded,
        expect={
            "ICMPTimeExceeded.length": 0,
            "ICMPTimeExceeded.noncompliant": True,
            "ICMPTimeExceeded.original_datagram": PADDED,
            "ICMPTimeExceeded.extensions.objects.0.labels.0.label": 24001,
        },
        computes=False,
    )
    yield Golden(
        packet=error(ICMP(type=11, length=0, ext=ICMPExtension_Header(chksum=0x1234) / LABELS)),
        note="no length and a wrong checksum at byte 128: all is original datagram",
        stack=exceeded,
        expect={"ICMPTimeExceeded.length": 0, "ICMPTimeExceeded.extensions": None},
        scapy_errs=frozenset({"extensions"}),  # it heeds no checksum
    )
    yield Golden(
        packet=error(ICMP(type=3, code=3, length=32, ext=ICMPExtension_Header() / BOTH)),
        note="interface information with all four parts, and labels behind it",
        stack="EthernetHeader / IPv4Header / ICMPDestinationUnreachable",
        expect={
            "ICMPDestinationUnreachable.extensions.objects.0.role": 0,
            "ICMPDestinationUnreachable.extensions.objects.0.if_index": 17,
            "ICMPDestinationUnreachable.extensions.objects.0.if_addr": "203.0.113.254",
            "ICMPDestinationUnreachable.extensions.objects.0.if_name": "ge-0/0/1",
            "ICMPDestinationUnreachable.extensions.objects.0.mtu": 9000,
            "ICMPDestinationUnreachable.extensions.objects.1.labels.1.label": 300016,
        },
    )
    yield Golden(
        packet=error(
            ICMP(
                type=12,
                ptr=1,
                length=32,
                ext=ICMPExtension_Header()
                / ICMPExtension_Object(classnum=250, classtype=9)
                / Raw(b"mine"),
            )
        ),
        note="an object of a private class",
        stack="EthernetHeader / IPv4Header / ICMPParameterProblem",
        expect={
            "ICMPParameterProblem.extensions.objects.0.class_num": 250,
            "ICMPParameterProblem.extensions.objects.0.c_type": 9,
            "ICMPParameterProblem.extensions.objects.0.data": b"mine",
        },
    )
    yield Golden(
        packet=error(ICMP(type=11, length=32, ext=ICMPExtension_Header(version=1) / LABELS)),
        note="a structure of another version: announced, so it is one, but not understood",
        stack=exceeded,
        expect={
            "ICMPTimeExceeded.extensions.version": 1,
            "ICMPTimeExceeded.extensions.objects.0.data": bytes(LABELS),
        },
    )
    yield Golden(
        packet=error_v6(ICMPv6TimeExceeded(length=16, ext=ICMPExtension_Header() / LABELS)),
        note="labels in ICMPv6, whose length counts 8 bytes",
        stack="EthernetHeader / IPv6Header / ICMPv6TimeExceeded",
        expect={
            "ICMPv6TimeExceeded.length": 16,
            "ICMPv6TimeExceeded.original_datagram": PADDED_V6,
            "ICMPv6TimeExceeded.extensions.objects.0.labels.0.label": 24001,
        },
    )
    yield Golden(
        packet=error_v6(ICMPv6DestUnreach(code=4, ext=ICMPExtension_Header() / LABELS)),
        note="the old form in ICMPv6",
        stack="EthernetHeader / IPv6Header / ICMPv6DestinationUnreachable",
        expect={
            "ICMPv6DestinationUnreachable.noncompliant": True,
            "ICMPv6DestinationUnreachable.extensions.objects.0.labels.0.label": 24001,
        },
        computes=False,
    )


def structure(*objects: str) -> bytes:
    """An extension structure of objects in hexadecimal."""
    return bytes(ICMPExtension_Header() / Raw(bytes.fromhex("".join(objects))))


BY_NAME = structure("0008 03 01 65746830")
BY_INDEX = structure("0008 03 02 0000002a")
BY_ADDRESS = structure("000c 03 03 0001 04 00 cb007101")
BY_ADDRESS_V6 = structure("0018 03 03 0002 10 00 20010db8000000000000000000000009")


@capture("extended-echo.pcap", "Extended echo, by the figures of RFC 8335")
def extended_echo() -> Iterator[Golden]:
    for what, request, field, value in (
        ("by name", BY_NAME, "if_name", "eth0"),
        ("by index", BY_INDEX, "if_index", 42),
        ("by address", BY_ADDRESS, "if_addr", "203.0.113.1"),
    ):
        yield Golden(
            packet=ETHER
            / IP(src=HOST_1, dst=HOST_2, id=0x1234, proto=1)
            / Raw(by_hand(b"\x2a\x00", bytes.fromhex("1234 05 01") + request)),
            note=f"request for an interface {what}, the probed node's own",
            stack="EthernetHeader / IPv4Header / ICMPExtendedEcho",
            expect={
                "ICMPExtendedEcho.identifier": 0x1234,
                "ICMPExtendedEcho.sequence_number": 5,
                "ICMPExtendedEcho.local": True,
                f"ICMPExtendedEcho.interface.{field}": value,
            },
        )
    yield Golden(
        packet=ETHER / BACK / Raw(by_hand(b"\x2b\x00", bytes.fromhex("1234 05 06"))),
        note="reply: up, with IPv4",
        stack="EthernetHeader / IPv4Header / ICMPExtendedEchoReply",
        expect={
            "ICMPExtendedEchoReply.code": 0,
            "ICMPExtendedEchoReply.identifier": 0x1234,
            "ICMPExtendedEchoReply.sequence_number": 5,
            "ICMPExtendedEchoReply.state": 0,
            "ICMPExtendedEchoReply.active": True,
            "ICMPExtendedEchoReply.ipv4": True,
            "ICMPExtendedEchoReply.ipv6": False,
        },
    )
    yield Golden(
        packet=ETHER / BACK / Raw(by_hand(b"\x2b\x02", bytes.fromhex("1234 06 40"))),
        note="reply: no such interface; a neighbour's state is 2, reachable",
        stack="EthernetHeader / IPv4Header / ICMPExtendedEchoReply",
        expect={
            "ICMPExtendedEchoReply.code": 2,
            "ICMPExtendedEchoReply.state": 2,
            "ICMPExtendedEchoReply.active": False,
        },
    )
    yield Golden(
        packet=ETHER
        / TO_V6
        / ICMPv6Unknown(type=160, msgbody=bytes.fromhex("1234 07 00") + BY_ADDRESS_V6),
        note="request over IPv6 for a neighbour's interface",
        stack="EthernetHeader / IPv6Header / ICMPv6ExtendedEcho",
        expect={
            "ICMPv6ExtendedEcho.local": False,
            "ICMPv6ExtendedEcho.interface.if_addr": "2001:db8::9",
        },
    )
    yield Golden(
        packet=ETHER / BACK_V6 / ICMPv6Unknown(type=161, msgbody=bytes.fromhex("1234 07 47")),
        note="reply: reachable, up, with both families",
        stack="EthernetHeader / IPv6Header / ICMPv6ExtendedEchoReply",
        expect={
            "ICMPv6ExtendedEchoReply.state": 2,
            "ICMPv6ExtendedEchoReply.active": True,
            "ICMPv6ExtendedEchoReply.ipv4": True,
            "ICMPv6ExtendedEchoReply.ipv6": True,
        },
    )
