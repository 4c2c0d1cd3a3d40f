"""The text of programs, in every dialect."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.errors import UsageError
from rawproto.filter.assembler import assemble, disassemble
from rawproto.filter.instructions import ANCILLARY_OFFSET, CODES, Instruction, Program

# What `tcpdump -d`, `-dd` and `-ddd` print for "icmp" on Ethernet.
ICMP_D = """\
(000) ldh      [12]
(001) jeq      #0x800           jt 2	jf 5
(002) ldb      [23]
(003) jeq      #0x1             jt 4	jf 5
(004) ret      #262144
(005) ret      #0"""
ICMP_DD = """\
{ 0x28, 0, 0, 0x0000000c },
{ 0x15, 0, 3, 0x00000800 },
{ 0x30, 0, 0, 0x00000017 },
{ 0x15, 0, 1, 0x00000001 },
{ 0x6, 0, 0, 0x00040000 },
{ 0x6, 0, 0, 0x00000000 },
"""
ICMP_DDD = "6\n40 0 0 12\n21 0 3 2048\n48 0 0 23\n21 0 1 1\n6 0 0 262144\n6 0 0 0\n"
ICMP_IPTABLES = "6,40 0 0 12,21 0 3 2048,48 0 0 23,21 0 1 1,6 0 0 262144,6 0 0 0"
ICMP_ASM = """
    ; only ICMP
    ldh [12]
    jne #0x800, drop    /* not
                           IPv4 */
    ldb [23]
    jneq #1, drop
    ret #262144
drop: ret #0
"""
ICMP = Program(
    [
        Instruction(0x28, 0, 0, 12),
        Instruction(0x15, 0, 3, 0x800),
        Instruction(0x30, 0, 0, 23),
        Instruction(0x15, 0, 1, 1),
        Instruction(0x06, 0, 0, 262144),
        Instruction(0x06, 0, 0, 0),
    ]
)


@pytest.mark.parametrize("text", [ICMP_D, ICMP_DD, ICMP_DDD, ICMP_IPTABLES, ICMP_ASM])
def test_every_dialect_says_the_same(text: str) -> None:
    assert assemble(text) == ICMP


def test_disassembly_is_what_tcpdump_prints() -> None:
    assert disassemble(ICMP) == ICMP_D


def test_instructions_are_taken_as_they_are() -> None:
    assert assemble(list(ICMP)) == ICMP
    with pytest.raises(UsageError, match="must be a ret"):
        assemble([Instruction(0x00)])


@pytest.mark.parametrize(
    ("text", "code", "k"),
    [
        ("ld [4]", 0x20, 4),
        ("ldh [x + 14]", 0x48, 14),
        ("ldb [%x+0x10]", 0x50, 16),
        ("ldb [x + -1]", 0x50, 0xFFFFFFFF),
        ("ld [-4096]", 0x20, 0xFFFFF000),
        ("ld #-1", 0x00, 0xFFFFFFFF),
        ("LDI #0xA", 0x00, 10),
        ("ld len", 0x80, 0),
        ("ld #pktlen", 0x80, 0),
        ("ldx #len", 0x81, 0),
        ("ldxi #5", 0x01, 5),
        ("ldxb 4*([14]&0xf)", 0xB1, 14),
        ("ldx 4 * ( [14] & 0xf )", 0xB1, 14),
        ("st M[3]", 0x02, 3),
        ("stx m[15]", 0x03, 15),
        ("add x", 0x0C, 0),
        ("sub %x", 0x1C, 0),
        ("mod #3", 0x94, 3),
        ("xor #0xff", 0xA4, 255),
        ("neg", 0x84, 0),
        ("tax", 0x07, 0),
        ("txa", 0x87, 0),
        ("ld proto", 0x20, ANCILLARY_OFFSET),
        ("ldh #type", 0x28, ANCILLARY_OFFSET + 4),
        ("ldb [vlanp]", 0x30, ANCILLARY_OFFSET + 48),
        ("ld vlan_avail", 0x20, ANCILLARY_OFFSET + 48),
        ("ld vlan_tci", 0x20, ANCILLARY_OFFSET + 44),
        ("ld rand", 0x20, ANCILLARY_OFFSET + 56),
        ("ld vlan_tpid", 0x20, ANCILLARY_OFFSET + 60),
    ],
)
def test_operands_of_every_form(text: str, code: int, k: int) -> None:
    assert assemble(f"{text}\nret a").instructions[0] == Instruction(code, 0, 0, k)


@pytest.mark.parametrize(
    ("condition", "code", "jt", "jf"),
    [
        ("jeq #9, one", 0x15, 1, 0),
        ("jeq #9, one, two", 0x15, 1, 2),
        ("jne #9, one", 0x15, 0, 1),
        ("jne #9, one, two", 0x15, 2, 1),
        ("jgt #9, one, two", 0x25, 1, 2),
        ("jle #9, one, two", 0x25, 2, 1),
        ("jge x, one, two", 0x3D, 1, 2),
        ("jlt x, one", 0x3D, 0, 1),
        ("jset #9, two, one", 0x45, 2, 1),
    ],
)
def test_conditions_go_both_ways(condition: str, code: int, jt: int, jf: int) -> None:
    program = assemble(f"{condition}\nret #0\none: ret #1\ntwo: ret a")
    assert program.instructions[0][:3] == (code, jt, jf)


def test_a_jump_reaches_as_far_as_32_bits_say_and_a_condition_255() -> None:
    far = "tax\n" * 300 + "end: ret a"
    assert assemble("ja end\n" + far).instructions[0] == Instruction(0x05, 0, 0, 300)
    assert assemble("jmp end\n" + far).instructions[0].k == 300
    with pytest.raises(UsageError, match=r"line 1: .*at most 255 instructions, not 300"):
        assemble("jeq #1, end\n" + far)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "0 instructions"),
        ("; nothing", "0 instructions"),
        ("ret #0\nfly #1", "line 2: no such instruction: fly #1"),
        ("ret x", "line 1: no such instruction: ret x"),
        ("ld", "line 1: no such instruction: ld"),
        ("ldh #5\nret a", "no such instruction: ldh #5"),
        ("ldh M[1]\nret a", "no such instruction"),
        ("tax #1\nret a", "no such instruction"),
        ("ld [banana]\nret a", "line 1: no number: banana"),
        ("ld [012]\nret a", "no number: 012"),
        ("ld []\nret a", "no number"),
        ("ld #4294967296\nret a", "does not fit 32 bits"),
        ("ld #-2147483649\nret a", "does not fit 32 bits"),
        ("ld #" + "9" * 5000 + "\nret a", "no number"),
        ("jeq #1, nowhere\nret a", "line 1: no label 'nowhere'"),
        ("jeq #1\nret a", "one or two targets"),
        ("jeq #1, a, b, c\nret a", "one or two targets"),
        ("back: ret a\nja back\nret a", "line 2: jumps lead forwards, 'back' is not ahead"),
        ("self: ja self\nret a", "forwards"),
        ("a: ret a\na: ret a", "line 2: label a is there twice"),
        ("/* one\ntwo */ @@@", "line 2: cannot read '@@@'"),
        ("2\n6 0 0 0", "2 instructions announced, 1 there"),
        ("1\n6 0 0", "1 instructions announced, 0.75 there"),
        ("{ 6, 0, 0 }", "four numbers"),
        ("{}", "0 instructions"),
        (",", "0 instructions"),
        ("1 0x 0 0 0", "cannot be read"),
        ("1\n6 300 0 0\n", "does not fit"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_line(text: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        assemble(text)


@given(st.text(alphabet="ldxbj aeqret#0x19,[]{}&*();:\n-+M%/", max_size=80))
def test_any_text_is_a_program_or_refused(text: str) -> None:
    with suppress(UsageError):
        assemble(text)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("k", [1, 15, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_F004, 0xFFFF_FFFC])
def test_what_is_disassembled_assembles_to_the_same(code: int, k: int) -> None:
    mnemonic, form = CODES[code]
    jumps = (2, 1) if mnemonic in ("jeq", "jgt", "jge", "jset") else (0, 0)
    if form in ("", "a", "x", "len"):
        k = 0
    elif form in ("mem", "to") or mnemonic in ("lsh", "rsh"):
        k = 1
    elif form == "abs" and k == 0xFFFF_FFFC:
        k = 0xFFFF_EFFF
    # A word that is read must have been written.
    program = Program(
        [Instruction(0x02, k=1), Instruction(code, *jumps, k), *[Instruction(0x16)] * 3]
    )
    assert assemble(disassemble(program)) == program
