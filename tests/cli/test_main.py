"""`rawproto VERB`: which verb runs, and what a user reads when something goes wrong."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from types import ModuleType

import pytest

from rawproto import __version__
from rawproto.cli import main as entrance
from rawproto.cli.main import main
from rawproto.errors import LinkError, UsageError


class Verb(ModuleType):
    """A verb whose `run` raises or returns what it was told to."""

    def __init__(self, outcome: int | BaseException, *, while_loading: bool = False) -> None:
        super().__init__("rawproto.cli.fake", "What the verb is for.\n\nAnd how it does it.")
        self.outcome = outcome
        self.while_loading = while_loading

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        if self.while_loading:
            self.finish()
        parser.add_argument("-c", dest="count", type=int)

    def run(self, arguments: argparse.Namespace) -> int:
        print("what came before")
        return self.finish()

    def finish(self) -> int:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def install(monkeypatch: pytest.MonkeyPatch, verb: Verb) -> None:
    monkeypatch.setitem(entrance.VERBS, "fake", "does nothing")
    monkeypatch.setitem(sys.modules, "rawproto.cli.fake", verb)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["ping", "-s", "-1", "h"], "ping: size -1: must be 0 to 65527"),
        (["ping", "-s-1", "h"], "ping: size -1: must be 0 to 65527"),
        (["ping", "-i", "-.5", "h"], "must be 0 to"),
        (["traceroute", "-m", "-1.5", "h"], "traceroute: -m -1.5: must be a whole number"),
        (["chat", "join", "rpt://h:1", "r", "--nick", "n", "--history", "-1"], "--history must be"),
        (["ping", "-s", "-4", "h"], "ping: -s: needs a value"),
        (["ping", "-s"], "ping: -s: needs a value"),
        (["ping", "-1", "h"], "ping: unknown option: -1"),
        (
            ["perf", "run", "rpt://h:1", "--for", "2"],
            "run: unknown option: --for (see rawproto perf run --help)",
        ),
    ],
)
def test_negative_number_is_a_value_also_where_there_is_an_option_like_it(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(words)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err
    assert (code, said.count("\n")) == (2, 1)
    assert told in said


def test_negative_number_of_another_command_stays_a_word_of_its_own() -> None:
    parser = entrance.Parser()
    parser.add_argument("-e")
    parser.add_argument("host")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    assert parser.parse_args(["h", "grep", "-e", "-1"]).command == ["grep", "-e", "-1"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fly"], "no verb 'fly' (see"),
        (["decod", "a.pcap"], "no verb 'decod'; perhaps decode? (see"),
        (["trace"], "perhaps traceroute?"),
        (["help", "pong"], "perhaps ping?"),
        (["dec\x1b[2Jode"], "no verb 'dec\\x1b[2Jode'; perhaps decode?"),
        ([], "no verb (see"),
        (["-v"], "no option -v before the verb"),
        (["--debug", "ping"], "no option --debug before the verb"),
    ],
)
def test_what_is_no_verb_is_told_in_one_line(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(words)
    assert exit_.value.code == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert told in error
    assert "rawproto --help" in error


def test_help_and_version_name_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--version"], f"rawproto {__version__}\n"),
        (["-h"], "ping  "),
        (["help"], "ping  "),
        (["help", "decode"], "usage: rawproto decode "),
        (["help", "http", "get"], "usage: rawproto http get "),
    ):
        with pytest.raises(SystemExit) as exit_:
            main(words)
        assert exit_.value.code == 0
        assert told in capsys.readouterr().out


def test_a_verb_gets_its_options_and_its_exit_code_is_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, Verb(7))
    assert main(["fake", "-c", "3"]) == 7
    with pytest.raises(SystemExit):
        main(["fake", "-c", "three"])
    assert capsys.readouterr().err == (
        "rawproto fake: -c three: must be a whole number (see rawproto fake --help)\n"
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (UsageError("no such thing"), "no such thing"),
        (LinkError("send to", "10.0.0.1", 101), "send to 10.0.0.1: Network is unreachable"),
        (FileNotFoundError(2, "No such file or directory", "a.pcap"), "a.pcap: No such file"),
        (OSError(28, "No space left on device"), "fake: No space left on device"),
    ],
)
def test_an_error_is_one_line_and_what_came_before_is_kept(
    error: Exception,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install(monkeypatch, Verb(error))
    assert main(["fake"]) == 2
    out, told = capsys.readouterr()
    assert out == "what came before\n"
    assert told.startswith("rawproto fake: ")
    assert words in told
    assert told.count("\n") == 1
    with pytest.raises(type(error)):
        main(["fake", "--debug"])


@pytest.mark.parametrize(
    "words",
    [
        ["http", "get", "rpt://h/", "rpt://h/b"],
        ["http", "serve", ".", "--listen", "rpt://h:1"],
        ["files", "ls", "rpt://h:1"],
        ["lab", "down", "lab"],
        ["keys", "show"],
    ],
)
def test_debug_may_stand_behind_either_name_of_a_verb(words: list[str]) -> None:
    parser = entrance.whole_parser()
    verb, what, *rest = words
    assert not parser.parse_args(words).debug
    assert parser.parse_args([verb, "--debug", what, *rest]).debug
    assert parser.parse_args([verb, what, "--debug", *rest]).debug
    assert parser.parse_args([*words, "--debug"]).debug


@pytest.mark.parametrize("while_loading", [False, True])
def test_ctrl_c_is_no_error_of_ours(
    while_loading: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, Verb(KeyboardInterrupt(), while_loading=while_loading))
    assert main(["fake"]) == 130
    assert capsys.readouterr().err == ""


def test_streams_that_were_closed_swallow_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Verb(UsageError("nobody reads this")))
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["fake"]) == 2
    for stream in (sys.stdout, sys.stderr):
        assert os.path.samestat(os.fstat(stream.fileno()), os.stat(os.devnull))
        stream.close()


@pytest.mark.parametrize("words", [["decode", "/proc/none/file"], ["shell", "rpt://[::1"]])
def test_error_that_nobody_can_read_changes_no_exit_code(words: list[str]) -> None:
    command = [sys.executable, "-m", "rawproto.cli.main", *words]
    told = subprocess.run(command, capture_output=True)
    master, slave = os.openpty()
    with os.fdopen(slave, "wb") as gone:
        os.close(master)  # from now on the terminal answers EIO
        untold = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=gone, stderr=gone)
    assert told.stderr.count(b"\n") == 1
    assert untold.returncode == told.returncode
