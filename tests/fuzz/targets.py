"""What is fuzzed: each target takes any bytes and holds the promises of one reader.

The promises are those of docs/architecture.md: a parser raises WireError and
nothing else, `dissect` and what shows its findings raise nothing, and what was
parsed emits the same bytes again. A broken promise is any other exception.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from io import BytesIO
from itertools import islice
from typing import Any

from rawproto.capture.files import read
from rawproto.errors import EmitError, UsageError, WireError
from rawproto.filter.assembler import assemble, disassemble
from rawproto.filter.compiler import SNAP_LENGTH, FilterError, compile_filter
from rawproto.filter.grammar import parse
from rawproto.filter.interpreter import run
from rawproto.filter.words import describe
from rawproto.lab.forwarding import Forwarder
from rawproto.lab.routers import plan_routers, router_config
from rawproto.lab.topology import Route, Topology, chain
from rawproto.packets.conversations import Conversations, transport
from rawproto.packets.made import captured
from rawproto.packets.notation import MAX_PACKETS, NotationError, craft
from rawproto.packets.python import python_code
from rawproto.packets.reassembly import Reassembler
from rawproto.packets.rewrite import Rewrite
from rawproto.packets.statistics import Statistics
from rawproto.packets.streams import StreamData, StreamGap, TCPStream
from rawproto.transport.key_log import KeyLog
from rawproto.transport.noise import AES_GCM
from rawproto.transport.opened import Sessions
from rawproto.transport.protection import Keys
from rawproto.wire.arp import ARPMessage
from rawproto.wire.checksum import internet_checksum
from rawproto.wire.cooked import LinuxCooked, LinuxCooked2, LoopbackHeader
from rawproto.wire.diagram import diagram
from rawproto.wire.dissect import LINK_TYPES, RAW, Dissection, checksums, dissect
from rawproto.wire.dns import DNSMessage
from rawproto.wire.dns_rdata import UnknownData
from rawproto.wire.ethernet import EthernetHeader, VLANTag
from rawproto.wire.fragment import fragment_ipv4, fragment_ipv6
from rawproto.wire.frame_words import frames_words
from rawproto.wire.icmp import parse_icmp, peek_echo
from rawproto.wire.icmp_ext import ICMPExtensions
from rawproto.wire.icmpv6 import parse_icmpv6
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.ipv6_chain import upper_layer, walk
from rawproto.wire.ipv6_ext import (
    DestinationOptions,
    FragmentHeader,
    HopByHopOptions,
    parse_routing,
)
from rawproto.wire.layer import Layer
from rawproto.wire.rpt import SHORT, VERSION_1, RPTLong, parse_rpt
from rawproto.wire.rpt_frames import CloseFrame, emit_frames, parse_frames
from rawproto.wire.show import fields, hexdump, summary
from rawproto.wire.tcp import TCPHeader
from rawproto.wire.udp import UDPHeader
from tests.fuzz.rpt_targets import RPT_TARGETS

__all__ = ["TARGETS"]

TARGETS: dict[str, Callable[[bytes], None]] = dict(RPT_TARGETS)


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Lists a function as a target, under its name."""
    TARGETS[function.__name__] = function
    return function


def holds(parse: Callable[[bytes], tuple[Layer, bytes]], data: bytes) -> None:
    """Parses; what was parsed emits again the bytes that it took."""
    try:
        layer, payload = parse(data)
    except WireError as error:
        assert error.layer, "a WireError names its layer"
        assert error.offset >= 0, "a WireError says where"
        return
    emitted = layer.emit(payload)
    # Behind what a length covers there may be more, which is neither header nor payload.
    assert data.startswith(emitted), f"{emitted.hex()} is not how {data.hex()} begins"


@target
def ethernet(data: bytes) -> None:
    holds(EthernetHeader.parse, data)
    holds(VLANTag.parse, data)


@target
def cooked(data: bytes) -> None:
    holds(LinuxCooked.parse, data)
    holds(LinuxCooked2.parse, data)
    holds(LoopbackHeader.parse, data)


@target
def arp(data: bytes) -> None:
    holds(ARPMessage.parse, data)


@target
def ipv4(data: bytes) -> None:
    holds(IPv4Header.parse, data)
    try:
        IPv4Header.verify(data)
    except WireError:
        return


@target
def ipv6(data: bytes) -> None:
    holds(IPv6Header.parse, data)


@target
def ipv6_ext(data: bytes) -> None:
    holds(HopByHopOptions.parse, data)
    holds(DestinationOptions.parse, data)
    holds(parse_routing, data)
    holds(FragmentHeader.parse, data)
    for next_header in (0, 43, 44, 51, 60):
        assert all(at <= len(data) for _, at in walk(next_header, data))
        upper_layer(next_header, data)


@target
def fragment(data: bytes) -> None:
    """The first two bytes are the MTU."""
    mtu, packet = int.from_bytes(data[:2], "big"), data[2:]
    for cut in (
        lambda: fragment_ipv4(packet, mtu),
        lambda: fragment_ipv6(packet, mtu, identification=1),
    ):
        try:
            pieces = cut()
        except (WireError, EmitError):
            continue
        assert all(len(piece) <= mtu for piece in pieces)


@target
def udp(data: bytes) -> None:
    holds(UDPHeader.parse, data)


@target
def tcp(data: bytes) -> None:
    holds(TCPHeader.parse, data)


@target
def icmp(data: bytes) -> None:
    holds(parse_icmp, data)
    peek_echo(data)


@target
def icmpv6(data: bytes) -> None:
    holds(parse_icmpv6, data)


@target
def icmp_ext(data: bytes) -> None:
    holds(ICMPExtensions.parse, data)


@target
def dns(data: bytes) -> None:
    holds(DNSMessage.parse, data)
    try:
        message, _ = DNSMessage.parse(data)
    except WireError:
        return
    records = (*message.answers, *message.authorities, *message.additionals)
    if any(isinstance(getattr(each, "rdata", None), UnknownData) for each in records):
        return  # there may be pointers in it, which mean something else in another layout
    # However its names were written, whole and compressed they must mean the same.
    message = message.recomputed()
    for compress in (False, True):
        try:
            again, rest = DNSMessage.parse(message.emit(compress=compress))
        except EmitError:
            # Only a section that outgrew its 16 bits may be refused.
            assert len(data) > 4096
            continue
        assert again.recomputed() == message
        assert rest == b""


@target
def rpt(data: bytes) -> None:
    holds(parse_rpt, data)
    RPTLong.verify(data)


@target
def rpt_frames(data: bytes) -> None:
    try:
        frames = parse_frames(data)
    except WireError as error:
        assert 0 <= error.offset < len(data)
        return
    assert frames_words(frames).isprintable()
    # A reason that is no UTF-8 is read with marks in its place.
    if not any(isinstance(frame, CloseFrame) for frame in frames):
        assert emit_frames(frames) == data


@target
def rpt_opened(data: bytes) -> None:
    """Packets of a capture; where the first byte is odd, frames that are sealed with its keys."""
    secret = bytes(32)
    keys = Keys(secret, AES_GCM)
    sessions = Sessions(KeyLog(f"RPT_SERVER_SECRET {1:016x} {secret.hex()}".encode()))
    for number, packet in enumerate([b"\1\0", *_packets(data)]):
        how, inside = (packet or b"\0")[0], packet[1:]
        if not how & 1:
            sessions.read(inside, certain=bool(how & 2))
            continue
        header = SHORT.pack(VERSION_1, 1, 50_000, 4000, 1, number)
        sealed = keys.aead.encrypt(keys.nonce(number), inside, header)
        reading = sessions.read(header + sealed, certain=bool(how & 2))
        assert reading is not None, "the log knows the client's CID"
        assert (reading.number, reading.plaintext) == (number, inside), "nothing keeps it shut"
        assert reading.damage or sum(len(each.emit()) for each in reading.frames) >= len(inside)


_LINK_TYPES = (*LINK_TYPES, 147)


def dissected(data: bytes) -> Dissection:
    """The first byte picks the link type, one of them unknown."""
    return dissect(data[1:], _LINK_TYPES[(data or b"\0")[0] % len(_LINK_TYPES)])


@target
def dissection(data: bytes) -> None:
    found = dissected(data)
    assert found.packet.emit() + found.trailer == data[1:]
    end = 0
    for begin, after in found.spans:
        assert begin == end <= after <= len(found.data)
        end = after
    assert end == found.payload_offset
    checksums(found)


@target
def show(data: bytes) -> None:
    found = dissected(data)
    assert summary(found).isprintable(), "nothing that steers a terminal"
    for layer in found.layers:
        assert diagram(layer)
        assert json.loads(json.dumps(fields(layer)))["layer"] == layer.layer
    assert hexdump(found.payload).isascii()


@target
def capture(data: bytes) -> None:
    """A file of either format; reading ends at the first damage and raises nothing."""
    try:
        reader = read(BytesIO(data))
    except WireError:
        return
    with reader:
        for packet in reader:
            assert isinstance(packet.time_ns, int)
            assert 0 <= packet.interface < len(reader.interfaces)


@target
def craft_notation(data: bytes) -> None:
    """An expression, as bytes of a command line: refused with its place, or it makes packets."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        expression = craft(text, read_file=lambda name: b"file", rng=random.Random(0))
    except NotationError as error:
        assert 0 <= error.position <= len(text)
        assert str(error).isprintable(), "one line that steers no terminal"
        return
    assert len(expression) <= MAX_PACKETS
    for packet in islice(expression, 3):
        try:
            emitted = packet.emit()
        except EmitError:
            continue
        names: dict[str, Any] = {}
        exec(python_code([packet]), names)
        assert names["packet"] == packet
        assert names["packet"].emit() == emitted
        with suppress(UsageError):
            assert captured(packet).data.endswith(emitted)


@target
def filter_program(data: bytes) -> None:
    """A program's text, then a zero byte and a packet for it."""
    text, _, packet = data.partition(b"\0")
    try:
        program = assemble(text.decode("latin-1"))
    except UsageError:
        return
    # Jumps of what is no jump mean nothing and have no text, so texts are compared.
    listing = disassemble(program)
    again = assemble(listing)
    assert disassemble(again) == listing
    assert 0 <= run(program, packet) == run(again, packet) < 1 << 32


@target
def filter_expression(data: bytes) -> None:
    """The first byte picks the link type; an expression, then a zero byte and a packet for it."""
    text, _, packet = data[1:].partition(b"\0")
    expression = text.decode("latin-1")
    link_type = _LINK_TYPES[(data or b"\0")[0] % len(_LINK_TYPES)]
    try:
        program = compile_filter(expression, link_type=link_type, live=len(data) % 2 == 1)
    except FilterError as error:
        shown = str(error)
        assert shown.replace("\n", "").isprintable(), "nothing that steers a terminal"
        assert len(shown.splitlines()) == 3
        assert 0 <= error.position <= len(expression)
        return
    except UsageError:
        assert link_type not in LINK_TYPES
        return
    # Making a program checks it, as the kernel would.
    assert run(program, packet) in (0, SNAP_LENGTH)
    assert assemble(disassemble(program)) == program
    assert describe(expression, parse(expression))


def admitted(packet: bytes) -> bytes:
    """A packet with the length and the header checksum that let it into a router."""
    data = bytearray(packet)
    end = (data[0] & 0x0F) * 4 if data else 0
    if data[:1] and data[0] >> 4 == 4 and 20 <= end <= len(data) < 1 << 16:
        data[2:4] = len(data).to_bytes(2, "big")
        data[10:12] = bytes(2)
        data[10:12] = internet_checksum(bytes(data[:end])).to_bytes(2, "big")
    elif 40 <= len(data) < 1 << 16:
        data[4:6] = (len(data) - 40).to_bytes(2, "big")
    return bytes(data)


@cache
def _routers() -> list[Forwarder]:
    """Our own router, with all that it can do to packets, and a route to everywhere."""
    plain = chain(4)
    routes = tuple(
        Route(host=name, destination=everywhere, gateways=(gateway,))
        for name, link in (("r1", 2), ("r2", 3))
        for everywhere, gateway in (
            ("0.0.0.0/0", f"10.99.{link}.2"),
            ("::/0", f"fd99:{link}::2"),
        )
    )
    lab = Topology(name="fuzz", hosts=plain.hosts, links=plain.links, routes=routes).misbehaving(
        "r1:nat=addresses,mtu=600,drop-ptb", "r2:nat,mpls=1/2,interface-info,balance=packet"
    )
    plan = plan_routers(lab)
    return [Forwarder(router_config(lab, one, plan.tables[one.name])) for one in plan.routers]


@target
def router(data: bytes) -> None:
    """The port that it comes in by, then a packet, as it is and as it gets in."""
    for one in _routers():
        for packet in (data[1:], admitted(data[1:])):
            for leaving in one.handle(packet, (data or b"\0")[0] & 1):
                assert leaving.port < 2
                assert len(leaving.packet) <= 1500
                assert leaving.packet[0] >> 4 == packet[0] >> 4


def _packets(data: bytes) -> list[bytes]:
    """Packets one behind the other, each with its length in two bytes before it."""
    found = []
    while len(data) > 2 and len(found) < 64:
        end = 2 + int.from_bytes(data[:2], "big")
        found.append(data[2:end])
        data = data[end:]
    return found


@target
def reassembly(data: bytes) -> None:
    """IP packets: what is made of their fragments is sound, what is held is bounded."""
    reassembler = Reassembler(max_bytes=4096, max_packets=8)
    for now, packet in enumerate(_packets(data)):
        whole = reassembler.whole(dissect(packet, RAW), now)
        assert reassembler.held_bytes <= 4096
        assert len(reassembler) <= 8
        if whole is not None:
            assert not whole.fragment
            assert whole.packet.emit() + whole.trailer == whole.data
    reassembler.end(0)
    assert (len(reassembler), reassembler.held_bytes) == (0, 0)
    while trouble := reassembler.poll_trouble():
        assert str(trouble).isprintable()


@target
def streams(data: bytes) -> None:
    """IP packets: TCP's bytes come out in order, each once, with the gaps between them."""
    table, statistics = Conversations("tcp", max_conversations=4), Statistics(max_conversations=4)
    following: dict[int, TCPStream] = {}
    events: dict[tuple[int, int], int] = {}

    def told(number: int, said: list[StreamData | StreamGap]) -> None:
        for each in said:
            at = events.get((number, each.side), 0)
            assert each.offset == at, "nothing is left out, nothing comes twice"
            length = each.length if isinstance(each, StreamGap) else len(each.data)
            assert length > 0
            events[number, each.side] = at + length

    for now, packet in enumerate(_packets(data)):
        found = dissect(packet, RAW)
        statistics.add(found, None if found.fragment else found, len(packet), now)
        carried = transport(found)
        if carried is None or not isinstance(carried.header, TCPHeader):
            continue
        known = table.add(carried.src_addr, carried.dst_addr, now, carried.header)
        if known is None:
            continue
        number, side = known[0].number, known[1]
        stream = following.setdefault(number, TCPStream(max_waiting_bytes=4096))
        told(number, stream.add(side, carried.header, carried.data, carried.length, now))
        assert all(each.waiting_bytes <= 4096 for each in stream.sides)
    for number, stream in following.items():
        told(number, stream.end(0))
        assert all(each.waiting_bytes == 0 for each in stream.sides)


def _rewrites() -> tuple[Rewrite, Rewrite]:
    """Of everything, and back; the networks are those of the golden captures."""
    networks = (
        ("192.0.2.0/24", "10.9.0.0/24"),
        ("2001:db8::/32", "fd99::/32"),
        ("198.51.100.0/24", "10.8.0.0/24"),
    )
    ports, macs = ("80", "8080"), ("02:00:00:00:00:01", "02:00:00:00:99:01")
    there, back = (
        Rewrite(
            addresses=["=".join(pair[::step]) for pair in networks],
            ports=["=".join(ports[::step])],
            macs=["=".join(macs[::step])],
        )
        for step in (1, -1)
    )
    return there, back


@target
def rewrite(data: bytes) -> None:
    """The first byte picks the link type: as long as it was, no checksum goes wrong or right."""
    link_type = _LINK_TYPES[(data or b"\0")[0] % len(_LINK_TYPES)]
    packet = data[1:]
    there, back = _rewrites()
    changed = there.apply(packet, link_type)
    assert len(changed) == len(packet)
    assert len(back.apply(changed, link_type)) == len(packet)
    before, after = dissect(packet, link_type), dissect(changed, link_type)
    assert [type(layer) for layer in before.layers] == [type(layer) for layer in after.layers]
    assert checksums(before) == checksums(after)
    mended = Rewrite(mend_all=True).apply(packet, link_type)
    assert len(mended) == len(packet)
