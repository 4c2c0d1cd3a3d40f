"""Who pumps a port: calls that wait, one after the other, and the caretaker between them.

The port is a pipe and a protocol that counts; what is tested is who leads, and that nobody
is left waiting.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import pytest

from rawproto.drivers.rpt.caretaker import CARETAKER
from rawproto.drivers.rpt.ends import End
from rawproto.drivers.rpt.pump import Pump


class Pipe:
    """A carrier of which the pump needs no more than this. What `arrive` is given has come."""

    def __init__(self) -> None:
        self._read, self.arrive = os.pipe2(os.O_NONBLOCK)

    def filenos(self) -> list[int]:
        return [self._read]

    def close(self) -> None:
        os.close(self._read)
        os.close(self.arrive)


class Nothing:
    """An endpoint without connections."""

    connections: ClassVar[dict[int, Any]] = {}

    def accept(self) -> None:
        return None

    def active(self) -> list[Any]:
        return []


class CountingPort:
    """Notes what came and which thread brought it."""

    pending = sparse = False

    def __init__(self) -> None:
        self.endpoint = Nothing()
        self.got: list[tuple[bytes, int]] = []
        self.failure: type[BaseException] | None = None
        self.alarm_ns: int | None = None
        self.alarmed = threading.Event()

    def receive(self, descriptor: int) -> int:
        if self.failure is not None:
            raise self.failure
        words = os.read(descriptor, 64)
        self.got += [(bytes([byte]), threading.get_ident()) for byte in words]
        return len(words)

    def turn(self, now_ns: int) -> None:
        if self.alarm_ns is not None and now_ns >= self.alarm_ns:
            self.alarm_ns = None
            self.alarmed.set()

    def due_ns(self, now_ns: int) -> int | None:
        return self.alarm_ns


class Setting:
    """A port with one end on it."""

    def __init__(self) -> None:
        self.before = set(os.listdir("/proc/self/fd"))
        self.carrier, self.port = Pipe(), CountingPort()
        whatever: Any = (self.carrier, self.port.endpoint)
        self.pump = Pump(*whatever, None)
        self.pump.port = cast(Any, self.port)
        self.end = End(self.pump, None)

    def arrive(self, word: bytes) -> None:
        os.write(self.carrier.arrive, word)

    def await_words(self, count: int) -> bool:
        """Waits on the end until so much has arrived."""
        with self.pump.lock:
            until = time.monotonic() + 10
            return self.pump.wait(lambda: len(self.port.got) >= count, self.end.condition, until)

    def waiter(self, count: int) -> threading.Thread:
        thread = threading.Thread(target=self.await_words, args=(count,), daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        with self.pump.lock:
            self.end.close()
            self.pump.turn()
        if (thread := CARETAKER._thread) is not None:
            thread.join(10)
        assert CARETAKER._thread is None
        assert set(os.listdir("/proc/self/fd")) == self.before


@pytest.fixture
def setting() -> Iterator[Setting]:
    made = Setting()
    yield made
    made.close()


def until(condition: Any) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


def test_call_that_waits_pumps_the_port_itself(setting: Setting) -> None:
    setting.arrive(b"a")
    assert setting.await_words(1)
    assert setting.port.got == [(b"a", threading.get_ident())]


def test_call_whose_time_is_up_says_so(setting: Setting) -> None:
    with setting.pump.lock:
        never = setting.pump.wait(lambda: False, setting.end.condition, time.monotonic() + 0.01)
    assert not never


def test_second_call_follows_and_leads_when_the_first_has_left(setting: Setting) -> None:
    first = setting.waiter(1)
    until(lambda: setting.pump._leader == first.ident)
    second = setting.waiter(2)
    until(lambda: setting.pump.followers)
    setting.arrive(b"a")
    first.join(10)
    until(lambda: setting.pump._leader == second.ident)
    setting.arrive(b"b")
    second.join(10)
    assert setting.port.got == [(b"a", first.ident), (b"b", second.ident)]


def test_caretaker_pumps_a_port_that_was_left_and_gives_it_back(setting: Setting) -> None:
    setting.arrive(b"a")
    setting.await_words(1)
    caretaker = CARETAKER._thread
    assert caretaker is not None
    setting.arrive(b"b")
    until(lambda: len(setting.port.got) == 2)
    assert setting.port.got[1] == (b"b", caretaker.ident)
    third = setting.waiter(3)
    until(lambda: setting.pump._leader == third.ident)
    setting.arrive(b"c")
    third.join(10)
    assert setting.port.got[2] == (b"c", third.ident)


def test_caretaker_lets_timers_run(setting: Setting) -> None:
    setting.arrive(b"a")
    setting.await_words(1)
    with setting.pump.lock:
        setting.port.alarm_ns = time.monotonic_ns() + 20_000_000
        setting.pump.turn()
    assert setting.port.alarmed.wait(10)


def test_many_threads_leave_nobody_waiting(setting: Setting) -> None:
    threads = [setting.waiter(number % 10 + 1) for number in range(30)]
    for _ in range(10):
        setting.arrive(b"x")
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_port_that_is_closed_under_a_sleeper_is_given_back_by_him(setting: Setting) -> None:
    sleeper = setting.waiter(1)
    until(lambda: setting.pump._leader == sleeper.ident)
    with setting.pump.lock:
        setting.end.close()
        setting.pump.turn()
    sleeper.join(10)
    assert not sleeper.is_alive()
    assert setting.pump.closed


def test_interrupted_turn_ends_the_port_and_tells_its_ends(setting: Setting) -> None:
    setting.port.failure = KeyboardInterrupt
    setting.arrive(b"a")
    with pytest.raises(KeyboardInterrupt):
        setting.await_words(1)
    assert setting.pump.closed
    assert isinstance(setting.end.error, ConnectionAbortedError)


def test_port_that_fails_in_care_takes_no_other_along(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    other = Setting()
    for each in (setting, other):
        each.arrive(b"a")
        each.await_words(1)
    caretaker = CARETAKER._thread
    until(lambda: setting.pump._leader == other.pump._leader == -1)
    setting.port.failure = ZeroDivisionError
    setting.arrive(b"b")
    until(lambda: told)
    assert setting.pump.closed
    assert [each.exc_type for each in told] == [ZeroDivisionError]
    other.arrive(b"b")
    until(lambda: len(other.port.got) == 2)
    assert CARETAKER._thread is caretaker
    assert setting.pump.take_in_care(0) is setting.pump.attend_in_care() is None
    with other.pump.lock:
        other.end.close()
        other.pump.turn()


def test_finalizer_may_close_an_end_in_the_middle_of_anything(setting: Setting) -> None:
    with setting.pump.lock:
        setting.pump.orphan(setting.end)
        assert not setting.end.closed
        setting.pump.turn()
    assert setting.end.closed


def test_deadline_does_not_put_off_the_waking_of_a_sleeper(setting: Setting) -> None:
    """He may not have run yet: a timer that is set anew has not come, whatever it was before."""
    sleeper = setting.waiter(1)
    until(lambda: setting.pump._asleep)
    armed: list[int | None] = []
    timer = cast(Any, setting.pump._timer)
    arm, timer.arm = timer.arm, armed.append
    with setting.pump.lock:
        setting.end.changed()
        setting.port.alarm_ns = time.monotonic_ns() + 10**9
        setting.pump.turn()
        timer.arm = arm
        arm(1)
    assert armed == [1]
    setting.arrive(b"a")
    sleeper.join(10)


def test_deadline_does_not_put_off_what_a_finalizer_wants(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    timer = cast(Any, setting.pump._timer)
    arm, armed = timer.arm, []

    def put_off(due_ns: int | None) -> None:
        timer.arm = lambda due_ns: (armed.append(due_ns), arm(due_ns))
        setting.pump.orphan(setting.end)
        timer.arm(due_ns)

    with setting.pump.lock:
        timer.arm = put_off
        setting.port.alarm_ns = time.monotonic_ns() + 10**12
        setting.pump.turn()
        assert (armed[0], armed[-1]) == (1, 1)
        setting.pump.turn()
    assert setting.end.closed
