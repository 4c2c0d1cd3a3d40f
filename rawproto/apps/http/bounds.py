"""uvicorn's protocol classes, with bounds to what one connection makes them hold.

By itself uvicorn takes in heads and trailers without end by httptools, and reads on while it
answers: each request of a pipeline costs a hundred times its bytes. So does a websocket's
message that comes a byte a fragment, and each ping is answered to who reads nothing. Here a
connection is read in small pieces, none while requests wait, and a head that does not end gets
the answer of a malformed one. How HTTP and websockets are read and written remains theirs.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

__all__ = ["MOST_HEAD_BYTES", "Websocket", "protocol_class"]

MOST_HEAD_BYTES = 1 << 17
"""Of a request without its body, and of what stands behind that, by httptools; h11 has 16 KiB."""
_PIECE_BYTES = 1 << 14
_piece = bytearray(_PIECE_BYTES)  # for all: it is filled and emptied in one go


class _InPieces(asyncio.BufferedProtocol):
    """Is given what comes in pieces, and may pause between any two."""

    if TYPE_CHECKING:  # of the other class

        def data_received(self, data: bytes) -> None: ...

    def get_buffer(self, sizehint: int) -> bytearray:
        return _piece

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(memoryview(_piece)[:nbytes]))


class _H11(H11Protocol, _InPieces):
    pass


class Websocket(WebSocketsSansIOProtocol, _InPieces):
    """A websocket whose peer may send fragments and pings as it likes."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        self._rest = bytearray()
        self._pong = b""

    def handle_cont(self, event: Frame) -> None:
        """Joins fragments as they come: an object for each takes far more than its bytes."""
        self._rest += event.data
        if event.fin:
            self.frames.append(bytes(self._rest))
            self._rest = bytearray()
            self.send_receive_event_to_app()

    def handle_ping(self) -> None:
        """Answers; to who takes nothing just now, only the last (RFC 6455 section 5.5.3)."""
        if self.writable.is_set():
            super().handle_ping()
        elif answers := self.conn.data_to_send():
            self._pong = answers[-1]

    def resume_writing(self) -> None:
        super().resume_writing()
        pong, self._pong = self._pong, b""
        if pong:
            self.transport.write(pong)


def protocol_class(parser: str) -> type[asyncio.Protocol]:
    """What reads HTTP: `h11`, `httptools`, or `auto`, httptools where it is installed."""
    if parser == "h11" or (parser == "auto" and find_spec("httptools") is None):
        return _H11
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class HTTPTools(HttpToolsProtocol, _InPieces):
        _unspent_bytes = 0  # since a head, a part of a body or a message was whole

        def data_received(self, data: bytes) -> None:
            self._unspent_bytes += len(data)
            super().data_received(data)
            if self._unspent_bytes > MOST_HEAD_BYTES and not self.transport.is_closing():
                words = "Invalid HTTP request received."  # as it says of all that h11 refuses
                self.logger.warning(words)
                self.send_400_response(words)

        def on_headers_complete(self) -> None:
            self._unspent_bytes = 0
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._unspent_bytes = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._unspent_bytes = 0
            super().on_message_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.pipeline and not self.transport.is_closing():
                self.flow.pause_reading()

    return HTTPTools
