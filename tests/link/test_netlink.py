"""Netlink attributes: what was packed comes out, and damage ends where it begins."""

from __future__ import annotations

import random
import sys

from hypothesis import given
from hypothesis import strategies as st

from rawproto.link.netlink import emit_attribute, parse_attributes


@given(st.dictionaries(st.integers(0, 0x3FFF), st.binary(max_size=40), max_size=8))
def test_attributes_round_trip(attributes: dict[int, bytes]) -> None:
    data = b"".join(emit_attribute(kind, value) for kind, value in attributes.items())
    assert len(data) % 4 == 0
    assert parse_attributes(data) == attributes


def test_nested_flag_is_no_part_of_the_type() -> None:
    assert parse_attributes(emit_attribute(0x8000 | 9, b"inside")) == {9: b"inside"}


def test_nothing_behind_a_broken_attribute_is_read() -> None:
    good, bad = emit_attribute(1, b"good"), emit_attribute(2, b"bad!")
    for length in (0, 3, 200):
        broken = length.to_bytes(2, sys.byteorder) + bad[2:]
        assert parse_attributes(good + broken + good) == {1: b"good"}


def test_any_bytes_are_survived() -> None:
    rng = random.Random(1)
    for _ in range(3000):
        parse_attributes(rng.randbytes(rng.randrange(60)))
