"""The golden capture of RPT: a talk of the simulator's two hosts, with its key log inside.

What each packet must hold was put down by hand. Unlike the other captures this one is laid
out by rawproto, for nobody else speaks RPT; scapy puts the IP headers around it.
"""

from __future__ import annotations

from io import BytesIO

from scapy.layers.inet import IP

from rawproto.capture import RPT_KEY_LOG, CapturedPacket
from rawproto.capture.pcapng_writer import PcapngWriter
from tests.captures.golden import HOST_1, HOST_2, RAW
from tests.rpt_talk import Talk, talk

__all__ = ["NAME", "ROWS", "emit_rpt_file", "emit_rpt_section"]

NAME = "rpt.pcapng"
FIRST_NS = 1704067200 * 10**9  # 2024-01-01 00:00:00 UTC
SIMULATION_NS = 10**9
"""When the simulator's clock begins."""

C, L = "client", "listener"
ROWS = (
    (C, "the client's first packet, padded", "init"),
    (L, "Noise message 2; the client knows the listener now", "handshake"),
    (C, "Noise message 3; the listener knows the client now", "handshake"),
    (C, "data right behind it: `Can anybody read this?`", "STREAM 0 0:22"),
    (L, "the handshake is over", "HANDSHAKE_DONE, PADDING 11"),
    (L, "", "ACK 0"),
    (L, "`Only who has the keys.`", "STREAM 0 0:22"),
    (C, "", "ACK 0"),
    (C, "do packets of this size get through?", "PING, PADDING 1445"),
    (C, "", "ACK 0-2"),
    (C, "a datagram: `Not worth repeating.`", "DATAGRAM 20"),
    (L, "do packets of this size get through?", "PING, PADDING 1445"),
    (L, "", "ACK 0-2"),
    (L, "they do; number 0 was acknowledged and is not told again", "ACK 1-4"),
    (C, "they do", "ACK 0-3"),
    (C, "the next keys: `And under the next keys?`", "STREAM 0 22:46"),
    (L, "the listener follows to the next keys", "ACK 1-6"),
    (L, "", "STREAM 0 22:23"),
    (C, "", "ACK 4-7"),
    (C, "the client has no more to say", "STREAM 0 46:46 FIN"),
    (L, "", "ACK 6-8"),
    (C, "the end", "CLOSE 0, PADDING 6"),
    (L, "and its answer", "CLOSE 0, PADDING 6"),
)
"""For each packet: who sent it, what it is, and its type or the frames sealed in it."""


_SECTION = f"""
## {NAME}

Two hosts talk over RPT (docs/transport-spec.md) on protocol 253, and change keys. The simulator
made the packets from a fixed seed, scapy the IP headers. The key log is in the file: `rawproto
decode` opens it, and so does scapy with `tests/rpt_scapy.py`. Link type 101.

| # | from | what it is | type, or frames inside |
|---|---|---|---|
"""


def emit_rpt_file(said: Talk | None = None) -> bytes:
    """The capture's bytes; of `said`, or else of the talk as rawproto holds it now."""
    said = said or talk()
    file = BytesIO()
    writer = PcapngWriter(file)
    writer.write_secrets(RPT_KEY_LOG, said.key_log.encode())
    for sent in said.packets:
        src, dst = (HOST_1, HOST_2) if sent.from_client else (HOST_2, HOST_1)
        data = bytes(IP(src=src, dst=dst, id=0, flags="DF", proto=253) / sent.data)
        time_ns = FIRST_NS + sent.time_ns - SIMULATION_NS
        writer.write(CapturedPacket(time_ns=time_ns, data=data, link_type=RAW))
    return file.getvalue()


def emit_rpt_section() -> str:
    """What captures/README.md says of it."""
    rows = [
        f"| {number} | {sender} | {note} | {holds} |\n"
        for number, (sender, note, holds) in enumerate(ROWS, 1)
    ]
    return _SECTION + "".join(rows)
