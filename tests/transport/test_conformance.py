"""Sentences of the specification that only a peer of another make would try."""

from __future__ import annotations

from dataclasses import replace

from rawproto.errors import HandshakeError
from rawproto.transport.connection import State
from rawproto.transport.constants import ResetCode
from rawproto.wire.rpt import RPTHandshake, RPTInit, RPTReset, RPTRetry, RPTVersion, parse_rpt
from tests.transport.pair import SERVER, Pair


def answer_to(init: RPTInit) -> dict[str, int]:
    return {
        "suite": init.suite,
        "dst_port": init.src_port,
        "src_port": init.dst_port,
        "dst_cid": init.src_cid,
        "src_cid": init.dst_cid,
    }


def waiting() -> tuple[Pair, RPTInit]:
    """A client whose INIT was lost, and that INIT."""
    pair = Pair()
    pair.change = lambda from_client, data: None
    pair.connect()
    pair.exchange()
    init = parse_rpt(pair.seen[0][1])[0]
    assert isinstance(init, RPTInit)
    return pair, init


def test_listener_of_other_versions_ends_the_attempt_at_once() -> None:
    pair, init = waiting()
    answer = RPTVersion(**answer_to(init), versions=(7,))
    pair.client.receive([(answer.emit(), SERVER, 0)], pair.now_ns)
    pair.exchange()
    ((_, events),) = pair.events.items()
    assert isinstance(events[0].error, HandshakeError)
    assert "7" in str(events[0].error)


def test_token_of_a_single_byte_is_a_token() -> None:
    pair, init = waiting()
    pair.client.receive([(RPTRetry(**answer_to(init), token=b"t").emit(), SERVER, 0)], pair.now_ns)
    pair.exchange()
    again = parse_rpt(pair.seen[-1][1])[0]
    assert isinstance(again, RPTInit)
    assert (again.token, again.dst_cid, again.src_cid) == (b"t", init.dst_cid, init.src_cid)
    assert again.message != init.message, "a new ephemeral key"


def test_refusal_of_message_3_echoes_the_connection_ids_of_message_3() -> None:
    pair = Pair()

    def damage(from_client: bool, data: bytes) -> bytes:
        packet = parse_rpt(data)[0] if data[0] & 0x80 else None
        if from_client and isinstance(packet, RPTHandshake):
            return replace(packet, message=bytes(len(packet.message)), checksum=None).emit()
        return data

    pair.change = damage
    connection = pair.connect()
    pair.run(1)
    finish = next(each for each in pair.longs(RPTHandshake) if each.dst_port == 4000)
    reset = pair.longs(RPTReset)[0]
    assert isinstance(reset, RPTReset)
    assert reset.code == ResetCode.KEY
    assert (reset.dst_cid, reset.src_cid) == (finish.src_cid, finish.dst_cid)
    assert isinstance(pair.error_of(connection), HandshakeError)


def test_silence_before_data_was_sent_is_no_sign_of_a_dead_path() -> None:
    pair = Pair()
    connection = pair.connect()
    pair.run(1)
    (accepted,) = pair.accepted
    pair.run(20)
    connection.write(0, b"after a pause")
    pair.client.touch(connection)
    pair.change = lambda from_client, data: None
    pair.exchange()
    pair.change = lambda from_client, data: data
    pair.run(1)
    assert connection.state is accepted.state is State.ESTABLISHED
    assert accepted.read(0, 100, pair.now_ns) == b"after a pause"
