"""A ping and who answers it: targets, machines, replies and errors built by scapy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

from scapy.layers.inet import ICMP, IP
from scapy.layers.inet6 import ICMPv6EchoReply, ICMPv6EchoRequest, IPv6

from rawproto.machine import Datagram, Transmit
from rawproto.probe.ping import Ping
from rawproto.probe.ping_events import PingConfig, PingTarget
from tests.probe.virtual import Answer

MS = 1_000_000
S = 1000 * MS
H2 = PingTarget(name="h2", dst_addr="10.0.0.2", src_addr="10.0.0.1")
H3 = PingTarget(name="h3", dst_addr="10.0.0.3", src_addr="10.0.0.1")
H2_V6 = PingTarget(name="h2", dst_addr="fd00::2", src_addr="fd00::1")
PAYLOAD = bytes(range(56))


def config(**fields) -> PingConfig:
    return PingConfig(**{"identifier": 0x1234, "count": 3, "payload": PAYLOAD, **fields})


def ping(*targets: PingTarget, **fields) -> Ping:
    return Ping(targets or (H2,), config(**fields), 0, random.Random(7))


def reply_to(transmit: Transmit, *, payload: bytes | None = None, **fields) -> Datagram:
    """What a host would answer, built by scapy."""
    if transmit.data[0] >> 4 == 6:
        request = IPv6(transmit.data)
        echo = request[ICMPv6EchoRequest]
        data = echo.data if payload is None else payload
        answer = IPv6(src=request.dst, dst=request.src) / ICMPv6EchoReply(
            id=echo.id, seq=echo.seq, data=data
        )
        message, src, protocol = bytes(answer)[40:], request.dst, 58
    else:
        request = IP(transmit.data)
        data = bytes(request[ICMP].payload) if payload is None else payload
        message = bytes(ICMP(type=0, id=request[ICMP].id, seq=request[ICMP].seq) / data)
        src, protocol = request.dst, 1
    return Datagram(
        **{
            "data": message,
            "src_addr": src,
            "protocol": protocol,
            "ttl": 64,
            "received_ns": 0,
            "stamp_source": "kernel",
            **fields,
        }
    )


def error_about(transmit: Transmit, src_addr: str, icmp_type: int, code: int, **fields) -> Datagram:
    """What a router would say, built by scapy; the quote is cut to 8 bytes of payload."""
    quoted = IP(transmit.data[:28])
    message = bytes(ICMP(type=icmp_type, code=code, **fields) / bytes(quoted))
    return Datagram(data=message, src_addr=src_addr, protocol=1, ttl=63, received_ns=0)


def sequence_number_of(transmit: Transmit) -> int:
    return IP(transmit.data)[ICMP].seq


def answering(
    delay_ns: int | Callable[[int], int], lost: Iterable[int] = ()
) -> Callable[[Transmit, int], list[Answer]]:
    """A host that answers after `delay_ns` (or by sequence number), but not some."""

    def answer(transmit: Transmit, now_ns: int) -> list[Answer]:
        number = (
            sequence_number_of(transmit)
            if transmit.data[0] >> 4 == 4
            else IPv6(transmit.data)[ICMPv6EchoRequest].seq
        )
        if number in lost:
            return []
        delay = delay_ns if isinstance(delay_ns, int) else delay_ns(number)
        return [(delay, reply_to(transmit))]

    return answer


def of(events: list[object], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]
