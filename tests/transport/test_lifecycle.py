"""Every row of the tables of states happens, and an end is told once."""

from __future__ import annotations

import ast
from pathlib import Path

from rawproto.transport import connection as module
from rawproto.transport.connection import State
from rawproto.transport.events import ConnectionClosed
from rawproto.wire.rpt import RPTInit, RPTReset, parse_rpt
from tests.transport.test_conformance import answer_to, waiting
from tests.transport.test_endpoint import CLIENT, SERVER, Pair


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
    ((init, _),) = pair.client.transmit(pair.now_ns)
    assert isinstance(parse_rpt(init)[0], RPTInit)
    pair.server.receive([(init, CLIENT, 0)], pair.now_ns)
    ((answer, _),) = pair.server.transmit(pair.now_ns)
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
    ((_, token),) = connection._peer_cids.values()
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
