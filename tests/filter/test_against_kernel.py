"""Random programs: the kernel refuses what we refuse, and runs the others as we do."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from rawproto.errors import UsageError
from rawproto.filter.assembler import assemble
from rawproto.filter.instructions import (
    ANCILLARY,
    ANCILLARY_OFFSET,
    CODES,
    LINK_OFFSET,
    NETWORK_OFFSET,
    Instruction,
    Program,
)
from rawproto.filter.interpreter import Ancillary, run
from tests.filter.kernel import attach, verdict

# What a Unix socket's packets have no use for, or what differs with every packet.
UNSTEADY = {ANCILLARY[name] for name in ("nla", "nlan", "cpu", "rand")}
STEADY = sorted(set(ANCILLARY.values()) - UNSTEADY)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(ours), closing(theirs):
        yield ours, theirs


def random_instruction(rng: random.Random, behind: int, wild: float) -> Instruction:
    """An instruction for a place with `behind` others after it; with chance `wild` a bad one."""
    if rng.random() < wild:
        code = rng.choice([*CODES, rng.randrange(0x10000), rng.randrange(0x100)])
        return Instruction(
            code,
            rng.randrange(min(behind + 2, 256)),
            rng.randrange(min(behind + 2, 256)),
            rng.choice(
                [0, 15, 16, 31, 32, behind, rng.getrandbits(32), 0xFFFFF000 + rng.randrange(99)]
            ),
        )
    code = rng.choice(list(CODES))
    mnemonic, form = CODES[code]
    k = rng.choice([1, 2, 5, 28, 31, 100, 0xFFFF, 0x8000_0000, 0xFFFF_FFFF, rng.getrandbits(32)])
    if form in ("abs", "msh"):
        k = rng.randrange(80)
        if form == "abs" and rng.random() < 0.1:
            k = ANCILLARY_OFFSET + rng.choice(STEADY)
    elif form == "ind":
        k = rng.choice([0, 3, 20, 0xFFFF_FFFF, 0xFFFF_FFF0])
    elif form == "mem":
        k = rng.randrange(4)
    elif mnemonic in ("lsh", "rsh"):
        k = rng.randrange(32)
    elif form == "to":
        k = rng.randrange(max(behind, 1))
    elif mnemonic in ("ld", "ldx"):
        k = rng.choice([0, 4, 40, k])
    if code & 7 == 5 and form != "to":
        return Instruction(code, rng.randrange(max(behind, 1)), rng.randrange(max(behind, 1)), k)
    return Instruction(code, 0, 0, k)


def random_instructions(rng: random.Random, wild: float) -> list[Instruction]:
    """Up to 30 of them. The end brings what was computed into the range of a packet's length."""
    size = rng.randrange(1, 30)
    body = [random_instruction(rng, size - at + 4, wild) for at in range(size)]
    if rng.random() < wild:
        return body
    mix_x = rng.choice([Instruction(0x0C), Instruction(0xAC), Instruction(0x04, k=1)])
    end = [mix_x, Instruction(0x54, k=0x1FF), Instruction(0x04, k=1), Instruction(0x16)]
    return body + end


def test_validity_is_what_the_kernel_says(pair: tuple[socket.socket, socket.socket]) -> None:
    rng = random.Random(1)
    taken = 0
    for _ in range(6000):
        instructions = random_instructions(rng, wild=0.05)
        try:
            Program(instructions)
            ours = True
        except UsageError:
            ours = False
        assert attach(pair[1], instructions) is ours, instructions
        taken += ours
    assert 1000 < taken < 5000, "both kinds must be there"


def test_programs_run_as_in_the_kernel(pair: tuple[socket.socket, socket.socket]) -> None:
    rng = random.Random(2)
    verdicts = set()
    tried = 0
    while tried < 3000:
        try:
            program = Program(random_instructions(rng, wild=0))
        except UsageError:  # it read scratch memory before it wrote any
            continue
        tried += 1
        assert attach(pair[1], program)
        for _ in range(3):
            packet = rng.randbytes(rng.choice([1, 20, 64, 100, 600]))
            expected = min(run(program, packet), len(packet))
            assert verdict(pair, packet) == expected, (program, packet.hex())
            verdicts.add(expected)
    assert len(verdicts) > 200, "the verdicts must tell computations apart"


def test_the_longest_program_is_taken_and_one_more_refused(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    body = [Instruction(0x04, k=1)] * 4095
    assert attach(pair[1], [*body, Instruction(0x16)])
    assert (
        verdict(pair, bytes(5000)) == run(Program([*body, Instruction(0x16)]), bytes(5000)) == 4095
    )
    assert not attach(pair[1], [*body, Instruction(0x04, k=1), Instruction(0x16)])


def test_headers_before_the_packet_are_reached_as_in_the_kernel() -> None:
    """A UDP socket's filter begins at the UDP header; the others stand before it."""
    with (
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as receiver,
        closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.connect(receiver.getsockname())
        src, dst = sender.getsockname()[1], receiver.getsockname()[1]
        udp = src.to_bytes(2, "big") + dst.to_bytes(2, "big") + (8 + 100).to_bytes(2, "big") + b"??"
        network = b"\x45\0" + (128).to_bytes(2, "big") + b"????\x40\x11??\x7f\0\0\1\x7f\0\0\1" + udp
        link = bytes(12) + b"\x08\x00" + network
        known = Ancillary(
            protocol=0x0800,
            interface=socket.if_nametoindex("lo"),
            hardware_type=772,
            network=network + bytes(100),
            link=link + bytes(100),
        )
        loads = [
            ("ld [2]", dst << 16 | 108),
            (f"ldb [{NETWORK_OFFSET + 9}]", 17),
            (f"ld [{NETWORK_OFFSET + 12}]", 0x7F000001),
            (f"ldh [{LINK_OFFSET + 12}]", 0x0800),
            (f"ldxb 4*([{NETWORK_OFFSET}]&0xf)\ntxa", 20),
            (f"ldx #{NETWORK_OFFSET}\nldh [x + 2]", 128),
            ("ld #proto", 0x0800),
            ("ld #ifidx", known.interface),
            ("ld #hatype", 772),
            ("ld #vlanp", 0),
            ("ld #type", 0),
        ]
        receiver.setblocking(False)
        for load, value in loads:
            for wanted in (value, value ^ 1):
                program = assemble(f"{load}\njne #{wanted}, no\nret #-1\nno: ret #0")
                ours = run(program, udp + bytes(100), known)
                assert (ours != 0) is (wanted == value), load
                assert attach(receiver, program)
                sender.send(bytes(100))
                try:
                    received = receiver.recv(2000)
                except BlockingIOError:
                    received = b""
                assert (received == bytes(100)) is (ours != 0), load
