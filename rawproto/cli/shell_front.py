"""The near end of a shell's session: this terminal, this process's input, output and signals.

However it ends (the session's end, a lost connection, an escape, SIGTERM), the terminal is as it
was before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import (
    AbstractAsyncContextManager,
    ExitStack,
    asynccontextmanager,
    nullcontext,
    suppress,
)

from rawproto.apps.shell.client import Ended, Session, login, session
from rawproto.apps.shell.control import sharing
from rawproto.apps.shell.escapes import Command, Escapes, help_text
from rawproto.apps.shell.faults import ERRORS
from rawproto.apps.shell.service import STDERR
from rawproto.apps.shell.terminal import RawMode, Size, modes_of, size_of
from rawproto.cli.rpt_options import private_key
from rawproto.cli.shell_forwards import Forwards
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.stdio import read_input, write_output
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.rpc import RPCError, RPCPeer
from rawproto.wire.words import printable

__all__ = ["EndedError", "Front"]

_INTERRUPTED, _TROUBLE = 130, 255
_ENDING = (signal.SIGTERM, signal.SIGHUP)
_DEFAULT_SIZE: Size = (80, 24, 0, 0)


def _status_of(name: str) -> int:
    """What a shell makes of a signal: 128 and its number."""
    number = int(name) if name.isdecimal() else getattr(signal, f"SIG{name}", 0)
    return 128 + number if 0 < number < signal.NSIG else _TROUBLE


class EndedError(Exception):
    """This side has ended it: the message is what there is to say, "" for nothing.

    Attributes:
        status: the exit status.
    """

    def __init__(self, status: int, words: str = "") -> None:
        super().__init__(words)
        self.status = status


class Front:
    """One session, from a connection to an exit status.

    Args:
        arguments: of the command line.
        command: what to run, None for a login shell.
        escape: the escape character, b"" for none.

    Attributes:
        status: the exit status, once `use` has returned.
    """

    def __init__(
        self, arguments: argparse.Namespace, *, command: str | None, escape: bytes
    ) -> None:
        self._arguments = arguments
        self._command = command
        self._escape = escape
        # stdin is None where who called us closed it.
        typed = not arguments.no_input and sys.stdin is not None and sys.stdin.isatty()
        self._pty = self._wants_terminal(typed)
        # What is typed goes through as it is only from a terminal to a terminal.
        self._raw = RawMode(0) if self._pty and typed else None
        self._forwards = Forwards(arguments.local, arguments.remote, arguments.dynamic)
        self.status = _TROUBLE

    def _wants_terminal(self, typed: bool) -> bool:
        arguments = self._arguments
        if arguments.pipes:
            return False
        wanted = arguments.terminal or (1 if self._command is None else 0)
        if wanted == 1 and not typed:
            if arguments.terminal:
                sys.stderr.write("rawproto shell: -t: input is no terminal (-tt: all the same)\n")
            return False
        return bool(wanted)

    async def use(self, connection: RPTConnection) -> None:
        """Logs in, and runs the session.

        Raises:
            EndedError: this side has ended it.
            RPCError, ConnectionLostError, ProtocolError: it came to nothing.
        """
        arguments = self._arguments
        peer = RPCPeer(connection, self._forwards.methods, errors=ERRORS)
        try:
            async with self._ended_by_will():
                await login(peer, private_key(arguments), arguments.user)
                async with self._forwards.running(peer), self._shared(peer):
                    if arguments.no_session:
                        await connection.wait_closed()
                        connection.check()
                    ended = await self._run(peer)
        finally:
            await peer.close()
        self._tell(ended, f"connection to {arguments.address}")

    async def visit(self, master: RPCPeer, name: str) -> None:
        """Runs the session over a master's connection.

        Args:
            master: its calls.
            name: who is logged in where.

        Raises: as `use`.
        """
        async with self._ended_by_will():
            ended = await self._run(master)
        self._tell(ended, f"shared connection to {printable(name)}")

    def _tell(self, ended: Ended, what: str) -> None:
        if self._pty:
            sys.stderr.write(f"{what} closed\n")
        self.status = ended.status if ended.status is not None else _TROUBLE
        if ended.status is None:
            self.status = _status_of(ended.signal)
            core = " (core dumped)" if ended.core else ""
            sys.stderr.write(f"rawproto shell: ended by signal {ended.signal}{core}\n")

    def _shared(self, peer: RPCPeer) -> AbstractAsyncContextManager[None]:
        arguments = self._arguments
        if not arguments.master:
            return nullcontext()
        name = f"{arguments.user}@{arguments.address}"
        # Without a session of its own it has done all that it was for.
        status = 0 if arguments.no_session else _TROUBLE
        return sharing(
            arguments.control, peer, name, lambda: self._end(EndedError(status, "ended by -O exit"))
        )

    @asynccontextmanager
    async def _ended_by_will(self) -> AsyncIterator[None]:
        """SIGTERM and SIGHUP end it in good order, as does who calls `_end`."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        came: list[EndedError] = []

        def end(how: EndedError) -> None:
            came.append(how)
            task.cancel()

        self._end = end
        heard = [each for each in _ENDING if signal.getsignal(each) is not signal.SIG_IGN]  # nohup
        for number in heard:
            how = EndedError(_TROUBLE, f"ended by {number.name}")
            loop.add_signal_handler(number, end, how)
        try:
            yield
        except asyncio.CancelledError:
            if not came:
                raise
            raise came[0] from None
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    async def _run(self, peer: RPCPeer) -> Ended:
        terminal = (os.environ.get("TERM", "dumb"), self._size()) if self._pty else None
        starting = session(
            peer,
            self._write,
            command=self._command,
            terminal=terminal,
            modes=None if self._raw is None else modes_of(0),
            environment=os.environ,
        )
        loop = asyncio.get_running_loop()
        async with starting as running:
            with ExitStack() as stack:
                if self._raw is not None:
                    stack.enter_context(self._raw)
                for number, call in self._signals(running).items():
                    loop.add_signal_handler(number, call)
                    stack.callback(loop.remove_signal_handler, number)
                ended = asyncio.create_task(running.run())
                typing = asyncio.create_task(self._type(running))
                try:
                    await asyncio.wait({ended, typing}, return_when=asyncio.FIRST_COMPLETED)
                    if not ended.done():
                        await typing  # raises what this side has ended it by
                    return await ended
                finally:
                    for task in (ended, typing):
                        task.cancel()
                    await asyncio.gather(ended, typing, return_exceptions=True)

    async def _write(self, channel: int, data: bytes) -> None:
        await write_output(data, 2 if channel == STDERR else 1)

    def _size(self) -> Size:
        for descriptor in (0, 1, 2):
            with suppress(OSError):
                return size_of(descriptor)
        return _DEFAULT_SIZE

    # --- what this side says ---

    async def _type(self, running: Session) -> None:
        """Input to the session, escapes taken out of what is typed."""
        if not self._arguments.no_input:
            escapes = Escapes(self._escape if self._raw is not None else b"")
            async for piece in read_input():
                for part in escapes.feed(piece):
                    if isinstance(part, Command):
                        await self._do(part, running)
                    else:
                        await self._send(running, part)
        with suppress(RPCError, ProtocolError, ConnectionLostError):
            await running.send_eof()

    async def _send(self, running: Session, data: bytes) -> None:
        try:
            await running.send(data)
        except (RPCError, ProtocolError, ConnectionLostError):
            await asyncio.Event().wait()  # how it ended, the session's own end tells

    async def _do(self, command: Command, running: Session) -> None:
        if command is Command.END:
            raise EndedError(_TROUBLE, "ended by the escape")
        if command is Command.HELP:
            await self._write(STDERR, help_text(self._escape).encode())
        elif command is Command.FORWARDS:
            await self._write(STDERR, f"#\r\n{self._forwards}".encode())
        elif command is Command.SUSPEND and self._raw is not None:
            self._raw.leave()
            os.kill(os.getpid(), signal.SIGTSTP)  # returns when somebody has us go on
            self._raw.enter()
            await running.resize(self._size())

    def _signals(self, running: Session) -> dict[signal.Signals, Callable[[], None]]:
        """What a signal does while the session runs."""
        doing: set[asyncio.Task[None]] = set()
        interrupted = False

        async def quietly(what: Coroutine[None, None, None]) -> None:
            with suppress(RPCError, ProtocolError, ConnectionLostError):
                await what

        def begin(what: Coroutine[None, None, None]) -> None:
            task = asyncio.create_task(quietly(what))
            doing.add(task)
            task.add_done_callback(doing.discard)

        def resized() -> None:
            begin(running.resize(self._size()))

        def interrupt() -> None:
            """The first time the command is told; who insists, ends it."""
            nonlocal interrupted
            if interrupted:
                self._end(EndedError(_INTERRUPTED))
            interrupted = True
            begin(running.signal("INT"))

        if not self._pty:
            return {signal.SIGINT: interrupt}
        if self._raw is None:
            return {signal.SIGWINCH: resized}
        return {signal.SIGWINCH: resized, signal.SIGCONT: self._raw.enter}
