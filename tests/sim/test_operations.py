"""Whatever two users do in whatever order: what arrives is what was sent, and both sides end."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.sim.operations import MS, SECOND, Pair

side = st.integers(0, 1)
stream = st.integers(0, 30)


class Operations(RuleBasedStateMachine):
    """Rules for Hypothesis: see `Pair`."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    @rule(number=side, one_way=st.booleans())
    @precondition(lambda self: not self.pair.over)
    def open(self, number: int, one_way: bool) -> None:
        self.pair.open(number, one_way)

    @rule(number=side, choice=stream, size=st.integers(0, 40_000))
    def write(self, number: int, choice: int, size: int) -> None:
        self.pair.write(number, choice, size)

    @rule(number=side, choice=stream, limit=st.integers(1, 50_000))
    def read(self, number: int, choice: int, limit: int) -> None:
        self.pair.read(number, choice, limit)

    @rule(number=side, choice=stream)
    def finish(self, number: int, choice: int) -> None:
        self.pair.finish(number, choice)

    @rule(number=side, choice=stream, code=st.integers(0, 2**32 - 1))
    def reset(self, number: int, choice: int, code: int) -> None:
        self.pair.reset(number, choice, code)

    @rule(number=side, choice=stream, code=st.integers(0, 2**32 - 1))
    def stop(self, number: int, choice: int, code: int) -> None:
        self.pair.stop(number, choice, code)

    @rule(number=side, size=st.integers(0, 2000))
    def datagram(self, number: int, size: int) -> None:
        self.pair.datagram(number, size)

    @rule(number=side)
    def change_keys(self, number: int) -> None:
        self.pair.change_keys(number)

    @rule(number=side)
    def ping(self, number: int) -> None:
        self.pair.ping(number)

    @rule(ns=st.sampled_from([0, MS, 30 * MS, 400 * MS, 3 * SECOND]))
    def wait(self, ns: int) -> None:
        self.pair.wait(ns)

    @rule(loss=st.sampled_from([0.0, 0.05, 0.3]))
    def weather(self, loss: float) -> None:
        self.pair.loss = loss

    @rule(number=side, really=st.integers(0, 15))
    def close(self, number: int, really: int) -> None:
        if not really:
            self.pair.close(number)

    @rule(number=side, code=st.integers(0, 2**32 - 1), really=st.integers(0, 15))
    def abort(self, number: int, code: int, really: int) -> None:
        if not really:
            self.pair.abort(number, code)

    def teardown(self) -> None:
        self.pair.settle()


TestOperations = Operations.TestCase
TestOperations.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)


def test_both_end_though_neither_reads_what_the_other_still_has_to_send() -> None:
    pair = Pair()
    for number in (0, 1):
        pair.write(number, 0, 16_000)
        pair.close(number)
    pair.settle()
