"""Every golden packet: decoded as it must be, as scapy does, and emitted again byte for byte."""

from __future__ import annotations

import pytest
from scapy.config import conf
from scapy.utils import RawPcapReader

from rawproto.capture import read
from rawproto.wire.dissect import Dissection, checksums, dissect
from rawproto.wire.layer import Packet
from tests.captures.golden import Capture, Golden
from tests.captures.make import CAPTURES, DIRECTORY, emit_file, emit_readme
from tests.captures.oracle import FIELDS, match, same_fields, scapy_layers
from tests.captures.packets_rpt import NAME as RPT_NAME

GOLDENS = [
    pytest.param(capture, golden, id=f"{name}-{number}")
    for name, capture in CAPTURES.items()
    for number, golden in enumerate(capture.packets(), 1)
]
each_golden = pytest.mark.parametrize(("capture", "golden"), GOLDENS)


def is_computed(golden: Golden) -> bool:
    """Whether all that can be computed is as computed: nothing wrong, nothing cut short."""
    return golden.computes and not golden.wrong and not golden.damaged


def found_in(capture: Capture, golden: Golden) -> Dissection:
    return dissect(golden.captured, capture.link_type)


def look_up(found: Dissection, path: str) -> object:
    """What stands at a path like `TCPHeader.options.0.mss`."""
    first, *rest = path.split(".")
    if first in {"payload", "trailer"}:
        return getattr(found, first)
    value: object = next(layer for layer in found.layers if type(layer).__name__ == first)
    for name in rest:
        value = value[int(name)] if name.isdigit() else getattr(value, name)  # type: ignore[index]
    return value


@pytest.mark.parametrize("name", CAPTURES)
def test_capture_is_what_the_script_writes(name: str) -> None:
    data = (DIRECTORY / name).read_bytes()
    assert emit_file(CAPTURES[name]) == data
    assert emit_file(CAPTURES[name]) == data, "a second run writes the same"


def test_readme_lists_every_capture() -> None:
    assert (DIRECTORY / "README.md").read_text() == emit_readme()
    listed = {*CAPTURES, RPT_NAME, "README.md"}
    assert {path.name for path in DIRECTORY.iterdir()} == listed


@pytest.mark.parametrize("name", CAPTURES)
def test_capture_holds_its_packets(name: str) -> None:
    goldens = list(CAPTURES[name].packets())
    with RawPcapReader(str(DIRECTORY / name)) as reader:
        assert reader.linktype == CAPTURES[name].link_type
        read = list(reader)
    assert [data for data, _ in read] == [golden.captured for golden in goldens]
    assert [about.wirelen for _, about in read] == [len(golden.wire) for golden in goldens]


@pytest.mark.parametrize("name", CAPTURES)
def test_our_reader_reads_what_scapys_does(name: str) -> None:
    with read(DIRECTORY / name) as ours, RawPcapReader(str(DIRECTORY / name)) as theirs:
        assert ours.link_type == theirs.linktype
        for packet, (data, about) in zip(ours, theirs, strict=True):
            assert packet.data == data
            assert packet.original_length == about.wirelen
            assert packet.time_ns == (about.sec * 1_000_000 + about.usec) * 1000
        assert ours.damage is None


@each_golden
def test_packet_decodes_to_what_was_put_down(capture: Capture, golden: Golden) -> None:
    found = found_in(capture, golden)
    assert " / ".join(type(layer).__name__ for layer in found.layers) == golden.stack
    for path, value in golden.expect.items():
        assert look_up(found, path) == value, path
    assert (found.damage is not None) == golden.damaged
    assert [index for index, right in checksums(found) if right is False] == list(golden.wrong)


@pytest.mark.parametrize(("capture", "golden"), [each for each in GOLDENS if each.values[1].stack])
def test_packet_decodes_as_scapy_decodes_it(capture: Capture, golden: Golden) -> None:
    found = found_in(capture, golden)
    theirs = scapy_layers(conf.l2types.num2layer[capture.link_type](golden.captured))
    for layer in found.layers[: golden.scapy_reads]:
        same_fields(layer, match(layer, theirs), golden.scapy_errs)


@each_golden
def test_packet_emits_again_byte_for_byte(capture: Capture, golden: Golden) -> None:
    found = found_in(capture, golden)
    assert found.packet.emit() + found.trailer == golden.captured


@pytest.mark.parametrize(
    ("capture", "golden"),
    [each for each in GOLDENS if is_computed(each.values[1])],
)
def test_computed_fields_come_to_what_they_were(capture: Capture, golden: Golden) -> None:
    found = found_in(capture, golden)
    layers = [layer.recomputed() if layer.computed else layer for layer in found.layers]
    assert Packet((*layers, found.payload)).emit() + found.trailer == golden.captured


def test_every_layer_of_wire_stands_in_a_capture() -> None:
    seen = {
        type(layer).__name__
        for capture in CAPTURES.values()
        for golden in capture.packets()
        for layer in found_in(capture, golden).layers
    }
    assert seen == set(FIELDS), "the oracle knows what the captures hold, and nothing else"
