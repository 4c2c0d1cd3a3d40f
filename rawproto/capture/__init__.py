"""Capture files, pcap and pcapng: `read`, `write`, and writers that go on as packets come.

Times are integer nanoseconds since the epoch; memory does not grow with the file.
"""

from rawproto.capture.blocks import (
    RPT_KEY_LOG,
    TLS_KEY_LOG,
    CustomBlock,
    InterfaceStatistics,
    Secrets,
    Section,
    UnknownBlock,
)
from rawproto.capture.files import open_writer, read, write
from rawproto.capture.packet import CapturedPacket, Interface
from rawproto.capture.pcap import PcapReader, PcapWriter
from rawproto.capture.pcapng import PcapngReader
from rawproto.capture.pcapng_writer import PcapngWriter
from rawproto.capture.reader import Reader
from rawproto.capture.writer import Writer

__all__ = [
    "RPT_KEY_LOG",
    "TLS_KEY_LOG",
    "CapturedPacket",
    "CustomBlock",
    "Interface",
    "InterfaceStatistics",
    "PcapReader",
    "PcapWriter",
    "PcapngReader",
    "PcapngWriter",
    "Reader",
    "Secrets",
    "Section",
    "UnknownBlock",
    "Writer",
    "open_writer",
    "read",
    "write",
]
