"""The one's-complement sum against the RFC's own loop, scapy and incremental updates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import checksum as scapy_checksum

from rawproto.wire.checksum import (
    internet_checksum,
    ones_complement_sum,
    pseudo_header_sum,
    update_checksum,
)


def sum_by_words(data: bytes) -> int:
    """RFC 1071 section 4.1, word by word."""
    data += b"\0" * (len(data) % 2)
    total = sum(data[at] << 8 | data[at + 1] for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def test_example_of_rfc_1071() -> None:
    assert ones_complement_sum(bytes.fromhex("0001f203f4f5f6f7")) == 0xDDF2


@given(st.binary(max_size=200))
def test_equals_the_rfcs_loop_and_scapys(data: bytes) -> None:
    assert ones_complement_sum(data) == sum_by_words(data)
    assert internet_checksum(data) == scapy_checksum(data)


def test_the_two_zeros_are_kept_apart() -> None:
    assert ones_complement_sum(b"") == 0
    assert ones_complement_sum(bytes(8)) == 0
    assert ones_complement_sum(b"\xff\xff") == 0xFFFF
    assert ones_complement_sum(b"\xff\xff" * 3) == 0xFFFF
    assert internet_checksum(bytes(2), 0xFFFF) == 0


@given(st.binary(min_size=4, max_size=60), st.data())
def test_incremental_update_equals_a_full_sum(data: bytes, draw: st.DataObject) -> None:
    data = b"\x45" + data + b"\0" * ((len(data) + 1) % 2)
    at = 2 * draw.draw(st.integers(0, len(data) // 2 - 1))
    size = 2 * draw.draw(st.integers(0, (len(data) - at) // 2))
    new = draw.draw(st.binary(min_size=size, max_size=size))
    after = data[:at] + new + data[at + size :]
    if not any(after):
        return  # an all-zero result is the one case in which RFC 1624 differs
    assert update_checksum(internet_checksum(data), data[at : at + size], new) == internet_checksum(
        after
    )


def test_update_refuses_what_it_cannot_align() -> None:
    with pytest.raises(ValueError, match="even"):
        update_checksum(0, b"a", b"b")
    with pytest.raises(ValueError, match="same"):
        update_checksum(0, b"ab", b"abcd")


@pytest.mark.parametrize(("src", "dst"), [("10.0.0.1", "10.0.0.2"), ("fe80::1", "2001:db8::2")])
def test_pseudo_header_is_the_rfcs_words(src: str, dst: str) -> None:
    from rawproto.wire.address import pack_address

    packed = pack_address(src) + pack_address(dst)
    if ":" in src:
        packed += (9).to_bytes(4, "big") + bytes((0, 0, 0, 17))
    else:
        packed += bytes((0, 17)) + (9).to_bytes(2, "big")
    assert ones_complement_sum(b"", pseudo_header_sum(src, dst, 17, 9)) == sum_by_words(packed)
