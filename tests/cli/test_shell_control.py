"""-M, -S and -O of `rawproto shell`, as far as it gets without a server."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from rawproto.cli import shell
from rawproto.cli.main import Parser, main
from rawproto.cli.shell_control import check_control

AT = "ada@rpt+udp://[::1]:4022"


def read(*words: str) -> argparse.Namespace:
    parser = Parser(prog="rawproto shell", allow_abbrev=False)
    shell.add_arguments(parser)
    arguments = parser.parse_args(words)
    shell._take_words(arguments)
    return arguments


@pytest.mark.parametrize(
    ("words", "address", "command"),
    [
        ([AT, "ls", "-l"], AT, ["ls", "-l"]),
        (["-S", "p", AT, "ls", "-l"], AT, ["ls", "-l"]),
        ([AT, "-S", "p", "-t", "htop", "-d", "5"], AT, ["htop", "-d", "5"]),
        (["-S", "p", "rpt://ada@h2:1"], "rpt://ada@h2:1", []),
        (["-S", "p"], None, []),
        (["-S", "p", "-O", "check"], None, []),
        (["-S", "p", AT, "-O", "exit"], AT, []),
        (["-S", "p", "ls", "-l"], None, ["ls", "-l"]),
        (["-S", "p", "-n", "curl", "-s", "rpt://h2:1/"], None, ["curl", "-s", "rpt://h2:1/"]),
        (["-S", "p", "echo", AT], None, ["echo", AT]),
        (["-S", "p", "serve"], None, ["serve"]),
        (["-M", "-S", "p", "h2", "-t", "htop"], "h2", ["htop"]),
    ],
)
def test_first_word_is_the_address_unless_a_master_knows_it(
    words: list[str], address: str | None, command: list[str]
) -> None:
    arguments = read(*words)
    assert (arguments.address, arguments.command) == (address, command)


def test_options_between_address_and_command_count() -> None:
    arguments = read(AT, "-M", "-S", "p", "-N")
    check_control(arguments)
    assert (arguments.master, arguments.control) == (True, Path("p").absolute())
    assert arguments.no_session


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "required: [USER@]ADDRESS"),
        (["-M", "-S", "{}/p"], 2, "required: [USER@]ADDRESS"),
        (["-O", "stop", "-S", "{}/p"], 2, "-O"),
        (["-M", AT], 255, "-M needs -S PATH"),
        (["-O", "check", AT], 255, "-O needs -S PATH"),
        (["-M", "-O", "check", "-S", "{}/p", AT], 255, "-O asks one"),
        (["-S", "{}/p", "-N"], 255, "the master, -M"),
        (["-S", "{}/p", "-L", "1:a:2", "id"], 255, "the master, -M"),
        (["-S", "{}/p", "-l", "bob", "id"], 255, "-l goes with ADDRESS"),
        (["-S", "{}/p", "id"], 255, "-S {}/p: no master is there"),
        (["-S", "{}/p", AT, "id"], 255, "-S {}/p: no master is there"),
        (["-S", "{}/p", "-O", "check"], 255, "-S {}/p: no master is there"),
        (["-S", "{}/no/p", "id"], 255, "-S {}/no/p: no master is there"),
        (["-S", "{}/file", "id"], 255, "-S {}/file: no master is there"),
        (["-S", "{}/file/p", "id"], 255, "connect to {}/file/p: Not a directory"),
        (["-S", "{}/" + "x" * 108, "id"], 255, "too long"),
    ],
)
def test_what_cannot_be_is_one_line(
    words: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    try:
        got = main(["shell", *[word.replace("{}", str(tmp_path)) for word in words]])
    except SystemExit as end:
        got = int(end.code or 0)
    output, told = capfd.readouterr()
    assert (got, output, len(told.splitlines())) == (code, "", 1), told
    assert said.replace("{}", str(tmp_path)) in told
