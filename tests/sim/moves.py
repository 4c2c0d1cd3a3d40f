"""Scenarios of moving: addresses that change, paths that do, and marks on the way.

What the network does to a packet is a function of (from the client, IP packet), as
`Network.middlebox` takes it.
"""

from __future__ import annotations

from dataclasses import replace

from rawproto.transport.ecn import Stage
from tests.sim.trial import CLEAN, MS, SECOND, Scenario, Trial

SLOW = replace(CLEAN, rate_bps=400_000, queue_packets=20)
CE = 3


def rebinding(trial: Trial) -> None:
    """A NAT forgets: the peer's packets come from another port, and it cannot know."""
    trial.start(900_000, SLOW, keep_alive_ns=SECOND)
    host = trial.network.left
    trial.lasts(5 * trial.chance.random())
    while trial.lasts(5):
        assert address_of_client(trial) == (host.address, host.carrier_port)
        host.carrier_port += 1
    assert host.carrier_port >= 2


def renumbering(trial: Trial) -> None:
    """The same with the whole address, as on bare IP."""
    trial.start(900_000, SLOW, keep_alive_ns=SECOND)
    host, number = trial.network.left, 1
    trial.lasts(5 * trial.chance.random())
    while trial.lasts(5):
        assert address_of_client(trial) == (host.address, host.carrier_port)
        number += 9
        host.address = f"10.0.0.{number}"
    assert number > 10


def address_of_client(trial: Trial) -> tuple[str, int]:
    """Where the listener sends."""
    assert trial.flow.server is not None
    return trial.flow.server.address


def moving(trial: Trial) -> None:
    """The client itself goes to another network, wider or narrower, slower or faster."""
    trial.start(800_000)
    network, flow, chance = trial.network, trial.flow, trial.chance
    number = 1
    while trial.lasts(0.3 + chance.random()):
        number += 9
        network.left.address = f"10.0.0.{number}"
        path = replace(
            CLEAN,
            rate_bps=int(500_000 * 40 ** chance.random()),
            delay_ns=int(MS * 100 ** chance.random()),
            mtu=chance.choice((1240, 1400, 1500)),
        )
        network.forward.configure(path)
        network.backward.configure(path)
        flow.client.on_moved(1480, network.now_ns)
        flow.left.touch(flow.client)


def marked(trial: Trial) -> None:
    """A queue that marks where another would drop: nothing is lost, and the window answers."""
    trial.start(500_000, replace(CLEAN, queue_packets=400))
    network = trial.network

    def mark(from_left: bool, packet: bytes) -> bytes:
        if not from_left or not packet[1] & 3 or network.forward.queued(network.now_ns)[0] < 15:
            return packet
        return packet[:1] + bytes([packet[1] | CE]) + packet[2:]

    network.middlebox = mark
    trial.finish()
    recovery = trial.flow.client.sender.recovery
    assert recovery.ecn.stage is Stage.CAPABLE
    assert recovery.lost_packets == 0


MOVES = (
    Scenario(
        name="rebinding",
        words="a NAT gives the client another port every 5 s, at 400 kbit/s",
        play=rebinding,
        limit_s=60,
    ),
    Scenario(
        name="renumbering",
        words="the client has another address every 5 s, and does not know, at 400 kbit/s",
        play=renumbering,
        limit_s=60,
    ),
    Scenario(
        name="moving",
        words="the client moves to another path every 0.3 to 1.3 s: 0.5 to 20 Mbit/s, 1 to 100 ms, "
        "1,240 to 1,500 bytes",
        play=moving,
        limit_s=120,
        most=2,
    ),
    Scenario(
        name="marks",
        words="a queue of 400 that marks CE where 15 wait",
        play=marked,
        limit_s=10,
        most=1.2,
    ),
)
