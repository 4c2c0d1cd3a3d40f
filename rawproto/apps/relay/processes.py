"""A command as an end of a relay, and this process's own standard input and output."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator
from contextlib import suppress

from rawproto.apps.relay.channels import never
from rawproto.drivers.stdio import read_input, write_output

__all__ = ["ProcessChannel", "StdioChannel"]

_PIECE_BYTES = 1 << 16
_PATIENCE_S = 2.0


class StdioChannel:
    """Standard input and output of this process."""

    def __init__(self) -> None:
        self.name = "stdio:"
        self.gone = never
        self._input: AsyncIterator[bytes] = read_input()
        self._output = 1

    async def receive(self) -> bytes | None:
        return await anext(self._input, None)

    async def send(self, data: bytes) -> None:
        await write_output(data, self._output)

    async def send_eof(self) -> bool:
        """Whoever reads our output hears of the end now; our input may go on."""
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._output)
        return True

    async def close(self) -> None:
        pass

    def abort(self) -> None:
        pass


class ProcessChannel:
    """A command's standard input and output; its errors go where ours go.

    Args:
        process: with pipes for both.
        command: its words.
    """

    def __init__(self, process: asyncio.subprocess.Process, command: tuple[str, ...]) -> None:
        self.name = f"exec:{shlex.join(command)}"
        self._process = process

    @classmethod
    async def start(cls, command: tuple[str, ...], peer: str) -> ProcessChannel:
        """Runs a command, which finds whom it serves in RAWPROTO_PEER. Raises OSError."""
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "RAWPROTO_PEER": peer},
            start_new_session=True,
        )
        return cls(process, command)

    async def receive(self) -> bytes | None:
        assert self._process.stdout is not None
        return await self._process.stdout.read(_PIECE_BYTES) or None

    async def send(self, data: bytes) -> None:
        """What it does not read holds its way up, and takes nothing from what it has to say."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
            await self._process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            await never()

    async def send_eof(self) -> bool:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return True

    async def gone(self) -> None:
        await self._process.wait()

    async def close(self) -> None:
        """Waits for it a little; then it and what it started are asked, and then made, to go."""
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._signal(number)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), _PATIENCE_S)
                return

    def abort(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
