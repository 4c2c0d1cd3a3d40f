"""The one thread that looks after RPT ports while no call does (`pump`).

It begins when the first port is left alone and ends with the last port. A port that a call
has just left is left in peace for a while, since most calls are followed by another; then
its epoll is put into the caretaker's, and is taken out by the next call that has to wait.

Ports belong to the process that opened them: a copy made by fork(2) closes its descriptors
of them and knows them no more. When the interpreter ends, what is still open is closed as
by its owner, and what was sent gets the time to arrive that `close` gives it; so it is in
children of `multiprocessing`, which end by `os._exit`, behind finalizers of their own.
"""

from __future__ import annotations

import atexit
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rawproto.drivers.rpt.pump import Pump

__all__ = ["CARETAKER", "Caretaker"]

GRACE_S = 0.005
_LINGER_S = 120.5
_AFTER_ALL = -1000  # multiprocessing's own finalizers are of -100 at least


class Joint(Protocol):
    """What carries the data of a descriptor that stands for a socket (`detach`)."""

    def end(self) -> None:
        """Nothing more is taken in; what was is carried."""

    def wait(self, seconds: float, /) -> None:
        """Until it is."""

    def forsake(self) -> None:
        """This process is a copy."""


class Caretaker:
    """The thread and what it knows.

    Attributes:
        joints: of descriptors that stand for sockets of this process.
    """

    def __init__(self) -> None:
        self.joints: set[Joint] = set()
        self._ends_in_time = False
        self._lock = threading.RLock()  # a signal handler may come while it is held, and use a port
        self._pumps: set[Pump] = set()
        self._alone: dict[Pump, int] = {}
        self._in_care: dict[int, Pump] = {}
        self._thread: threading.Thread | None = None
        self._asleep = False

    # --- called with a port's lock held ---

    def add(self, pump: Pump) -> None:
        """A port was opened."""
        if not self._ends_in_time:
            self._ends_in_time = True
            self._mind_os_exit()
        with self._lock:
            self._pumps.add(pump)

    def pumps(self) -> list[Pump]:
        """Of the ports that are open."""
        return list(self._pumps)

    def remove(self, pump: Pump) -> None:
        """A port was closed."""
        with self._lock:
            self._pumps.discard(pump)
            if not self._pumps:
                self._wake()

    def notice(self, pump: Pump, stint: int) -> None:
        """Nobody leads a port, as a call that led it for the `stint`-th time has ended."""
        if pump in self._alone:
            return
        with self._lock:
            self._alone[pump] = stint
            if self._thread is None:
                self._begin()
            else:
                self._wake()

    def overlook(self, pump: Pump) -> None:
        """A port is not alone any more."""
        self._alone.pop(pump, None)

    def take(self, epoll: select.epoll, pump: Pump) -> None:
        """Looks after a port from now on. In the thread only."""
        self._in_care[epoll.fileno()] = pump
        self._epoll.register(epoll.fileno(), select.EPOLLIN)

    def give_back(self, epoll: select.epoll) -> None:
        """Somebody else looks after it."""
        self._in_care.pop(epoll.fileno(), None)
        self._epoll.unregister(epoll.fileno())

    # --- the thread ---

    def _begin(self) -> None:
        with ExitStack() as stack:
            epoll = stack.enter_context(select.epoll())
            alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            stack.callback(os.close, alarm)
            epoll.register(alarm, select.EPOLLIN)
            thread = threading.Thread(target=self._run, name="rawproto ports", daemon=True)
            if self._thread is None:  # nor has a signal handler begun it meanwhile
                self._epoll, self._alarm, self._thread = epoll, alarm, thread
                stack.pop_all()
                thread.start()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._alarm, 1)

    def _run(self) -> None:
        look_at = 0.0
        while True:
            with self._lock:
                if not self._pumps:
                    self._end()
                    return
                self._asleep = not self._alone
            events = self._epoll.poll(-1 if self._asleep else GRACE_S)
            self._asleep = False
            for descriptor, _ in events:
                pump = self._in_care.get(descriptor)
                if pump is not None:
                    self._spared(pump.attend_in_care)
                elif descriptor == self._alarm:
                    with suppress(BlockingIOError):
                        os.eventfd_read(self._alarm)
                    look_at = time.monotonic() + GRACE_S
            if self._alone and time.monotonic() >= look_at:
                look_at = time.monotonic() + GRACE_S
                for pump, stint in list(self._alone.items()):
                    seen = self._spared(pump.take_in_care, stint)
                    if seen is not None and pump in self._alone:
                        self._alone[pump] = seen

    @staticmethod
    def _spared(call: Callable[..., int | None], *arguments: int) -> int | None:
        """What befalls one port must not befall the others: it is told, and that is all."""
        try:
            return call(*arguments)
        except Exception as error:
            thread = threading.current_thread()
            told = (type(error), error, error.__traceback__, thread)
            threading.excepthook(threading.ExceptHookArgs(told))
            return None

    def _end(self) -> None:
        self._epoll.close()
        os.close(self._alarm)
        self._in_care.clear()
        self._thread = None

    # --- the end of the process, and its copies ---

    def _mind_os_exit(self) -> None:
        process = sys.modules.get("multiprocessing.process")
        if process is not None and process.parent_process() is not None:
            from multiprocessing.util import Finalize

            Finalize(None, self.finish, exitpriority=_AFTER_ALL)

    def finish(self) -> None:
        """Closes every socket that is open, and waits until what was sent has arrived."""
        joints, until = list(self.joints), time.monotonic() + _LINGER_S
        for joint in joints:
            joint.end()
        for joint in joints:
            joint.wait(max(until - time.monotonic(), 0))
        for pump in self.pumps():
            with pump.lock:
                for end in list(pump.ends):
                    end.close()
                pump.turn()
                pump.leave()
        thread = self._thread
        if thread is not None:
            thread.join(max(until - time.monotonic(), 0))

    def forget(self) -> None:
        """This process is a copy: it has no ports, and no thread."""
        joints, pumps, had_thread = self.joints, self._pumps, self._thread is not None
        if had_thread:
            self._epoll.close()
            os.close(self._alarm)
        self.__init__()  # type: ignore[misc]
        for joint in joints:
            joint.forsake()
        for pump in pumps:
            pump.forsake()


CARETAKER = Caretaker()
atexit.register(CARETAKER.finish)
os.register_at_fork(after_in_child=CARETAKER.forget)
