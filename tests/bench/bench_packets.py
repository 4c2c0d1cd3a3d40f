"""Whole packets: built, parsed, read by the million and written, and decoded at the prompt.

1. One Ethernet frame is built from the values of its fields by each library, layers
   stacked, lengths and checksums computed; and parsed to objects down to the transport.
2. A pcap file of a million packets (IPv4 and IPv6, TCP with and without options, UDP, ICMP
   among 200 addresses) is read with every layer parsed. rawproto and dpkt read all of
   it; scapy and tshark, which would take minutes, a fiftieth and a tenth, and are compared
   by the packet. Of tshark the process's CPU time counts, the start included. dpkt leaves
   TCP options as bytes; the others read them.
3. As many packets are written to a pcap file.
4. `rawproto decode` beside tcpdump and tshark, as text and as JSON, whole processes too.

Before anything is timed, all must have built the same bytes and read the same fields.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from socket import inet_aton
from statistics import median

import dpkt
from report import (
    Criterion,
    at_least,
    conclude,
    interleave,
    machine,
    measure_cpu_ns,
    median_ratio,
    options,
    table,
)
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import PcapReader, RawPcapWriter

from rawproto import (
    CapturedPacket,
    Dissection,
    EthernetHeader,
    ICMPEcho,
    IPv4Header,
    IPv6Header,
    Layer,
    TCPHeader,
    UDPHeader,
    dissect,
    read,
    write,
)
from rawproto.wire.tcp import ACK
from rawproto.wire.tcp_options import NoOperation, Timestamps

PARSE_OVER_DPKT, PARSE_OVER_SCAPY, WRITE_OVER_DPKT = 1.5, 20, 2
RAWPROTO = str(Path(sys.executable).with_name("rawproto"))
FIRST_US = 1_700_000_000_000_000
SCAPY_SHARE, TSHARK_SHARE = 50, 10
"""They read one packet of so many."""

Times = dict[str, list[float]]

SRC_MAC, DST_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
FRAME = EthernetHeader(src_addr=SRC_MAC, dst_addr=DST_MAC)
PAYLOAD = bytes(range(100))


# --- one packet ----------------------------------------------------------------------------------

SRC, DST = "10.99.1.1", "10.99.1.2"
SRC_BYTES, DST_BYTES = inet_aton(SRC), inet_aton(DST)
SRC_MAC_BYTES, DST_MAC_BYTES = (bytes.fromhex(each.replace(":", "")) for each in (SRC_MAC, DST_MAC))


def build_rawproto() -> bytes:
    ethernet = EthernetHeader(src_addr=SRC_MAC, dst_addr=DST_MAC)
    header = IPv4Header(identification=7, src_addr=SRC, dst_addr=DST)
    segment = TCPHeader(src_port=4000, dst_port=80, sequence_number=1, flags=ACK, window=512)
    return (ethernet / header / segment / PAYLOAD).emit()


def build_dpkt() -> bytes:
    segment = dpkt.tcp.TCP(sport=4000, dport=80, seq=1, flags=ACK, win=512, data=PAYLOAD)
    header = dpkt.ip.IP(id=7, p=6, src=SRC_BYTES, dst=DST_BYTES, data=segment)
    header.len = len(header)
    return bytes(dpkt.ethernet.Ethernet(src=SRC_MAC_BYTES, dst=DST_MAC_BYTES, data=header))


def build_scapy() -> bytes:
    ethernet = Ether(src=SRC_MAC, dst=DST_MAC)
    header = IP(id=7, src=SRC, dst=DST)
    segment = TCP(sport=4000, dport=80, seq=1, flags=ACK, window=512)
    return bytes(ethernet / header / segment / PAYLOAD)


BUILD: dict[str, Callable[[], bytes]] = {
    "rawproto": build_rawproto,
    "dpkt": build_dpkt,
    "scapy": build_scapy,
}
PARSE: dict[str, Callable[[bytes], object]] = {
    "rawproto": dissect,
    "dpkt": dpkt.ethernet.Ethernet,
    "scapy": Ether,
}


def one_packet(rounds: int) -> tuple[Times, Times]:
    """CPU time in ns of building and of parsing one packet, by library and round."""
    built = {name: build() for name, build in BUILD.items()}
    if len(set(built.values())) != 1:
        raise SystemExit(f"not all build the same bytes: {built}")
    data = built["rawproto"]
    parse = {name: partial(call, data) for name, call in PARSE.items()}
    results = []
    for peers in (BUILD, parse):
        timed = {
            name: partial(measure_cpu_ns, call, max(1, round(4e6 / measure_cpu_ns(call, 20))))
            for name, call in peers.items()
        }
        results.append(interleave(timed, rounds))
    return results[0], results[1]


# --- a file of many ------------------------------------------------------------------------------


def mixed_packets(count: int) -> Iterator[bytes]:
    """Different packets as a network has them, the same every time."""
    rng = random.Random(1)
    hosts = [f"10.{number}.{number * 7 % 251}.1" for number in range(200)]
    hosts_v6 = [f"2001:db8::{number:x}" for number in range(1, 201)]
    for _ in range(count):
        kind, data = rng.random(), rng.randbytes(rng.choice((0, 0, 0, 32, 64, 200, 600)))
        outer: Layer
        if kind < 0.15:
            src_addr, dst_addr = rng.sample(hosts_v6, 2)
            outer = IPv6Header(src_addr=src_addr, dst_addr=dst_addr)
        else:
            src_addr, dst_addr = rng.sample(hosts, 2)
            identification = rng.getrandbits(16)
            outer = IPv4Header(identification=identification, src_addr=src_addr, dst_addr=dst_addr)
        inner: Layer
        src_port, dst_port = rng.randrange(1024, 65536), rng.choice((22, 80, 443))
        if kind < 0.75:
            stamps = (NoOperation(), NoOperation(), Timestamps(tsval=rng.getrandbits(32)))
            inner = TCPHeader(
                src_port=src_port,
                dst_port=dst_port,
                sequence_number=rng.getrandbits(32),
                flags=ACK,
                options=stamps if kind < 0.6 else (),
            )
        elif kind < 0.95:
            inner = UDPHeader(src_port=src_port, dst_port=dst_port)
        else:
            inner = ICMPEcho(identifier=3, sequence_number=rng.getrandbits(16))
        yield (FRAME / outer / inner / data).emit()


def repeated(packets: list[bytes], count: int) -> Iterator[CapturedPacket]:
    """`count` packets 10 us apart, those given over and over."""
    for number in range(count):
        yield CapturedPacket(
            time_ns=(FIRST_US + 10 * number) * 1000, data=packets[number % len(packets)]
        )


def read_rawproto(path: Path) -> Iterator[object]:
    for packet in read(path):
        yield dissect(packet.data, packet.link_type)


def read_dpkt(path: Path) -> Iterator[object]:
    with path.open("rb") as file:
        for _, data in dpkt.pcap.Reader(file):
            yield dpkt.ethernet.Ethernet(data)


def read_scapy(path: Path) -> Iterator[object]:
    with PcapReader(str(path)) as packets:
        yield from packets


def ports_of(found: object) -> tuple[int, int] | None:
    """The ports that a library found in a packet, None for none."""
    if isinstance(found, dpkt.ethernet.Ethernet):
        transport = found.data.data
        known = isinstance(transport, dpkt.tcp.TCP | dpkt.udp.UDP)
        return (transport.sport, transport.dport) if known else None
    if isinstance(found, Ether):
        transport = found.payload.payload
        return (transport.sport, transport.dport) if hasattr(transport, "sport") else None
    assert isinstance(found, Dissection)
    last = found.layers[-1]
    return (last.src_port, last.dst_port) if isinstance(last, UDPHeader | TCPHeader) else None


TSHARK_FIELDS = ["-T", "fields", "-e", "ip.src", "-e", "tcp.srcport", "-e", "udp.srcport"]
READERS = {"rawproto": read_rawproto, "dpkt": read_dpkt, "scapy": read_scapy}


def check_readers(path: Path, count: int) -> None:
    """Raises SystemExit where the libraries don't read the same ports."""
    found = {
        name: [ports_of(each) for each in islice(packets(path), count)]
        for name, packets in READERS.items()
    }
    if not found["rawproto"] == found["dpkt"] == found["scapy"] or None not in found["dpkt"]:
        raise SystemExit("not all read the same ports")


def exhaust(packets: Iterable[object]) -> None:
    for _ in packets:
        pass


def process_cpu_ns(command: list[str]) -> float:
    """CPU time of a whole process in ns, its output thrown away.

    Raises:
        SystemExit: it failed.
    """
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1e9


def read_file(path: Path, count: int, rounds: int) -> Times:
    """CPU time in ns a packet of reading it with all layers parsed, by tool and round."""
    few, some = count // SCAPY_SHARE, count // TSHARK_SHARE
    tshark = ["tshark", "-n", "-c", str(some), "-r", str(path), *TSHARK_FIELDS]
    peers: dict[str, Callable[[], float]] = {
        "rawproto": lambda: measure_cpu_ns(lambda: exhaust(read_rawproto(path)), 1) / count,
        "dpkt": lambda: measure_cpu_ns(lambda: exhaust(read_dpkt(path)), 1) / count,
        "scapy": lambda: measure_cpu_ns(lambda: exhaust(islice(read_scapy(path), few)), 1) / few,
    }
    if has("tshark"):
        peers["tshark"] = lambda: process_cpu_ns(tshark) / some
    return interleave(peers, rounds)


def write_file(path: Path, packets: list[CapturedPacket], rounds: int) -> Times:
    """CPU time in ns a packet of writing them, by library and round."""

    def with_dpkt() -> None:
        with path.open("wb") as file:
            put = dpkt.pcap.Writer(file).writepkt
            for packet in packets:
                put(packet.data, packet.time_ns / 1e9)

    def with_scapy() -> None:
        with RawPcapWriter(str(path), linktype=1) as opened:
            opened.write_header(None)
            for packet in packets:
                seconds, rest_ns = divmod(packet.time_ns, 1_000_000_000)
                opened.write_packet(packet.data, sec=seconds, usec=rest_ns // 1000)

    calls = {
        "rawproto": lambda: write(path, packets),
        "dpkt": with_dpkt,
        "scapy, undecoded": with_scapy,
    }
    for name, call in calls.items():
        call()
        if [packet.data for packet in read(path)] != [packet.data for packet in packets]:
            raise SystemExit(f"{name} does not write the packets")
    timed: dict[str, Callable[[], float]] = {
        name: partial(_per_packet, call, len(packets)) for name, call in calls.items()
    }
    return interleave(timed, rounds)


def _per_packet(call: Callable[[], object], count: int) -> float:
    return measure_cpu_ns(call, 1) / count


# --- at the prompt -------------------------------------------------------------------------------

COMMANDS = {
    "decode": {
        "rawproto": [RAWPROTO, "decode"],
        "tcpdump": ["tcpdump", "-nn", "-r"],
        "tshark": ["tshark", "-n", "-r"],
    },
    "decode -v": {
        "rawproto": [RAWPROTO, "decode", "-v"],
        "tcpdump": ["tcpdump", "-nn", "-v", "-r"],
        "tshark": ["tshark", "-n", "-V", "-r"],
    },
    "decode --json": {
        "rawproto": [RAWPROTO, "decode", "--json"],
        "tshark": ["tshark", "-n", "-T", "json", "-r"],
    },
}


def at_the_prompt(path: Path, count: int, rounds: int) -> dict[str, Times]:
    """CPU time in ns a packet of whole processes, by what they write, tool and round."""
    return {
        what: interleave(
            {
                name: partial(_process_per_packet, [*command, str(path)], count)
                for name, command in peers.items()
                if has(command[0])
            },
            rounds,
        )
        for what, peers in COMMANDS.items()
    }


def _process_per_packet(command: list[str], count: int) -> float:
    return process_cpu_ns(command) / count


def has(tool: str) -> bool:
    """Whether it is installed: what is not there is left out."""
    try:
        subprocess.run([tool, "--version"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return True


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    count = 5000 if arguments.quick else 1_000_000
    print(f"whole packets, and a pcap of {count}; CPU time")
    print(machine() + "\n")
    measured: dict[str, Times] = {}
    measured["build"], measured["parse"] = one_packet(1 if arguments.quick else 31)
    with tempfile.TemporaryDirectory() as name:
        path, scratch = Path(name) / "mixed.pcap", Path(name) / "scratch.pcap"
        packets = list(mixed_packets(min(count, 20_000)))
        size = sum(map(len, packets)) / len(packets)
        write(path, repeated(packets, count))
        check_readers(path, 2000)
        measured["read pcap, parsed"] = read_file(path, count, 1)
        many = list(repeated(packets, count // 10))
        measured["write pcap"] = write_file(scratch, many, 1 if arguments.quick else 7)
        some = min(count, 30_000)
        write(path, repeated(packets, some))
        measured |= at_the_prompt(path, some, 1)
    rows = [
        [
            what,
            peer,
            f"{median(values) / 1000:.2f} us",
            f"{median_ratio(values, times['rawproto']):.2f}",
        ]
        for what, times in measured.items()
        for peer, values in times.items()
    ]
    print(f"the pcap's packets have {size:.0f} bytes on average")
    print(table(["what", "with", "one packet", "x rawproto"], rows))
    return conclude(criteria(measured), strict=arguments.strict)


def criteria(measured: dict[str, Times]) -> list[Criterion]:
    """What is promised."""
    return [
        at_least(
            f"{what}: times as fast as {peer}",
            median_ratio(measured[what][peer], measured[what]["rawproto"]),
            bound,
        )
        for what, peer, bound in (
            ("read pcap, parsed", "dpkt", PARSE_OVER_DPKT),
            ("read pcap, parsed", "scapy", PARSE_OVER_SCAPY),
            ("write pcap", "dpkt", WRITE_OVER_DPKT),
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
