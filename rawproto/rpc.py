"""Request and answer over streams: calls that either side may make, each on a stream of its own.

::

    caller                                      callee
      |-- REQUEST method, params, deadline ------>|  a stream that the caller opened
      |-- ITEM / DATA, any number, then FIN ----->|
      |<----------- ITEM / DATA, any number ------|
      |<----------- RESULT or ERROR, then FIN ----|

Each is a message (u32 length before it, 256 KiB at most) of one byte for its kind and the rest:
JSON, but for DATA, which is bytes as they are. Giving a call up resets and stops its stream,
which cancels what answers it. docs/rpc.md has it to the byte.

    async def add(params, call):
        return params["a"] + params["b"]

    peer = RPCPeer(connection, {"add": add})
    print(await peer.call("add", {"a": 1, "b": 2}))

What a method raises as an `RPCError` is raised at the caller with the same class, if both name
it; of anything else the caller learns only that it happened.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, ClassVar

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.stream import RPTStream
from rawproto.errors import (
    ConnectionLostError,
    LocalProtocolError,
    ProtocolError,
    RawprotoError,
    RemoteProtocolError,
)

__all__ = [
    "MOST_DATA_BYTES",
    "BadRequestError",
    "Call",
    "DeadlineError",
    "InternalError",
    "RPCError",
    "RPCPeer",
    "UnknownMethodError",
    "encoded_item",
]

_REQUEST, _ITEM, _DATA, _RESULT, _ERROR = range(5)
_DATA_HEAD = bytes([_DATA])
_CANCELLED = 260  # an application's code for RESET_STREAM and STOP_SENDING
_MOST_SECONDS = 7 * 86400.0
# A peer may have as many calls open as streams, and each may hold a message.
_MOST_BYTES = 1 << 18

_MOST_WORDS = 10_000

MOST_DATA_BYTES = _MOST_BYTES - 1
"""The longest piece of bytes that is one item."""
_OVER = (ConnectionLostError, ProtocolError)


class RPCError(RawprotoError):
    """What a method answers instead of a result.

    Attributes:
        code: tells it apart on the wire.
        details: what more there is to say, as JSON has it.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, details: Any = None) -> None:
        super().__init__(message)
        self.details = details


class UnknownMethodError(RPCError):
    """The callee has no such method."""

    code = "unknown_method"


class BadRequestError(RPCError):
    """The parameters are not what the method takes."""

    code = "bad_request"


class DeadlineError(RPCError):
    """It took longer than the caller wanted to wait."""

    code = "deadline"


class InternalError(RPCError):
    """The method failed in a way that is the callee's own business."""

    code = "internal"


_COMMON: tuple[type[RPCError], ...] = (
    RPCError,
    UnknownMethodError,
    BadRequestError,
    DeadlineError,
    InternalError,
)


class Call:
    """One call, as either side has it: what it is about, and items both ways.

    Attributes:
        method: its name.
        params: as the caller gave them.
        peer: whose call it is, to call back.
    """

    def __init__(self, stream: RPTStream, peer: RPCPeer, method: str, params: Any) -> None:
        self.method = method
        self.params = params
        self.peer = peer
        self._stream = stream
        self._answer: tuple[int, Any] | None = None
        self._ended = False
        self._in_data = False
        self._receiver: asyncio.Task[Any] | None = None

    async def send(self, item: Any) -> None:
        """Sends an item: bytes as they are, anything else as JSON. Waits while the peer is slow.

        Raises:
            RPCError: the callee has answered with it already; or the item is too large.
            ConnectionLostError, ProtocolError: the other side gave the call up, or is gone; or
                it has answered, and another task is at receiving that.
        """
        try:
            if isinstance(item, bytes | bytearray | memoryview):
                await self._send_message(_DATA_HEAD, item)
            else:
                await self._send(_ITEM, item)
        except ProtocolError:
            answered = self._stream.stopped_by is not None and self._stream.reset_by is None
            if answered and self._receiver in (None, asyncio.current_task()):
                await self.result()  # it wants no more because of what it has answered
            raise

    async def send_encoded(self, item: bytes) -> None:
        """Sends what `encoded_item` made, which may go to many calls. Raises as `send`."""
        await self._send_message(b"", item)

    async def _send(self, kind: int, value: Any) -> None:
        await self._send_message(bytes([kind]), _encode(value))

    async def _send_message(self, head: bytes, rest: bytes | bytearray | memoryview) -> None:
        size = len(head) + len(rest)
        if size > _MOST_BYTES:
            raise BadRequestError(f"{size} bytes in one message; {_MOST_BYTES} are allowed")
        await self._stream.send_message_of(head, rest)

    async def end(self) -> None:
        """Nothing more is sent from this side; calling it again does nothing."""
        if not self._ended:
            self._ended = True
            await self._stream.send_eof()

    async def receive(self) -> Any:
        """The next item: bytes as bytes.

        Raises:
            StopAsyncIteration: there are no more.
            RPCError: the callee answered with it.
            ConnectionLostError, ProtocolError: the other side gave the call up, or is gone.
        """
        self._receiver = asyncio.current_task()
        if self._answer is None:
            message = await self._stream.receive_message(_MOST_BYTES)
            if message is not None:
                kind, value = _decode(message)
                if kind in (_ITEM, _DATA):
                    return value
                self._answer = kind, value
        raise self._over()

    def _over(self) -> Exception:
        """What says that there are no more items."""
        if self._answer is not None and self._answer[0] == _ERROR:
            return self.peer._error_of(self._answer[1])
        return StopAsyncIteration()

    async def receive_part(self) -> Any:
        """The next item, or of bytes what has come of them: for who passes them on as they come.

        Raises: as `receive`, with which it takes turns only between items.
        """
        self._receiver = asyncio.current_task()
        while self._answer is None:
            if self._in_data and (part := await self._stream.receive_part()):
                return part
            self._in_data = False
            size = await self._stream.begin_message(_MOST_BYTES)
            if size is None:
                break
            kind = await self._stream.receive_part(1)
            self._in_data = kind == _DATA_HEAD
            if not self._in_data:
                rest = await self._stream.receive_message() if size else None
                self._answer = _decode(kind + (rest or b""))
                if self._answer[0] == _ITEM:
                    item, self._answer = self._answer[1], None
                    return item
        raise self._over()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await self.receive()

    async def result(self) -> Any:
        """What the callee answered; items that nobody took are left out.

        Raises:
            RPCError: it answered with that.
            ConnectionLostError, ProtocolError: it did not answer.
        """
        async for _ in self:
            pass
        if self._answer is None or self._answer[0] != _RESULT:
            raise RemoteProtocolError(_CANCELLED, f"{self.method}: the peer left without an answer")
        return self._answer[1]

    async def broken(self) -> None:
        """Returns once the other side has given the call up, or the connection is over."""
        await self._stream.broken()

    def give_up(self) -> None:
        """Wants no more of it; the other side is told."""
        with suppress(LocalProtocolError):
            self._stream.reset(_CANCELLED)
        self._stream.stop(_CANCELLED)


Method = Callable[[Any, Call], Awaitable[Any]]
"""Takes the parameters and the call, and gives the result; by the call it may send items."""


class RPCPeer:
    """One side of a connection that calls and is called. Make it where an event loop runs.

    Args:
        connection: of kind STREAM. Its stream 0 is left to others.
        methods: what the other side may call, by name.
        errors: classes that are raised when the other side answers with their codes.
        on_failure: told of what a method raised that is no `RPCError`.
    """

    def __init__(
        self,
        connection: RPTConnection,
        methods: Mapping[str, Method] | None = None,
        *,
        errors: Sequence[type[RPCError]] = (),
        on_failure: Callable[[str, Exception], None] = lambda method, error: None,
    ) -> None:
        self.connection = connection
        self._methods = methods or {}
        self._errors = {each.code: each for each in (*_COMMON, *errors)}
        self._on_failure = on_failure
        self._answering: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())

    # --- calling ---

    async def call(self, method: str, params: Any = None, *, timeout_s: float | None = 30.0) -> Any:
        """Calls, and returns the result.

        Args:
            method: its name.
            params: anything that JSON has.
            timeout_s: how long it may take; the callee hears of it. None for as long as it takes.

        Raises:
            DeadlineError: it took longer.
            RPCError: the callee answered with that.
            ConnectionLostError, ProtocolError: it did not answer.
        """
        async with self.open(method, params, timeout_s=timeout_s) as call:
            await call.end()
            return await call.result()

    @asynccontextmanager
    async def open(
        self, method: str, params: Any = None, *, timeout_s: float | None = 30.0
    ) -> AsyncIterator[Call]:
        """Calls, for items one way or both: `async for item in call`, `call.send`, `call.end`.

        Leaving before the answer has come gives the call up. Args and Raises as in `call`.
        """
        try:
            async with asyncio.timeout(timeout_s) as limit:
                stream = await self.connection.open_stream()
                call = Call(stream, self, method, params)
                request = {"method": method, "params": params, "timeout_s": timeout_s}
                try:
                    await call._send(_REQUEST, request)
                    yield call
                finally:
                    if call._answer is None:
                        call.give_up()
                    else:
                        with suppress(*_OVER):
                            await call.end()
        except TimeoutError:
            if not limit.expired():
                raise  # the caller's own
            raise DeadlineError(f"{method}: no answer within {timeout_s or 0:g} s") from None

    def _error_of(self, told: Any) -> RPCError:
        if not isinstance(told, dict):
            told = {}
        kind = self._errors.get(str(told.get("code")), RPCError)
        return kind(str(told.get("message", "")), told.get("details"))

    # --- being called ---

    async def _accept(self) -> None:
        with suppress(*_OVER):
            while True:
                self._answer(await self.connection.accept_stream())

    def _answer(self, stream: RPTStream) -> None:
        """Begins to answer a call; its caller's giving up cancels that."""
        task = asyncio.create_task(self._run(stream))
        self._answering.add(task)

        def look() -> None:
            if stream.is_broken:
                task.cancel()

        def ended(task: asyncio.Task[None]) -> None:
            self._answering.discard(task)
            stream.watch(None)

        task.add_done_callback(ended)
        stream.watch(look)
        # It may have been given up already: what answers it begins all the same, to clear away.
        asyncio.get_running_loop().call_soon(look)

    async def _run(self, stream: RPTStream) -> None:
        call = Call(stream, self, "", None)
        try:
            message = await stream.receive_message(_MOST_BYTES)
            request = _decode(message) if message is not None else (None, None)
            if request[0] == _REQUEST and isinstance(request[1], dict):
                answer = await self._result(call, request[1])
            else:
                answer = _failed(BadRequestError("no request"))
            await call.send_encoded(answer)
            await call.end()
        except _OVER:
            call.give_up()  # nobody is there who could be told
        except BaseException:
            call.give_up()
            raise
        else:
            stream.stop(_CANCELLED)  # items that the method did not want

    async def _result(self, call: Call, request: dict[str, Any]) -> bytes:
        """RESULT or ERROR, encoded: a result that cannot be told is an error, too."""
        call.method, call.params = str(request.get("method")), request.get("params")
        timeout_s = request.get("timeout_s")
        if timeout_s is not None and (
            not isinstance(timeout_s, int | float) or not 0 < timeout_s <= _MOST_SECONDS
        ):
            timeout_s = _MOST_SECONDS
        method = self._methods.get(call.method)
        error: RPCError
        try:
            if method is None:
                raise UnknownMethodError(f"no method {call.method[:100]}")
            async with asyncio.timeout(timeout_s) as limit:
                result = await method(call.params, call)
            answer = bytes([_RESULT]) + _encode(result)
            if len(answer) <= _MOST_BYTES:
                return answer
            error = RPCError(f"{call.method}: a result of {len(answer)} bytes")
        except RPCError as raised:
            error = raised
        except _OVER:
            raise
        except Exception as raised:
            if isinstance(raised, TimeoutError) and limit.expired():
                error = DeadlineError(f"{call.method}: took longer than {timeout_s or 0:g} s")
            else:
                self._on_failure(call.method, raised)
                error = InternalError(f"{call.method} failed")
        return _failed(error)

    async def close(self) -> None:
        """Stops answering; what is being answered is given up. The connection stays."""
        tasks = [self._accepting, *self._answering]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def encoded_item(value: Any) -> bytes:
    """An item of JSON as it crosses the wire, for `Call.send_encoded`."""
    return bytes([_ITEM]) + _encode(value)


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _failed(error: RPCError) -> bytes:
    """An ERROR, without its details where they cannot be told."""
    told = {"code": error.code, "message": str(error)[:_MOST_WORDS], "details": None}
    with suppress(TypeError, ValueError, RecursionError):
        whole = bytes([_ERROR]) + _encode({**told, "details": error.details})
        if len(whole) <= _MOST_BYTES:
            return whole
    return bytes([_ERROR]) + _encode(told)


def _decode(message: bytes) -> tuple[int, Any]:
    """(kind, what is in it). Raises RemoteProtocolError."""
    if message[:1] == _DATA_HEAD:
        return _DATA, message[1:]
    try:
        if message and _REQUEST <= message[0] <= _ERROR:
            return message[0], json.loads(message[1:])
    except (ValueError, RecursionError):
        pass
    raise RemoteProtocolError(_CANCELLED, "the peer sent what is no message of a call")
