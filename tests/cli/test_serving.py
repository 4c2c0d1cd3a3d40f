"""How servers end, and their log."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import resource
import signal
import sys

import pytest

from rawproto.cli.main import Parser
from rawproto.cli.serving import Log, add_serving_options, allow_files, until_terminated


def ended_by(*numbers: signal.Signals) -> list[float]:
    """The grace with which a server closed that got these signals."""
    graces: list[float] = []

    async def close(grace_s: float) -> None:
        graces.append(grace_s)

    async def run() -> None:
        async def serve() -> None:
            for number in numbers:
                os.kill(os.getpid(), number)
            await asyncio.sleep(0.1)

        await until_terminated(serve(), close, 7.0)

    asyncio.run(run())
    return graces


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_server_that_is_to_end_gives_sessions_their_time(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_DFL)  # whatever others left, or nohup
    try:
        assert ended_by(number) == [7.0]
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_server_under_nohup_goes_on() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ended_by(signal.SIGHUP) == [0.0], "it ended before its time"
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("words", ["nan", "-1", "inf", "1e9", "soon"])
def test_grace_is_a_time_that_can_pass(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser(prog="rawproto files serve")
    add_serving_options(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([f"--grace={words}"])
    assert ended.value.code == 2
    assert "--grace: must be 0 to 86400 seconds" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["0", "0.5", "86400"])
def test_grace_may_be_none_or_a_day(words: str) -> None:
    parser = Parser()
    add_serving_options(parser)
    assert parser.parse_args(["--grace", words]).grace == float(words)


HOSTILE = "\x1b[2J\x7f\x9b31m\u202e\u2028\udcff \u0645\u06cc\u200c\u062e \U0001f469\u200d\U0001f680"


def test_record_commands_no_terminal_and_means_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Log("json").write("file", "", {"path": HOSTILE})
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert not set("\x1b\x7f\x9b\u202e\u2028\udcff") & set(line)
    assert "\u0645\u06cc" in line, "letters are shown as they are"
    assert json.loads(line)["path"] == HOSTILE


def test_server_may_open_as_many_files_as_it_is_allowed_to() -> None:
    """1024, as a shell has it, are 500 readers who read nothing: all others got 503."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, hard = before
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        allow_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (min(hard, 1 << 16), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Gone(io.StringIO):
    """A terminal that is no more, or a pipe that nobody reads."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("form", ["text", "json"])
def test_log_that_nobody_reads_any_more_breaks_no_session(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Gone())
    Log(form).write("session", "somebody left", {"peer": "somebody"})
