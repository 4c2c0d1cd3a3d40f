"""The filters of our own sockets, run by the interpreter; `tests/live` runs them in the kernel."""

from __future__ import annotations

import pytest

from rawproto.errors import UsageError
from rawproto.filter.instructions import Program
from rawproto.filter.interpreter import run
from rawproto.filter.programs import icmp_probe_filter, quoted_port_filter, tcp_answer_filter
from tests.filter.icmp_packets import OURS, Case, ipv4_cases, ipv6_cases
from tests.filter.trace_packets import (
    OUR_PORT,
    PORT,
    PROTOCOLS,
    ipv4_error_cases,
    ipv6_error_cases,
    tcp_cases,
)


def misjudged(program: Program, cases: list[Case]) -> list[str]:
    verdicts = {True: 0xFFFF_FFFF, False: 0}
    assert {case.wanted for case in cases} == {True, False}
    return [case.name for case in cases if run(program, case.packet) != verdicts[case.wanted]]


def test_ipv4_answers_and_errors_about_our_probes_are_accepted_and_nothing_else() -> None:
    assert misjudged(icmp_probe_filter(4, OURS), ipv4_cases()) == []


def test_ipv6_answers_and_errors_about_our_probes_are_accepted_and_nothing_else() -> None:
    assert misjudged(icmp_probe_filter(6, OURS), ipv6_cases()) == []


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_errors_that_quote_our_port_are_accepted_and_nothing_else(protocol: int) -> None:
    assert misjudged(quoted_port_filter(4, protocol, PORT), ipv4_error_cases(protocol)) == []
    assert misjudged(quoted_port_filter(6, protocol, PORT), ipv6_error_cases(protocol)) == []


@pytest.mark.parametrize("family", [4, 6])
def test_segments_between_our_two_ports_are_accepted_and_nothing_else(family: int) -> None:
    assert misjudged(tcp_answer_filter(family, OUR_PORT, PORT), tcp_cases(family)) == []


def test_another_protocol_is_dropped() -> None:
    packet = bytearray(ipv4_cases()[0].packet)
    packet[9] = 17
    assert run(icmp_probe_filter(4, OURS), bytes(packet)) == 0


def test_every_cut_of_a_wanted_packet_is_judged() -> None:
    for family, cases in ((4, ipv4_cases()), (6, ipv6_cases())):
        program = icmp_probe_filter(family, OURS)
        for case in cases[:20]:
            for end in range(len(case.packet)):
                assert run(program, case.packet[:end]) in (0, 0xFFFF_FFFF)


def test_a_thousand_identifiers_fit() -> None:
    program = icmp_probe_filter(4, range(0, 2000, 2))
    for identifier in (0, 2, 998, 1998):
        reply = bytes.fromhex("4500001c00000000400100007f0000017f000001")
        reply += bytes(4) + identifier.to_bytes(2, "big") + bytes(2)
        assert run(program, reply)
        assert not run(program, reply[:24] + (identifier + 1).to_bytes(2, "big") + bytes(2))


@pytest.mark.parametrize(
    ("family", "identifiers", "complaint"),
    [
        (5, [1], "family 5"),
        (4, [], "numbers"),
        (4, [-1], "numbers"),
        (6, [65536], "numbers"),
        (4, range(5000), "instructions"),
    ],
)
def test_what_makes_no_filter_is_refused(
    family: int, identifiers: list[int], complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        icmp_probe_filter(family, identifiers)


@pytest.mark.parametrize(
    ("family", "protocol", "port", "complaint"),
    [(5, 17, 1, "family 5"), (4, 1, 1, "protocol 1"), (6, 6, 65536, "numbers"), (4, 17, -1, "num")],
)
def test_what_makes_no_filter_for_ports_is_refused(
    family: int, protocol: int, port: int, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        quoted_port_filter(family, protocol, port)


@pytest.mark.parametrize(
    ("family", "src_port", "dst_port", "complaint"),
    [(5, 1, 1, "family 5"), (4, 65536, 1, "numbers"), (6, 1, 65536, "port 65536")],
)
def test_what_makes_no_filter_for_answers_is_refused(
    family: int, src_port: int, dst_port: int, complaint: str
) -> None:
    with pytest.raises(UsageError, match=complaint):
        tcp_answer_filter(family, src_port, dst_port)
