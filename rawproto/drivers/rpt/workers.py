"""Several processes that serve one port: forked, watched, started again, ended together.

::

    program ------- orders ------> supervisor ------ orders ------> worker 0 .. N-1
    its event loop                 all sockets, no loop, no thread  an event loop each
       `- refuses unheld ports        `- starts dead workers again     `- a share of the port

The supervisor is a copy of the program as it is when `serve` is called (fork(2)), and each
worker is a copy of the supervisor, also one that comes later in place of a dead one. What
the handler can reach at that moment it has; what the program changes or opens afterwards
it has not. Threads are not copied, and a lock that one of them holds just then stays
locked: begin threads later. What handlers change, each worker changes for itself.

The sockets outlive a worker, so what comes meanwhile waits for the next one. That one does
not know the dead one's connections, and tells their peers so, with the reset key that all
share. A worker that dies early is started again later and later; but where one says that
it cannot start, and never has, all end, and the program hears why.

All ends when the program says so or is no more, however it died: workers get END_S to tell
their peers, and are killed then. Without its supervisor a worker dies at once. What a
worker does with its share, this module does not know.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NoReturn, Protocol

from rawproto.drivers.rpt.address import RPTAddress
from rawproto.drivers.rpt.responder import Responder
from rawproto.errors import LinkError, RawprotoError

__all__ = ["MOST_WORKERS", "WorkerServer"]

MOST_WORKERS = 64
END_S = 3.0
"""How long workers may take to tell their peers, beyond the grace that connections get."""
_STABLE_S = 5.0
"""A worker that lived for so long is started again at once."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0
_MOST_GRACE_S = 86_400.0
_PR_SET_PDEATHSIG = 1
_GRACE = struct.Struct("=d")
_STARTED = struct.Struct("=II")
_STANDS = b"\0"
"""What a worker says when it has started; else it says why not."""
_MOST_WORDS_BYTES = 4096

_log = logging.getLogger("rawproto")


class _Closeable(Protocol):
    async def close(self, grace_s: float = 0.0) -> None: ...


class Carrier(Protocol):
    """What a worker receives by: an RPT carrier, or whatever else is to be shared."""

    def close(self) -> None: ...


Start = Callable[[int], Awaitable[_Closeable]]
"""Begins to serve a worker's share, by its number, in the running event loop."""


class WorkerServer:
    """A listener whose connections are served by processes of their own. Made by `serve`.

    Args:
        address: where it listens.
        start: called in each worker.
        carriers: one for each worker. They are closed here once the supervisor has them.

    Attributes:
        address: as given.
        pids: the workers' process IDs by their numbers, 0 while one is not there.
    """

    def __init__(self, address: RPTAddress, start: Start, carriers: Sequence[Carrier]) -> None:
        self.address = address
        self.pids = [0] * len(carriers)
        self._responder: Responder | None = None
        self._loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._there = asyncio.Event()
        self._closing = False
        self._refused = ""
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.setblocking(False)
        program = os.getpid()

        def supervise() -> None:
            self._orders.close()
            try:
                supervisor = _Supervisor(program, theirs, start, carriers)
            except OSError as error:
                theirs.send(_STARTED.pack(0, 0) + f"no supervisor: {error}".encode())
                raise SystemExit(1) from None
            supervisor.run()

        try:
            self._supervisor = _fork(supervise)
        except OSError as error:
            self._orders.close()
            raise LinkError("fork", "", error.errno) from None
        finally:
            theirs.close()
        for carrier in carriers:
            carrier.close()
        self._loop.add_reader(self._orders, self._told)
        self._life = self._live()
        with suppress(StopIteration):
            self._life.__anext__().send(None)

    async def _live(self) -> AsyncGenerator[None, None]:
        """Ends the workers with the event loop, which closes its asynchronous generators."""
        try:
            yield
        finally:
            await self.close()

    async def begin(self, family: int) -> None:
        """Refuses ports that nobody holds, on bare IP; returns when all workers have started.

        Raises:
            RawprotoError: one cannot, and says why.
        """
        try:
            if self.address.carrier == "rpt":
                self._responder = Responder(6 if family == 6 else 4)
            await self._there.wait()
            if self._over.done():
                await self.wait_closed()
        except BaseException:
            await self.close()
            raise

    def _told(self) -> None:
        """The supervisor says which worker it started or lost, or is gone itself."""
        try:
            told = self._orders.recv(_STARTED.size + _MOST_WORDS_BYTES)
        except ConnectionError:
            told = b""
        if told:
            worker, pid = _STARTED.unpack_from(told)
            self.pids[worker] = pid
            self._refused = self._refused or told[_STARTED.size :].decode(errors="replace")
            if all(self.pids):
                self._there.set()
            return
        self._loop.remove_reader(self._orders)
        self._orders.close()
        with suppress(ChildProcessError):  # the program has waited for it elsewhere
            os.waitpid(self._supervisor, 0)
        self.pids = [0] * len(self.pids)
        if self._responder is not None:
            self._responder.close()
        self._over.set_result(None)
        self._there.set()
        if not (self._closing or self._refused):
            _log.error("%s: the supervisor was killed, and its workers with it", self.address)

    async def wait_closed(self) -> None:
        """Returns when no worker is left.

        Raises:
            LinkError: nobody wanted that.
            RawprotoError: a worker could not start.
        """
        await asyncio.shield(self._over)
        if self._refused:
            raise RawprotoError(self._refused)
        if not self._closing:
            raise LinkError("serve", str(self.address), None, "the supervisor was killed")

    async def close(self, grace_s: float = 0.0) -> None:
        """Ends all workers; connections get `grace_s` seconds to end by themselves.

        Who calls it once more can only hasten the end.
        """
        if not self._over.done():
            self._closing = True
            with suppress(OSError):
                self._orders.send(_GRACE.pack(min(grace_s, _MOST_GRACE_S)))
        await asyncio.shield(self._over)


def _fork(life: Callable[[], None]) -> int:
    """The process ID of a child that does `life` and nothing else."""
    for stream in (sys.stdout, sys.stderr):  # what stands in buffers is not to come twice
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    return os.fork() or _live(life)


def _live(life: Callable[[], None]) -> NoReturn:
    code = 1
    try:
        # A signal for us is not to wake the program's event loop, whose pipe we have.
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Ctrl-C, and a terminal that goes, reach the program as well: it judges.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        life()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except RawprotoError as error:
        _log.error("a process that serves has failed: %s", error)
    except BaseException:
        _log.exception("a process that serves has failed")
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(BaseException):
                stream.flush()
        os._exit(code)  # whatever the program has begun, and would end, is none of ours


class _Worker:
    """A worker, as its supervisor sees it.

    Attributes:
        number: its own.
        pid: 0 while it is not there.
        orders: how it is told to end, and says that it has started.
        stood: whether it ever had.
        words: why it has not, this time.
        started: when it was.
        due: when it is to be.
        wait_s: how long it was put off.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.orders: socket.socket | None = None
        self.stood = False
        self.words = b""
        self.started = self.due = self.wait_s = 0.0


class _Supervisor:
    """Starts workers, and dead ones again, until it is told to end them."""

    def __init__(
        self, program: int, orders: socket.socket, start: Start, carriers: Sequence[Carrier]
    ) -> None:
        gc.freeze()  # what is here is the same for all; to collect it would copy its pages
        self._orders = orders
        self._start = start
        self._carriers = carriers
        self._workers = [_Worker(number) for number in range(len(carriers))]
        self._end: float | None = None
        self._awake, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(orders, selectors.EVENT_READ, self._ordered)
        self._selector.register(self._awake, selectors.EVENT_READ, self._signalled)
        # Other children of the program may hold its end of `orders` open beyond its life.
        self._program = os.pidfd_open(program)
        self._selector.register(self._program, selectors.EVENT_READ, self._orphaned)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        """Returns when there is no worker any more, and shall be none."""
        while self._end is None or any(worker.pid for worker in self._workers):
            now = time.monotonic()
            if self._end is None:
                for worker in self._workers:
                    if not worker.pid and worker.due <= now:
                        self._try_to_begin(worker)
                times = [worker.due for worker in self._workers if not worker.pid]
            else:
                if now >= self._end:
                    self._kill()
                times = [self._end]
            wait_s = max(min(times) - time.monotonic(), 0.0) if times else None
            for key, _ in self._selector.select(wait_s):
                key.data()

    def _try_to_begin(self, worker: _Worker) -> None:
        worker.started = time.monotonic()
        try:
            self._begin(worker)
        except OSError as error:  # no descriptor, no process, no memory: the others go on
            self._put_off(worker, f"worker {worker.number} cannot start", str(error).encode())

    def _begin(self, worker: _Worker) -> None:
        worker.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervisor = os.getpid()
        try:
            worker.pid = _fork(lambda: self._work(worker, theirs, supervisor))
        except OSError:
            worker.orders.close()
            raise
        finally:
            theirs.close()
        self._selector.register(
            worker.orders, selectors.EVENT_READ, functools.partial(self._heard, worker)
        )

    def _tell(self, worker: _Worker, words: bytes = b"") -> None:
        with suppress(OSError):
            told = _STARTED.pack(worker.number, worker.pid) + words
            self._orders.send(told, socket.MSG_DONTWAIT)

    # --- what happens ---

    def _heard(self, worker: _Worker) -> None:
        """A worker has started, or cannot."""
        assert worker.orders is not None
        try:
            told = worker.orders.recv(_MOST_WORDS_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            return
        if told == _STANDS:
            worker.stood = True
            self._tell(worker)
        elif told:
            worker.words = told

    def _ordered(self) -> None:
        """The program wants the end, or is gone."""
        try:
            told = self._orders.recv(_GRACE.size)
        except ConnectionError:
            told = b""
        if told:
            self._finish(*_GRACE.unpack(told))
        else:
            self._selector.unregister(self._orders)
            self._finish(0.0)

    def _orphaned(self) -> None:
        self._selector.unregister(self._program)
        self._finish(0.0)

    def _signalled(self) -> None:
        numbers = self._awake.recv(256)
        if signal.SIGTERM in numbers:
            self._finish(0.0)
        if signal.SIGCHLD in numbers:
            for worker in self._workers:
                if worker.pid and (ended := os.waitpid(worker.pid, os.WNOHANG))[0]:
                    self._lost(worker, os.waitstatus_to_exitcode(ended[1]))

    def _lost(self, worker: _Worker, code: int) -> None:
        """A worker is dead."""
        assert worker.orders is not None
        if not worker.words:
            self._heard(worker)
        self._selector.unregister(worker.orders)
        worker.orders.close()
        pid, worker.pid = worker.pid, 0
        words, worker.words = worker.words, b""
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit status {code}"
        self._put_off(worker, f"worker {worker.number} (process {pid}) {how}", words)

    def _put_off(self, worker: _Worker, what: str, words: bytes) -> None:
        """A worker is not there: another is due, at once unless the last one died young."""
        if self._end is not None:
            self._tell(worker)
            return
        if words and not worker.stood:
            self._tell(worker, words)
            self._finish(0.0)
            return
        self._tell(worker)
        now = time.monotonic()
        if now - worker.started >= _STABLE_S:
            worker.wait_s = 0.0
        else:
            worker.wait_s = min(max(2 * worker.wait_s, _FIRST_WAIT_S), _LONGEST_WAIT_S)
        worker.due = now + worker.wait_s
        if words:
            what += f": {words.decode(errors='replace')}"
        _log.warning("%s; the next one starts in %g s", what, worker.wait_s)

    def _finish(self, grace_s: float) -> None:
        """Has all workers end; the later of two wishes can only hasten it."""
        end = time.monotonic() + grace_s + END_S
        if self._end is not None and self._end <= end:
            return
        self._end = end
        for worker in self._workers:
            if worker.pid and worker.orders is not None:
                with suppress(OSError):
                    worker.orders.send(_GRACE.pack(grace_s))

    def _kill(self) -> None:
        self._end = time.monotonic() + END_S
        for worker in self._workers:
            if worker.pid:
                _log.warning("worker %d did not end, and is killed", worker.number)
                os.kill(worker.pid, signal.SIGKILL)

    # --- in the worker ---

    def _work(self, worker: _Worker, orders: socket.socket, supervisor: int) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != supervisor:
            return  # it died before it could have been told
        self._selector.close()
        os.close(self._program)
        others = [each.orders for each in self._workers if each.orders is not None]
        for sock in (self._orders, self._awake, self._wake, *others):
            sock.close()
        for number, carrier in enumerate(self._carriers):
            if number != worker.number:
                carrier.close()
        asyncio.run(self._serve(worker.number, orders))

    async def _serve(self, number: int, orders: socket.socket) -> None:
        """Serves until it is told to end, by an order or by SIGTERM."""
        loop = asyncio.get_running_loop()
        end: asyncio.Future[float] = loop.create_future()
        server: _Closeable | None = None
        hastened: list[asyncio.Task[None]] = []

        def finish(grace_s: float) -> None:
            if not end.done():
                end.set_result(grace_s)
            elif server is not None:
                hastened.append(loop.create_task(server.close(grace_s)))

        def ordered() -> None:
            told = orders.recv(_GRACE.size)
            if not told:
                loop.remove_reader(orders)
            finish(*(_GRACE.unpack(told) if told else (0.0,)))

        loop.add_reader(orders, ordered)
        loop.add_signal_handler(signal.SIGTERM, finish, 0.0)
        try:
            server = await self._start(number)
        except Exception as error:
            words = str(error)
            if not isinstance(error, RawprotoError):
                _log.exception("worker %d cannot start", number)
                words = f"{type(error).__name__}: {words}"
            orders.send(words.encode(errors="replace")[:_MOST_WORDS_BYTES])
            raise SystemExit(1) from None
        orders.send(_STANDS)
        await server.close(await end)
        await asyncio.gather(*hastened)
