"""Reading and writing capture files, beside dpkt and scapy.

Each library reads a file of the same packets to the end, and writes one, on tmpfs where
there is one. scapy is taken at its fastest, with readers and writers that leave the
packets undecoded. Before anything is timed, all must have read the same packets, also
from what the others wrote.

What rawproto gives is an object a packet with a time in whole nanoseconds; dpkt and
scapy give tuples, with a floating-point number or with several integers.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import dpkt
from report import (
    at_least,
    at_most,
    conclude,
    interleave,
    machine,
    measure_cpu_ns,
    median_ratio,
    options,
    table,
)
from scapy.utils import RawPcapNgReader, RawPcapNgWriter, RawPcapReader, RawPcapWriter

from rawproto.capture import CapturedPacket, PcapngWriter, PcapWriter, read

READ_US = 0.8
SECOND = 10**9
FIRST_US = 1_700_000_000_000_000
PACKETS = [
    CapturedPacket(time_ns=(FIRST_US + 1234 * number) * 1000, data=bytes([number % 256]) * 98)
    for number in range(20_000)
]

Peers = dict[str, Callable[[Path], object]]


# --- reading -------------------------------------------------------------------------------------


def with_dpkt(reader: Callable[..., Iterable[object]]) -> Callable[[Path], Iterator[object]]:
    def packets(path: Path) -> Iterator[object]:
        with path.open("rb") as file:
            yield from reader(file)

    return packets


def with_scapy(reader: Callable[..., Iterable[object]]) -> Callable[[Path], Iterator[object]]:
    def packets(path: Path) -> Iterator[object]:
        with reader(str(path)) as opened:
            yield from opened

    return packets


READ_PCAP: Peers = {
    "rawproto": read,
    "dpkt": with_dpkt(dpkt.pcap.Reader),
    "scapy, raw": with_scapy(RawPcapReader),
}
READ_PCAPNG: Peers = {
    "rawproto": read,
    "dpkt": with_dpkt(dpkt.pcapng.Reader),
    "scapy, raw": with_scapy(RawPcapNgReader),
}


def plain(packet: object) -> tuple[int, bytes]:
    """(time in microseconds, data) of what any of them gives."""
    if isinstance(packet, CapturedPacket):
        return packet.time_ns // 1000, packet.data
    first, second = packet
    if isinstance(first, bytes):  # scapy: data and what is known of it
        if hasattr(second, "sec"):
            return second.sec * 1_000_000 + second.usec, first
        ticks = second.tshigh << 32 | second.tslow
        return ticks * 1_000_000 // second.tsresol, first
    return round(float(first) * 1_000_000), second


# --- writing -------------------------------------------------------------------------------------


def write_rawproto(
    path: Path, writer: type[PcapWriter] | type[PcapngWriter], **fields: bool
) -> None:
    with path.open("wb") as file, writer(file, **fields) as opened:
        opened.write_all(PACKETS)


def write_dpkt(path: Path, writer: Callable[..., object]) -> None:
    with path.open("wb") as file:
        write = writer(file).writepkt
        for packet in PACKETS:
            write(packet.data, packet.time_ns / SECOND)


def write_scapy_pcap(path: Path) -> None:
    with RawPcapWriter(str(path), linktype=1) as opened:
        opened.write_header(None)
        for packet in PACKETS:
            seconds, rest_ns = divmod(packet.time_ns, SECOND)
            opened.write_packet(packet.data, sec=seconds, usec=rest_ns // 1000)


def write_scapy_pcapng(path: Path) -> None:
    with RawPcapNgWriter(str(path)) as opened:
        opened.linktype = 1
        opened.write_header(None)
        for packet in PACKETS:
            opened.write_packet(packet.data, sec=packet.time_ns / SECOND)


WRITE_PCAP: Peers = {
    "rawproto": partial(write_rawproto, writer=PcapWriter, nanoseconds=False),
    "dpkt": partial(write_dpkt, writer=dpkt.pcap.Writer),
    "scapy, raw": write_scapy_pcap,
}
WRITE_PCAPNG: Peers = {
    "rawproto": partial(write_rawproto, writer=PcapngWriter),
    "dpkt": partial(write_dpkt, writer=dpkt.pcapng.Writer),
    "scapy, raw": write_scapy_pcapng,
}


# --- side by side --------------------------------------------------------------------------------


def check(directory: Path, writers: Peers, readers: Peers) -> Path:
    """Lets each write and all read it; a file of rawproto's to be timed with.

    Raises:
        SystemExit: they don't find the same packets, so that timing them would mean nothing.
    """
    expected = [plain(packet) for packet in PACKETS]
    for writer, write in writers.items():
        path = directory / writer
        write(path)
        for reader, packets in readers.items():
            found = [plain(packet) for packet in packets(path)]
            # Floating-point times of today are good to a microsecond.
            same = len(found) == len(expected) and all(
                abs(at - wanted_at) <= 1 and data == wanted
                for (at, data), (wanted_at, wanted) in zip(found, expected, strict=True)
            )
            if not same:
                raise SystemExit(f"{reader} does not read what {writer} wrote")
    return directory / "rawproto"


def drain(packets: Callable[[Path], Iterable[object]], path: Path) -> None:
    deque(packets(path), maxlen=0)


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    if arguments.quick:
        del PACKETS[2000:]
    rounds = 3 if arguments.quick else 11
    size = len(PACKETS[0].data)
    print(f"{len(PACKETS)} packets of {size} bytes; CPU time, median of {rounds} rounds")
    print(machine() + "\n")
    rows: list[list[str]] = []
    times: dict[str, dict[str, list[float]]] = {}
    shared = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shared) as name:
        for format, writers, readers in (
            ("pcap", WRITE_PCAP, READ_PCAP),
            ("pcapng", WRITE_PCAPNG, READ_PCAPNG),
        ):
            written = check(Path(name), writers, readers)
            scratch = Path(name) / "scratch"
            for what, peers in (
                ("read", {peer: partial(drain, call, written) for peer, call in readers.items()}),
                ("write", {peer: partial(call, scratch) for peer, call in writers.items()}),
            ):
                timed = {peer: partial(measure_cpu_ns, call, 1) for peer, call in peers.items()}
                measured = times[f"{what} {format}"] = interleave(timed, rounds)
                for peer, values in measured.items():
                    us = f"{statistics.median(values) / len(PACKETS) / 1000:.2f} us"
                    ratio = f"{median_ratio(values, measured['rawproto']):.2f}"
                    rows.append([f"{what} {format}", peer, us, ratio])
    print(table(["what", "library", "one packet", "x rawproto"], rows))
    ours = statistics.median(times["read pcap"]["rawproto"]) / len(PACKETS) / 1000
    criteria = [at_most("read pcap: one packet", ours, READ_US, " us")]
    for what, measured in times.items():
        for peer in ("dpkt", "scapy, raw"):
            ratio = median_ratio(measured[peer], measured["rawproto"])
            criteria.append(at_least(f"{what}: times as fast as {peer}", ratio, 1))
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
