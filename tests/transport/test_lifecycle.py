"""Every row of the tables of states happens, and an end is told once."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from rawproto.errors import RefusedError, RemoteProtocolError, UnknownPeerError
from rawproto.transport import attempt, halfopen, lifecycle
from rawproto.transport import connection as module
from rawproto.transport.constants import CloseCode, ResetCode
from rawproto.transport.events import ConnectionClosed
from rawproto.transport.halfopen import MOST_HALF_OPEN, UNDER_LOAD
from rawproto.transport.lifecycle import Event, State
from rawproto.transport.noise import X25519
from rawproto.wire.rpt import RPTHandshake, RPTInit, RPTReset, RPTRetry, RPTVersion, parse_rpt
from rawproto.wire.rpt_frames import CloseFrame, Frame, PingFrame, StreamFrame
from tests.sim.liar import forge
from tests.transport.pair import CLIENT, SERVER, STATIC, Pair, departed, init_from
from tests.transport.test_conformance import answer_to, waiting


def test_refusal_that_comes_twice_is_told_once() -> None:
    pair, init = waiting()
    reset = RPTReset(**answer_to(init), code=0).emit()
    pair.client.receive([(reset, SERVER, 0), (reset, SERVER, 0)], pair.now_ns)
    pair.exchange()
    ((_, events),) = pair.events.items()
    assert [type(event) for event in events] == [ConnectionClosed]


def test_connection_given_up_during_the_handshake_does_not_rise_again() -> None:
    pair = Pair()
    connection = pair.connect()
    (init,) = departed(pair.client, pair.now_ns)
    assert isinstance(parse_rpt(init)[0], RPTInit)
    pair.server.receive([(init, CLIENT, 0)], pair.now_ns)
    (answer,) = departed(pair.server, pair.now_ns)
    connection.close(pair.now_ns)
    pair.client.receive([(answer, SERVER, 0)], pair.now_ns)
    pair.exchange()
    assert connection.state is State.CLOSED
    assert [type(event) for event in pair.events[connection]] == [ConnectionClosed]


def test_connection_that_is_closing_is_ended_by_a_reset_without_another_word() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(0.1)
    (accepted,) = pair.accepted
    pair.change = lambda from_client, data: None
    connection.abort(256, "bye", pair.now_ns)
    pair.client.touch(connection)
    pair.exchange()
    assert connection.state is State.CLOSING
    told = len(pair.events[connection])
    _, token = connection.peer_cids._known[0]
    reset = RPTReset(
        dst_port=50_000, src_port=4000, dst_cid=0, src_cid=accepted.cid, code=2, token=token
    )
    pair.client.receive([(reset.emit(), SERVER, 0)], pair.now_ns)
    pair.exchange()
    assert connection.state is State.CLOSED
    assert len(pair.events[connection]) == told


def test_state_of_a_connection_is_moved_by_its_table_alone() -> None:
    tree = ast.parse(Path(module.__file__).read_text())
    moved = [
        function.name
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "self.state"
    ]
    assert moved == ["__init__", "_move"]


class Scene:
    """A client and a listener, brought to where a row of a table begins.

    Packets are lost unless a scene hands them over itself.
    """

    def __init__(self, *, pinned: bool = False, trusted: bool = True) -> None:
        self.pair = Pair()
        self.pair.change = lambda from_client, data: None
        key = X25519.public_of(STATIC) if pinned else None
        stranger = UnknownPeerError("who is that?", b"")
        self.connection = self.pair.connect(
            peer_key=key, trust=lambda key: None if trusted else stranger
        )
        assert self.connection.attempt is not None
        self.attempt = self.connection.attempt
        self.pair.exchange()
        self.init = self.pair.seen[0][1]
        self.said: list[bytes] = []
        listener = self.pair.server._reception.listener
        assert listener is not None
        self.listener = listener

    def to_server(self, *packets: bytes) -> list[bytes]:
        """What the listener's side answers."""
        self.pair.server.receive([(packet, CLIENT, 0) for packet in packets], self.pair.now_ns)
        while (accepted := self.pair.server.accept()) is not None:
            self.pair.accepted.append(accepted)
        return departed(self.pair.server, self.pair.now_ns)

    def to_client(self, *packets: bytes) -> list[bytes]:
        """What the client answers."""
        self.pair.client.receive([(packet, SERVER, 0) for packet in packets], self.pair.now_ns)
        return departed(self.pair.client, self.pair.now_ns)

    def message_2(self) -> list[bytes]:
        """The listener's answer reaches the client: what it says then."""
        self.said = self.to_client(*self.to_server(self.init))
        self.pair.seen += [(True, data) for data in self.said]
        return self.said

    def refuse(self, code: int) -> None:
        """A RESET from the listener that echoes both CIDs."""
        init = parse_rpt(self.init)[0]
        assert isinstance(init, RPTInit)
        self.to_client(RPTReset(**answer_to(init), code=code).emit())

    def establish(self) -> None:
        """The handshake, to its end on both sides."""
        self.to_client(*self.to_server(*(self.said or self.message_2())))
        (self.accepted,) = self.pair.accepted

    def reset(self) -> None:
        """A RESET with the listener's token."""
        cid, token = self.connection.peer_cids._known[0]
        reset = RPTReset(dst_port=50_000, src_port=4000, src_cid=cid, code=2, token=token)
        self.to_client(reset.emit())

    def say(self, *frames: Frame) -> list[bytes]:
        """A packet of the listener's reaches the client: what it answers."""
        return self.to_client(forge(self.accepted, list(frames), self.pair.now_ns))


Script = Callable[[Scene], object]


def unconfirmed(scene: Scene) -> None:
    scene.message_2()


def retry(scene: Scene) -> None:
    init = parse_rpt(scene.init)[0]
    assert isinstance(init, RPTInit)
    (again,) = scene.to_client(RPTRetry(**answer_to(init), token=b"proof").emit())
    proved = parse_rpt(again)[0]
    assert isinstance(proved, RPTInit)
    assert proved.token == b"proof"
    assert proved.message != init.message


def version(scene: Scene) -> None:
    init = parse_rpt(scene.init)[0]
    assert isinstance(init, RPTInit)
    scene.to_client(RPTVersion(**answer_to(init), versions=(7,)).emit())


def sent_again(scene: Scene) -> None:
    """The client's timer has it send the same packet again."""
    before = scene.pair.seen[-1]
    scene.pair.run(0.3)
    assert scene.pair.seen[-2:] == [before, before]


def pass_(seconds: float) -> Script:
    return lambda scene: scene.pair.run(seconds)


ATTEMPTS: dict[tuple[attempt.State, attempt.Event], Script] = {
    (attempt.State.WAITING_2, attempt.Event.TIMER): sent_again,
    (attempt.State.WAITING_2, attempt.Event.RETRY): retry,
    (attempt.State.WAITING_2, attempt.Event.KEY_RESET): lambda scene: scene.refuse(ResetCode.KEY),
    (attempt.State.WAITING_2, attempt.Event.BUSY): lambda scene: scene.refuse(ResetCode.BUSY),
    (attempt.State.WAITING_2, attempt.Event.MESSAGE_2): unconfirmed,
    (attempt.State.WAITING_2, attempt.Event.STRANGER): unconfirmed,
    (attempt.State.WAITING_2, attempt.Event.VERSION): version,
    (attempt.State.WAITING_2, attempt.Event.RESET): lambda scene: scene.refuse(ResetCode.PORT),
    (attempt.State.WAITING_2, attempt.Event.UNREACHABLE): lambda scene: (
        scene.pair.client.on_unreachable(scene.init, RefusedError("nobody"))
    ),
    (attempt.State.WAITING_2, attempt.Event.TIME): pass_(10.1),
    (attempt.State.UNCONFIRMED, attempt.Event.TIMER): sent_again,
    (attempt.State.UNCONFIRMED, attempt.Event.SHORT): lambda scene: scene.establish(),
    (attempt.State.UNCONFIRMED, attempt.Event.RESET): lambda scene: scene.refuse(ResetCode.KEY),
    (attempt.State.UNCONFIRMED, attempt.Event.TIME): pass_(10.1),
}


@pytest.mark.parametrize(("state", "event", "does", "after"), attempt.TRANSITIONS.rows)
def test_each_row_of_a_client_s_table_happens(
    state: attempt.State, event: attempt.Event, does: str, after: attempt.State
) -> None:
    pinned = event.value.startswith("IK")
    scene = Scene(pinned=pinned, trusted=event is not attempt.Event.STRANGER)
    if state is attempt.State.UNCONFIRMED:
        scene.message_2()
    assert scene.attempt.state is state
    ATTEMPTS[state, event](scene)
    assert scene.attempt.state is after


def changed(init: RPTInit, **fields: Any) -> bytes:
    return replace(init, **fields, length=None, checksum=None).emit()


def opening(scene: Scene) -> None:
    (answer,) = scene.to_server(scene.init)
    assert isinstance(parse_rpt(answer)[0], RPTHandshake)


def answered_by(change: Callable[[Scene, RPTInit], bytes], code: int) -> Script:
    """An INIT that is answered with a RESET of that code."""

    def play(scene: Scene) -> None:
        init = parse_rpt(scene.init)[0]
        assert isinstance(init, RPTInit)
        (answer,) = scene.to_server(change(scene, init))
        reset = parse_rpt(answer)[0]
        assert isinstance(reset, RPTReset)
        assert reset.code == code

    return play


def crowd(scene: Scene, number: int) -> None:
    """So many handshakes of others are half-open."""
    while len(scene.listener.by_cid) < number:
        scene.pair.server.receive([(init_from(scene.pair, 1), CLIENT, 0)], scene.pair.now_ns)
        scene.pair.server.transmit(scene.pair.now_ns)


def unproved(scene: Scene) -> None:
    crowd(scene, UNDER_LOAD)
    (answer,) = scene.to_server(scene.init)
    assert isinstance(parse_rpt(answer)[0], RPTRetry)


def full(scene: Scene) -> None:
    with patch.object(halfopen, "UNDER_LOAD", MOST_HALF_OPEN + 1):
        crowd(scene, MOST_HALF_OPEN)
        answered_by(lambda scene, init: scene.init, ResetCode.BUSY)(scene)


def again(scene: Scene) -> None:
    first = scene.to_server(scene.init)
    assert len(first) == 1
    assert first == scene.to_server(scene.init)


def broken_3(scene: Scene) -> None:
    (message_3,) = scene.message_2()
    packet = parse_rpt(message_3)[0]
    assert isinstance(packet, RPTHandshake)
    broken = replace(packet, message=bytes(len(packet.message)), checksum=None).emit()
    (answer,) = scene.to_server(broken)
    assert isinstance(parse_rpt(answer)[0], RPTReset)


def held(scene: Scene) -> None:
    scene.message_2()
    scene.connection.ping()
    scene.pair.client.touch(scene.connection)
    packets = departed(scene.pair.client, scene.pair.now_ns)
    assert scene.to_server(*packets) == []
    (half_open,) = scene.listener.by_cid.values()
    assert half_open.held == packets


def short(scene: Scene) -> None:
    scene.message_2()
    scene.connection.ping()
    scene.pair.client.touch(scene.connection)
    assert scene.to_server(*departed(scene.pair.client, scene.pair.now_ns))


def proved(scene: Scene) -> None:
    """A RETRY for an INIT that was answered as well reaches the client first."""
    init = parse_rpt(scene.init)[0]
    assert isinstance(init, RPTInit)
    cids = (init.src_cid, init.dst_cid)
    token = scene.listener._tokens.make(*CLIENT, *cids, scene.pair.now_ns)
    again = scene.to_client(RPTRetry(**answer_to(init), token=token).emit())
    (answer,) = scene.to_server(*again)
    assert isinstance(parse_rpt(answer)[0], RPTHandshake)
    assert len(scene.listener.by_cid) == 1


HALF_OPEN: dict[tuple[halfopen.State, halfopen.Event], Script] = {
    (halfopen.State.UNKNOWN, halfopen.Event.INIT): opening,
    (halfopen.State.UNKNOWN, halfopen.Event.BROKEN_INIT): answered_by(
        lambda scene, init: changed(init, message=init.message[1:], padding=bytes(2000)),
        ResetCode.KEY,
    ),
    (halfopen.State.UNKNOWN, halfopen.Event.SUITE): answered_by(
        lambda scene, init: changed(init, suite=0x21), ResetCode.SUITE
    ),
    (halfopen.State.UNKNOWN, halfopen.Event.UNPROVED): unproved,
    (halfopen.State.UNKNOWN, halfopen.Event.FULL): full,
    (halfopen.State.HALF_OPEN, halfopen.Event.AGAIN): again,
    (halfopen.State.HALF_OPEN, halfopen.Event.BROKEN_3): broken_3,
    (halfopen.State.HALF_OPEN, halfopen.Event.HELD): held,
    (halfopen.State.HALF_OPEN, halfopen.Event.MESSAGE_3): lambda scene: scene.establish(),
    (halfopen.State.HALF_OPEN, halfopen.Event.SHORT): short,
    (halfopen.State.HALF_OPEN, halfopen.Event.PROVED): proved,
    (halfopen.State.HALF_OPEN, halfopen.Event.TIME): pass_(10.1),
}


@pytest.mark.parametrize(("state", "event", "does", "after"), halfopen.TRANSITIONS.rows)
def test_each_row_of_a_listener_s_table_happens(
    state: halfopen.State, event: halfopen.Event, does: str, after: halfopen.State
) -> None:
    scene = Scene(pinned=event.value.startswith("IK"))

    def where() -> halfopen.State:
        if scene.pair.server.connections:
            return halfopen.State.ESTABLISHED
        known = scene.listener._by_key.get(sha256(scene.init).digest())
        return halfopen.State.UNKNOWN if known is None else known.state

    if state is halfopen.State.HALF_OPEN:
        scene.to_server(scene.init)
    assert where() is state
    HALF_OPEN[state, event](scene)
    assert where() is after


def broken(scene: Scene) -> None:
    (answer,) = scene.say(StreamFrame(1 << 20 | 1, 0, b"x"))
    assert scene.accepted.handle_short(answer, CLIENT, 0, scene.pair.now_ns)
    event = list(iter(scene.accepted.poll_event, None))[-1]
    assert isinstance(event, ConnectionClosed)
    assert isinstance(event.error, RemoteProtocolError)
    assert event.error.code == CloseCode.STREAMS


def said_again(scene: Scene) -> None:
    said = [len(scene.say(PingFrame())) for _ in range(8)]
    assert said == [1, 1, 0, 1, 0, 0, 0, 1]


LIVES: dict[tuple[State, Event], Script] = {
    (State.HANDSHAKE, Event.AGREED): lambda scene: scene.establish(),
    (State.HANDSHAKE, Event.FAILED): lambda scene: scene.refuse(ResetCode.PORT),
    (State.HANDSHAKE, Event.ENDED): lambda scene: scene.connection.close(scene.pair.now_ns),
    (State.ESTABLISHED, Event.FAILED): lambda scene: scene.refuse(ResetCode.KEY),
    (State.ESTABLISHED, Event.SILENCE): pass_(31),
    (State.ESTABLISHED, Event.RESET): lambda scene: scene.reset(),
    (State.ESTABLISHED, Event.ENDED): lambda scene: scene.connection.abort(
        256, "bye", scene.pair.now_ns
    ),
    (State.ESTABLISHED, Event.BROKEN): broken,
    (State.ESTABLISHED, Event.CLOSE): lambda scene: scene.say(CloseFrame(0)),
    (State.CLOSING, Event.PACKET): said_again,
    (State.CLOSING, Event.CLOSE): lambda scene: scene.say(CloseFrame(0)),
    (State.CLOSING, Event.RESET): lambda scene: scene.reset(),
    (State.CLOSING, Event.TIME): pass_(6),
    (State.DRAINING, Event.RESET): lambda scene: scene.reset(),
    (State.DRAINING, Event.TIME): pass_(3),
}


@pytest.mark.parametrize(("state", "event", "does", "after"), lifecycle.TRANSITIONS.rows)
def test_each_row_of_a_connection_s_table_happens(
    state: State, event: Event, does: str, after: State
) -> None:
    scene = Scene()
    connection = scene.connection
    if event is Event.FAILED and state is State.ESTABLISHED:
        scene.message_2()
    elif state is not State.HANDSHAKE:
        scene.establish()
    if state is State.CLOSING:
        connection.abort(256, "bye", scene.pair.now_ns)
        scene.pair.client.touch(connection)
        scene.pair.exchange()
    elif state is State.DRAINING:
        scene.say(CloseFrame(0))
    assert connection.state is state
    LIVES[state, event](scene)
    assert connection.state is after
    scene.pair.client.touch(connection)
    scene.pair.exchange()
    ends = [each for each in scene.pair.events[connection] if isinstance(each, ConnectionClosed)]
    assert len(ends) == (0 if after is State.ESTABLISHED else 1)
