"""`rawproto layers`: what one needs to know to write a layer down."""

from __future__ import annotations

from typing import Any

import pytest

from rawproto.cli.main import main
from rawproto.packets.catalogue import LAYERS, layer_entry


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs layers, 100 columns wide, and returns what it wrote."""
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: str) -> str:
        assert main(["layers", *words]) == 0
        return str(capsys.readouterr().out)

    return run


def test_every_layer_is_listed_on_a_line(shown: Any) -> None:
    lines = shown().splitlines()
    assert [line.split()[0] for line in lines] == list(LAYERS)
    assert "udp                   a UDP header" in lines


@pytest.mark.parametrize("name", LAYERS)
def test_every_field_of_every_layer_is_shown_with_its_width(name: str, shown: Any) -> None:
    entry = layer_entry(name)
    for form in entry.forms:
        picked = [str(min(form.numbers))] if form.numbers else ["200"] * bool(entry.selector)
        text = shown(name, *picked)
        rows = [line.split() for line in text.splitlines()]
        for field in form.fields.values():
            (row,) = [each for each in rows if each[:1] == [field.name]][:1]
            bits = getattr(field.shape, "bits", None)
            assert row[1] == str(bits) or bits is None
        assert max(map(len, text.splitlines())) <= 100


def test_layer_goes_by_tcpdumps_name_too(shown: Any) -> None:
    assert shown("IP") == shown("ipv4")


def test_types_defaults_and_meanings(shown: Any) -> None:
    lines = shown("ipv4").splitlines()
    assert lines[0] == "ipv4: An IPv4 header (RFC 791)"
    row = next(line for line in lines if line.startswith("total_length"))
    assert row.split(maxsplit=4) == [
        "total_length",
        "16",
        "number",
        "computed",
        "header and payload, in bytes; None computes",
    ]
    assert next(line for line in lines if line.startswith("dst_addr")).split()[1:5] == [
        "32",
        "IPv4",
        "address",
        "0.0.0.0",
    ]


def test_flags_names_and_options_are_spelled_as_the_notation_takes_them(shown: Any) -> None:
    text = shown("tcp")
    assert "SYN=0x2" in text
    assert "\n  mss(mss=1460) " in text
    assert "\n  sack_permitted " in text
    text = shown("ipv4")
    assert "ECT_1=1" in text
    assert "no_next_header=59" in text


def test_a_message_is_picked_by_the_name_or_the_number_of_its_type(shown: Any) -> None:
    by_name = shown("icmp", "time_exceeded")
    assert by_name == shown("icmp", "11") == shown("icmp", "Time-Exceeded")
    assert "ttl_exceeded_in_transit=0" in by_name
    assert "interface_information(role=0," in by_name
    assert "redirect  " in shown("icmp"), "the other messages are named"


def test_ethertypes_are_in_hexadecimal(shown: Any) -> None:
    assert "ipv6=0x86dd" in shown("ethernet")


def test_records_name_what_they_need(shown: Any) -> None:
    text = shown("dns")
    assert "  MX(name, rclass=1, ttl=0, preference=0, exchange)" in text
    assert "answers, authorities, additionals:" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ipv5"], "unknown layer ipv5, perhaps ipv"),
        (["zzz"], "unknown layer zzz; without a name all are listed"),
        (["udp", "8"], "udp is of one form only"),
        (["icmp", "unreach"], "perhaps destination_unreachable"),
        (["icmp", "256"], "must be 0 to 255"),
    ],
)
def test_refusals_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["layers", *words]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert said in error
