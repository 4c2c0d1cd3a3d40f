"""Scenarios of the path: what it loses, damages, delays and forgets.

A scenario is an entry of `PATHS`; what happens under way is a function of the trial, which
draws from `trial.chance` whatever the seed decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rawproto.impair import Impairment
from tests.sim.trial import CLEAN, MS, SECOND, Scenario, Trial

SLOW = replace(CLEAN, rate_bps=500_000, queue_packets=20)
HOLE = replace(CLEAN, loss=1.0)


def over(
    size: int, forward: Impairment = CLEAN, backward: Impairment | None = None
) -> Callable[[Trial], None]:
    """So many bytes over links that stay as they are."""

    def play(trial: Trial) -> None:
        trial.start(size, forward, backward)
        trial.finish()

    return play


def clean(trial: Trial) -> None:
    trial.start(500_000)
    trial.finish()
    assert trial.flow.client.sender.mtu.size == 1480


def handshake(trial: Trial) -> None:
    harsh = replace(CLEAN, loss=0.3, corrupt=0.3)
    limit_ns = 60 * SECOND
    trial.start(5_000, harsh, handshake_timeout_ns=limit_ns, dead_path_ns=limit_ns)
    client = trial.flow.client
    trial.until(lambda: trial.flow.server is not None and client.attempt is None)
    trial.network.forward.configure(CLEAN)
    trial.network.backward.configure(CLEAN)
    trial.finish()


def bursts(trial: Trial) -> None:
    """Bursts that end with time, and not only after so many packets more, as in Gilbert's model."""
    trial.start(1_000_000)
    chance, network = trial.chance, trial.network
    while trial.lasts(chance.expovariate(5)):
        for cable in chance.choice(
            (
                (network.forward,),
                (network.backward,),
                (network.forward, network.backward),
            )
        ):
            cable.configure(HOLE)
        trial.lasts(chance.uniform(0.001, 0.012))
        network.forward.configure(CLEAN)
        network.backward.configure(CLEAN)


def black_hole(trial: Trial) -> None:
    trial.start(700_000, SLOW)
    network = trial.network
    trial.lasts(5 * trial.chance.random())
    while trial.lasts(5):
        network.forward.configure(HOLE)
        network.backward.configure(HOLE)
        trial.lasts(2)
        network.forward.configure(SLOW)
        network.backward.configure(SLOW)


def patient(trial: Trial) -> None:
    trial.start(300_000, replace(CLEAN, delay_ns=750 * MS))
    trial.finish()
    assert trial.flow.client.sender.recovery.lost_packets < 5


def matrix(trial: Trial) -> None:
    """One point between 10 and 1,000 Mbit/s, 5 and 200 ms, 0.2 and 5 BDP."""
    chance = trial.chance
    point(
        trial,
        rate_bps=int(10_000_000 * 100 ** chance.random()),
        rtt_ns=int(5 * MS * 40 ** chance.random()),
        queue_bdp=0.2 * 25 ** chance.random(),
    )


def point(trial: Trial, *, rate_bps: int, rtt_ns: int, queue_bdp: float) -> None:
    """2 MB, or 8 BDP where that is less; as long as that takes, half again, and 16 round trips."""
    bdp = rate_bps * rtt_ns // (8 * SECOND)
    link = Impairment(
        rate_bps=rate_bps,
        delay_ns=rtt_ns // 2,
        queue_packets=max(int(bdp * queue_bdp) // 1500, 2),
    )
    trial.start(min(2_000_000, 8 * bdp), link)
    trial.finish()
    flow = trial.flow
    assert flow.done_ns is not None
    took_ns = flow.done_ns - flow.start_ns
    assert took_ns < 1.5 * flow.size * 8 * SECOND / rate_bps + 16 * rtt_ns, f"{took_ns} ns"


def shrinking_mtu(trial: Trial) -> None:
    trial.start(600_000)
    trial.under_way(int(300_000 * trial.chance.random()) + 50_000)
    mtu = trial.chance.randrange(1220, 1440)
    trial.network.forward.configure(replace(CLEAN, mtu=mtu))
    trial.finish()
    assert 1200 <= trial.flow.client.sender.mtu.size <= mtu - 20


def jumping_clock(trial: Trial) -> None:
    """A host that was suspended: its monotonic clock leaps, and never goes back."""
    trial.start(600_000, replace(CLEAN, rate_bps=2_000_000))
    host = trial.chance.choice((trial.network.left, trial.network.right))
    while trial.lasts(0.7):
        host.ahead_ns += trial.chance.randrange(5 * SECOND)


PATHS = (
    Scenario(name="clean", words="10 Mbit/s, 40 ms, a queue of 50", play=clean, limit_s=0.8),
    Scenario(
        name="handshake",
        words="30 % lost and 30 % damaged, both ways, until the handshake is over",
        play=handshake,
        limit_s=60,
        most=10,
    ),
    Scenario(
        name="loss",
        words="2 % lost, both ways",
        play=over(500_000, replace(CLEAN, loss=0.02)),
        limit_s=8,
    ),
    Scenario(
        name="corruption",
        words="2 % damaged by a bit, both ways",
        play=over(500_000, replace(CLEAN, corrupt=0.02)),
        limit_s=8,
    ),
    Scenario(
        name="both",
        words="2 % lost and 2 % damaged, both ways",
        play=over(2_000_000, replace(CLEAN, loss=0.02, corrupt=0.02)),
        limit_s=30,
    ),
    Scenario(
        name="bursts",
        words="nothing gets through, one way or both, for 1 to 12 ms five times a second",
        play=bursts,
        limit_s=10,
    ),
    Scenario(
        name="reordering",
        words="10 % held back by 30 ms",
        play=over(500_000, replace(CLEAN, reorder=0.1, reorder_delay_ns=30 * MS)),
        limit_s=8,
    ),
    Scenario(
        name="jitter",
        words="delays of 5 to 35 ms",
        play=over(500_000, replace(CLEAN, jitter_ns=15 * MS)),
        limit_s=3,
    ),
    Scenario(
        name="duplication",
        words="20 % arrive twice",
        play=over(500_000, replace(CLEAN, duplicate=0.2)),
        limit_s=3,
    ),
    Scenario(
        name="everything",
        words="1 % lost, 1 % damaged, 5 % twice, 5 % held back by 25 ms",
        play=over(
            500_000,
            replace(
                CLEAN,
                loss=0.01,
                corrupt=0.01,
                duplicate=0.05,
                reorder=0.05,
                reorder_delay_ns=25 * MS,
            ),
        ),
        limit_s=12,
    ),
    Scenario(
        name="black hole",
        words="nothing gets through for 2 s of every 7, at 500 kbit/s",
        play=black_hole,
        limit_s=45,
    ),
    Scenario(name="long path", words="a round trip of 1.5 s", play=patient, limit_s=30),
    Scenario(
        name="short queue",
        words="10 Mbit/s, a queue of 25",
        play=over(1_000_000, replace(CLEAN, queue_packets=25)),
        limit_s=2,
        most=1.2,
    ),
    Scenario(
        name="matrix",
        words="one point of 10 to 1,000 Mbit/s by 5 to 200 ms by queues of 0.2 to 5 BDP",
        play=matrix,
        limit_s=30,
        few=3,
    ),
    Scenario(
        name="data lost",
        words="10 % lost, one way",
        play=over(300_000, replace(CLEAN, loss=0.1), CLEAN),
        limit_s=15,
    ),
    Scenario(
        name="ACKs lost",
        words="30 % lost, the way back",
        play=over(300_000, CLEAN, replace(CLEAN, loss=0.3)),
        limit_s=10,
    ),
    Scenario(
        name="shrinking MTU",
        words="packets above 1,220 to 1,440 bytes vanish from some moment on",
        play=shrinking_mtu,
        limit_s=10,
        most=2,
    ),
    Scenario(
        name="jumping clock",
        words="the clock of one host leaps by up to 5 s, again and again",
        play=jumping_clock,
        limit_s=15,
    ),
)
