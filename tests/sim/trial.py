"""A scenario played with one seed: what has to hold of it, and what it took.

Every scenario ends with each byte as it was sent and both sides closed, within so much virtual
time and so many bytes sent. All chance comes from the seed, so a failure is simply played
again to write down its packets.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from tempfile import NamedTemporaryFile
from typing import BinaryIO

from rawproto.capture import PcapngWriter
from rawproto.errors import RemoteProtocolError
from rawproto.impair import Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.sim.record import record_packets
from rawproto.transport.config import Config
from rawproto.transport.congestion import CONTROLLERS

MS = 1_000_000
SECOND = 1_000_000_000
CLEAN = Impairment(rate_bps=10_000_000, delay_ns=20 * MS, queue_packets=50)
PSK = bytes([7]) * 32
# What a connection costs beside its data: the handshake, the search for the MTU, the end.
ALLOWANCE_BYTES = 50_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one seed took.

    Attributes:
        virtual_ns: from the first packet until both sides were closed.
        sent: bytes of IP that the client sent.
        delivered: bytes that the listener's program read.
    """

    virtual_ns: int
    sent: int
    delivered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One line of the table.

    Attributes:
        name: a word or two, for the command line and the page.
        words: what happens, for the page.
        play: lets it happen.
        limit_s: virtual seconds that it may take.
        most: bytes that may be sent for a byte delivered, beside ALLOWANCE_BYTES.
        ends: the code with which the liar is sent away; None: it ends well.
        few: how many seeds `make test` plays.
    """

    name: str
    words: str
    play: Callable[[Trial], None]
    limit_s: float
    most: float = 1.5
    ends: int | None = None
    few: int = 20


class Trial:
    """One seed of a scenario.

    Args:
        scenario: which.
        seed: of all chance.
        record: where the packets are written to, None for nowhere.

    Attributes:
        chance: for what the scenario leaves to the seed.
        network: where it happens.
        flow: the connection.
    """

    def __init__(self, scenario: Scenario, seed: int, record: BinaryIO | None = None) -> None:
        self.scenario = scenario
        self.seed = seed
        self.chance = random.Random(f"{scenario.name} {seed}")
        self._record = record
        self._writer: PcapngWriter | None = None
        self._sent = 0

    def start(
        self,
        size: int,
        forward: Impairment = CLEAN,
        backward: Impairment | None = None,
        **settings: int,
    ) -> None:
        """Has a client begin to send `size` bytes; controller, pattern and psk are the seed's."""
        chance = random.Random(self.seed)
        config = replace(Config(congestion=chance.choice(sorted(CONTROLLERS))), **settings)
        self.network = Network(self.seed, forward, forward if backward is None else backward)
        self.flow = Flow(
            self.network,
            size,
            config=config,
            pinned=chance.random() < 0.5,
            psk=PSK if chance.random() < 0.5 else b"",
        )
        if self._record is not None:
            self._writer = record_packets(self.network, [self.flow], self._record)
        written = self.network.tap

        def tap(now_ns: int, from_left: bool, packet: bytes) -> None:
            self._sent += len(packet) * from_left
            if written is not None:
                written(now_ns, from_left, packet)

        self.network.tap = tap

    def until(self, done: Callable[[], bool], seconds: float = 1e6) -> bool:
        """Lets time pass until something is done, for so long at most: whether it was."""
        network = self.network
        spent_ns = network.now_ns - self.flow.start_ns
        left_ns = int(self.scenario.limit_s * SECOND) - spent_ns
        assert left_ns > 0, f"not over after {spent_ns / SECOND} virtual s: {self.flow.errors}"
        return network.run(done, min(int(seconds * SECOND), left_ns))

    def lasts(self, seconds: float) -> bool:
        """Lets time pass: whether the flow is still under way after it."""
        return not self.until(lambda: self.flow.ended, seconds)

    def under_way(self, received: int) -> None:
        """Lets time pass until so many bytes have arrived."""
        while not self.until(lambda: self.flow.received >= received):
            pass

    def finish(self) -> None:
        """Lets time pass until both sides are closed."""
        while self.lasts(1e6):
            pass

    def result(self) -> Outcome:
        """What it took; fails where anything does not hold that has to."""
        flow, scenario = self.flow, self.scenario
        if scenario.ends is None:
            assert flow.errors == {"client": None, "listener": None}, f"ended by {flow.errors}"
            assert flow.done, f"{flow.received} of {flow.size} bytes"
            most = scenario.most * flow.size + ALLOWANCE_BYTES
            assert self._sent <= most, f"{self._sent} bytes sent for {flow.size}"
        else:
            assert len(flow.errors) == 2
            for error in flow.errors.values():
                assert isinstance(error, RemoteProtocolError)
                assert error.code == scenario.ends
        return Outcome(self.network.now_ns - flow.start_ns, self._sent, flow.received)

    def flush(self) -> None:
        """Writes down what was recorded so far."""
        if self._writer is not None:
            self._writer.flush()


def play(scenario: Scenario, seed: int) -> Outcome:
    """Plays a scenario with one seed; a failure names the seed and leaves its packets behind."""
    try:
        return _play(Trial(scenario, seed))
    except Exception as error:
        error.add_note(f"{scenario.name}, seed {seed}; its packets: {_packets(scenario, seed)}")
        raise


def _play(trial: Trial) -> Outcome:
    trial.scenario.play(trial)
    return trial.result()


def _packets(scenario: Scenario, seed: int) -> str:
    """Plays it again, writing: the name of the file."""
    name = f"sim-{scenario.name.replace(' ', '-')}-{seed}-"
    with NamedTemporaryFile(prefix=name, suffix=".pcapng", delete=False) as file:
        trial = Trial(scenario, seed, file)  # type: ignore[arg-type]
        with suppress(Exception):
            _play(trial)
        trial.flush()
    return file.name
