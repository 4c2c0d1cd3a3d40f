"""Writes captures/: `python -m tests.captures.make`. The same bytes on each run.

scapy lays out the packets and writes the files, so that the captures know nothing
of rawproto; captures/README.md is made of the same expectations that the test reads.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from scapy.utils import PcapWriter

from tests.captures import (
    packets_icmp,
    packets_icmp_ext,
    packets_ip,
    packets_link,
    packets_odd,
    packets_own,
    packets_transport,
)
from tests.captures.golden import CAPTURES, Capture
from tests.captures.packets_rpt import NAME, emit_rpt_file, emit_rpt_section

__all__ = ["CAPTURES", "DIRECTORY", "emit_file", "emit_readme"]

DIRECTORY = Path(__file__).parents[2] / "captures"
FIRST_SECOND = 1704067200  # 2024-01-01 00:00:00 UTC
_MODULES = (
    packets_icmp,
    packets_icmp_ext,
    packets_ip,
    packets_link,
    packets_odd,
    packets_own,
    packets_transport,
)

_README = """\
# Golden captures

Packets whose meaning is known, to hold decoders against. `tests/captures/make.py` writes
them, and this page: scapy, or the RFC's figures byte by byte, laid the packets out, and what
each must decode to was put down by hand. rawproto had no part in them, but for RPT's.
`tests/captures/test_goldens.py` decodes every packet with rawproto and with scapy, compares
them field by field and with the tables below, and emits each again from its fields.

All but RPT's are little-endian pcap with microseconds; packets are a millisecond apart from
2024-01-01 00:00:00 UTC on. Addresses are those kept for documentation (RFC 5737, RFC 3849).
A path like `options.0.mtu` picks the first option; bytes are in hexadecimal.
"""


def emit_file(capture: Capture) -> bytes:
    """A capture's bytes."""
    file = BytesIO()
    file.close = lambda: None  # type: ignore[method-assign] # scapy closes what it wrote to
    writer = PcapWriter(file, endianness="<")
    writer.linktype = capture.link_type  # as an argument, scapy takes 0 for none given
    writer.write_header(None)
    for number, golden in enumerate(capture.packets()):
        data = golden.captured
        writer.write_packet(
            data,
            sec=FIRST_SECOND,
            usec=number * 1000,
            caplen=len(data),
            wirelen=len(golden.wire),
        )
    return file.getvalue()


def emit_readme() -> str:
    """The text of captures/README.md."""
    parts = [_README]
    for name in sorted(CAPTURES):
        capture = CAPTURES[name]
        parts.append(f"\n## {name}\n\n{capture.title}. Link type {capture.link_type}.\n\n")
        parts.append("| # | what it is | layers | must hold |\n|---|---|---|---|\n")
        for number, golden in enumerate(capture.packets(), 1):
            holds = [f"`{path}` {_show(value)}" for path, value in golden.expect.items()]
            layers = golden.stack.split(" / ")
            holds += [f"the checksum of {layers[index]} is wrong" for index in golden.wrong]
            if golden.caplen is not None:
                holds.append(f"{golden.caplen} of {len(golden.wire)} bytes captured")
            if golden.damaged:
                holds.append("damage is told")
            parts.append(
                f"| {number} | {golden.note} | {golden.stack or 'none'} | {'; '.join(holds)} |\n"
            )
    return "".join([*parts, emit_rpt_section()])


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return f"`{value.hex() or 'empty'}`" if len(value) <= 32 else f"{len(value)} bytes"
    return f"`{value}`"


def main() -> None:
    for name, capture in CAPTURES.items():
        (DIRECTORY / name).write_bytes(emit_file(capture))
    (DIRECTORY / NAME).write_bytes(emit_rpt_file())
    (DIRECTORY / "README.md").write_text(emit_readme())


if __name__ == "__main__":
    main()
