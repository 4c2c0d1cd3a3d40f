"""Domain names: text and wire, and what a hostile message tries with pointers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import dns_encode, dns_get_str

from rawproto.errors import EmitError, MalformedError, TruncatedError
from rawproto.wire.dns_name import (
    MAX_POINTERS,
    NameReader,
    NameWriter,
    Shape,
    join_labels,
    split_name,
)

HEADER = bytes(12)

labels = st.lists(st.binary(min_size=1, max_size=63), max_size=3).map(tuple)
plain_label = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_", min_size=1, max_size=20)
plain_names = st.lists(plain_label, min_size=1, max_size=6).map(lambda each: ".".join(each) + ".")


def wire(name: str) -> bytes:
    writer = NameWriter()
    writer.write(name)
    return bytes(writer.data)


@given(plain_names)
def test_name_agrees_with_scapy(name: str) -> None:
    data = wire(name)
    assert data == dns_encode(name.encode())
    assert dns_get_str(data)[0] == name.encode()
    assert NameReader(HEADER + data).read(12) == (name, 12 + len(data))


@given(labels)
def test_any_bytes_survive_the_way_through_text(each: tuple[bytes, ...]) -> None:
    text = join_labels(each)
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    assert split_name(text) == each
    assert NameReader(HEADER + wire(text)).read(12)[0] == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (".", ()),
        ("", ()),
        ("example.com", (b"example", b"com")),
        ("example.com.", (b"example", b"com")),
        ("a\\.b.c.", (b"a.b", b"c")),
        ("a\\\\b.", (b"a\\b",)),
        ("\\000\\255.", (b"\x00\xff",)),
        ("a\\032b.", (b"a b",)),
        ("\\@.", (b"@",)),
        ("a\\.", (b"a.",)),
    ],
)
def test_escapes_are_those_of_rfc_1035(text: str, expected: tuple[bytes, ...]) -> None:
    assert split_name(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("..", "1 to 63"),
        (".a", "1 to 63"),
        ("a..b", "1 to 63"),
        ("x" * 64 + ".", "1 to 63"),
        (".".join(["x" * 63] * 4), "more than 255 bytes"),
        ("a\\", "escapes nothing"),
        ("a\\25", "escapes nothing"),
        ("a\\ b", "escapes nothing"),
        ("\\256", "no byte"),
        ("bücher.example.", "A-label"),
        (None, "ASCII"),
    ],
)
def test_name_that_cannot_be_written_is_refused(text: str, words: str) -> None:
    with pytest.raises(EmitError, match=words):
        split_name(text)


def test_longest_name_is_255_bytes() -> None:
    name = ".".join(["x" * 63] * 3 + ["y" * 61]) + "."
    data = wire(name)
    assert len(data) == 255
    assert NameReader(HEADER + data).read(12) == (name, 267)
    too_long = data[:192] + b"\x3e" + b"y" * 62 + b"\x00"
    assert len(too_long) == 256
    with pytest.raises(MalformedError, match="more than 255 bytes"):
        NameReader(HEADER + too_long).read(12)


def test_pointer_is_followed_and_remembered() -> None:
    # example.com. at 12, www.<12> at 25, <25> at 31, <the root of the first> at 33
    data = HEADER + b"\x07example\x03com\x00" + b"\x03www\xc0\x0c" + b"\xc0\x19" + b"\xc0\x18"
    names = NameReader(data)
    assert names.read(12) == ("example.com.", 25)
    assert names.read(25) == ("www.example.com.", 31)
    assert names.read(31) == ("www.example.com.", 33)
    assert names.read(33) == (".", 35)
    assert names.shapes == [None, Shape(1, 12), Shape(0, 25), Shape(0, 24)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xc0\x0c", "pointer to 12"),  # to itself
        (b"\x01a\xc0\x0c", "pointer to 12"),  # to its own labels
        (b"\xc0\x0e\xc0\x0c", "pointer to 14"),  # to each other
        (b"\xc0\x0e\x01a\x00", "pointer to 14"),  # forward
        (b"\xff\xff", "pointer to 16383"),  # out of the message
        (b"\xc0\x00", "pointer to 0"),  # into the header
        (b"\xc0\x0b", "pointer to 11"),
        (b"\x40a", "label type 1"),
        (b"\x80a", "label type 2"),
    ],
)
def test_pointer_that_leads_nowhere_good_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(MalformedError, match=words):
        NameReader(HEADER + data).read(12)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01a", b"\x03ab", b"\xc0"])
def test_name_cut_short_is_refused(data: bytes) -> None:
    with pytest.raises(TruncatedError):
        NameReader(HEADER + data).read(12)


def test_pointers_are_followed_as_often_as_a_name_has_labels() -> None:
    # At 12 the root, then a chain in which each pointer leads to the one before.
    data = HEADER + b"\x00"
    target = 12
    for _ in range(MAX_POINTERS + 1):
        target, data = len(data), data + (0xC000 | target).to_bytes(2, "big")
    names = NameReader(data)
    assert names.read(target - 2) == (".", target)
    with pytest.raises(MalformedError, match="more than 127 pointers"):
        names.read(target)


def test_names_of_a_whole_message_of_pointers_stay_within_their_bounds() -> None:
    # 126 labels, then pointers to all of them: each name is as long as a name can be.
    data = HEADER + b"\x01a" * 126 + b"\x00" + b"\xc0\x0c" * 8000
    names = NameReader(data)
    at = 12 + 253
    count = 0
    while at < len(data):
        text, at = names.read(at)
        count += len(text) == 252
    assert count == 8000


@given(st.binary(max_size=80), st.integers(0, 91))
def test_any_bytes_give_a_name_or_a_wire_error(data: bytes, at: int) -> None:
    names = NameReader(HEADER + data)
    try:
        text, behind = names.read(at)
    except (MalformedError, TruncatedError) as error:
        assert error.layer == "dns"
        assert names.shapes == []
        return
    assert at < behind <= 12 + len(data)
    assert sum(map(len, split_name(text))) <= 254


@given(st.lists(plain_names, max_size=6))
def test_compressed_names_read_the_same_and_are_no_longer(each: list[str]) -> None:
    compressed, whole = NameWriter(compress=True), NameWriter()
    for writer in (compressed, whole):
        writer.data += HEADER
        for name in each:
            writer.write(name)
    assert len(compressed.data) <= len(whole.data)
    names = NameReader(bytes(compressed.data))
    at = 12
    for name in each:
        text, at = names.read(at)
        assert text == name
    again = NameWriter(shapes=names.shapes)
    again.data += HEADER
    for name in each:
        again.write(name)
    assert again.data == compressed.data


def test_tail_that_went_before_is_pointed_to_but_only_in_its_own_case() -> None:
    writer = NameWriter(compress=True)
    writer.data += HEADER
    for name in ("a.example.", "b.example.", "b.EXAMPLE.", "."):
        writer.write(name)
    assert (
        writer.data[12:] == b"\x01a\x07example\x00" + b"\x01b\xc0\x0e" + b"\x01b\x07EXAMPLE\x00\x00"
    )


def test_incompressible_name_is_whole_but_may_be_pointed_to() -> None:
    writer = NameWriter(compress=True)
    writer.data += HEADER
    writer.write("example.")
    writer.write("a.example.", compressible=False)
    writer.write("a.example.")
    assert writer.data[12:] == b"\x07example\x00" + b"\x01a\x07example\x00" + b"\xc0\x15"


def test_no_pointer_leads_beyond_14_bits() -> None:
    writer = NameWriter(compress=True)
    writer.data += bytes(0x3FFF)
    writer.write("a.b.")
    writer.write("a.b.")
    writer.write("b.")
    assert writer.data[0x3FFF:] == b"\x01a\x01b\x00" + b"\xff\xff" + b"\x01b\x00"


def test_name_behind_many_pointers_is_read_once() -> None:
    tail = b"".join(bytes((1, 97 + number % 26)) for number in range(120)) + b"\0"
    data = HEADER + tail + b"\xc0\x0c" * 5000 + b"\x01z\xc0\x0c" + b"\x0f" + bytes(15) + b"\xc0\x0c"
    names = NameReader(data)
    whole, at = names.read(12)
    first, at = names.read(at)
    assert first == whole
    # What stands at a pointer's target is remembered: the bytes there are not read again.
    names.data = data[:12] + bytes(len(tail)) + data[12 + len(tail) :]
    for _ in range(4999):
        again, at = names.read(at)
        assert again == whole
    assert names.read(at)[0] == f"z.{whole}"
    with pytest.raises(MalformedError, match="more than 255 bytes"):
        names.read(at + 4)
