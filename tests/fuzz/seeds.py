"""Where fuzzing begins: the golden captures taken apart, and corpus/, what fuzzing found since."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rawproto.wire.dissect import LINK_TYPES, dissect
from tests.captures.make import CAPTURES, DIRECTORY

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


@cache
def _from_captures() -> dict[str, tuple[bytes, ...]]:
    found: dict[str, list[bytes]] = {}
    for name, capture in CAPTURES.items():
        found.setdefault("capture", []).append((DIRECTORY / name).read_bytes())
        link_byte = bytes((list(LINK_TYPES).index(capture.link_type),))
        for golden in capture.packets():
            data = golden.captured
            for target in ("dissection", "show"):
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
    found["filter_program"] = [text.encode() + b"\0" + bytes(64) for text in _PROGRAMS]
    return {target: tuple(dict.fromkeys(each)) for target, each in found.items()}


def seeds(target: str) -> Iterator[tuple[str, bytes]]:
    """Each seed of a target: (its name, its bytes)."""
    for number, data in enumerate(_from_captures().get(target, ())):
        yield f"golden-{number}", data
    for path in sorted((CORPUS / target).glob("*")):
        yield path.name, path.read_bytes()
