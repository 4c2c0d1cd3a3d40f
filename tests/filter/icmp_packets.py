"""ICMP messages of every sort, and which of them a prober with given identifiers wants."""

from __future__ import annotations

from typing import NamedTuple

from rawproto.wire.checksum import internet_checksum
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv4_options import RecordRoute, RouterAlert

OURS = (7, 0xBEEF)
THEIRS = 8


class Case(NamedTuple):
    """One message: as a raw socket of its family sees it, and whether it is ours."""

    name: str
    packet: bytes
    wanted: bool


def icmp(icmp_type: int, code: int, rest: bytes, *, checksum: bool = True) -> bytes:
    """An ICMP message; `rest` begins at its fifth byte."""
    message = bytes((icmp_type, code, 0, 0)) + rest
    if checksum:
        message = message[:2] + internet_checksum(message).to_bytes(2, "big") + message[4:]
    return message


def echo(icmp_type: int, identifier: int, *, checksum: bool = True) -> bytes:
    rest = identifier.to_bytes(2, "big") + b"\x00\x01" + b"0123456789abcdef"
    return icmp(icmp_type, 0, rest, checksum=checksum)


def ipv4(payload: bytes, protocol: int = 1, **fields: object) -> bytes:
    header = IPv4Header(protocol=protocol, src_addr="127.0.0.1", dst_addr="127.0.0.1", **fields)
    return header.emit(payload)


def ipv6(payload: bytes, next_header: int) -> bytes:
    loopback = bytes(15) + b"\x01"
    return (
        b"\x60\0\0\0"
        + len(payload).to_bytes(2, "big")
        + bytes((next_header, 64))
        + loopback
        + loopback
        + payload
    )


def ipv4_cases() -> list[Case]:
    """As seen by an IPv4 raw socket: from the IP header on."""
    ours, theirs = ipv4(echo(8, 7)), ipv4(echo(8, THEIRS))
    long = (RecordRoute(),)
    cases = [
        Case("echo reply", ipv4(echo(0, 7)), True),
        Case("echo reply, the other identifier", ipv4(echo(0, 0xBEEF)), True),
        Case("echo reply behind options", ipv4(echo(0, 7), options=long), True),
        Case("a stranger's echo reply", ipv4(echo(0, THEIRS)), False),
        Case("a stranger's echo reply behind options", ipv4(echo(0, THEIRS), options=long), False),
        Case("echo request", ipv4(echo(8, 7)), False),
        Case("timestamp reply", ipv4(echo(14, 7)), False),
        Case("quotes 8 bytes behind the header", ipv4(icmp(11, 0, bytes(4) + ours[:28])), True),
        Case("quotes too little", ipv4(icmp(11, 0, bytes(4) + ours[:24])), False),
        Case("quotes nothing", ipv4(icmp(11, 0, bytes(4))), False),
        Case("quotes UDP", ipv4(icmp(3, 3, bytes(4) + ipv4(echo(8, 7), 17))), False),
        Case("quotes an echo reply", ipv4(icmp(3, 1, bytes(4) + ipv4(echo(0, 7)))), False),
        Case(
            "quotes a later fragment",
            ipv4(icmp(3, 1, bytes(4) + ipv4(echo(8, 7), fragment_offset=1))),
            False,
        ),
        Case(
            "quotes a first fragment", ipv4(icmp(3, 1, bytes(4) + ipv4(echo(8, 7), flags=1))), True
        ),
        Case(
            "options outside and inside",
            ipv4(icmp(12, 0, bytes(4) + ipv4(echo(8, 7), options=(RouterAlert(),))), options=long),
            True,
        ),
        Case(
            "a stranger's, options outside and inside",
            ipv4(
                icmp(12, 0, bytes(4) + ipv4(echo(8, THEIRS), options=(RouterAlert(),))),
                options=long,
            ),
            False,
        ),
    ]
    for icmp_type in range(256):
        error = icmp_type in (3, 4, 5, 11, 12)
        if icmp_type == 0 or icmp_type == 8:
            continue
        cases.append(
            Case(f"type {icmp_type} quotes ours", ipv4(icmp(icmp_type, 0, bytes(4) + ours)), error)
        )
        cases.append(
            Case(
                f"type {icmp_type}, a stranger's",
                ipv4(icmp(icmp_type, 0, bytes(4) + theirs)),
                False,
            )
        )
    return cases


def ipv6_cases() -> list[Case]:
    """As seen by an ICMPv6 raw socket: from the ICMPv6 header on, checksums left to the kernel."""

    def request(identifier: int) -> bytes:
        return echo(128, identifier, checksum=False)

    def error(icmp_type: int, quoted: bytes) -> bytes:
        return icmp(icmp_type, 0, bytes(4) + quoted, checksum=False)

    ours, theirs = ipv6(request(7), 58), ipv6(request(THEIRS), 58)
    cases = [
        Case("echo reply", echo(129, 7, checksum=False), True),
        Case("echo reply, the other identifier", echo(129, 0xBEEF, checksum=False), True),
        Case("a stranger's echo reply", echo(129, THEIRS, checksum=False), False),
        Case("quotes 8 bytes behind the header", error(3, ours[:48]), True),
        Case("quotes too little", error(3, ours[:44]), False),
        Case("quotes nothing", error(3, b""), False),
        Case("quotes UDP", error(1, ipv6(request(7), 17)), False),
        Case("quotes an echo reply", error(1, ipv6(echo(129, 7, checksum=False), 58)), False),
    ]
    for next_header in (0, 43, 44, 51, 60):
        quoted = ipv6(bytes((58, 0)) + bytes(6) + request(7), next_header)
        cases.append(Case(f"quotes extension header {next_header}", error(2, quoted), True))
    for icmp_type in range(256):
        if icmp_type in (128, 129):
            continue
        cases.append(
            Case(f"type {icmp_type} quotes ours", error(icmp_type, ours), 1 <= icmp_type <= 4)
        )
        cases.append(Case(f"type {icmp_type}, a stranger's", error(icmp_type, theirs), False))
    return cases
