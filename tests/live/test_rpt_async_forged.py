"""ICMP errors that a stranger forges: they quote what was never sent, and are told by whatever a
socket is asked next."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import closing, suppress

import pytest

import rawproto
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.link.rpt_udp import UDPCarrier
from rawproto.wire.checksum import internet_checksum
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.rpt import IP_PROTOCOL

pytestmark = pytest.mark.live

HERE, NOWHERE = "127.0.0.1", "127.0.0.77"
PROTOCOL, FRAGMENT, SOURCE_ROUTE = 2, 4, 5
NONSENSE = bytes([1, 16]) + bytes(98)


def forge(code: int, protocol: int, transport: bytes) -> None:
    """Destination Unreachable about a packet from here to nowhere."""
    header = IPv4Header(
        src_addr=HERE,
        dst_addr=NOWHERE,
        protocol=protocol,
        total_length=20 + len(transport),
    )
    body = struct.pack("!BBHHH", 3, code, 0, 0, 1200) + header.emit() + transport
    body = body[:2] + internet_checksum(body).to_bytes(2, "big") + body[4:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.sendto(body, (HERE, 0))


def test_strangers_icmp_errors_fail_no_attempt_and_no_transfer() -> None:
    async def handler(connection: RPTConnection) -> None:
        await connection.stream.send(await connection.stream.receive())
        await connection.stream.receive()

    async def disturb() -> None:
        for number in range(1 << 20):
            forge((PROTOCOL, FRAGMENT)[number & 1], IP_PROTOCOL, NONSENSE)
            await asyncio.sleep(0)

    async def body() -> None:
        async with (
            asyncio.timeout(60),
            rawproto.serve(f"rpt://{HERE}:0", handler) as server,
        ):
            disturbing = asyncio.ensure_future(disturb())
            for number in range(20):
                async with rawproto.connect(str(server.address)) as connection:
                    await connection.stream.send(b"%d" % number)
                    assert await connection.stream.receive() == b"%d" % number
                    assert connection.machine.sender.mtu.size >= 1200
            disturbing.cancel()
            with suppress(asyncio.CancelledError):
                await disturbing

    asyncio.run(body())


@pytest.mark.parametrize("code", [PROTOCOL, SOURCE_ROUTE])
def test_strangers_icmp_error_does_not_end_segmentation_by_the_kernel(code: int) -> None:
    with closing(UDPCarrier(4, HERE)) as one, closing(UDPCarrier(4, HERE)) as other:
        to = HERE, other.port
        udp = struct.pack("!HHHH", one.port, 9, 28, 0) + bytes(20)
        forge(code, socket.IPPROTO_UDP, udp)
        with pytest.raises(OSError, match=r"Protocol not available|Operation not supported"):
            one.send_many([bytes(1200)] * 10, to)
        assert one.send_many([bytes(1200)] * 10, to) == 10
