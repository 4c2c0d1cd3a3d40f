"""What a program may be: each of the kernel's rules, one by one."""

from __future__ import annotations

import pytest

from rawproto.errors import UsageError
from rawproto.filter.instructions import CODES, Instruction, Program

RET = Instruction(0x06, 0, 0, 1)
JEQ = 0x15


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [
        ([], "0 instructions"),
        ([RET] * 4097, "4097 instructions"),
        ([Instruction(0x00)], "instruction 0: the last one must be a ret"),
        ([Instruction(0x0E), RET], "instruction 0: no such code 0xe"),
        ([Instruction(0x100), RET], "no such code 0x100"),
        ([Instruction(0x34), RET], "division by zero"),
        ([Instruction(0x94), RET], "division by zero"),
        ([Instruction(0x64, k=32), RET], "shift by 32 bits"),
        ([Instruction(0x74, k=32), RET], "shift by 32 bits"),
        ([Instruction(0x02, k=16), RET], r"no such word M\[16\]"),
        ([Instruction(0x60, k=16), RET], r"no such word M\[16\]"),
        ([RET, Instruction(0x05, k=1), RET], "instruction 1: jump behind the end"),
        ([Instruction(JEQ, 1, 0), RET], "jump behind the end"),
        ([Instruction(JEQ, 0, 1), RET], "jump behind the end"),
        ([Instruction(0x28, k=0xFFFF_F001), RET], "nothing to ask the kernel for at 0xfffff001"),
        ([Instruction(0x28, k=0xFFFF_F040), RET], "nothing to ask"),
        ([Instruction(0x00, k=1 << 32), RET], "does not fit"),
        ([Instruction(JEQ, 256, 0), *[RET] * 300], "does not fit"),
        ([Instruction(0x60, k=3), RET], r"M\[3\] may not have been written"),
        # Written on one of two ways only.
        (
            [Instruction(JEQ, 1, 0), Instruction(0x02, k=3), Instruction(0x60, k=3), RET],
            r"instruction 2: M\[3\]",
        ),
    ],
)
def test_what_the_kernel_refuses_is_refused_with_its_place(
    instructions: list[Instruction], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        Program(instructions)


def test_what_is_just_allowed_is_taken() -> None:
    Program([RET] * 4096)
    Program([Instruction(JEQ, 1, 0), RET, RET])
    Program([Instruction(0x05, k=1), RET, RET])
    Program([Instruction(0x64, k=31), Instruction(0x02, k=15), Instruction(0x60, k=15), RET])
    Program([Instruction(JEQ, 255, 255), *[RET] * 256])


def test_bytes_are_the_hosts_array_of_sock_filter() -> None:
    program = Program([Instruction(JEQ, 1, 2, 0x01020304), RET, RET, RET])
    data = program.to_bytes()
    assert len(data) == 32
    assert int.from_bytes(data[0:2], "little") == JEQ, "this machine is little-endian"
    assert data[2:4] == b"\x01\x02"
    assert data[4:8] == b"\x04\x03\x02\x01"
    assert Program.from_bytes(data) == program
    with pytest.raises(UsageError, match="31 bytes"):
        Program.from_bytes(data[:31])


def test_programs_are_values() -> None:
    assert Program([RET]) == Program([Instruction(0x06, 0, 0, 1)])
    assert Program([RET]) != Program([RET, RET])
    assert len({Program([RET]), Program([RET]), Program([RET, RET])}) == 2


def test_the_instruction_set_is_the_papers_and_the_kernels_mod_and_xor() -> None:
    assert len(CODES) == 21 + 2 * 10 + 2 * 4
    assert CODES[0x94] == ("mod", "imm")
    assert CODES[0xAC] == ("xor", "x")
    assert CODES[0x4D] == ("jset", "x")
