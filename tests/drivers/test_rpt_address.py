"""RPT's addresses as people write and read them."""

from __future__ import annotations

import pytest

from rawproto.drivers.rpt.address import RPTAddress, host_and_port, parse_address
from rawproto.errors import UsageError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("rpt://10.0.0.2:4000", RPTAddress("rpt", "10.0.0.2", 4000)),
        ("rpt+udp://[fd00::2]:1", RPTAddress("rpt+udp", "fd00::2", 1)),
        ("[fe80::1%eth0]:0/", RPTAddress("rpt", "fe80::1%eth0", 0)),
        (":65535", RPTAddress("rpt", "", 65535)),
    ],
)
def test_an_address_is_read_as_it_is_written(text: str, address: RPTAddress) -> None:
    assert parse_address(text) == address
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text", ["", "10.0.0.2", "tcp://h:1", "rpt://h:65536", "rpt://fd00::2:4000", "rpt://h:1/x"]
)
def test_what_is_no_address_is_told_in_one_line(text: str) -> None:
    with pytest.raises(UsageError) as wrong:
        parse_address(text)
    assert "\n" not in str(wrong.value)


def test_a_port_is_told_from_an_ipv6_address_by_brackets() -> None:
    assert host_and_port("10.0.0.2", 4000) == "10.0.0.2:4000"
    assert host_and_port("fd00::2", 4000) == "[fd00::2]:4000"
