"""`rawproto filter`: the program in every form, the words, and the caret."""

from __future__ import annotations

import json

import pytest

from rawproto.cli.filter import SystemNames
from rawproto.cli.main import main
from rawproto.filter import compile_filter
from rawproto.filter.assembler import assemble, disassemble

EXPRESSION = "tcp port 80 and not host 192.0.2.1"


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["filter", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_program_and_words_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    program, _, meaning = output(capsys, EXPRESSION).partition("\n\n")
    assert program == disassemble(compile_filter(EXPRESSION))
    lines = meaning.splitlines()
    assert lines[0] == "all of"
    assert lines[1].startswith("  tcp port 80       TCP with source or destination port 80: over")
    assert lines[2] == "  not"
    assert lines[3].startswith("    host 192.0.2.1  source or destination address 192.0.2.1: in")


def test_words_may_come_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, *EXPRESSION.split()) == output(capsys, EXPRESSION)


@pytest.mark.parametrize("form", ["-d", "-dd", "-ddd", "--iptables"])
def test_every_form_is_the_same_program(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, form, "-y", "raw", EXPRESSION)
    if form == "--iptables":
        assert text.count("\n") == 1
        text = text.replace(",", "\n")
    assert assemble(text) == compile_filter(EXPRESSION, link_type=101)


def test_json_has_instructions_and_words(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(output(capsys, "--json", "vlan 7"))
    assert (found["type"], found["schema"], found["link_type"]) == ("filter", 1, 1)
    program = compile_filter("vlan 7")
    assert [each["k"] for each in found["instructions"]] == [each.k for each in program]
    assert found["instructions"][0]["text"] == "ldh [12]"
    assert found["meaning"][0]["text"] == "vlan 7"
    assert found["meaning"][0]["words"]


def test_other_options_reach_the_compiler(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ret      #96" in output(capsys, "-s", "96", "ip")
    assert "[vlanp]" in output(capsys, "--live", "vlan")
    assert "#0xff\n" in output(capsys, "--netmask", "255.255.255.0", "ip broadcast")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["porrt 80"], "rawproto filter: no such word: did you mean port?\n  porrt 80\n  ^~~~~\n"),
        (["-y", "token-ring", "ip"], "rawproto filter: --link-type token-ring: known are"),
        (["-s", "0", "ip"], "rawproto filter: snap length 0: 1 to"),
        (["--netmask", "24", "ip"], "rawproto filter: netmask 24: 255.255.255.0 is one"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["filter", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(told)


def test_the_system_is_asked_for_names(capsys: pytest.CaptureFixture[str]) -> None:
    names = SystemNames()
    assert "127.0.0.1" in names.hosts("localhost")
    assert names.hosts("no.such.host.invalid") == ()
    assert names.hosts("a" * 300) == ()
    assert names.ports("domain") == {6: 53, 17: 53} | names.ports("domain")
    assert names.ports("no-such-service") == {}
    assert names.network("no-such-network") is None
    assert "#0x7f000001" in output(capsys, "host localhost")
