"""Forwards at the server's side: what a proxy's exit does, by sockets that the user opens.

Who is logged in may reach and bind what the user may: names are looked up, connections made and
ports bound by the attendant, so the kernel judges as for any program of theirs. The network
process carries the bytes.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from rawproto.apps.proxy.allow import AllowList
from rawproto.apps.proxy.door import Door, Visit
from rawproto.apps.proxy.faults import target_error
from rawproto.apps.proxy.places import Place
from rawproto.apps.proxy.service import ExitService
from rawproto.apps.relay.ends import End
from rawproto.apps.relay.relay import Session
from rawproto.apps.relay.sockets import Acceptor
from rawproto.apps.shell.attendant import NO_NAME
from rawproto.rpc import Method

__all__ = ["UserExit"]

Ask = Callable[[dict[str, Any]], Awaitable[tuple[dict[str, Any], list[int]]]]
"""Asks the attendant. Raises RPCError where there is none."""


class UserExit(ExitService):
    """One login's forwards.

    Args:
        ask: the attendant.
        tell: hears of each session that ended.
    """

    def __init__(self, ask: Ask, tell: Callable[[Session], None]) -> None:
        super().__init__(AllowList(), tell=tell)
        self._ask = ask

    @property
    def methods(self) -> dict[str, Method]:
        """For `RPCPeer`. Datagrams have no part in it, as in ssh."""
        return {name: each for name, each in super().methods.items() if name != "associate"}

    async def _socket(self, what: str, place: Place) -> socket.socket:
        question = {"do": what, **place.params}
        if what == "listen" and place.host == "*":
            question["host"] = ""
        answer, descriptors = await self._ask(question)
        if not descriptors:
            name, words = str(answer.get("error")), str(answer.get("words"))
            if name == NO_NAME:
                raise socket.gaierror(socket.EAI_NONAME, words)
            raise OSError(getattr(errno, name, errno.EIO), words)
        for more in descriptors[1:]:
            os.close(more)
        made = socket.socket(fileno=descriptors[0])
        made.setblocking(False)
        return made

    async def connected(self, place: Place) -> socket.socket:
        return await self._socket("connect", place)

    async def door(self, place: Place, serve: Callable[[Visit], Awaitable[None]]) -> Door:
        try:
            made = await self._socket("listen", place)
        except OSError as error:
            raise target_error(error, str(place)) from None
        kind, path = ("unix", place.path) if place.path else ("tcp", "")
        end = End(kind=kind, listens=True, host=place.host, port=place.port, path=path)
        return Door(place, serve, acceptors=[Acceptor(end, made)])
