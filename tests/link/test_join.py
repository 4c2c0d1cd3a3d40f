"""Several links behind one descriptor; the live tests hold them to the contract of all links."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Iterator

import pytest

from rawproto.errors import LinkError
from rawproto.link.base import Arrival, Transmitted
from rawproto.link.join import JoinedLink
from rawproto.machine import Datagram, ICMPError, Transmit

DATAGRAM = Datagram(data=b"d", src_addr="192.0.2.1", received_ns=1)
OTHER = Datagram(data=b"o", src_addr="192.0.2.2", received_ns=2)
ERROR = ICMPError(
    src_addr="192.0.2.3",
    dst_addr="192.0.2.4",
    icmp_type=3,
    code=1,
    original=b"",
    received_ns=3,
)
STAMP = Transmitted(token=7, sched_ns=None, sent_ns=4, stamp_source="kernel")
DOWN = LinkError("receive", "eth0", errno.ENETDOWN)


class Scripted:
    """A link whose descriptor is readable while it has something to say.

    Attributes:
        script: what each `receive` gives, or raises.
        early: told without the descriptor, with the time that `poll_timeout` names.
        limits: what each `receive` was asked for.
        sent: tokens.
    """

    dropped = 0

    def __init__(self) -> None:
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK)
        self.script: list[list[Arrival] | LinkError] = []
        self.early: tuple[int, list[Arrival]] | None = None
        self.limits: list[int] = []
        self.sent: list[int] = []

    def will(self, *script: list[Arrival] | LinkError) -> None:
        self.script += script
        os.eventfd_write(self._descriptor, 1)

    def fileno(self) -> int:
        return self._descriptor

    def send(self, transmit: Transmit) -> int:
        self.sent.append(transmit.token)
        return 1000 + transmit.token

    def receive(self, limit: int = 64) -> list[Arrival]:
        self.limits.append(limit)
        if self.early is not None:
            (_, arrivals), self.early = self.early, None
            return arrivals
        told = self.script.pop(0)
        if not self.script:
            os.eventfd_read(self._descriptor)
        if isinstance(told, LinkError):
            raise told
        return told

    def poll_timeout(self) -> int | None:
        return self.early and self.early[0]

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@pytest.fixture
def links() -> Iterator[tuple[Scripted, Scripted, Scripted]]:
    made = (Scripted(), Scripted(), Scripted())
    yield made
    for link in made:
        link.close()


@pytest.fixture
def joined(links: tuple[Scripted, ...]) -> Iterator[JoinedLink]:
    with JoinedLink(*links, choose=lambda transmit: transmit.token % 3) as link:
        yield link


def readable(link: JoinedLink) -> bool:
    return bool(select.select([link.fileno()], [], [], 0)[0])


def test_packets_leave_by_the_link_that_is_chosen(
    joined: JoinedLink, links: tuple[Scripted, ...]
) -> None:
    for token in (4, 3, 8, 1):
        assert joined.send(Transmit(data=b"", dst_addr="", token=token)) == 1000 + token
    assert [link.sent for link in links] == [[3], [4, 1], [8]]


def test_one_descriptor_tells_of_all(joined: JoinedLink, links: tuple[Scripted, ...]) -> None:
    assert not readable(joined)
    for link in links:
        link.will([DATAGRAM])
        assert readable(joined)
        assert joined.receive() == [DATAGRAM]
        assert not readable(joined)


def test_only_links_that_have_something_are_asked(
    joined: JoinedLink, links: tuple[Scripted, ...]
) -> None:
    links[1].will([DATAGRAM])
    joined.receive(5)
    assert [link.limits for link in links] == [[], [5], []]
    assert joined.receive() == []
    assert [link.limits for link in links] == [[], [5], []]


def test_stamps_come_first_then_errors_then_datagrams_whoever_brings_them(
    joined: JoinedLink, links: tuple[Scripted, ...]
) -> None:
    links[0].will([DATAGRAM])
    links[1].will([ERROR, OTHER])
    links[2].will([STAMP])
    assert joined.receive() == [STAMP, ERROR, DATAGRAM, OTHER]


def test_what_no_descriptor_tells_is_told_in_time_and_in_order(
    joined: JoinedLink, links: tuple[Scripted, ...]
) -> None:
    links[1].early, links[2].early = (70, [ERROR]), (50, [STAMP])
    links[0].will([DATAGRAM])
    assert joined.poll_timeout() == 50
    assert joined.receive() == [STAMP, ERROR, DATAGRAM]
    assert joined.poll_timeout() is None


def test_a_link_that_fails_takes_nothing_of_the_others_with_it(
    joined: JoinedLink, links: tuple[Scripted, ...]
) -> None:
    links[0].will(DOWN)
    links[1].will([DATAGRAM])
    assert joined.receive() == [DATAGRAM]
    # Its descriptor says nothing any more, so the time must.
    assert not readable(joined)
    assert joined.poll_timeout() == 0
    with pytest.raises(LinkError) as raised:
        joined.receive()
    assert raised.value is DOWN
    assert joined.poll_timeout() is None
    assert joined.receive() == []


def test_a_failure_is_raised_at_once_where_there_is_nothing_else(
    joined: JoinedLink, links: tuple[Scripted, ...]
) -> None:
    links[2].will(DOWN)
    with pytest.raises(LinkError, match="Network is down"):
        joined.receive()


def test_drops_of_all_are_counted(joined: JoinedLink, links: tuple[Scripted, ...]) -> None:
    for number, link in enumerate(links):
        link.dropped = 10**number
    assert joined.dropped == 111


def test_closing_gives_all_descriptors_back_and_may_be_done_twice(
    joined: JoinedLink, links: tuple[Scripted, ...]
) -> None:
    descriptor = joined.fileno()
    joined.close()
    joined.close()
    assert joined.fileno() == -1
    assert [link.fileno() for link in links] == [-1] * 3
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    with pytest.raises(LinkError) as raised:
        joined.receive()
    assert raised.value.errno == errno.EBADF
