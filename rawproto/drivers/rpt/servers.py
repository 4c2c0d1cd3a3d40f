"""Servers as in `socketserver`, over RPT.

class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)

with rawproto.ThreadingRPTServer(("0.0.0.0", 4000), Echo) as server:
    server.serve_forever()
"""

from __future__ import annotations

import os
import socketserver
from typing import Any

from rawproto.drivers.rpt.caretaker import CARETAKER
from rawproto.drivers.rpt.detach import detach
from rawproto.drivers.rpt.socket import RPTSocket

__all__ = ["ForkingRPTServer", "RPTServer", "ThreadingRPTServer"]


class RPTServer(socketserver.TCPServer):
    """A `socketserver.TCPServer` that listens on an RPT port.

    Class attributes are those of `TCPServer`, and `proto` as for `RPTSocket`.

    Args:
        server_address: (host, port).
        handler: a `socketserver.BaseRequestHandler`.
        bind_and_activate: as for `TCPServer`.
        credentials: `identity`, `psk`, `authorize` and `config` as for `RPTSocket`.
    """

    proto = 0

    def __init__(
        self,
        server_address: tuple[str, int],
        handler: Any,
        bind_and_activate: bool = True,
        **credentials: Any,
    ) -> None:
        socketserver.BaseServer.__init__(self, server_address, handler)
        self.socket: Any = RPTSocket(
            self.address_family, self.socket_type, self.proto, **credentials
        )
        if bind_and_activate:
            try:
                self.server_bind()
                self.server_activate()
            except BaseException:
                self.server_close()
                raise


class ThreadingRPTServer(socketserver.ThreadingMixIn, RPTServer):
    """A thread for each connection."""


class ForkingRPTServer(socketserver.ForkingMixIn, RPTServer):
    """A process for each connection. Its handler's `request` is a Unix socket (`detach`),
    which this process joins with the connection; who is there tells `client_address`.
    """

    _parent = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        self._parent = os.getpid()
        super().process_request(detach(request), client_address)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        if self._parent not in (0, os.getpid()):
            CARETAKER.finish()  # what the handler itself opened: os._exit comes next
