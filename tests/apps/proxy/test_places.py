"""Forwards as users of ssh write them, and places as calls have them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.apps.proxy.places import Forward, Place, parse_bind, parse_forward, parse_remote
from rawproto.errors import UsageError
from rawproto.rpc import BadRequestError


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("8080:h:80", Forward(Place("localhost", 8080), Place("h", 80))),
        ("0:h:80", Forward(Place("localhost", 0), Place("h", 80))),
        ("10.0.0.1:8080:h:80", Forward(Place("10.0.0.1", 8080), Place("h", 80))),
        ("[::1]:8080:[2001:db8::1]:80", Forward(Place("::1", 8080), Place("2001:db8::1", 80))),
        ("*:8080:h:80", Forward(Place("*", 8080), Place("h", 80))),
        (":8080:h:80", Forward(Place("*", 8080), Place("h", 80))),
        ("8080:/run/s", Forward(Place("localhost", 8080), Place(path="/run/s"))),
        ("b:8080:/run/s", Forward(Place("b", 8080), Place(path="/run/s"))),
        ("/run/s:h:80", Forward(Place(path="/run/s"), Place("h", 80))),
        ("./s:@abstract", Forward(Place(path="./s"), Place(path="@abstract"))),
    ],
)
def test_forward_is_read(text: str, forward: Forward) -> None:
    assert parse_forward(text) == forward


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("1080", Forward(Place("localhost", 1080), None)),
        ("*:0", Forward(Place("*", 0), None)),
        ("[::1]:1080", Forward(Place("::1", 1080), None)),
        ("/run/s", Forward(Place(path="/run/s"), None)),
        ("8080:/run/s", Forward(Place("localhost", 8080), Place(path="/run/s"))),
        ("/run/s:/run/t", Forward(Place(path="/run/s"), Place(path="/run/t"))),
        ("8080:h:80", Forward(Place("localhost", 8080), Place("h", 80))),
    ],
)
def test_place_alone_behind_remote_is_socks_there(text: str, forward: Forward) -> None:
    assert parse_remote(text) == forward


@pytest.mark.parametrize(
    "text",
    ["", "1", "a:b", "a:h:1", "1:h:0", "1:h:70000", "1:h:x", "[1:h:1", "a:b:c:d:e", "1:h h:1",
     "@:h:1", "1:" + "a" * 256 + ":1", "/" + "a" * 107 + ":h:1", "1:h:1\n"],
)  # fmt: skip
def test_what_is_no_forward_is_told(text: str) -> None:
    with pytest.raises(UsageError):
        parse_forward(text)
    if text != "1":
        with pytest.raises(UsageError):
            parse_remote(text)


def test_place_to_listen_at_is_the_loopback_unless_said() -> None:
    assert parse_bind("1080") == Place("localhost", 1080)
    assert parse_bind("127.0.0.1:1080") == Place("127.0.0.1", 1080)
    assert parse_bind("*:1080") == Place("*", 1080)
    assert parse_bind("/run/s") == Place(path="/run/s")
    for text in ("", "a", "1:2:3", "[::1]"):
        with pytest.raises(UsageError):
            parse_bind(text)


@pytest.mark.parametrize(
    "params",
    [None, 1, [], {}, {"host": "a"}, {"host": "a", "port": "1"}, {"host": "a", "port": True},
     {"host": "a", "port": 65536}, {"host": "a", "port": -1}, {"host": "", "port": 1},
     {"host": "a b", "port": 1}, {"host": "a\0", "port": 1}, {"host": "ä", "port": 1},
     {"host": "a" * 256, "port": 1}, {"path": ""}, {"path": "a\0b"}, {"path": "/" + "a" * 107},
     {"path": 1}, {"path": "\ud800"}, {"path": "@"}],
)  # fmt: skip
def test_place_that_is_none_is_a_bad_request(params: Any) -> None:
    with pytest.raises(BadRequestError):
        Place.of_params(params)


@given(st.text(max_size=30) | st.from_regex(r"[\[\]:/@.*a0-9]{0,20}", fullmatch=True))
def test_any_text_is_a_forward_or_told_to_be_none(text: str) -> None:
    for parse in (parse_forward, parse_remote, parse_bind):
        with suppress(UsageError):
            parse(text)
