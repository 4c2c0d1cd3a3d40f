"""What a capture and its key log tell: held against what the senders meant, and against scapy."""

from __future__ import annotations

import random
from dataclasses import fields, replace

import pytest
from cryptography.exceptions import InvalidTag
from scapy.layers.inet import IP
from scapy.packet import Packet

from rawproto.transport.key_log import KeyLog
from rawproto.transport.noise import AES_GCM
from rawproto.transport.opened import Reading, Sessions
from rawproto.transport.protection import Keys
from rawproto.wire import rpt_frames as ours
from rawproto.wire.rpt import RPTHandshake, RPTInit, RPTShort
from tests.rpt_scapy import RPT, KeyedReader, RPTFrames
from tests.rpt_scapy import RPTLong as ScapyLong
from tests.rpt_talk import ANSWER, DATAGRAM, LATER, QUESTION, Sent, Talk, talk


@pytest.fixture(scope="module", params=["AESGCM", "ChaChaPoly"])
def said(request: pytest.FixtureRequest) -> Talk:
    return talk(cipher=request.param, key_changes=3)


def read_all(said: Talk, packets: list[Sent] | None = None, **how: bool) -> list[Reading | None]:
    sessions = Sessions(KeyLog(said.key_log.encode()))
    return [sessions.read(each.data, **how) for each in packets or said.packets]


def shorts(said: Talk) -> list[Sent]:
    return [sent for sent in said.packets if not sent.data[0] & 0x80]


def same_frame(mine: ours.Frame, theirs: Packet) -> None:
    """Each field of a frame as rawproto's sender wrote it, beside scapy's."""
    if isinstance(mine, ours.PaddingFrame):
        assert theirs.name == "PADDING"
        assert len(theirs.zeros) + 1 == mine.length
        return
    for name in [field.name for field in fields(mine)]:
        value = getattr(mine, name)
        if name == "fin":
            assert theirs.type == 4 + value
        elif name == "ranges":
            assert tuple((each.gap, each.length) for each in theirs.ranges) == value
        elif name == "ecn":
            assert (theirs.name == "ACK_ECN") == (value is not None)
            if value is not None:
                assert (theirs.ect0, theirs.ect1, theirs.ce) == value
        elif name == "reason":
            assert theirs.reason.decode() == value
        else:
            assert theirs.getfieldval(name) == value, name


FRAMES = [
    ours.PingFrame(),
    ours.AckFrame(90, 25_000, 3, ((1, 2), (4, 80)), (7, 8, 9)),
    ours.AckFrame(2**40, 0, 1),
    ours.StreamFrame(5, 2**33, b"some bytes"),
    ours.StreamFrame(0, 0, b"", True),
    ours.ResetStreamFrame(4, 256, 99),
    ours.StopSendingFrame(4, 257),
    ours.MaxDataFrame(2**50),
    ours.MaxStreamDataFrame(8, 2**49),
    ours.MaxStreamsFrame(1, 100),
    ours.BlockedFrame(1, 8, 4096),
    ours.DatagramFrame(b"once"),
    ours.NewConnectionIDFrame(1, 0, 2**63 + 5, bytes(range(16))),
    ours.RetireConnectionIDFrame(3),
    ours.PathChallengeFrame(b"12345678"),
    ours.PathResponseFrame(b"87654321"),
    ours.HandshakeDoneFrame(),
    ours.CloseFrame(300, "enough"),
    ours.PaddingFrame(9),
]


def test_every_frame_is_to_scapy_what_it_is_to_us_and_back() -> None:
    data = ours.emit_frames(FRAMES)
    theirs = RPTFrames(data)
    assert len(theirs.frames) == len(FRAMES)
    for mine, other in zip(FRAMES, theirs.frames, strict=True):
        same_frame(mine, other)
    assert bytes(theirs) == data
    rebuilt = b"".join([bytes(each.__class__(**each.fields)) for each in theirs.frames])
    assert ours.parse_frames(rebuilt) == FRAMES


def test_scapy_decrypts_every_packet_to_what_its_sender_meant(said: Talk) -> None:
    reader = KeyedReader(said.key_log)
    opened = 0
    for sent in said.packets:
        theirs = RPT(sent.data)
        frames = reader.read(theirs)
        assert (frames is None) == isinstance(theirs, ScapyLong)
        if frames is None:
            assert theirs.crc_is_right()
            continue
        opened += 1
        assert bytes(frames) == sent.meant
        for mine, other in zip(ours.parse_frames(sent.meant), frames.frames, strict=True):
            same_frame(mine, other)
    assert opened == len(shorts(said)) > 20


def test_headers_are_the_same_to_scapy_field_by_field(said: Talk) -> None:
    for sent, reading in zip(said.packets, read_all(said), strict=True):
        assert reading is not None
        mine, theirs = reading.packet, RPT(sent.data)
        names = [name for name, _ in mine.layout]
        assert {name: getattr(mine, name) for name in names} == {
            name: getattr(theirs, name) for name in names
        }
        if isinstance(mine, RPTInit):
            assert (theirs.body.token, theirs.body.message) == (mine.token, mine.message)
            assert theirs.body.padding == mine.padding
        elif isinstance(mine, RPTHandshake):
            assert theirs.body.message == mine.message
        assert bytes(theirs) == sent.data


def test_we_open_every_packet_to_what_its_sender_meant(said: Talk) -> None:
    for sent, reading in zip(said.packets, read_all(said, certain=False), strict=True):
        assert reading is not None
        assert reading.from_client == sent.from_client
        if isinstance(reading.packet, RPTShort):
            assert reading.plaintext == sent.meant
            assert reading.frames == ours.parse_frames(sent.meant)
            assert (reading.sealed, reading.damage) == ("", None)
            assert (reading.number or 0) & 0xFFFF_FFFF == reading.packet.packet_number


def test_talk_holds_what_was_said_and_packets_of_both_phases(said: Talk) -> None:
    wire = b"".join([sent.data for sent in said.packets])
    meant = b"".join([sent.meant for sent in said.packets])
    for words in (QUESTION, ANSWER, DATAGRAM, LATER):
        assert words in meant
        assert words not in wire
    phases = {RPT(sent.data).key_phase for sent in shorts(said)}
    assert phases == {0, 1}


def test_log_alone_opens_a_capture_that_begins_behind_the_handshake(said: Talk) -> None:
    late = shorts(said)
    first_answer = next(index for index, sent in enumerate(late) if not sent.from_client)
    readings = read_all(said, late, certain=False)
    # A client's packet before the first answer goes to a CID that nothing has told of.
    assert readings[:first_answer] == [None] * first_answer
    for sent, reading in zip(late[first_answer:], readings[first_answer:], strict=True):
        assert reading is not None
        assert reading.plaintext == sent.meant
        assert reading.from_client == sent.from_client


def test_handshake_without_keys_tells_rpt_in_udp_and_opens_nothing(said: Talk) -> None:
    sessions = Sessions(KeyLog())
    readings = [sessions.read(sent.data, certain=False) for sent in said.packets]
    for sent, reading in zip(said.packets, readings, strict=True):
        assert reading is not None
        assert reading.from_client == sent.from_client
        assert reading.plaintext == b""
        if isinstance(reading.packet, RPTShort):
            assert reading.sealed


def test_nothing_is_rpt_in_udp_without_a_handshake_of_the_right_crc(said: Talk) -> None:
    damaged = [sent.data for sent in said.packets]
    damaged = [data[:-1] + bytes([data[-1] ^ 1]) if data[0] & 0x80 else data for data in damaged]
    sessions = Sessions(KeyLog())
    assert [sessions.read(data, certain=False) for data in damaged] == [None] * len(damaged)
    certain = Sessions(KeyLog())
    assert all(certain.read(data) for data in damaged), "protocol 253 says what it is"


def test_forged_handshake_and_changed_packets_keep_nothing_shut(said: Talk) -> None:
    init = next(sent for sent in said.packets if sent.data[0] >> 4 == 8)
    other_suite = replace(RPTInit.parse(init.data)[0], suite=0x2F, checksum=None)
    sessions = Sessions(KeyLog(said.key_log.encode()))
    assert sessions.read(other_suite.emit()) is not None
    for sent in said.packets:
        if not sent.data[0] & 0x80:
            forged = sessions.read(sent.data[:-1] + bytes([sent.data[-1] ^ 1]))
            assert forged is not None
            assert (forged.number, forged.frames) == (None, [])
            assert forged.sealed
        reading = sessions.read(sent.data)
        assert reading is not None
        assert reading.plaintext == sent.meant


def test_wrong_secrets_open_nothing(said: Talk) -> None:
    swap = {"RPT_CLIENT_SECRET": "RPT_SERVER_SECRET", "RPT_SERVER_SECRET": "RPT_CLIENT_SECRET"}
    lines = [line.split() for line in said.key_log.splitlines()]
    log = "".join([f"{swap[label]} {cid} {secret}\n" for label, cid, secret in lines])
    sessions = Sessions(KeyLog(log.encode()))
    readings = [sessions.read(sent.data) for sent in said.packets]
    assert all(reading is not None and reading.number is None for reading in readings)
    reader = KeyedReader(log)
    for sent in said.packets:
        packet = RPT(sent.data)
        if isinstance(packet, ScapyLong):
            reader.read(packet)
        else:
            with pytest.raises(InvalidTag):
                reader.read(packet)


def test_key_log_takes_its_lines_among_others_and_no_broken_ones() -> None:
    good = f"RPT_CLIENT_SECRET {'ab' * 8} {'cd' * 32}"
    log = KeyLog(
        f"# comment\r\nCLIENT_RANDOM aa bb\n{good}\r\n{good[:-1]}\nRPT_SERVER_SECRET x y\n".encode()
    )
    assert len(log) == 1
    assert log.secret(0xABABABABABABABAB, of_client=True) == bytes([0xCD]) * 32
    assert log.secret(0xABABABABABABABAB, of_client=False) is None
    assert log.knows(0xABABABABABABABAB)
    assert not log.knows(1)


def test_whatever_the_bytes_nothing_raises(said: Talk) -> None:
    rng = random.Random(5)
    sessions = Sessions(KeyLog(said.key_log.encode()))
    for sent in said.packets:
        for _ in range(20):
            data = bytearray(sent.data[: rng.randrange(len(sent.data) + 1)])
            for _ in range(rng.randrange(3)):
                if data:
                    data[rng.randrange(min(len(data), 40))] = rng.randrange(256)
            sessions.read(bytes(data), certain=rng.random() < 0.5)


def test_scapy_hands_protocol_253_to_its_layer(said: Talk) -> None:
    packet = IP(bytes(IP(src="192.0.2.1", dst="192.0.2.2", proto=253) / RPT(said.packets[0].data)))
    assert isinstance(packet.payload, ScapyLong)
    assert packet.payload.dst_port == 4000


def test_connection_id_that_a_frame_gives_out_leads_to_the_same_connection() -> None:
    said = talk()
    new_cid = 0x0123456789ABCDEF
    cid = int(said.key_log.split()[1], 16)
    log = KeyLog(said.key_log.encode())
    handshake = RPTHandshake.parse(said.packets[1].data)[0]
    frame = ours.NewConnectionIDFrame(1, 0, new_cid, bytes(16))
    made = []
    for of_client, dst_cid, frames in (
        (False, handshake.dst_cid, [frame]),  # the listener's new CID
        (True, new_cid, [ours.PingFrame(), ours.PaddingFrame(20)]),
    ):
        secret = log.secret(cid, of_client=of_client)
        assert secret is not None
        ports = (handshake.src_port, handshake.dst_port)
        dst_port, src_port = ports if of_client else ports[::-1]
        header = RPTShort(
            dst_port=dst_port, src_port=src_port, dst_cid=dst_cid, packet_number=900
        ).emit()
        keys = Keys(secret, AES_GCM)
        made.append(header + keys.aead.encrypt(keys.nonce(900), ours.emit_frames(frames), header))
    sessions, reader = Sessions(log), KeyedReader(said.key_log)
    for sent in said.packets[:3]:
        sessions.read(sent.data)
        reader.read(RPT(sent.data))
    assert sessions.read(made[1], certain=False) is None, "nothing has told of it yet"
    told = sessions.read(made[0], certain=False)
    assert told is not None
    assert told.frames == [frame]
    moved = sessions.read(made[1], certain=False)
    assert moved is not None
    assert (moved.from_client, moved.number) == (True, 900)
    assert moved.frames[0] == ours.PingFrame()
    assert reader.read(RPT(made[0])).frames[0].cid == new_cid
    assert reader.read(RPT(made[1])).frames[0].name == "PING"


def test_late_connections_between_the_same_ports_are_told_apart() -> None:
    one, two = talk(1), talk(2)
    sessions = Sessions(KeyLog((one.key_log + two.key_log).encode()))
    (there_1, back_1), (there_2, back_2) = (
        ([s for s in shorts(said) if s.from_client], [s for s in shorts(said) if not s.from_client])
        for said in (one, two)
    )
    order = [back_1[0], there_1[0], back_2[0], there_2[0], there_1[1], there_2[1], back_1[1]]
    for sent in order:
        reading = sessions.read(sent.data, certain=False)
        assert reading is not None
        assert reading.plaintext == sent.meant
