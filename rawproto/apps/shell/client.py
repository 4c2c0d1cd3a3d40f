"""The client's side of a shell: a login, and sessions on it.

Whose terminal it is, and what is typed to the client itself, is not known here: a session takes
input as it is sent, and gives output to whoever is handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rawproto.apps.shell.environment import brought
from rawproto.apps.shell.faults import BROKEN
from rawproto.apps.shell.flow import INPUT_BYTES, OUTPUT_BYTES, TERMINAL_BYTES, Credit, together
from rawproto.apps.shell.proof import prove
from rawproto.apps.shell.service import STDERR, STDIN, STDOUT, VERSION
from rawproto.apps.shell.terminal import Size
from rawproto.errors import ProtocolError, RemoteProtocolError
from rawproto.rpc import Call, RPCError, RPCPeer

__all__ = ["Ended", "Session", "login", "session"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a session ended.

    Attributes:
        status: the exit status, None if a signal ended it.
        signal: which one, without SIG, a number where it has no name; "" if none did.
        core: whether there is a core dump.
    """

    status: int | None
    signal: str = ""
    core: bool = False


async def login(peer: RPCPeer, private: bytes, user: str) -> None:
    """Logs in.

    Args:
        peer: of a new connection.
        private: this side's key, 32 bytes, the one that the connection was made with.
        user: who to be there.

    Raises:
        LoginError: not with this key, or not now.
        RPCError, ConnectionLostError, ProtocolError: it did not work.
    """
    params = {"version": VERSION, "user": user}
    async with peer.open("login", params) as call:
        asked: Any = await anext(call, None)
        try:
            challenge = bytes.fromhex(asked["challenge"])
            proof = prove(private, challenge, peer.connection.peer_key, user)
        except (KeyError, TypeError, ValueError):
            raise RemoteProtocolError(BROKEN, "the server's challenge is none") from None
        await call.send({"proof": proof.hex()})
        await call.result()


Output = Callable[[int, bytes], Awaitable[None]]
"""Given a channel, STDOUT or STDERR, and bytes; returns once they are written."""


class Session:
    """A session that runs. Made by `session`."""

    def __init__(self, call: Call, output: Output, most_output: int) -> None:
        self._call = call
        self._output = output
        self._most_output = most_output
        self._sending = asyncio.Lock()  # a message is one message, whoever sends beside
        self._credit = Credit(INPUT_BYTES)
        self._waiting_bytes = self._written_bytes = 0

    async def _send(self, item: Any) -> None:
        async with self._sending:
            await self._call.send(item)

    async def send(self, data: bytes) -> None:
        """Sends input; waits while the other side does not take it."""
        view = memoryview(data)
        while view:
            size = min(await self._credit.some(), len(view))
            self._credit.sent(size)
            await self._send(bytes([STDIN]) + view[:size])
            view = view[size:]

    async def send_eof(self) -> None:
        """Input has ended."""
        await self._send(bytes([STDIN]))

    async def resize(self, size: Size) -> None:
        """The terminal has another size now."""
        await self._send({"size": list(size)})

    async def signal(self, name: str) -> None:
        """Sends a signal, by its name without SIG, to the session's processes."""
        await self._send({"signal": name})

    async def run(self) -> Ended:
        """Hands output out until the session has ended, and all of it was taken.

        Raises:
            RPCError, ConnectionLostError, ProtocolError: it did not end by itself.
            OSError: from who takes the output.
        """
        queues: dict[int, asyncio.Queue[bytes]] = {STDOUT: asyncio.Queue(), STDERR: asyncio.Queue()}
        await together(
            self._hear(queues), *[self._write(channel, queues[channel]) for channel in queues]
        )
        return _ended(await self._call.result())

    async def _hear(self, queues: Mapping[int, asyncio.Queue[bytes]]) -> None:
        async for item in self._call:
            if isinstance(item, bytes) and item and item[0] in queues:
                self._waiting_bytes += len(item) - 1
                if len(item) > 1:
                    queues[item[0]].put_nowait(item[1:])
                if self._waiting_bytes <= self._most_output:
                    continue
            elif isinstance(item, dict) and self._credit.took(item.get("took")):
                continue
            raise RemoteProtocolError(BROKEN, "the server sent what is none of a session")
        for queue in queues.values():
            queue.put_nowait(b"")

    async def _write(self, channel: int, queue: asyncio.Queue[bytes]) -> None:
        while data := await queue.get():
            await self._output(channel, data)
            self._waiting_bytes -= len(data)
            self._written_bytes += len(data)
            if self._written_bytes >= self._most_output // 8:
                size, self._written_bytes = self._written_bytes, 0
                with suppress(RPCError, ProtocolError):  # it may have ended meanwhile
                    await self._send({"took": size})


def _ended(told: Any) -> Ended:
    status, signal = (told.get("status"), told.get("signal")) if isinstance(told, dict) else (0, 0)
    if type(status) is int and 0 <= status < 256:
        return Ended(status)
    if isinstance(signal, str) and 0 < len(signal) < 32 and signal.isalnum():
        return Ended(None, signal, told.get("core") is True)
    raise RemoteProtocolError(BROKEN, "the server told no exit status")


@asynccontextmanager
async def session(
    peer: RPCPeer,
    output: Output,
    *,
    command: str | None = None,
    terminal: tuple[str, Size] | None = None,
    modes: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[Session]:
    """Starts a session; leaving the block before it has ended hangs it up.

    Args:
        peer: where somebody is logged in.
        output: takes what comes.
        command: for the user's shell; None for a login shell.
        terminal: what the session's terminal is, its kind (TERM) and size; None for pipes.
        modes: how that terminal is set, where it is not as usual (`terminal.modes_of`).
        environment: what it brings along.
    """
    params: dict[str, Any] = {"command": command, "environment": brought(environment or {})}
    if terminal is not None:
        params |= {"pty": True, "term": terminal[0], "size": list(terminal[1])}
        params["modes"] = dict(modes or {})
    most_output = OUTPUT_BYTES if terminal is None else TERMINAL_BYTES
    async with peer.open("run", params, timeout_s=None) as call:
        yield Session(call, output, most_output)
