"""RPT through links that do harm: every byte arrives, both sides end, within bounds.

`make soak SEEDS=1000` runs as many seeds of each as wanted. A failure names its seed and the
capture that it left behind, with the keys inside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from rawproto import read
from rawproto.impair import GilbertElliott, Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.sim.record import record_packets
from rawproto.transport.config import Config

MS = 1_000_000
SECOND = 1_000_000_000
SEEDS = int(os.environ.get("SEEDS", "0"))
CLEAN = Impairment(rate_bps=10_000_000, delay_ns=20 * MS, queue_packets=50)


def seeds(few: int) -> range:
    return range(SEEDS or few)


@contextmanager
def witnessed(network: Network, flow: Flow, seed: int) -> Iterator[None]:
    """Keeps the packets in memory; a failure writes them down and says where, and which seed."""
    kept = BytesIO()
    writer = record_packets(network, [flow], kept)
    try:
        yield
    except Exception as error:
        writer.flush()
        with NamedTemporaryFile(prefix=f"sim-{seed}-", suffix=".pcapng", delete=False) as file:
            file.write(kept.getvalue())
        error.add_note(f"seed {seed}; its packets: {file.name}")
        raise


def carry(
    seed: int,
    size: int,
    limit_s: float,
    forward: Impairment = CLEAN,
    backward: Impairment | None = None,
    *,
    most_bytes: float = 1.5,
    config: Config | None = None,
) -> Flow:
    """Sends `size` bytes and holds what must hold of every flow."""
    network = Network(seed, forward, forward if backward is None else backward)
    config = config or Config(congestion=("cubic", "newreno")[seed % 2])
    psk = bytes([7]) * 32 if seed % 4 >= 2 else b""
    flow = Flow(network, size, config=config, pinned=seed % 3 == 1, psk=psk)
    with witnessed(network, flow, seed):
        assert network.run(lambda: flow.ended, int(limit_s * SECOND)), "not done in time"
        assert flow.errors == {"client": None, "listener": None}
        assert flow.done, f"{flow.received} of {size} bytes"
        sent = flow.client.sender.packets * flow.client.sender.mtu.size
        assert sent < most_bytes * size + 50_000, f"{sent} bytes sent"
    return flow


@pytest.mark.parametrize("seed", seeds(8))
def test_clean_path_carries_nearly_its_rate(seed: int) -> None:
    flow = carry(seed, 1_000_000, 30)
    assert flow.goodput_bps > 0.7 * 10_000_000
    assert flow.client.sender.mtu.size == 1480


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("psk", [b"", bytes([7]) * 32])
def test_connect_takes_one_round_trip_and_the_first_byte_one_and_a_half(
    pinned: bool, psk: bytes
) -> None:
    link = Impairment(delay_ns=50 * MS)
    network = Network(1, link, link)
    flow = Flow(network, 1000, pinned=pinned, psk=psk)
    assert network.run(lambda: flow.ended, 5 * SECOND)
    assert flow.done
    assert flow.established_ns == flow.start_ns + 100 * MS
    assert flow.first_byte_ns == flow.start_ns + 150 * MS


@pytest.mark.parametrize("seed", seeds(20))
def test_handshake_gets_through_30_percent_loss_and_corruption(seed: int) -> None:
    harsh = replace(CLEAN, loss=0.3, corrupt=0.3)
    network = Network(seed, harsh, harsh)
    config = Config(handshake_timeout_ns=60 * SECOND, dead_path_ns=60 * SECOND)
    flow = Flow(network, 0, config=config, pinned=seed % 2 == 1)
    assert network.run(lambda: flow.established_ns is not None, 60 * SECOND), f"seed {seed}"


HARM = {
    "loss": replace(CLEAN, loss=0.02),
    "corruption": replace(CLEAN, corrupt=0.02),
    "both": replace(CLEAN, loss=0.02, corrupt=0.02),
    "bursts": replace(CLEAN, burst_loss=GilbertElliott.of_mean(loss=0.03, burst=5)),
    "reordering": replace(CLEAN, reorder=0.1, reorder_delay_ns=30 * MS),
    "jitter": replace(CLEAN, jitter_ns=15 * MS),
    "duplication": replace(CLEAN, duplicate=0.2),
    "everything": replace(
        CLEAN, loss=0.01, corrupt=0.01, duplicate=0.05, reorder=0.05, reorder_delay_ns=25 * MS
    ),
}


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("harm", sorted(HARM))
def test_every_byte_arrives_whatever_the_path_does(harm: str, seed: int) -> None:
    carry(seed, 500_000, 60, HARM[harm])


@pytest.mark.parametrize("seed", seeds(3))
def test_round_trips_of_one_and_a_half_seconds_are_waited_for(seed: int) -> None:
    flow = carry(seed, 500_000, 120, replace(CLEAN, delay_ns=750 * MS))
    assert flow.client.sender.recovery.lost_packets < 5


@pytest.mark.parametrize("seed", seeds(3))
def test_short_queue_is_filled_and_little_more_is_sent(seed: int) -> None:
    flow = carry(seed, 2_000_000, 60, replace(CLEAN, queue_packets=25), most_bytes=1.2)
    assert flow.goodput_bps > 0.8 * 10_000_000


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("which", ["data", "acks"])
def test_loss_one_way_alone_is_overcome(which: str, seed: int) -> None:
    lossy = replace(CLEAN, loss=0.1 if which == "data" else 0.3)
    forward, backward = (lossy, CLEAN) if which == "data" else (CLEAN, lossy)
    carry(seed, 300_000, 60, forward, backward)


@pytest.mark.parametrize("seed", seeds(3))
def test_two_seconds_of_nothing_in_every_seven_are_survived(seed: int) -> None:
    network = Network(seed, CLEAN, CLEAN)
    flow = Flow(network, 4_000_000)
    hole = replace(CLEAN, loss=1.0)
    for _ in range(20):
        if network.run(lambda: flow.ended, 5 * SECOND):
            break
        network.forward.configure(hole)
        network.backward.configure(hole)
        network.run(lambda: flow.ended, 2 * SECOND)
        network.forward.configure(CLEAN)
        network.backward.configure(CLEAN)
    assert flow.done, f"seed {seed}: {flow.received} bytes, {flow.errors}"


@pytest.mark.parametrize("rate_mbps", [10, 1000])
@pytest.mark.parametrize("rtt_ms", [5, 200])
@pytest.mark.parametrize("queue_bdp", [0.2, 5])
def test_corners_of_the_matrix_carry_what_they_can(
    rate_mbps: int, rtt_ms: int, queue_bdp: float
) -> None:
    bdp = rate_mbps * 1_000_000 // 8 * rtt_ms // 1000
    link = Impairment(
        rate_bps=rate_mbps * 1_000_000,
        delay_ns=rtt_ms * MS // 2,
        queue_packets=max(int(bdp * queue_bdp) // 1500, 2),
    )
    carry(1, min(2_000_000, max(8 * bdp, 100_000)), 60, link, most_bytes=1.6)


def test_mtu_that_shrinks_under_way_is_found_out() -> None:
    network = Network(3, CLEAN, CLEAN)
    flow = Flow(network, 2_000_000)
    network.run(lambda: flow.received > 500_000, 30 * SECOND)
    assert flow.client.sender.mtu.size == 1480
    network.forward.configure(replace(CLEAN, mtu=1300))
    assert network.run(lambda: flow.ended, 60 * SECOND)
    assert flow.done
    assert 1200 <= flow.client.sender.mtu.size <= 1280


def test_same_seed_gives_the_same_packets_byte_for_byte() -> None:
    def trace() -> list[tuple[int, bool, bytes]]:
        network = Network(11, HARM["everything"], HARM["everything"])
        packets: list[tuple[int, bool, bytes]] = []
        network.tap = lambda *packet: packets.append(packet)
        flow = Flow(network, 100_000)
        assert network.run(lambda: flow.ended, 30 * SECOND)
        return packets

    first = trace()
    assert first == trace()
    assert len(first) > 80


def test_keys_change_under_way_and_nothing_is_lost() -> None:
    network = Network(5, CLEAN, CLEAN)
    flow = Flow(network, 1_000_000)
    changes = 0
    for _ in range(100):
        if network.run(lambda: flow.ended, SECOND // 10):
            break
        changes += flow.client.change_keys(network.now_ns)
    assert flow.done
    assert changes >= 2


@pytest.mark.parametrize("seed", seeds(3))
@pytest.mark.parametrize("side", ["left", "right"])
def test_clock_that_jumps_by_seconds_breaks_nothing(side: str, seed: int) -> None:
    network = Network(seed, CLEAN, CLEAN)
    flow = Flow(network, 2_000_000)
    with witnessed(network, flow, seed):
        for _ in range(60):
            if network.run(lambda: flow.ended, SECOND):
                break
            # A host that was suspended: its monotonic clock leaps, and never goes back.
            getattr(network, side).ahead_ns += network.rng.randrange(5) * SECOND
        assert flow.done, f"{flow.received} bytes, {flow.errors}"


def test_cost_of_a_simulation_follows_from_its_packets() -> None:
    network = Network(1, CLEAN, CLEAN)
    packets = [0]
    network.tap = lambda now_ns, from_left, packet: packets.__setitem__(0, packets[0] + 1)
    flow = Flow(network, 2_000_000)
    assert network.run(lambda: flow.ended, 10 * SECOND)
    # Each packet's arrival and each pause of the pacer is a turn; nothing is asked in between.
    assert network.turns < 2.5 * packets[0]


def test_failure_names_its_seed_and_leaves_its_packets_behind() -> None:
    network = Network(4, CLEAN, CLEAN)
    flow = Flow(network, 10_000)

    def fail() -> None:
        with witnessed(network, flow, 4):
            network.run(lambda: flow.ended, SECOND)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        fail()
    (note,) = caught.value.__notes__
    assert note.startswith("seed 4; ")
    path = Path(note.rpartition(" ")[2])
    assert len(list(read(path))) > 10
    path.unlink()
