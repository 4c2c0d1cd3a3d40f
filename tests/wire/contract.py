"""What every parser keeps, put once: the tests of each layer call these."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rawproto.errors import WireError


def assert_survives(parse: Callable[[bytes], object], data: bytes) -> None:
    """Any bytes give a value or a WireError, nothing else."""
    try:
        parse(data)
    except WireError as error:
        assert error.layer, "a WireError names its layer"
        assert error.reason, "a WireError gives its reason"
        assert error.offset >= 0, "a WireError says where"


def assert_parser_is_total(parse: Callable[[bytes], object], whole: bytes) -> None:
    """Every truncation, every single damaged byte, trailing and random bytes survive.

    Args:
        parse: the parser under test.
        whole: bytes that it reads without error.
    """
    parse(whole)
    for end in range(len(whole)):
        assert_survives(parse, whole[:end])
    for at in range(min(len(whole), 128)):
        for value in (0x00, 0x01, 0x7F, 0x80, 0xFF, whole[at] ^ 0x10):
            assert_survives(parse, whole[:at] + bytes((value,)) + whole[at + 1 :])
    parse(whole + b"trailing")
    rng = random.Random(whole)
    for _ in range(300):
        assert_survives(parse, rng.randbytes(rng.randrange(0, 120)))


def assert_truncated_below(parse: Callable[[bytes], object], whole: bytes, fixed: int) -> None:
    """Each prefix shorter than the fixed part is refused, and says what was needed."""
    for end in range(fixed):
        with pytest.raises(WireError):
            parse(whole[:end])
