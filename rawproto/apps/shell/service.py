"""What a shell server answers: the methods of docs/shell.md, for one connection.

It is the network process's part: asks the porter for a login, the attendant for sessions, and
carries bytes between calls and descriptors. What it may do, those two have decided.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from rawproto.apps.relay.relay import Session
from rawproto.apps.shell.attendant import SIGNALS
from rawproto.apps.shell.environment import brought
from rawproto.apps.shell.faults import LoginError, NoShellError, VersionError
from rawproto.apps.shell.flow import (
    INPUT_BYTES,
    OUTPUT_BYTES,
    TERMINAL_BYTES,
    Credit,
    Inlet,
    read_ready,
    together,
)
from rawproto.apps.shell.forwarding import UserExit
from rawproto.apps.shell.messages import Correspondent, GoneError
from rawproto.apps.shell.terminal import MODES, Size, set_size
from rawproto.rpc import BadRequestError, Call, Method

__all__ = ["STDERR", "STDIN", "STDOUT", "VERSION", "ShellService", "Tell"]

VERSION = 1
STDIN, STDOUT, STDERR = range(3)
"""The first byte of DATA."""

_MOST_TRIES = 3
_MOST_SESSIONS = 32
_MOST_COMMAND_BYTES = 100_000
_MOST_USER = 64
_END_OF_FILE = b"\x04"
_LAST_WORDS_S = 0.2
"""How long a terminal is listened to that others hold open beyond its shell's end."""

Tell = Callable[[str, str, dict[str, Any]], None]
"""Told what happens: a kind, words, fields."""


class ShellService:
    """One client's logins and sessions.

    Args:
        porter: at the door.
        key: the client's public key.
        peer: the client, for the log and for sessions.
        tell: writes the log.
        refuse: ends the connection.
        forwards: whether users may forward.
    """

    def __init__(
        self,
        porter: Correspondent,
        key: bytes,
        peer: str,
        tell: Tell,
        refuse: Callable[[str], None],
        *,
        forwards: bool = True,
    ) -> None:
        self._porter = porter
        self._key = key
        self._peer = peer
        self._tell = tell
        self._refuse = refuse
        self._tries = 0
        self._asking = False
        self._attendant: Correspondent | None = None
        self._ended: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._running = 0
        self._forwards = UserExit(self.ask, self._tell_forward) if forwards else None
        self.user = ""
        self._came = 0.0

    @property
    def methods(self) -> dict[str, Method]:
        """For `RPCPeer`."""
        forwards = {} if self._forwards is None else self._forwards.methods
        return {"login": self._login, "run": self._run, **forwards}

    # --- login ---

    async def _login(self, params: Any, call: Call) -> dict[str, Any]:
        """Asks for a proof, and has the porter judge it."""
        if not isinstance(params, dict) or params.get("version") != VERSION:
            raise VersionError(f"this server speaks version {VERSION}")
        user = params.get("user")
        if not isinstance(user, str) or not 0 < len(user) <= _MOST_USER or not user.isprintable():
            raise BadRequestError(f"user is a name of 1 to {_MOST_USER} characters")
        if self._attendant is not None or self._asking:
            raise BadRequestError("there is a login already")
        if self._tries >= _MOST_TRIES:  # without as much as an answer
            self._refuse("too many logins that failed")
            raise LoginError("permission denied")
        self._asking = True
        try:
            return await self._admit(user, call)
        finally:
            self._asking = False

    async def _admit(self, user: str, call: Call) -> dict[str, Any]:
        self._tries += 1
        asked, _ = await self._porter.ask({"do": "challenge", "key": self._key.hex()})
        await call.send({"challenge": asked["challenge"]})
        answer = await anext(call, None)
        proof = answer.get("proof") if isinstance(answer, dict) else None
        if not isinstance(proof, str) or len(proof) != 64:
            raise BadRequestError("a proof is 32 bytes in hexadecimal")
        question = {"challenge": asked["challenge"], "proof": proof, "user": user}
        verdict, descriptors = await self._porter.ask(
            {"do": "login", **question, "peer": self._peer}
        )
        attendant: Correspondent | None = None
        if descriptors:
            loop = asyncio.get_running_loop()
            first: asyncio.Future[dict[str, Any]] = loop.create_future()
            attendant = Correspondent(
                socket.socket(fileno=descriptors[0]),
                lambda message: self._noticed(message, first),
                lambda: self._gone(first),
            )
            try:
                verdict = await first
            except BaseException:
                attendant.close()
                raise
        if attendant is None or "admitted" not in verdict:
            if attendant is not None:
                attendant.close()
            why = str(verdict.get("denied", ""))
            self._tell("denied", f"{self._peer} {user}: {why}", {"user": user, "why": why})
            if self._tries >= _MOST_TRIES:
                asyncio.get_running_loop().call_soon(self._refuse, "too many logins that failed")
            raise LoginError(str(verdict.get("say") or "permission denied"))
        self._attendant = attendant
        self.user = user
        self._came = time.monotonic()
        self._tell("login", f"{self._peer} {user}: is in", {"user": user})
        return {"user": user}

    def _noticed(self, message: dict[str, Any], first: asyncio.Future[dict[str, Any]]) -> None:
        ended = self._ended.get(message.get("ended", 0))
        if not first.done():
            first.set_result(message)
        elif ended is not None and not ended.done():
            ended.set_result(message)

    def _gone(self, first: asyncio.Future[dict[str, Any]]) -> None:
        """The attendant was killed, or ended for want of a user."""
        if not first.done():
            first.set_result({"denied": "the attendant has ended"})
        elif self.user:
            self._refuse("the login has ended")

    def close(self, error: Exception | None) -> None:
        """The connection is over: whatever runs for it hears of that.

        Args:
            error: what ended it, None for a clean end.
        """
        if self._attendant is not None:
            self._attendant.close()
            duration = time.monotonic() - self._came
            words = f"{self._peer} {self.user}: has left after {duration:.3f} s"
            why = None if error is None else str(error)
            fields = {"user": self.user, "duration_s": round(duration, 6), "error": why}
            self._tell("logout", words + (f": {why}" if why else ""), fields)

    async def ask(self, question: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        """Asks the attendant.

        Raises:
            LoginError: nobody is logged in.
        """
        if self._attendant is None:
            raise LoginError("log in first")
        try:
            return await self._attendant.ask(question)
        except GoneError:
            raise LoginError("the login has ended") from None
        except ValueError as error:
            raise BadRequestError(str(error)) from None

    def _tell_forward(self, session: Session) -> None:
        carried, error = session.carried, session.error
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        words = f"{self._peer} {self.user}: forward {session.near} -> {session.far or 'nowhere'}"
        words += f" up {carried.up_bytes} down {carried.down_bytes} bytes"
        fields = {
            "user": self.user, "near": session.near, "far": session.far or None,
            "up_bytes": carried.up_bytes, "down_bytes": carried.down_bytes,
            "error": None if error is None else why,
        }  # fmt: skip
        self._tell("forward", words + (f": {why}" if error is not None else ""), fields)

    # --- sessions ---

    async def _run(self, params: Any, call: Call) -> dict[str, Any]:
        """A command or a login shell, from beginning to end."""
        question = _checked(params)
        if self._running >= _MOST_SESSIONS:
            raise BadRequestError(f"{_MOST_SESSIONS} sessions are running")
        self._running += 1
        began = time.monotonic()
        session = 0
        result: dict[str, Any] = {}
        how = "given up"
        descriptors: list[int] = []
        command = question["command"]
        try:
            answer, descriptors = await self.ask(question)
            if "error" in answer:
                how = str(answer["error"])
                raise NoShellError(how)
            session = answer["session"]
            self._say("run", command, "begins", {})
            ended = self._ended[session] = asyncio.get_running_loop().create_future()
            carrying = _Session(
                call, descriptors, pty=question["pty"], signal=partial(self._signal, session)
            )
            result = await carrying.run(ended)
            how = f"status {result['status']}" if "status" in result else result["signal"]
            return result
        finally:
            self._running -= 1
            self._ended.pop(session, None)
            for descriptor in descriptors:
                os.close(descriptor)
            if session and not result and self._attendant is not None:
                with suppress(GoneError):
                    await self._attendant.tell({"do": "hangup", "session": session})
            duration = round(time.monotonic() - began, 6)
            self._say("end", command, how, {"duration_s": duration, "result": result or how})

    async def _signal(self, session: int, name: str) -> None:
        if self._attendant is not None:
            with suppress(GoneError):
                await self._attendant.tell({"do": "signal", "session": session, "signal": name})

    def _say(self, kind: str, command: str | None, how: str, fields: dict[str, Any]) -> None:
        what = "shell" if command is None else f"command {command[:1000]}"
        words = f"{self._peer} {self.user}: {what}: {how}"
        self._tell(kind, words, {"user": self.user, "command": command, **fields})


class _Session:
    """Carries between a call and the descriptors of a session.

    Args:
        call: the client's.
        descriptors: the terminal alone, or stdin, stdout and stderr. Stdin is closed
            here and taken out, the others stay open.
        pty: whether it is a terminal.
        signal: passes a signal on.
    """

    def __init__(
        self,
        call: Call,
        descriptors: list[int],
        *,
        pty: bool,
        signal: Callable[[str], Awaitable[None]],
    ) -> None:
        self._call = call
        self._descriptors = descriptors
        self._pty = pty
        self._signal = signal
        self._sending = asyncio.Lock()  # a message is one message, whoever sends beside
        self._credit = Credit(TERMINAL_BYTES if pty else OUTPUT_BYTES)
        self._taken_bytes = 0
        self._taken = asyncio.Event()
        self._carried_bytes = 0
        for descriptor in descriptors:
            os.set_blocking(descriptor, False)
        self._inlet = Inlet(os.dup(descriptors[0]), self._took)
        if not pty:
            os.close(descriptors.pop(0))  # or a command would never see the end of its input

    async def run(self, ended: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        """Returns how the session ended, once all its output was sent."""
        hearing = asyncio.create_task(self._hear())
        telling = asyncio.create_task(self._tell_taken())
        finishing = asyncio.create_task(self._finish(ended))
        try:
            await asyncio.wait({hearing, finishing}, return_when=asyncio.FIRST_COMPLETED)
            if not finishing.done():
                await hearing  # the client broke the rules, or sends no more
            message = await finishing
            async with self._sending:  # so that no message is cut short
                telling.cancel()
            return {name: message[name] for name in ("status", "signal", "core") if name in message}
        finally:
            self._inlet.close()  # before all that waits: whoever is cancelled may be so twice
            for task in (hearing, telling, finishing):
                task.cancel()
            await asyncio.gather(hearing, telling, finishing, return_exceptions=True)

    async def _finish(self, ended: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
        if self._pty:
            await self._carry_terminal(ended)
        else:
            await together(
                self._carry(STDOUT, self._descriptors[0]), self._carry(STDERR, self._descriptors[1])
            )
        return await ended

    async def _carry_terminal(self, ended: asyncio.Future[dict[str, Any]]) -> None:
        """Up to the end of whoever has it open, or a moment beyond that of the shell."""
        carrying = asyncio.create_task(self._carry(STDOUT, self._descriptors[0]))
        either: set[asyncio.Future[Any]] = {carrying, ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            most, before = self._carried_bytes + TERMINAL_BYTES, -1
            while not carrying.done() and before < self._carried_bytes < most:
                before = self._carried_bytes
                await asyncio.wait({carrying}, timeout=_LAST_WORDS_S)
                while self._sending.locked() or self._credit.spent:  # it is the client who is slow
                    await asyncio.wait({carrying}, timeout=_LAST_WORDS_S)
            if carrying.done():
                await carrying
            else:
                async with self._sending:
                    carrying.cancel()
        finally:
            carrying.cancel()
            await asyncio.gather(carrying, return_exceptions=True)

    async def _carry(self, channel: int, descriptor: int) -> None:
        tag = bytes([channel])
        while data := await read_ready(descriptor, await self._credit.some()):
            self._credit.sent(len(data))
            await self._send(tag + data)
            self._carried_bytes += len(data)

    async def _send(self, item: Any) -> None:
        async with self._sending:
            await self._call.send(item)

    def _took(self, size: int) -> None:
        self._taken_bytes += size
        if self._taken_bytes >= INPUT_BYTES // 8:
            self._taken.set()

    async def _tell_taken(self) -> None:
        while True:
            await self._taken.wait()
            self._taken.clear()
            size, self._taken_bytes = self._taken_bytes, 0
            await self._send({"took": size})

    # --- what the client sends ---

    async def _hear(self) -> None:
        async for item in self._call:
            if isinstance(item, bytes):
                self._typed(item)
            elif isinstance(item, dict) and "size" in item:
                size = _size(item["size"])
                if self._pty and not self._inlet.closed:
                    set_size(self._descriptors[0], size)
            elif isinstance(item, dict) and item.get("signal") in SIGNALS:
                await self._signal(item["signal"])
            elif not (isinstance(item, dict) and self._credit.took(item.get("took"))):
                raise BadRequestError("an item that is none of a session's")

    def _typed(self, item: bytes) -> None:
        if item[:1] != bytes([STDIN]):
            raise BadRequestError("input has 0 before it")
        data = item[1:]
        if self._inlet.kept_bytes + len(data) > INPUT_BYTES:
            raise BadRequestError("more input than allowed")
        if data:
            self._inlet.write(data)
        elif self._pty:
            self._inlet.write(_END_OF_FILE)
        else:
            self._inlet.end()


def _checked(params: Any) -> dict[str, Any]:
    """The question to the attendant. Raises BadRequestError."""
    if not isinstance(params, dict):
        raise BadRequestError("no parameters")
    command, term = params.get("command"), params.get("term", "")
    if command is not None and (not isinstance(command, str) or "\0" in command):
        raise BadRequestError("command is a text or null")
    if command is not None and len(command.encode(errors="replace")) > _MOST_COMMAND_BYTES:
        raise BadRequestError(f"a command has {_MOST_COMMAND_BYTES} bytes at most")
    environment, modes = params.get("environment", {}), params.get("modes", {})
    if not isinstance(environment, dict) or not isinstance(term, str):
        raise BadRequestError("environment is an object, term a text")
    if not isinstance(modes, dict):
        raise BadRequestError("modes is an object")
    return {
        "do": "start",
        "command": command,
        "pty": params.get("pty") is True,
        "term": term[:64],
        "size": _size(params.get("size", [80, 24, 0, 0])),
        "modes": {name: _mode(modes[name]) for name in MODES if name in modes},
        "environment": brought(environment),
    }


def _mode(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= 0xFF:
        raise BadRequestError("a mode is a number of 0 to 255")
    return value


def _size(value: Any) -> Size:
    if (
        not isinstance(value, list)
        or len(value) != 4
        or any(type(each) is not int or not 0 <= each < 1 << 16 for each in value)
    ):
        raise BadRequestError("a size is four numbers of 0 to 65535")
    return value[0], value[1], value[2], value[3]
