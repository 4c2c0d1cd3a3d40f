"""Runs `rawproto decode` in this process, and makes captures for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pytest

from rawproto import CapturedPacket, EthernetHeader, IPv4Header, Packet, UDPHeader, write
from rawproto.capture import Interface
from rawproto.cli.main import main

CAPTURES = Path(__file__).parents[2] / "captures"
SECOND = 1_000_000_000
START_NS = 1_704_067_200 * SECOND
"""2024-01-01 00:00:00 UTC."""

FRAME = EthernetHeader(dst_addr="02:00:00:00:00:02", src_addr="02:00:00:00:00:01")
HEADER = IPv4Header(src_addr="192.0.2.1", dst_addr="192.0.2.2")


def datagram(payload: bytes = b"data", dst_port: int = 9, checksum: int | None = None) -> Packet:
    """A UDP datagram over Ethernet."""
    return FRAME / HEADER / UDPHeader(src_port=1024, dst_port=dst_port, checksum=checksum) / payload


class Run(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Decoder:
    """The verb, with files of a directory of its own."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys

    def __call__(self, *words: str | Path) -> Run:
        code = main(["decode", *map(str, words)])
        return Run(code, *self._capsys.readouterr())

    def file(
        self,
        packets: Iterable[Packet | CapturedPacket | bytes],
        name: str = "trace.pcap",
        interfaces: Iterable[Interface] | None = None,
    ) -> Path:
        """A capture of packets a second apart."""
        path = self.directory / name
        captured = [
            each
            if isinstance(each, CapturedPacket)
            else CapturedPacket(time_ns=START_NS + number * SECOND, data=bytes(each))
            for number, each in enumerate(packets)
        ]
        write(path, captured, interfaces=None if interfaces is None else list(interfaces))
        return path
