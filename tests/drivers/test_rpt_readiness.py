"""A descriptor is as ready as it is told to be, for every way of asking."""

from __future__ import annotations

import itertools
import os
import select

import pytest

from rawproto.drivers.rpt.readiness import Readiness

ALL = select.POLLIN | select.POLLOUT | select.POLLRDHUP


def polled(readiness: Readiness) -> int:
    poll = select.poll()
    poll.register(readiness.fileno(), ALL)
    return dict(poll.poll(0)).get(readiness.fileno(), 0)


@pytest.fixture
def readiness() -> Readiness:
    made = Readiness()
    yield made
    made.close()


def test_it_begins_neither_readable_nor_writable(readiness: Readiness) -> None:
    assert polled(readiness) == 0
    assert select.select([readiness], [readiness], [], 0) == ([], [], [])


def test_every_change_shows_in_select_poll_and_epoll(readiness: Readiness) -> None:
    states = list(itertools.product((False, True), repeat=2))
    with select.epoll() as epoll:
        epoll.register(readiness.fileno(), select.EPOLLIN | select.EPOLLOUT)
        for before, after in itertools.product(states, repeat=2):
            for readable, writable in (before, after):
                readiness.tell(readable=readable, writable=writable)
                wanted = readable * select.POLLIN | writable * select.POLLOUT
                assert polled(readiness) == wanted
                assert dict(epoll.poll(0)).get(readiness.fileno(), 0) == wanted
                shown = select.select([readiness], [readiness], [], 0)
                assert shown == ([readiness] * readable, [readiness] * writable, [])


def test_becoming_readable_again_is_an_edge(readiness: Readiness) -> None:
    with select.epoll() as epoll:
        epoll.register(readiness.fileno(), select.EPOLLIN | select.EPOLLET)
        for _ in range(3):
            readiness.tell(readable=True, writable=False)
            assert epoll.poll(0) == [(readiness.fileno(), select.EPOLLIN)]
            assert epoll.poll(0) == []
            readiness.tell(readable=False, writable=False)


def test_closing_gives_both_descriptors_back() -> None:
    before = os.listdir("/proc/self/fd")
    readiness = Readiness()
    readiness.close()
    readiness.close()
    assert readiness.fileno() == -1
    assert os.listdir("/proc/self/fd") == before
