"""ARP: both ways against scapy, addresses of any length, damage."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import ARP

from rawproto.errors import EmitError, TruncatedError
from rawproto.wire.arp import REPLY, REQUEST, ARPMessage
from rawproto.wire.ethernet import BROADCAST, EthernetHeader
from tests.wire.contract import assert_parser_is_total, assert_truncated_below

macs = st.binary(min_size=6, max_size=6).map(lambda data: data.hex(":"))
ipv4_addresses = st.ip_addresses(v=4).map(str)

MESSAGE = ARPMessage(
    operation=REPLY,
    sender_hardware_addr="02:00:00:00:00:01",
    sender_protocol_addr="10.0.0.1",
    target_hardware_addr="02:00:00:00:00:02",
    target_protocol_addr="10.0.0.2",
)


@given(st.integers(0, 0xFFFF), macs, ipv4_addresses, macs, ipv4_addresses)
def test_agrees_with_scapy_both_ways(op: int, sha: str, spa: str, tha: str, tpa: str) -> None:
    message = ARPMessage(
        operation=op,
        sender_hardware_addr=sha,
        sender_protocol_addr=spa,
        target_hardware_addr=tha,
        target_protocol_addr=tpa,
    )
    data = message.emit()
    assert data == bytes(ARP(op=op, hwsrc=sha, psrc=spa, hwdst=tha, pdst=tpa))
    read = ARP(data)
    parsed, rest = ARPMessage.parse(data)
    assert (
        parsed.hardware_type,
        parsed.protocol_type,
        parsed.hardware_length,
        parsed.protocol_length,
        parsed.operation,
        parsed.sender_hardware_addr,
        parsed.sender_protocol_addr,
        parsed.target_hardware_addr,
        parsed.target_protocol_addr,
    ) == (
        read.hwtype,
        read.ptype,
        read.hwlen,
        read.plen,
        read.op,
        read.hwsrc,
        read.psrc,
        read.hwdst,
        read.pdst,
    )
    assert rest == b""
    assert parsed.recomputed() == message


@given(
    st.integers(0, 0xFFFF),
    st.sampled_from([0x0800, 0x86DD, 0x0600]),
    st.integers(0, 24),
    st.integers(0, 24),
    st.data(),
)
def test_addresses_of_any_length_emit_again_as_they_were(
    hardware_type: int, protocol_type: int, hln: int, pln: int, draw: st.DataObject
) -> None:
    size = 2 * (hln + pln)
    body = draw.draw(st.binary(min_size=size, max_size=size))
    fixed = hardware_type.to_bytes(2, "big") + protocol_type.to_bytes(2, "big")
    data = fixed + bytes((hln, pln)) + b"\0\1" + body
    message, rest = ARPMessage.parse(data + b"padding")
    assert rest == b"padding"
    assert message.emit() == data
    assert message.recomputed().emit() == data


def test_other_addresses_are_read_as_hexadecimal_bytes() -> None:
    data = bytes(
        ARP(hwtype=32, ptype=0x86DD, hwlen=8, plen=16, hwsrc=bytes(range(8)), psrc="2001:db8::1")
    )
    message, _ = ARPMessage.parse(data)
    assert message.sender_hardware_addr == "00:01:02:03:04:05:06:07"
    assert message.sender_protocol_addr == "20:01:0d:b8:00:00:00:00:00:00:00:00:00:00:00:01"


def test_forced_lengths_go_out_as_they_are() -> None:
    read = ARP(ARPMessage(hardware_length=0, protocol_length=255).emit())
    assert (read.hwlen, read.plen) == (0, 255)


def test_ethernet_announces_it() -> None:
    data = (EthernetHeader(dst_addr=BROADCAST) / ARPMessage(operation=REQUEST)).emit()
    assert data[12:14] == b"\x08\x06"


def test_damage_is_located() -> None:
    data = MESSAGE.emit()
    assert_parser_is_total(ARPMessage.parse, data)
    assert_truncated_below(ARPMessage.parse, data, 28)
    with pytest.raises(TruncatedError) as truncated:
        ARPMessage.parse(data[:27])
    assert (truncated.value.offset, truncated.value.needed, truncated.value.got) == (8, 20, 19)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("operation", 65536),
        ("hardware_type", -1),
        ("protocol_type", "ipv4"),
        ("hardware_length", 256),
        ("protocol_length", -1),
        ("sender_hardware_addr", "02:0"),
        ("sender_protocol_addr", "10.0.0"),
        ("target_hardware_addr", "nonsense"),
        ("target_protocol_addr", None),
    ],
)
def test_field_that_does_not_fit_is_named(name: str, value: object) -> None:
    with pytest.raises(EmitError, match=name) as refused:
        ARPMessage(**{name: value}).emit()
    assert refused.value.value == value
