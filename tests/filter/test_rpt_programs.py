"""Which of a port's packets are whose, as the filters of its sockets say."""

from __future__ import annotations

import random
from typing import Literal

import pytest

from rawproto.filter.interpreter import run
from rawproto.filter.rpt_programs import Share, rpt_filter, rpt_selector
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.rpt import (
    IP_PROTOCOL,
    SHORT,
    RPTHandshake,
    RPTInit,
    RPTLong,
    RPTReset,
    RPTRetry,
    RPTVersion,
)

PORT = 4000
ALL = 0xFFFF_FFFF
LONGS: tuple[type[RPTLong], ...] = (RPTInit, RPTRetry, RPTHandshake, RPTReset, RPTVersion)


def short(dst_cid: int, port: int = PORT) -> bytes:
    return SHORT.pack(1, 1, port, 50_000, dst_cid, 7) + bytes(30)


def long(kind: type[RPTLong], dst_cid: int, src_cid: int) -> bytes:
    return kind(dst_port=PORT, src_port=50_000, dst_cid=dst_cid, src_cid=src_cid).emit()


def seen(family: Literal[4, 6], packet: bytes) -> bytes:
    """As a raw socket's filter sees a packet."""
    if family == 6:
        return packet
    header = IPv4Header(src_addr="10.0.0.1", dst_addr="10.0.0.2", protocol=IP_PROTOCOL)
    return (header / packet).emit()


@pytest.mark.parametrize("family", [4, 6])
def test_inits_come_apart_from_all_else_and_other_ports_not_at_all(family: Literal[4, 6]) -> None:
    packets = {kind.__name__: long(kind, 1, 2) for kind in LONGS} | {"short": short(1)}
    taken = {
        kinds: {
            name
            for name, packet in packets.items()
            if run(rpt_filter(family, PORT, kinds), seen(family, packet))
        }
        for kinds in ("init", "other", "all")
    }
    assert taken["init"] == {"RPTInit"}
    assert taken["other"] == set(packets) - {"RPTInit"}
    assert taken["all"] == set(packets)
    assert run(rpt_filter(family, PORT, "all"), seen(family, short(1, PORT + 1))) == 0


@pytest.mark.parametrize("family", [4, 6])
def test_inits_for_all_ports_but_some_are_taken(family: Literal[4, 6]) -> None:
    program = rpt_filter(family, None, "init", but=[4000, 4001])
    taken = [
        port
        for port in (1, 3999, 4000, 4001, 4002, 65_535)
        if run(program, seen(family, RPTInit(dst_port=port, src_port=9).emit()))
    ]
    assert taken == [1, 3999, 4002, 65_535]
    assert run(program, seen(family, short(1, 1))) == 0


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("family", [4, 6])
def test_each_packet_is_for_the_one_worker_whose_number_its_connection_id_leaves(
    family: Literal[4, 6], workers: int
) -> None:
    rng = random.Random(workers)
    kinds = {
        kind: [rpt_filter(family, PORT, kind, Share(each, workers)) for each in range(workers)]
        for kind in ("init", "other")
    }
    selector = rpt_selector(workers)
    edges = [0, 1, (1 << 32) - 1, 1 << 32, (1 << 64) - 1]
    for cid in edges + [rng.getrandbits(64) for _ in range(40)]:
        other = rng.getrandbits(64)
        cases = [
            ("other", short(cid)),
            ("other", long(RPTHandshake, cid, other)),
            ("init", long(RPTInit, other, cid)),
        ]
        for kind, packet in cases:
            verdicts = [run(program, seen(family, packet)) for program in kinds[kind]]
            assert verdicts == [ALL if each == cid % workers else 0 for each in range(workers)]
            assert run(selector, packet) == cid % workers


@pytest.mark.parametrize("family", [4, 6])
def test_reset_about_any_connection_id_reaches_all_workers_but_in_udp(
    family: Literal[4, 6],
) -> None:
    for cid in range(6):
        packet = long(RPTReset, 0, cid)
        for worker in range(3):
            programs = [
                rpt_filter(family, PORT, kind, Share(worker, 3)) for kind in ("other", "init")
            ]
            assert [run(each, seen(family, packet)) for each in programs] == [ALL, 0]
        assert run(rpt_selector(3), packet) == cid % 3


def test_packet_that_ends_before_its_connection_id_is_dropped() -> None:
    for packet in (short(5), long(RPTInit, 5, 5)):
        at = 22 if packet[0] & 0x80 else 14
        programs = [
            rpt_filter(6, PORT, kinds, Share(each, 3))
            for kinds in ("init", "other")
            for each in range(3)
        ]
        for end in range(at):
            assert not any(run(program, packet[:end]) for program in programs)
            assert run(rpt_selector(3), packet[:end]) == 0
