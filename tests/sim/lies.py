"""Scenarios of a peer that lies, and of strangers: no effect at all, or one clear end.

The liar is a side of a flow that is under way: he has its keys and seals what he likes.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from zlib import crc32

from rawproto.impair import Impairment
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.halfopen import MOST_HALF_OPEN
from rawproto.transport.noise import X25519
from rawproto.wire.rpt import RPTInit, RPTReset
from rawproto.wire.rpt_frames import AckFrame, Frame, PingFrame, StreamFrame
from tests.sim.liar import forge
from tests.sim.trial import MS, Scenario, Trial

SIZE = 200_000
WIDE = Impairment(rate_bps=100_000_000, delay_ns=20 * MS, queue_packets=500)
INITS = 100_000
FEW_INITS = 5_000


def tell(trial: Trial, *packets: list[Frame]) -> None:
    """Has the client say what is not so, a packet each."""
    flow, network = trial.flow, trial.network
    forged = [forge(flow.client, frames, network.now_ns) for frames in packets]
    source = network.left.address, 0
    flow.right.receive([(packet, source, 0) for packet in forged], network.now_ns)


def optimistic_acks(trial: Trial) -> None:
    """The listener acknowledges what never came: all numbers, or some that are still to come."""
    trial.start(1_500_000)
    flow, network, chance = trial.flow, trial.network, trial.chance
    sender = flow.client.sender
    # A number is left out in every 64 to 1,023.
    trial.until(lambda: bool(sender.recovery.skipped))
    largest = sender.number - 1
    if chance.random() < 0.5:
        largest += 1 + chance.randrange(1 << chance.randrange(30))
    assert flow.server is not None
    frames: list[Frame] = [AckFrame(largest, 0, largest + 1)]
    packet = forge(flow.server, frames, network.now_ns)
    flow.left.receive([(packet, (network.right.address, 0), 0)], network.now_ns)
    trial.finish()


def overrun(trial: Trial) -> None:
    """More data than the window takes."""
    trial.start(SIZE)
    trial.under_way(trial.chance.randrange(1, SIZE // 2))
    past = 2 * Config().window_bytes + trial.chance.randrange(1 << 40)
    tell(trial, [StreamFrame(0, past, b"x" * trial.chance.randrange(1, 1000))])
    trial.finish()


def overlap(trial: Trial) -> None:
    """Other bytes where some were before: the first ones count, and the flow compares them."""
    trial.start(SIZE)
    for _ in range(10):
        trial.under_way(trial.flow.received + trial.chance.randrange(1, SIZE // 20))
        read = trial.flow.received
        starts = [trial.chance.randrange(max(read - 5000, 0), read) for _ in range(5)]
        tell(trial, *[[StreamFrame(0, at, b"!" * min(600, read - at))] for at in starts])
    trial.finish()


def tiny_ranges(trial: Trial) -> None:
    """Thousands of packets of which every other one comes, in any order."""
    trial.start(SIZE)
    trial.under_way(trial.chance.randrange(1, SIZE // 2))
    flow, network = trial.flow, trial.network
    assert flow.server is not None
    packets = [forge(flow.client, [PingFrame()], network.now_ns) for _ in range(4000)]
    arrived = [(packet, (network.left.address, 0), 0) for packet in packets[::2]]
    trial.chance.shuffle(arrived)
    flow.right.receive(arrived, network.now_ns)
    assert len(flow.server.acks.received.starts) <= 64
    trial.finish()


def forgeries(trial: Trial) -> None:
    """Forged RESETs, one with the right CIDs, and packets of before with a byte changed."""
    trial.start(SIZE)
    flow, network, chance = trial.flow, trial.network, trial.chance
    sent = overheard(trial)
    while trial.lasts(0.005) and flow.server is None:
        pass
    assert flow.server is not None
    while trial.lasts(0.02):
        for here, there, endpoint, host in (
            (flow.client, flow.server, flow.left, network.right),
            (flow.server, flow.client, flow.right, network.left),
        ):
            reset = RPTReset(
                dst_port=there.peer_port,
                src_port=here.peer_port,
                src_cid=there.cid,
                code=chance.randrange(5),
                token=chance.randbytes(16),
            )
            echoing = replace(reset, dst_cid=here.cid, token=bytes(16))
            mine = [packet for from_left, packet in sent if from_left != here.client]
            damaged = bytearray(chance.choice(mine))
            damaged[chance.randrange(len(damaged))] ^= 1 + chance.randrange(255)
            packets = reset.emit(), echoing.emit(), bytes(damaged)
            endpoint.receive([(data, (host.address, 0), 0) for data in packets], network.now_ns)


def overheard(trial: Trial) -> list[tuple[bool, bytes]]:
    """All packets from now on, growing: (from the client, what is behind the IP header)."""
    written, sent = trial.network.tap, list[tuple[bool, bytes]]()

    def tap(now_ns: int, from_left: bool, packet: bytes) -> None:
        sent.append((from_left, packet[20:]))
        if written is not None:
            written(now_ns, from_left, packet)

    trial.network.tap = tap
    return sent


def replays(trial: Trial) -> None:
    """Twenty packets again every 20 ms, of all that were sent."""
    trial.start(SIZE)
    flow, network = trial.flow, trial.network
    sent = overheard(trial)
    while trial.lasts(0.02):
        for from_left, packet in trial.chance.sample(sent, min(len(sent), 20)):
            endpoint = flow.right if from_left else flow.left
            host = network.left if from_left else network.right
            endpoint.receive([(packet, (host.address, 0), 0)], network.now_ns)


def flood(trial: Trial) -> None:
    """INITs from so many addresses; the client begins, unheard, and is heard in its midst.

    Every twentieth seed has all of them, or `make test` would spend its time here.
    """
    count = FEW_INITS if trial.seed % 20 else INITS
    a_second = trial.chance.randrange(5_000, 100_000)
    trial.start(20_000, replace(WIDE, loss=1.0), WIDE)
    flow, network = trial.flow, trial.network
    init = RPTInit(suite=1, dst_port=4000, src_port=9, message=X25519.public_of(bytes(range(32))))
    data = replace(init, padding=bytes(1200 - len(init.emit()))).emit()
    heard = trial.chance.randrange(count // 2)
    sent = 0
    while sent < count:
        if sent >= heard:
            network.forward.configure(WIDE)
            heard = count
        burst = min(64, count - sent)
        packets = [_spoofed(data, sent + number) for number in range(burst)]
        flow.right.receive(packets, network.now_ns)
        sent += burst
        trial.lasts(burst / a_second)
        assert len(flow.listener.by_cid) <= MOST_HALF_OPEN
    trial.finish()


def _spoofed(init: bytes, number: int) -> tuple[bytes, tuple[str, int], int]:
    """An INIT of another client's, from another address: CID, address and CRC are its own."""
    body = init[:14] + struct.pack("!Q", number + 1) + init[22:-4]
    source = f"10.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}", 0
    return body + crc32(body).to_bytes(4, "big"), source, 0


LIES = (
    Scenario(
        name="optimistic ACKs",
        words="the peer acknowledges what was never sent",
        play=optimistic_acks,
        limit_s=5,
        ends=CloseCode.PROTOCOL,
    ),
    Scenario(
        name="overrun",
        words="the peer sends more than the window takes",
        play=overrun,
        limit_s=5,
        ends=CloseCode.FLOW,
    ),
    Scenario(
        name="overlap",
        words="the peer sends other bytes where some were before",
        play=overlap,
        limit_s=5,
    ),
    Scenario(
        name="tiny ranges",
        words="of 4,000 packets every other one comes, in any order",
        play=tiny_ranges,
        limit_s=10,
        most=2,
    ),
    Scenario(
        name="forgeries",
        words="strangers forge RESETs and change packets, towards both sides, every 20 ms",
        play=forgeries,
        limit_s=5,
    ),
    Scenario(
        name="replays",
        words="packets of before come again, 1,000 a second",
        play=replays,
        limit_s=5,
    ),
    Scenario(
        name="flood",
        words="100,000 spoofed INITs (5,000 in 19 seeds of 20) at up to 100,000/s, and a client",
        play=flood,
        limit_s=8,
    ),
)
