"""SOCKS5's bytes: every way to a request, whole and byte by byte, and everything that is none."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.apps.proxy.places import Place
from rawproto.apps.proxy.socks import (
    CONNECT,
    UDP_ASSOCIATE,
    Negotiation,
    Request,
    emit_address,
    emit_datagram,
    emit_reply,
    parse_address,
    parse_datagram,
)
from rawproto.errors import TruncatedError, WireError

GREETING = b"\5\1\0"
NAMED = b"\5\1\0\3\x09localhost\0\x50"
LOGIN = (b"ada", b"secret")
ASKED = b"\5\2\0\2"


def fed(negotiation: Negotiation, data: bytes, size: int) -> bytes:
    """What is answered to bytes that come so many at a time."""
    return b"".join(negotiation.receive(data[at : at + size]) for at in range(0, len(data), size))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_request_is_read_however_it_comes(size: int) -> None:
    negotiation = Negotiation()
    assert fed(negotiation, GREETING + NAMED, size) == b"\5\0"
    assert negotiation.request == Request(CONNECT, Place("localhost", 80))
    assert negotiation.rest == b""


def test_what_comes_behind_the_request_is_kept() -> None:
    negotiation = Negotiation()
    negotiation.receive(GREETING + NAMED + b"GET /")
    assert negotiation.rest == b"GET /"


@pytest.mark.parametrize(
    ("address", "place"),
    [
        (b"\1\x0a\0\0\1\1\xbb", Place("10.0.0.1", 443)),
        (
            b"\4" + socket.inet_pton(socket.AF_INET6, "2001:db8::1") + b"\0\x35",
            Place("2001:db8::1", 53),
        ),
        (b"\3\1a\0\0", Place("a", 0)),
    ],
)
def test_addresses_of_all_kinds_go_both_ways(address: bytes, place: Place) -> None:
    assert parse_address(b"??" + address + b"!", 2) == (place, 2 + len(address))
    assert emit_address(place.host, place.port) == address
    for size in range(len(address)):
        with pytest.raises(TruncatedError):
            parse_address(address[:size], 0)


@pytest.mark.parametrize("size", [1, 100])
def test_login_is_asked_for_and_has_to_be_right(size: int) -> None:
    right = b"\1\3ada\6secret"
    negotiation = Negotiation(LOGIN)
    assert fed(negotiation, ASKED + right + b"\5\3\0\1" + bytes(6), size) == b"\5\2\1\0"
    assert negotiation.request == Request(UDP_ASSOCIATE, Place("0.0.0.0", 0))
    for wrong in (b"\1\3ada\6secres", b"\1\3adb\6secret", b"\1\0\0", b"\1\3ada\0"):
        negotiation = Negotiation(LOGIN)
        assert fed(negotiation, ASKED[:1] + b"\1\2" + wrong + NAMED, size) == b"\5\2\1\1"
        assert negotiation.refused
        assert negotiation.request is None


def test_who_cannot_do_what_is_asked_is_refused() -> None:
    for login, methods in ((LOGIN, b"\5\1\0"), (None, b"\5\1\2"), (None, b"\5\0")):
        negotiation = Negotiation(login)
        assert negotiation.receive(methods + NAMED) == b"\5\xff"
        assert negotiation.refused


@pytest.mark.parametrize(
    ("request_", "reply"),
    [(b"\5\2\0\1" + bytes(6), 7), (b"\5\x09\0\1" + bytes(6), 7), (b"\5\1\0\2" + bytes(6), 8)],
)
def test_unknown_commands_and_addresses_have_their_own_replies(request_: bytes, reply: int) -> None:
    negotiation = Negotiation()
    assert negotiation.receive(GREETING + request_) == b"\5\0" + emit_reply(reply)
    assert negotiation.refused


@pytest.mark.parametrize(
    "data", [b"\4\1\0\x50\x7f\0\0\1\0", b"GET / HTTP/1.1\r\n", b"\x16\3\1", GREETING + b"\4",
             GREETING + b"\5\1\0\3\0\0\0", GREETING + b"\5\1\0\3\2a\n\0\1"]
)  # fmt: skip
def test_other_protocols_and_bad_names_are_errors(data: bytes) -> None:
    with pytest.raises(WireError) as error:
        Negotiation().receive(data)
    assert not isinstance(error.value, TruncatedError)


@given(st.binary(max_size=600), st.booleans(), st.integers(1, 40))
def test_any_bytes_end_in_a_request_a_refusal_or_an_error_and_nothing_grows(
    data: bytes, asks: bool, size: int
) -> None:
    negotiation = Negotiation(LOGIN if asks else None)
    prefix = ASKED + b"\1\3ada\6secret" if asks else GREETING
    for given_ in (data, prefix + data, prefix + b"\5\1\0" + data):
        negotiation = Negotiation(LOGIN if asks else None)
        try:
            answer = fed(negotiation, given_, size)
        except WireError:
            continue
        assert len(answer) <= 300
        assert len(negotiation._data) <= 513 + size


@given(st.binary(max_size=300))
def test_any_datagram_is_one_or_an_error(data: bytes) -> None:
    for each in (data, bytes(3) + data):
        try:
            place, payload = parse_datagram(each)
        except WireError:
            continue
        assert emit_datagram(place, payload)[3:] == each[3:]


@given(st.binary(min_size=4, max_size=4), st.integers(0, 65535), st.binary(max_size=50))
def test_datagram_comes_back_as_it_was(address: bytes, port: int, data: bytes) -> None:
    place = Place(socket.inet_ntoa(address), port)
    assert parse_datagram(emit_datagram(place, data)) == (place, data)


def test_reply_of_a_link_local_address_leaves_its_zone_out() -> None:
    raw = socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert emit_reply(0, "fe80::1%lo", 7) == b"\5\0\0\4" + raw + struct.pack("!H", 7)
