"""The search for the packet size on paths of every width (RFC 8899, specification 9)."""

from __future__ import annotations

import pytest

from rawproto.transport.pmtu import MAX_PROBES, MTUSearch
from tests.transport.pair import Pair

SECOND = 1_000_000_000


def search_over(path: int, ceiling: int, now_ns: int = 0) -> tuple[MTUSearch, list[int]]:
    """Runs a search over a path that passes `path` bytes: the search, and its probes."""
    search, probes = MTUSearch(ceiling, now_ns), []
    while search.next_ns is not None and search.next_ns <= now_ns:
        size = search.probe()
        assert search.next_ns is None, "one probe at a time"
        probes.append(size)
        assert len(probes) < 100, "the search ends"
        if size <= path:
            search.on_acked(size, now_ns)
        else:
            search.on_lost(size, now_ns)
    return search, probes


def test_ceiling_is_tried_first_and_mostly_passes() -> None:
    search, probes = search_over(9000, 8980)
    assert (search.size, probes, search.next_ns) == (8980, [8980], None)


@pytest.mark.parametrize("path", [1200, 1210, 1280, 1372, 1419, 1480, 1500, 4000, 8979])
def test_narrower_path_is_found_within_16_bytes(path: int) -> None:
    search, probes = search_over(path, 8980)
    assert path - 16 < search.size <= path
    assert max(probes.count(size) for size in probes) <= MAX_PROBES
    assert search.next_ns == 600 * SECOND, "it is tried again in ten minutes"


def test_path_of_the_least_width_needs_no_probe() -> None:
    search, probes = search_over(1200, 1200)
    assert (search.size, probes, search.next_ns) == (1200, [], None)
    assert search_over(1200, 900)[0].size == 1200


def test_single_lost_probe_is_no_answer() -> None:
    search = MTUSearch(1480, 0)
    search.on_lost(search.probe(), 5)
    assert search.next_ns == 5
    assert search.probe() == 1480
    assert search.on_acked(1480, 6)
    assert search.size == 1480


def test_refusal_lowers_the_ceiling_and_begins_anew_below_it() -> None:
    search, _ = search_over(9000, 8980)
    assert search.on_refused(1480, SECOND)
    assert search.size == 1480
    assert not search.on_refused(1480, SECOND), "told again, nothing changes"
    assert not search.on_refused(9000, SECOND), "it never raises anything"
    assert search.on_refused(100, SECOND)
    assert search.size == 1200, "what every path carries"


def test_late_answer_to_a_probe_above_the_new_ceiling_is_not_believed() -> None:
    search = MTUSearch(8980, 0)
    size = search.probe()
    search.on_refused(1480, 0)
    assert not search.on_acked(size, 1)
    assert search.size == 1200


def test_black_hole_is_declared_by_six_large_losses_and_no_large_arrival() -> None:
    search, _ = search_over(9000, 1480)
    search.on_large_lost(5)
    assert not search.black_hole
    search.on_arrived(1200)
    search.on_large_lost(1)
    assert search.black_hole
    search.fall_back(SECOND)
    assert (search.size, search.black_hole, search.next_ns) == (1200, False, SECOND)


def test_large_packet_that_arrives_clears_the_suspicion() -> None:
    search, _ = search_over(9000, 1480)
    search.on_large_lost(5)
    search.on_arrived(1480)
    search.on_large_lost(5)
    assert not search.black_hole


def test_small_packets_that_die_are_no_black_hole() -> None:
    search = MTUSearch(1480, 0)
    search.on_large_lost(50)
    assert not search.black_hole, "it is at the least size already"


def test_probe_that_was_refused_and_counts_as_lost_when_all_is_found_begins_no_search() -> None:
    search = MTUSearch(65_507, 0)
    assert search.probe() == 65_507
    search.on_refused(1480, 0)
    assert search.probe() == 1480
    search.on_acked(1480, 1)
    found_ns = search.next_ns
    search.on_lost(65_507, 2)
    assert (search.size, search.next_ns) == (1480, found_ns)


def test_probe_asks_for_its_ack_after_as_many_packets_as_data_does() -> None:
    pair = Pair()
    probes = []

    def narrow(from_client: bool, data: bytes) -> bytes | None:
        if not from_client or len(data) <= 1200:
            return data
        window = connection.sender.recovery.controller.window
        probes.append((data[1], min(max(window // 1200 // 8, 1), 16)))
        return None

    pair.change = narrow
    connection = pair.connect()
    pair.run(0.1)
    (accepted,) = pair.accepted
    for _ in range(62):  # ten minutes, after which all is tried again
        connection.write(0, bytes(1 << 17))
        pair.client.touch(connection)
        pair.run(10)
        accepted.read(0, 1 << 20, pair.now_ns)
        pair.server.touch(accepted)
    assert connection.sender.mtu.size == 1200
    assert [asked for asked, _ in probes] == [wanted for _, wanted in probes]
    assert max(wanted for _, wanted in probes) > 1
