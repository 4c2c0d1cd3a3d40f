"""Serves an ASGI application by uvicorn's protocol classes, a connection of RPT at a time.

Read first: the ASGI specification, versions 3 (asgi.readthedocs.io), its lifespan too. What
uvicorn does by itself over TCP is done here around the same classes: the application's start
and end, the date of each second, the closing of connections at the end, the time that
background tasks get. To the application, `scope["client"]` is the peer's address, and
`scope["state"]["rpt_peer_key"]` its public key, which the handshake has proved.

How bytes cross, who may connect and who is told of requests, this module does not know.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvicorn

from rawproto.apps.http.bounds import Websocket, protocol_class
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.transport import RPTTransport
from rawproto.errors import RawprotoError

__all__ = ["PARSERS", "Exchange", "HTTPService", "StartError"]

PARSERS = ("auto", "h11", "httptools")
"""What may read HTTP; `auto` is httptools where it is installed, else h11."""
_TICK_S = 1.0
_END_S = 5.0
"""How long an application may take to shut down."""
_POLICY_VIOLATION = 403


class StartError(RawprotoError):
    """The application said that it cannot start."""


@dataclass(slots=True)
class Exchange:
    """A request and how it was answered, or a websocket's life.

    Attributes:
        peer_addr, peer_port: who asked.
        peer_key: its public key, 32 bytes.
        method: as asked; `"WEBSOCKET"` for one.
        target: path and query, as asked.
        status: of the answer; 101 for a websocket that was accepted, 0 for no answer.
        body_bytes: of the answer's body, or of all messages to the peer.
        duration_s: from the request's header to the end of the answer.
    """

    peer_addr: str
    peer_port: int
    peer_key: bytes
    method: str
    target: str
    status: int = 0
    body_bytes: int = 0
    duration_s: float = 0.0


class HTTPService:
    """An application, for `serve(..., life=service)` with `service.carry` as its handler's core.

    Args:
        app: an ASGI application, or what makes one when it is called without arguments.
        parser: one of `PARSERS`.
        keep_alive_s: silence between two requests that ends a connection.
        lifespan: whether the application hears of its start and end, where it wants to.
        grace_s: how long its background tasks may go on after the end was asked for.
        tell: called with each exchange that is over, None for nobody.
    """

    def __init__(
        self,
        app: Any,
        *,
        parser: str = "auto",
        keep_alive_s: int = 5,
        lifespan: bool = True,
        grace_s: float = 5.0,
        tell: Callable[[Exchange], None] | None = None,
    ) -> None:
        self._config = uvicorn.Config(
            app,
            http=protocol_class(parser),
            ws=Websocket,
            lifespan="auto" if lifespan else "off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,  # a header names nobody whom the handshake has not proved
            timeout_keep_alive=keep_alive_s,
        )
        self._config.load()
        if tell is not None:
            self._config.loaded_app = _told(self._config.loaded_app, tell)
        self._grace_s = grace_s
        self._over_at = 0.0

    # --- the life of a process that serves ---

    async def begin(self, number: int) -> None:
        """Starts the application. Raises StartError: it will not."""
        self._server = uvicorn.Server(self._config)
        self._lifespan = self._config.lifespan_class(self._config)
        await self._lifespan.startup()
        if self._lifespan.should_exit:
            raise StartError("the application did not start")
        await self._server.on_tick(0)
        self._ticking = asyncio.create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            await self._server.on_tick(0)  # which sets the date header

    def ending(self) -> None:
        """Closes idle connections; others close once they have answered."""
        self._over_at = time.monotonic() + self._grace_s
        for protocol in list(self._server.server_state.connections):
            if not protocol.transport.is_closing():  # some of uvicorn's would fail at it
                protocol.shutdown()

    async def end(self) -> None:
        """Waits for background tasks, and shuts the application down."""
        self._ticking.cancel()
        tasks = set(self._server.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=max(self._over_at - time.monotonic(), 0.0))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, self._ticking, return_exceptions=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._lifespan.shutdown(), _END_S)

    # --- a connection ---

    async def carry(self, connection: RPTConnection) -> None:
        """Answers what is asked over a connection's stream 0; returns at its end.

        Raises:
            ConnectionLostError, ProtocolError: what ended it, if not well.
        """
        protocol = self._config.http_protocol_class(
            config=self._config,  # type: ignore[call-arg]
            server_state=self._server.server_state,
            app_state={**self._lifespan.state, "rpt_peer_key": connection.peer_key},
        )
        RPTTransport(connection.stream, protocol, owns_connection=True).begin()
        await connection.wait_closed()
        if connection.error is not None:
            raise connection.error


def _told(app: Any, tell: Callable[[Exchange], None]) -> Any:
    """The same application, whose exchanges somebody is told of."""

    async def watched(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await app(scope, receive, send)
            return
        exchange = _begun(scope)
        began = time.monotonic()

        async def note(message: dict[str, Any]) -> None:
            kind = message["type"]
            if kind in ("http.response.body", "websocket.http.response.body"):
                if exchange.method != "HEAD":  # whose answer has none, whatever is sent here
                    exchange.body_bytes += len(message.get("body", b""))
            elif kind in ("http.response.start", "websocket.http.response.start"):
                exchange.status = message["status"]
            elif kind == "websocket.accept":
                exchange.status = 101
            elif kind == "websocket.send":
                data = message.get("bytes")
                text = message.get("text") or ""
                exchange.body_bytes += len(data if data is not None else text.encode())
            elif kind == "websocket.close" and not exchange.status:
                exchange.status = _POLICY_VIOLATION
            await send(message)

        try:
            await app(scope, receive, note)
        except Exception:
            exchange.status = exchange.status or 500
            raise
        finally:
            exchange.duration_s = time.monotonic() - began
            tell(exchange)

    return watched


def _begun(scope: dict[str, Any]) -> Exchange:
    addr, port = scope["client"] or ("", 0)
    target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
    return Exchange(
        peer_addr=addr,
        peer_port=port,
        peer_key=scope["state"]["rpt_peer_key"],
        method=scope.get("method", "WEBSOCKET"),
        target=target.decode("latin-1"),
    )
