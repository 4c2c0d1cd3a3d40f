"""The words of capture: sizes, seconds, and what does not go together."""

from __future__ import annotations

import argparse

import pytest

from rawproto.cli import capture
from rawproto.cli.main import main


def parsed(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    capture.add_arguments(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500k", 500_000), ("500K", 500_000), ("100M", 10**8), ("2GB", 2 * 10**9)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parsed("--rotate-size", text).rotate_size == size


def test_seconds_may_have_a_fraction() -> None:
    assert parsed("--time", "0.25").seconds == 250_000_000


def test_tcpdumps_letters_are_known() -> None:
    words = parsed("-lnUD", "udp")
    assert (words.flush, words.list, words.filter) == (True, True, ["udp"])


def test_filter_may_stand_before_and_between_options_in_one_or_several_words() -> None:
    for words in (
        ["udp", "port", "53", "-c1"],
        ["-c1", "udp port 53"],
        ["-c1", "udp", "port", "53"],
    ):
        assert " ".join(parsed(*words).filter) == "udp port 53"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rotate-size", "0"], "0: must be a size such as 500k, 100M or 2G"),
        (["--rotate-size", "1T"], "1T: must be a size such as 500k, 100M or 2G"),
        (["--rotate-size", "9" * 30], "must be a size such as 500k, 100M or 2G"),
        (["--time", "0"], "0: must be seconds above 0"),
        (["--time", "nan"], "nan: must be seconds above 0"),
        (["--rotate-seconds", "-1"], "-1: must be seconds above 0"),
        (["--time", "1e300"], "1e300: must be seconds above 0"),
        (["-c", "0"], "-c 0: must be 1 or more"),
        (["--comment", "x"], "--comment: needs a file, -w FILE"),
        (["--rotate-seconds", "1"], "--rotate-seconds: needs a file, -w FILE"),
        (["-w", "out.txt"], "out.txt: name it .pcap or .pcapng, or give the format"),
        (["-w", "out.pcap", "--comment", "x"], "a comment: only pcapng files can carry it"),
        (["-w", "out.pcap", "--keep", "2"], "rotation: files to keep, but no size and no time"),
        (["-i", "any", "-i", "lo"], "any: is all interfaces, so name no other beside it"),
        (["-s", "-1"], "snaplen -1: must be 1 to 262144"),
        (["-w", "-", "--json"], "--json: is for the terminal, not beside -w"),
        (["udp and"], "filter: "),
    ],
)
def test_bad_words_are_refused_before_anything_is_opened(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(["capture", *words])
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    out, error = capsys.readouterr()
    assert (code, out) == (2, "")
    assert said in error
    assert "Traceback" not in error
