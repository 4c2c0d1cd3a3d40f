"""The machine, instruction by instruction; `test_against_kernel` compares it as a whole."""

from __future__ import annotations

import pytest

from rawproto.errors import UsageError
from rawproto.filter.assembler import assemble
from rawproto.filter.interpreter import Ancillary, run

PACKET = bytes(range(1, 65))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("ret #5", 5),
        ("ret #-1", 0xFFFF_FFFF),
        ("ld #9\nret a", 9),
        ("ld [0]\nret a", 0x01020304),
        ("ldh [1]\nret a", 0x0203),
        ("ldb [63]\nret a", 64),
        ("ld [60]\nret a", 0x3D3E3F40),
        ("ld [61]\nret a", 0),
        ("ldh [63]\nret #1", 0),
        ("ldb [64]\nret #1", 0),
        ("ld #len\nret a", 64),
        ("ldx #10\nldb [x + 3]\nret a", 14),
        ("ldx #10\nldb [x + -4]\nret a", 7),
        ("ldx #-1\nldb [x + 1]\nret a", 1),
        ("ldx #10\nldb [x + 60]\nret #1", 0),
        ("ldxb 4*([6]&0xf)\ntxa\nret a", 28),
        ("ldxb 4*([64]&0xf)\nret #1", 0),
        ("ld #7\nst M[2]\nld #1\nldx M[2]\ntxa\nret a", 7),
        ("ldx #8\nstx M[0]\nld M[0]\nret a", 8),
        ("ldx #3\ntxa\nadd #4\ntax\nadd x\nret a", 14),
        ("ld #-1\nadd #2\nret a", 1),
        ("ld #1\nsub #3\nret a", 0xFFFF_FFFE),
        ("ld #0x10000\nmul #0x10001\nret a", 0x10000),
        ("ld #7\ndiv #2\nret a", 3),
        ("ld #7\nmod #4\nret a", 3),
        ("ld #7\nldx #0\ndiv x\nret #1", 0),
        ("ld #7\nldx #0\nmod x\nret #1", 0),
        ("ld #6\nor #9\nret a", 15),
        ("ld #6\nand #3\nret a", 2),
        ("ld #6\nxor #3\nret a", 5),
        ("ld #3\nlsh #31\nret a", 0x8000_0000),
        ("ld #-1\nrsh #31\nret a", 1),
        ("ld #1\nldx #33\nlsh x\nret a", 2),
        ("ld #1\nneg\nret a", 0xFFFF_FFFF),
        ("ld #5\njeq #5, y\nret #1\ny: ret #2", 2),
        ("ld #5\njgt #5, y\nret #1\ny: ret #2", 1),
        ("ld #5\njge #5, y\nret #1\ny: ret #2", 2),
        ("ld #-1\njgt #1, y\nret #1\ny: ret #2", 2),
        ("ld #6\njset #9, y\nret #1\ny: ret #2", 1),
        ("ld #6\nldx #6\njeq x, y\nret #1\ny: ret #2", 2),
        ("ja y\nret #1\ny: ret #2", 2),
    ],
)
def test_instructions_compute_as_documented(text: str, verdict: int) -> None:
    assert run(assemble(text), PACKET) == verdict


def test_what_the_kernel_knows_can_be_asked() -> None:
    known = Ancillary(
        protocol=0x86DD,
        packet_type=4,
        interface=3,
        hardware_type=1,
        mark=5,
        queue=6,
        rx_hash=7,
        cpu=8,
        vlan_tci=9,
        vlan_present=True,
        vlan_tpid=0x8100,
        payload_offset=54,
        random=1 << 40 | 11,
    )
    asked = {
        "proto": 0x86DD,
        "type": 4,
        "ifidx": 3,
        "hatype": 1,
        "mark": 5,
        "queue": 6,
        "rxhash": 7,
        "cpu": 8,
        "vlan_tci": 9,
        "vlanp": 1,
        "vlan_tpid": 0x8100,
        "poff": 54,
        "rand": 11,
    }
    for name, value in asked.items():
        assert run(assemble(f"ld #{name}\nret a"), PACKET, known) == value, name
        assert run(assemble(f"ldb [{name}]\nret a"), PACKET, known) == value, name
    assert run(assemble("ld #6\nldx #3\nld #xor_x\nret a"), PACKET) == 5


def test_asking_for_an_interface_that_is_not_there_ends_with_a() -> None:
    assert run(assemble("ld #7\nld #ifidx\nret #1"), PACKET) == 7
    assert run(assemble("ld #7\nld #hatype\nret #1"), PACKET) == 7


def test_netlink_attributes_are_refused_aloud() -> None:
    with pytest.raises(UsageError, match="netlink"):
        run(assemble("ld #nla\nret a"), PACKET)


def test_an_empty_packet_is_judged() -> None:
    assert run(assemble("ld #len\njeq #0, y\nret #1\ny: ret #2"), b"") == 2
    assert run(assemble("ldb [0]\nret #1"), b"") == 0
