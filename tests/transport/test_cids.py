"""Connection IDs given and taken: the supply, retirement, and a peer without manners."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from itertools import count

import pytest

from rawproto.errors import RemoteProtocolError
from rawproto.transport.cids import LocalCIDs, PeerCIDs
from rawproto.transport.constants import MAX_CIDS, CloseCode
from rawproto.transport.control import Control
from rawproto.wire.rpt_frames import (
    Frame,
    NewConnectionIDFrame,
    RetireConnectionIDFrame,
    parse_frame,
)

TOKEN = bytes(16)


def waiting(control: Control) -> list[Frame]:
    """The frames that wait; they are taken."""
    frames = []
    while (taken := control.take(1 << 16)) is not None:
        frames.append(parse_frame(taken[1], 0)[0])
    return frames


class Ours:
    """This side's, numbered 100, 101, ... and those of them that were forgotten."""

    def __init__(self) -> None:
        self.control = Control()
        self.forgotten: list[int] = []
        numbers = count(101)
        self.cids = LocalCIDs(
            100, lambda: (next(numbers), TOKEN), self.forgotten.append, self.control
        )


def new(sequence: int, retire_prior_to: int = 0, cid: int | None = None) -> NewConnectionIDFrame:
    return NewConnectionIDFrame(sequence, retire_prior_to, cid or 1000 + sequence, TOKEN)


def theirs() -> tuple[PeerCIDs, Control]:
    control = Control()
    cids = PeerCIDs(control)
    cids.begin(1000, TOKEN)
    return cids, control


def code_of(cids: PeerCIDs, frame: NewConnectionIDFrame) -> int:
    with pytest.raises(RemoteProtocolError) as caught:
        cids.on_new(frame)
    return caught.value.code


def test_peer_gets_as_many_as_it_may_have_and_another_for_each_that_it_retires() -> None:
    ours = Ours()
    ours.cids.supply()
    assert waiting(ours.control) == [NewConnectionIDFrame(n, 0, 100 + n, TOKEN) for n in (1, 2, 3)]
    ours.cids.supply()
    assert waiting(ours.control) == []
    ours.cids.on_retired(RetireConnectionIDFrame(0))
    assert waiting(ours.control) == [NewConnectionIDFrame(4, 0, 104, TOKEN)]


def test_retired_ones_are_still_known_until_four_others_are() -> None:
    ours = Ours()
    ours.cids.supply()
    for sequence in range(MAX_CIDS):
        waiting(ours.control)
        ours.cids.on_retired(RetireConnectionIDFrame(sequence))
    assert ours.forgotten == []
    assert sorted(ours.cids.known) == list(range(100, 108))
    waiting(ours.control)
    ours.cids.on_retired(RetireConnectionIDFrame(4))
    assert ours.forgotten == [100]


def test_retirement_that_comes_twice_is_one_and_of_what_was_never_given_is_a_lie() -> None:
    ours = Ours()
    ours.cids.supply()
    waiting(ours.control)
    ours.cids.on_retired(RetireConnectionIDFrame(2))
    ours.cids.on_retired(RetireConnectionIDFrame(2))
    assert len(ours.cids.known) == 5
    with pytest.raises(RemoteProtocolError) as caught:
        ours.cids.on_retired(RetireConnectionIDFrame(5))
    assert caught.value.code == CloseCode.PROTOCOL


def test_what_the_peer_has_not_been_told_yet_it_cannot_retire() -> None:
    ours = Ours()
    ours.cids.supply()
    assert len(waiting(ours.control)) == 3
    ours.cids.on_retired(RetireConnectionIDFrame(0))
    with pytest.raises(RemoteProtocolError) as caught:  # or it would go on so for ever
        ours.cids.on_retired(RetireConnectionIDFrame(4))
    assert caught.value.code == CloseCode.PROTOCOL


def test_one_that_seemed_lost_and_was_retired_before_it_was_told_again_is_not_told() -> None:
    ours = Ours()
    ours.cids.supply()
    waiting(ours.control)
    again = ours.cids.frame(3)
    assert again is not None
    ours.control.put(("cid", 3), again)
    ours.cids.on_retired(RetireConnectionIDFrame(3))
    (frame,) = waiting(ours.control)
    assert frame == NewConnectionIDFrame(4, 0, 104, TOKEN)
    assert ours.cids.frame(3) is None
    assert ours.cids.frame(4) == frame


def test_each_of_the_peers_is_used_once_and_in_order() -> None:
    cids, control = theirs()
    for sequence in (2, 1, 3):
        cids.on_new(new(sequence))
    used = [cids.current]
    for _ in range(4):
        cids.next()
        used.append(cids.current)
    assert used == [1000, 1001, 1002, 1003, 1003], "the last one stays in use"
    assert waiting(control) == [RetireConnectionIDFrame(n) for n in range(3)]


def test_one_that_comes_again_after_it_was_retired_is_retired_again_and_not_used() -> None:
    cids, control = theirs()
    cids.on_new(new(1))
    cids.next()
    waiting(control)
    cids.on_new(new(0, cid=1000))
    assert cids.current == 1001
    assert waiting(control) == [RetireConnectionIDFrame(0)]


def test_peer_can_have_all_before_one_retired() -> None:
    cids, control = theirs()
    cids.on_new(new(1))
    cids.on_new(new(2, retire_prior_to=2))
    assert cids.current == 1002
    assert waiting(control) == [RetireConnectionIDFrame(0), RetireConnectionIDFrame(1)]
    cids.on_new(new(5, retire_prior_to=1))
    assert cids.current == 1002, "it can only go up"


def test_rules_that_a_peer_breaks_have_their_codes() -> None:
    cids, _ = theirs()
    assert code_of(cids, new(1, retire_prior_to=2)) == CloseCode.FRAME
    cids.on_new(new(1))
    cids.on_new(new(1))
    assert code_of(cids, new(1, cid=7)) == CloseCode.PROTOCOL
    cids.on_new(new(2))
    cids.on_new(new(3))
    assert code_of(cids, new(4)) == CloseCode.CID_LIMIT


def test_peer_that_has_more_and_more_retired_is_stopped() -> None:
    cids, control = theirs()
    cids.on_new(new(1 << 20, retire_prior_to=1 << 20))
    for sequence in range(16):
        cids.on_new(new(sequence))
    with pytest.raises(RemoteProtocolError) as caught:
        cids.on_new(new(16))
    assert caught.value.code == CloseCode.CID_LIMIT
    assert len(control.waiting) < 20


def test_reset_is_the_peers_own_if_its_token_came_with_that_connection_id() -> None:
    cids, _ = theirs()
    cids.on_new(NewConnectionIDFrame(1, 0, 1001, bytes([1]) * 16))
    assert cids.knows(1000, TOKEN)
    assert cids.knows(1001, bytes([1]) * 16)
    assert not cids.knows(1000, bytes([1]) * 16)
    assert not cids.knows(1002, TOKEN)


def test_one_retired_long_ago_that_comes_again_and_again_is_noted_once() -> None:
    class Waiting(dict[Hashable, bytes]):
        walked = 0

        def __iter__(self) -> Iterator[Hashable]:
            self.walked += 1
            return super().__iter__()

    cids, control = theirs()
    for sequence in range(1, 5):
        cids.on_new(new(sequence, sequence))
    control.waiting = found = Waiting(control.waiting)
    for _ in range(1000):
        cids.on_new(new(2))
    assert found.walked <= 1
    assert [frame for frame in waiting(control) if isinstance(frame, RetireConnectionIDFrame)] == [
        RetireConnectionIDFrame(sequence) for sequence in range(4)
    ]
