"""An RPT port of blocking sockets, pumped by whichever thread waits for it.

::

    nobody  --- a call has to wait ---> that call's thread leads: epoll, receive, turn
       ^                                  |            others that wait: follow, on a condition
       |                                  v
       `- a caretaker takes it after   leaves: a follower leads, or nobody does
          5 ms without any call

One lock for each port guards all that is on it, and is given up while its holder sleeps.
Nobody takes another lock under it but the caretaker's, under which nobody takes any: so no
two threads can wait for each other. Who leaves while nobody leads hands over, whatever he
leaves with, so followers never sleep alone. A thread that is interrupted within a turn
(Ctrl-C) leaves the port in a state that nobody can vouch for: its connections end there.

What a socket does is not known here; it has an *end* (`ends`) on the port.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from threading import get_ident
from typing import TYPE_CHECKING

from rawproto.drivers.rpt.caretaker import CARETAKER
from rawproto.drivers.rpt.office import LOOK_S, Office
from rawproto.drivers.rpt.port import FEW, Port
from rawproto.drivers.timer import Timer
from rawproto.transport.connection import Connection, State
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.stream import Stream

if TYPE_CHECKING:
    from rawproto.drivers.rpt.ends import End
    from rawproto.link.rpt_carrier import Carrier

__all__ = ["Pump"]

_NOBODY, _IN_CARE = 0, -1
_LOOK_NS = int(LOOK_S * 1e9)


class Pump:
    """One port and its lock.

    Args:
        carrier: of the port; it is closed with the pump, or if this fails.
        endpoint: likewise.
        office: this process's candidacy for refusing unheld ports, where the carrier needs one.
        bound: to what a socket was bound, None if the port came of connecting.

    Attributes:
        bound: as given.
        lock: whoever touches the port, or an end on it, holds it, and holds it once.
        port: as it is pumped.
        ends: of the sockets that are open.
        on_accept: called with each connection that a client made.
        followers: on what threads wait while another one pumps.
        closed: nothing is sent or received any more.

    Raises:
        OSError: no descriptor is left.
    """

    def __init__(
        self,
        carrier: Carrier,
        endpoint: Endpoint,
        office: Office | None,
        bound: tuple[int, bool, str, int] | None = None,
    ) -> None:
        self.bound = bound
        self.lock = threading.RLock()
        self.port = Port(endpoint, carrier)
        self.ends: set[End] = set()
        self.on_accept: Callable[[Connection], None] | None = None
        self.closed = False
        self._used = False
        self._end_of: dict[int, End] = {}
        self._orphans: deque[End] = deque()
        self.followers: deque[threading.Condition] = deque()
        self._leader = _NOBODY
        self._asleep = False
        self._stint = 0
        self._armed_ns: int | None = None
        self._data = carrier.filenos()[0]
        self._office = office
        self._look_ns: int | None = None
        with ExitStack() as stack:
            stack.callback(carrier.close)
            if office is not None:
                stack.callback(office.close)
            self._timer = Timer()
            stack.callback(self._timer.close)
            self._epoll = select.epoll()
            stack.callback(self._epoll.close)
            for descriptor in (*carrier.filenos(), self._timer.fileno()):
                self._epoll.register(descriptor, select.EPOLLIN)
            if office is not None:
                self._stand(time.monotonic_ns())
            self._resources = stack.pop_all()
        CARETAKER.add(self)

    def _stand(self, now_ns: int) -> None:
        """Looks after the office of refusing ports that nobody holds."""
        if self._office is not None and self._office.stand():
            self._look_ns = None
            for descriptor in self._office.filenos():
                self._epoll.register(descriptor, select.EPOLLIN)
        else:
            self._look_ns = now_ns + _LOOK_NS

    def join(self, end: End) -> None:
        """A socket is open on the port. The port is closed with the last one's connections."""
        self.ends.add(end)
        self._used = True

    @property
    def vacant(self) -> bool:
        """Whether nobody is bound to the port any more, though it has connections."""
        return self._used and not self.closed and not any(end.binds for end in self.ends)

    def assign(self, connection: Connection, end: End | None) -> None:
        """From now on `end` is told of the connection's events, None for nobody."""
        if end is not None:
            self._end_of[connection.cid] = end
        else:
            self._end_of.pop(connection.cid, None)

    def touch(self, connection: Connection) -> None:
        """A command was given to a connection: it gets its turn, now."""
        self.port.endpoint.touch(connection)
        self.turn()

    def touch_soon(self, connection: Connection) -> None:
        """The same, perhaps in the middle of a turn: its turn follows."""
        self.port.endpoint.touch(connection)
        self._arm(1)

    # --- waiting ---

    def wait(
        self, ready: Callable[[], bool], condition: threading.Condition, until: float | None
    ) -> bool:
        """Sleeps until something is so, and pumps meanwhile unless another thread does.

        Args:
            ready: whether it is so; asked with the lock held.
            condition: of the end that may make it so.
            until: when to give up, by `time.monotonic`; None for never.

        Returns:
            False if the time was up.

        Raises:
            OSError: EDEADLK, a signal handler would wait for the call that it came in.
        """
        try:
            while not ready():
                if self.closed or (until is not None and time.monotonic() >= until):
                    return False
                if self._leader == get_ident():
                    raise OSError(errno.EDEADLK, os.strerror(errno.EDEADLK))
                if self._leader > 0:
                    self._follow(condition, until)
                elif self._lead(ready, condition, until):
                    break
            return True
        finally:
            self.leave()

    def leave(self) -> None:
        """A call is over: if nobody leads, somebody else has to look after the port."""
        if self._leader == _NOBODY and not self.closed:
            if self.followers:
                self.followers[0].notify()
            else:
                CARETAKER.notice(self, self._stint)

    def _follow(self, condition: threading.Condition, until: float | None) -> None:
        self.followers.append(condition)
        try:
            condition.wait(None if until is None else max(until - time.monotonic(), 0))
        finally:
            self.followers.remove(condition)

    def _lead(
        self, ready: Callable[[], bool], condition: threading.Condition, until: float | None
    ) -> bool:
        """Pumps until something is so, or time is up: whether it is so."""
        if self._leader == _IN_CARE:
            self._leader = _NOBODY  # who is interrupted here leaves it to somebody
            CARETAKER.give_back(self._epoll)
        self._leader = get_ident()
        self._stint += 1
        try:
            if self.port.pending:
                self._attend(self._epoll.poll(0))  # what came too is acknowledged with the rest
                if ready():
                    return True
            while not self.closed:
                left = -1.0 if until is None else until - time.monotonic()
                if until is not None and left <= 0:
                    break
                events = self._sleep(left)
                if len(events) == 1 and events[0][0] == self._data and self.port.sparse:
                    if self._attend_one(ready, condition):
                        return True
                elif self._attend(events, ready):
                    return True
            return False
        finally:
            self._leader = _NOBODY
            if self.closed:
                self._resources.close()

    def _sleep(self, seconds: float) -> list[tuple[int, int]]:
        """Waits for descriptors without the lock. What interrupts it comes with the lock held."""
        lock = self.lock
        self._asleep = True
        try:
            lock.release()
            return self._epoll.poll(seconds)
        finally:
            interrupted: BaseException | None = None
            while not self.is_held():
                try:
                    lock.acquire()
                except BaseException as error:
                    interrupted = error
            self._asleep = False
            if interrupted is not None:
                raise interrupted

    def is_held(self) -> bool:
        """Whether this very thread has the lock: it is in the middle of a call on the port."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    # --- pumping ---

    def _attend(
        self, events: list[tuple[int, int]], ready: Callable[[], bool] = lambda: False
    ) -> bool:
        """Takes in what has come: whether it is what the leader waited for."""
        if self.closed:
            return ready()
        packets = 0
        timer = self._timer.fileno()
        try:
            for descriptor, _ in events:
                if descriptor == timer:
                    self._timer.clear()
                    self._armed_ns = None
                elif self._office is not None and descriptor in self._office.filenos():
                    self._office.answer()
                else:
                    packets += self.port.receive(descriptor)
        except BaseException:
            self.fail()
            raise
        if 0 < packets <= FEW and len(events) == 1 and ready():
            return True  # which spares him the turn
        self.turn()
        return ready()

    def _attend_one(self, ready: Callable[[], bool], condition: threading.Condition) -> bool:
        """The same where one packet has come, as far as is known."""
        if self.closed:
            return ready()
        try:
            found = self.port.receive_one(self._data)
            if found is not None:
                connection, stream = found
                end = self._end_of.get(connection.cid)
                if end is not None and end.condition is condition and ready():
                    return True  # he knows, and is spared the turn
                connection.incoming.tell_readable(stream)
            more = self.port.receive(self._data)
        except BaseException:
            self.fail()
            raise
        if more < FEW and ready():
            return True
        self.turn()
        return ready()

    def send_one(self, connection: Connection, stream: Stream, data: bytes) -> bool:
        """Sends a stream's data without a turn, if that is possible: see `Port.send_one`."""
        if self.closed:
            return False
        try:
            due_ns = self.port.send_one(connection, stream, data, time.monotonic_ns())
        except BaseException:
            self.fail()
            raise
        self._arm(due_ns)
        return due_ns is not None

    def turn(self) -> None:
        """Lets timers run, sends, and tells the ends what happened. The lock is held."""
        if self.closed:
            return
        now_ns = time.monotonic_ns()
        try:
            while self._orphans:
                self._orphans.popleft().abandon()
            self.port.turn(now_ns)
            self._tell_ends()
            if self._look_ns is not None and now_ns >= self._look_ns:
                self._stand(now_ns)
        except BaseException:
            self.fail()
            raise
        if self._used and not self.ends and not self.port.endpoint.connections:
            self.close()
            return
        due_ns = self.port.due_ns(now_ns)
        if self._look_ns is not None and (due_ns is None or due_ns > self._look_ns):
            due_ns = self._look_ns
        self._arm(due_ns)

    def _arm(self, due_ns: int | None) -> None:
        """Has a turn come in time; one that comes early is cheaper than to set the timer anew."""
        if due_ns is not None and (self._armed_ns is None or due_ns < self._armed_ns):
            self._armed_ns = due_ns
            self._timer.arm(due_ns)
            if self._orphans:  # a finalizer's alarm may have been put off
                self._timer.arm(1)

    def _tell_ends(self) -> None:
        endpoint = self.port.endpoint
        while (accepted := endpoint.accept()) is not None:
            if self.on_accept is None:
                accepted.abort(0, "", time.monotonic_ns())
            else:
                self.on_accept(accepted)
        for connection in endpoint.active():
            end = self._end_of.get(connection.cid)
            if end is not None:
                end.on_active(connection)
                if connection.state is State.CLOSED:
                    del self._end_of[connection.cid]

    def kick(self) -> None:
        """Has the leader look again, if he sleeps; it may be his signal handler that calls."""
        if self._asleep:
            self._arm(1)

    def orphan(self, end: End) -> None:
        """Has an end and its descriptor closed soon: for finalizers, which may run in the middle of
        anything, as may signal handlers."""
        if self.closed:
            end.forsake()
        else:
            self._orphans.append(end)
            self._timer.arm(1)

    # --- the caretaker's ---

    def take_in_care(self, stint: int) -> int | None:
        """The caretaker offers to lead, having seen `stint`.

        Returns:
            The stint to come back with, None if there is no need to.
        """
        with self.lock:
            if self._leader == _NOBODY and self._stint != stint:
                return self._stint  # it is in use: who used it will be back
            CARETAKER.overlook(self)
            if self._leader == _NOBODY and not self.closed:
                self._leader = _IN_CARE
                CARETAKER.take(self._epoll, self)
                self.turn()
            return None

    def attend_in_care(self) -> None:
        """Something has come while the caretaker led; perhaps he does not any more."""
        with self.lock:
            if self._leader == _IN_CARE and not self.closed:
                self._attend(self._epoll.poll(0))

    # --- the end ---

    def close(self) -> None:
        """Gives port and descriptors back."""
        if self.closed:
            return
        self.closed = True
        if self._leader == _IN_CARE:
            CARETAKER.give_back(self._epoll)
        CARETAKER.overlook(self)
        CARETAKER.remove(self)
        if self._asleep:
            self.kick()  # who sleeps over descriptors closes them
        else:
            self._resources.close()

    def fail(self) -> None:
        """Ends all at once, without a word to anybody."""
        self.close()
        while self._orphans:
            self._orphans.popleft().forsake()
        for end in list(self.ends):
            end.fail(OSError(errno.ECONNABORTED, "interrupted while the port was being pumped"))

    def forsake(self) -> None:
        """This process is a copy, made by fork: the port stays the original's."""
        self.lock = threading.RLock()
        self.closed = True
        self._resources.close()
        for end in list(self.ends):
            end.forsake()
