"""Where fuzzing begins: the golden captures taken apart, and corpus/, what fuzzing found since."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rawproto.transport.parameters import Parameters
from rawproto.wire.dissect import LINK_TYPES, dissect
from rawproto.wire.rpt import parse_rpt
from tests.captures.make import CAPTURES, DIRECTORY
from tests.filter.expressions import EXPRESSIONS
from tests.fuzz.rpt_targets import genuine_handshakes, genuine_token
from tests.transport.vectors import FRAMES

__all__ = ["CORPUS", "seeds"]

CORPUS = Path(__file__).parent / "corpus"

# The target that reads a layer, by the layer's name.
_TARGETS = {
    "ethernet": "ethernet",
    "cooked": "cooked",
    "arp": "arp",
    "ipv4": "ipv4",
    "ipv6": "ipv6",
    "ipv6_ext": "ipv6_ext",
    "icmp": "icmp",
    "icmpv6": "icmpv6",
    "udp": "udp",
    "tcp": "tcp",
    "dns": "dns",
    "rpt": "rpt",
}

# Golden captures of IP over Ethernet that the targets of whole conversations begin with.
_TOGETHER = {
    "reassembly": ("ipv4-fragments.pcap", "ipv6-extension-headers.pcap", "odd-fragments.pcap"),
    "streams": ("tcp.pcap",),
}

_PROGRAMS = (
    """ldh [12]
    jne #0x800, drop
    ldxb 4*([14]&0xf)
    ldh [x + 16]
    jeq #53, ok, drop
    ok: ret #-1
    drop: ret #0""",
    """(000) ldh      [12]
    (001) jeq      #0x800           jt 2\tjf 3
    (002) ret      #262144
    (003) ret      #0""",
    "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n",
    "{ 0x28, 0, 0, 0x0000000c },\n{ 0x6, 0, 0, 0x00040000 },\n",
    "ld #ifidx\nst M[0]\nldx M[0]\ntxa\nadd #1\nret a\n",
)

_EXPRESSIONS = (
    (
        "ipv4 dst_addr=10.0.0.0/30 ttl=1..2/tcp dst_port={22,80..81} flags=SYN,ACK checksum=0xbad "
        "options=[mss=1460,nop,sack_permitted,timestamps(1,tsecr=2),sack=(1,2),unknown(9,hex:00)]"
    ),
    'ethernet / vlan vid=5 / ipv6 dst_addr=::1 / icmpv6 / text:"a\\x00b" / random:3',
    (
        "ipv4 / icmp icmp_type=time_exceeded original_datagram=[ipv4 / udp / text:abc] "
        "extensions=[mpls=[1,(label=2,ttl=3)],interface_information(role=outgoing,if_name=eth0)]"
    ),
    (
        "ipv4 / udp dst_port=53 / dns questions=(a.example,AAAA) qr=yes "
        'answers=[A(name=a,address=10.0.0.1),TXT(name=b,strings=["x",hex:00])] additionals=OPT'
    ),
    (
        "ipv6 / ipv6_hop_by_hop options=router_alert,jumbo_payload=9 / ipv6_routing routing_type=4 "
        "segment_list=::1 / ipv6_fragment flags=MF / file:x"
    ),
    "arp sender_hardware_addr=random operation={1,reply}",
    "icmp icmp_type={0,8,13} identifier=5",
    "ipv4 options=[timestamp(flag=1,entries=[(10.0.0.1,5),(none,6)]),record_route=0.0.0.0]",
    "cooked address=0x0102030405060708 / ipv4 protocol=auto ecn=ect_1",
    "hex:4500 / 'quoted'",
    "ipv4 / rpt_version versions=[1,2]",
)


def _from_rpt() -> dict[str, list[bytes]]:
    """RPT's packets, frames and handshakes, made by our own code."""
    handshakes = genuine_handshakes()
    packets = [packet for each in handshakes.values() for packet in each if packet]
    frames = [frame.emit() for _, frame in FRAMES]
    messages = []
    for at, pattern in enumerate(sorted(handshakes)):
        for number, packet in enumerate(handshakes[pattern]):
            if packet:
                message = getattr(parse_rpt(packet)[0], "message", b"")
                messages.append(bytes((at + 4 * number,)) + message)
    parameters = [
        Parameters(connection_id=1, reset_token=bytes(16), **more).emit()
        for more in ({}, {"original_cid": 5, "kind": 2, "max_message_bytes": 9})
    ]
    joined = [_joined([bytes((at * 4,)) + frame]) for at, frame in enumerate(frames)]
    return {
        "rpt": packets,
        "rpt_frames": [*frames, b"".join(frames[1:])],
        "rpt_opened": [
            _joined([b"\0" + each for each in packets]),
            *[_joined([b"\1" + frame]) for frame in frames],
        ],
        "rpt_parameters": parameters,
        "rpt_tokens": [genuine_token()],
        "rpt_handshake": messages,
        "rpt_endpoint": [
            *[b"\1" + _joined([each[:-4].rstrip(b"\0")] * 2) for each in packets],
            b"\0" + _joined([bytes((1,)) + bytes(60)]),
        ],
        "rpt_connection": [
            *[bytes((side,)) + each for each in joined for side in (0, 1)],
            *[bytes((side,)) + b"".join(joined[2:]) for side in (0, 1)],
        ],
        # Three bytes for each thing done: see the target.
        "rpt_operations": [
            bytes([0, 0, 100, 1, 0, 50, 4, 0, 40, 2, 0, 255, 3, 0, 255]),
            bytes([20, 0, 1, 0, 1, 200, 18, 0, 2, 4, 0, 30, 14, 0, 0, 8, 1, 7, 4, 0, 90]),
            bytes([0, 0, 255, 4, 0, 9, 22, 0, 255, 4, 0, 99]),
        ],
    }


def _joined(packets: list[bytes]) -> bytes:
    """Packets that belong together, each with its length before it."""
    return b"".join(len(each).to_bytes(2, "big") + each for each in packets)


@cache
def _from_captures() -> dict[str, tuple[bytes, ...]]:
    found: dict[str, list[bytes]] = {}
    for name, capture in CAPTURES.items():
        found.setdefault("capture", []).append((DIRECTORY / name).read_bytes())
        link_byte = bytes((list(LINK_TYPES).index(capture.link_type),))
        for golden in capture.packets():
            data = golden.captured
            for target in ("dissection", "show", "rewrite"):
                found.setdefault(target, []).append(link_byte + data)
            packet = dissect(data, capture.link_type)
            for layer, begin in zip(packet.layers, packet.offsets, strict=True):
                found.setdefault(_TARGETS[layer.layer], []).append(data[begin:])
                if layer.layer in {"ipv4", "ipv6"}:
                    found.setdefault("fragment", []).append(b"\x00\x60" + data[begin:])
                    found.setdefault("router", []).append(b"\x00" + data[begin:])
                extensions = getattr(layer, "extensions", None)
                if extensions is not None:
                    found.setdefault("icmp_ext", []).append(extensions.emit())
    found["craft_notation"] = [expression.encode() for expression in _EXPRESSIONS]
    found["filter_program"] = [text.encode() + b"\0" + bytes(64) for text in _PROGRAMS]
    found["filter_expression"] = [
        bytes((number % 10,)) + each.encode() + b"\0" + bytes(range(64))
        for number, each in enumerate(EXPRESSIONS)
    ]
    # Packets of one capture belong together, each with its length before it.
    for name, kinds in _TOGETHER.items():
        for at in kinds:
            capture = CAPTURES[at]
            packets = [dissect(each.captured, capture.link_type) for each in capture.packets()]
            inner = [each.data[each.offsets[1] :] for each in packets]
            found.setdefault(name, []).append(_joined(inner))
    for name, more in _from_rpt().items():
        found.setdefault(name, []).extend(more)
    return {target: tuple(dict.fromkeys(each)) for target, each in found.items()}


def seeds(target: str) -> Iterator[tuple[str, bytes]]:
    """Each seed of a target: (its name, its bytes)."""
    for number, data in enumerate(_from_captures().get(target, ())):
        yield f"golden-{number}", data
    for path in sorted((CORPUS / target).glob("*")):
        yield path.name, path.read_bytes()
