"""The numbers, codes and states that the specification names are those of the code."""

from __future__ import annotations

import re
from dataclasses import MISSING, fields

import pytest

from rawproto.transport import constants, halfopen, recovery, refusals, tokens
from rawproto.transport.constants import CloseCode, Kind, ResetCode
from rawproto.transport.handshake import suite_number
from rawproto.transport.parameters import _FORMAT, Parameters
from rawproto.wire import rpt
from rawproto.wire.rpt_frames import FrameType
from tests.transport import diagrams
from tests.transport.vectors import PAGE

PAGE_TEXT = PAGE.read_text()


def section(number: str) -> str:
    """The text below a heading, as far as the next one."""
    (found,) = re.findall(rf"^#+ {re.escape(number)} .*?$(.*?)(?=^##|\Z)", PAGE_TEXT, re.M | re.S)
    return str(found)


def rows(text: str, columns: int) -> list[list[str]]:
    """The rows of tables so wide, without their headings."""
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [row for row in found if len(row) == columns and not row[0].startswith("---")]


def count_of(text: str) -> int:
    """A number as the page writes it: 1,200 or 2^22."""
    base, _, power = text.replace(",", "").partition("^")
    return int(base) ** int(power or 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (name, row[1])
        for row in rows(section("13"), 3)
        if row[0] != "name"
        for name in row[0].split(", ")
    ],
)
def test_constant_of_section_13_has_the_value_of_the_code(name: str, value: str) -> None:
    if value.endswith(" ms"):
        assert getattr(constants, f"{name}_NS") == int(value.removesuffix(" ms")) * 1_000_000
    elif name in ("PROTOCOL", "VERSION"):
        assert {"PROTOCOL": rpt.IP_PROTOCOL, "VERSION": rpt.VERSION_1}[name] == int(value)
    else:
        assert getattr(constants, name) == count_of(value)


def test_close_codes_are_those_of_section_11() -> None:
    told = {row[1]: int(row[0]) for row in rows(section("11"), 3) if row[0].isdigit()}
    assert told == {each.name: each.value for each in CloseCode}


def test_reset_codes_are_those_of_section_12() -> None:
    (text,) = re.findall(r"^12\.2\. (.*?)\n\n", PAGE_TEXT, re.M | re.S)
    told = {name: int(number) for name, number in re.findall(r"([A-Z]+) (\d)", text)}
    assert told == {each.name: each.value for each in ResetCode}
    shown = rpt.RPTReset.value_names["code"]
    assert {name.lower(): number for name, number in told.items()} == {
        name: number for number, name in shown.items()
    }


def test_frame_types_are_those_of_section_5() -> None:
    told = {row[1]: int(row[0], 16) for row in rows(section("5"), 5) if row[0].startswith("0x")}
    names = {name: value for name, value in vars(FrameType).items() if name.isupper()}
    short = {"ACK with ECN": "ACK_ECN", "STREAM with FIN": "STREAM_FIN"}
    assert {short.get(name, name): number for name, number in told.items()} == names


def test_packet_types_and_the_bits_of_flags_are_those_of_section_2() -> None:
    text = section("2.1") + section("2.2")
    told = dict(re.findall(r"\b(INIT|RETRY|HANDSHAKE|RESET|VERSION) (\d)", section("2.2")))
    assert told == {
        name: str(getattr(rpt, name)) for name in ("INIT", "RETRY", "HANDSHAKE", "RESET", "VERSION")
    }
    form, phase = re.findall(r"the form \((0x\w+).*?key phase K \((0x\w+)\)", text, re.S)[0]
    assert (int(form, 16), int(phase, 16)) == (rpt.LONG_FORM, rpt.KEY_PHASE)
    sizes = re.findall(r"header has (\d+) bytes", text)
    assert [int(size) for size in sizes] == [rpt.SHORT.size, rpt.LONG.size]
    (padded,) = re.findall(r"has at least (\d+) bytes", text)
    assert int(padded) == constants.MIN_SHORT_BYTES
    reset = rpt.RPTReset().emit()
    assert len(reset) < constants.MIN_SHORT_BYTES


def test_retry_is_as_much_smaller_than_an_init_as_section_12_3_says() -> None:
    (told,) = re.findall(r"a RETRY has (\d+) bytes", PAGE_TEXT)
    token = tokens.RetryTokens(bytes(32), bytes).make("10.0.0.1", 0, 1, 2, 3)
    assert len(rpt.RPTRetry(token=token).emit()) == int(told)


def test_suites_are_those_of_section_3_1() -> None:
    found = re.findall(r"\| (0x\w0) \| `Noise_(\w+?)_25519", section("3.1"))
    ciphers = re.findall(r"(0x0\w) \| `(\w+)`", section("3.1"))
    assert len(found) == 4
    assert len(ciphers) == 2
    for high, pattern in found:
        for low, cipher in ciphers:
            number = int(high, 16) | int(low, 16)
            assert suite_number(pattern, cipher) == number
            name = f"{pattern}-{cipher}".lower()
            assert rpt.RPTLong.value_names["suite"][number] == name


def test_transport_parameters_are_those_of_section_3_3() -> None:
    table = [row for row in rows(section("3.3"), 4) if row[0].isdigit()]
    for number, name, value, _ in table:
        bits, size = re.findall(r"^(?:u(\d+)|(\d+) bytes)", value)[0]
        assert _FORMAT[name] == (int(number), int(bits) // 8 if bits else int(size))
    assert [row[1] for row in table] == list(_FORMAT)
    defaults = {each.name: each.default for each in fields(Parameters)}
    for _, name, _, default in table:
        if default.startswith("must"):
            assert defaults[name] in (MISSING, None)
        else:
            assert defaults[name] == count_of(default)
    kinds = dict(re.findall(r"\b([A-Z]+) (\d)", table[3][2]))
    assert {name: int(number) for name, number in kinds.items()} == {
        each.name: each.value for each in Kind
    }


@pytest.mark.parametrize("name", diagrams.TABLES)
def test_states_of_the_page_are_those_that_the_code_follows(name: str) -> None:
    begin, end = diagrams.markers(name)
    shown = PAGE_TEXT.partition(begin)[2].partition(end)[0].strip()
    assert shown == diagrams.part(name), "run: python -m tests.transport.diagrams"


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        (r"With (\d+) handshakes half-open or more", halfopen.UNDER_LOAD),
        (r"At most ([\d,]+) handshakes are half-open", halfopen.MOST_HALF_OPEN),
        (r"at most (\d+) of one\nsource prefix", halfopen.MOST_OF_A_PREFIX),
        (r"valid for (\d+) s", tokens.LIFE_NS // 10**9),
        (r"taken together,\ngo out ([\d,]+) times", refusals._REFUSALS_PER_SECOND),
        (r"RETRY is counted apart, and goes out ([\d,]+) times", refusals._RETRIES_PER_SECOND),
        (r"holds up to (\d+) of 1,200 bytes", constants.HELD_PACKETS),
        (r"packet threshold (\d)", recovery.PACKET_THRESHOLD),
        (r"After (2\^\d+) packets of one connection that did not open", constants.MAX_FORGERIES),
    ],
)
def test_number_in_a_sentence_is_that_of_the_code(sentence: str, value: int) -> None:
    (told,) = re.findall(sentence, PAGE_TEXT)
    assert count_of(told) == value
