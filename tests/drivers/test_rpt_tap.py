"""A capture beside a connection, and what becomes of the connection when it cannot be written."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from rawproto.capture import open_writer
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect, serve
from rawproto.drivers.rpt.tap import TappedCarrier
from rawproto.errors import LinkError
from rawproto.link.rpt_udp import UDPCarrier

DATA = bytes(100_000)


async def echo(connection: RPTConnection) -> None:
    async for data in connection.stream:
        await connection.stream.send(data)


def test_full_disk_ends_the_capture_and_not_the_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "full.pcap"
    path.symlink_to("/dev/full")
    writer = open_writer(path)

    async def body() -> None:
        async with (
            asyncio.timeout(20),
            serve("rpt+udp://127.0.0.1:0", echo) as server,
            connect(str(server.address), capture=writer) as client,
        ):
            came = b""
            await client.stream.send(DATA)
            while len(came) < len(DATA):
                came += await client.stream.receive()
            assert came == DATA

    asyncio.run(body())
    with pytest.raises(OSError, match="No space left"):
        writer.close()
    assert caplog.messages == ["the capture is cut short: [Errno 28] No space left on device"]


def test_packet_is_captured_though_no_way_leads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(addr: str) -> str:
        raise LinkError("route to", addr, 101)

    path = tmp_path / "capture.pcap"
    with open_writer(path) as writer:
        carrier = UDPCarrier(4)
        monkeypatch.setattr(carrier, "local_to", lost)
        tapped = TappedCarrier(carrier, writer)
        tapped.send(b"hello", ("127.0.0.1", 9))
        tapped.close()
    assert b"hello" in path.read_bytes()
