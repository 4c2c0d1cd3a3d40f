"""How servers end, and their log."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import signal
import sys

import pytest

from rawproto.cli.serving import Log, until_terminated


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
