"""What a capture lets in, run by our own interpreter with what the kernel would know."""

from __future__ import annotations

import pytest

from rawproto.errors import UsageError
from rawproto.filter.assembler import assemble
from rawproto.filter.interpreter import Ancillary, run
from rawproto.link.admission import COOKED, ETHERNET, RAW, admission, link_type_of

FRAME = bytes(100)
ETHER, LOOPBACK, TUN, GRE = 1, 772, 65534, 778
OUTGOING = 4

ONLY_ETHERNET = {ETHERNET: assemble("ret #-1")}
BY_LINK_TYPE = {ETHERNET: assemble("ret #50"), RAW: assemble("ret #70")}


def verdict(program, hardware_type=ETHER, interface=1, packet_type=0) -> int:
    known = Ancillary(hardware_type=hardware_type, interface=interface, packet_type=packet_type)
    return run(program, FRAME, known)


@pytest.mark.parametrize("hardware_type", [ETHER, LOOPBACK, TUN, GRE])
def test_without_a_filter_all_pass_up_to_the_snaplen(hardware_type: int) -> None:
    assert verdict(admission(None, snaplen=60), hardware_type) == 60


def test_each_link_type_has_its_own_filter_and_others_do_not_pass() -> None:
    program = admission(BY_LINK_TYPE, snaplen=1000)
    verdicts = [verdict(program, each) for each in (ETHER, LOOPBACK, TUN, 768, GRE)]
    assert verdicts == [50, 50, 70, 70, 0]
    assert verdict(admission(ONLY_ETHERNET, snaplen=1000), TUN) == 0


def test_snaplen_cuts_what_a_filter_would_keep() -> None:
    program = admission(BY_LINK_TYPE, snaplen=60)
    assert [verdict(program, each) for each in (ETHER, TUN)] == [50, 60]
    assert verdict(admission(ONLY_ETHERNET, snaplen=60)) == 60


def test_refusal_of_a_filter_stays_one() -> None:
    program = admission({ETHERNET: assemble("ret #0")}, snaplen=60)
    assert verdict(program) == 0


def test_loopback_is_seen_as_it_comes_and_not_as_it_leaves() -> None:
    program = admission(None, snaplen=60)
    assert verdict(program, LOOPBACK, packet_type=OUTGOING) == 0
    assert verdict(program, LOOPBACK) == 60
    assert verdict(program, ETHER, packet_type=OUTGOING) == 60


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_interfaces_that_were_not_named_are_dropped(count: int) -> None:
    wanted = range(10, 10 + count)
    program = admission(None, snaplen=60, indexes=wanted)
    passing = [index for index in range(1, 130) if verdict(program, interface=index)]
    assert passing == list(wanted)


def test_longer_than_the_kernel_takes_is_refused() -> None:
    long = assemble("\n".join(["ld #1"] * 4095 + ["ret #1"]))
    with pytest.raises(UsageError, match="4096 are allowed"):
        admission({ETHERNET: long}, snaplen=60)


def test_hardware_without_a_link_type_of_its_own_is_cooked() -> None:
    types = [link_type_of(each) for each in (ETHER, LOOPBACK, TUN, GRE, 824)]
    assert types == [ETHERNET, ETHERNET, RAW, COOKED, COOKED]
