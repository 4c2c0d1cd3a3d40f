"""What an exit does for one client: `open`, `listen` and `associate`, under its rules.

Mount it on an `RPCPeer` of any connection of kind STREAM: `ExitService(allow).methods`, and
`close` when that is over. docs/proxy.md has the methods' bytes.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

from rawproto.apps.proxy.allow import AllowList
from rawproto.apps.proxy.associations import Association, DatagramSwitch
from rawproto.apps.proxy.channels import CallChannel, opened
from rawproto.apps.proxy.door import Door, Visit
from rawproto.apps.proxy.faults import BusyError, DeniedError, TargetError, target_error
from rawproto.apps.proxy.places import Place
from rawproto.apps.proxy.resolve import Resolve, Resolver, connected_place
from rawproto.apps.relay.channels import SocketChannel
from rawproto.apps.relay.join import join
from rawproto.apps.relay.openers import BROKEN
from rawproto.apps.relay.relay import Session
from rawproto.drivers.rpt.address import host_and_port
from rawproto.errors import LinkError, RawprotoError
from rawproto.rpc import BadRequestError, Call, Method

__all__ = ["ExitService"]

_MOST_LISTENERS, _MOST_ASSOCIATIONS = 64, 256


class ExitService:
    """The exit's half, for one client.

    Args:
        allow: what may be reached.
        allow_remote: where the client may have this side listen.
        timeout_s: how long connecting may take.
        resolve: gives a name's addresses.
        tell: called with each session that ended.
    """

    def __init__(
        self,
        allow: AllowList,
        allow_remote: AllowList | None = None,
        *,
        timeout_s: float = 10.0,
        resolve: Resolve | None = None,
        tell: Callable[[Session], None] = lambda session: None,
    ) -> None:
        self._allow = allow
        self._allow_remote = allow_remote or AllowList()
        self._timeout_s = timeout_s
        self._resolve = resolve or Resolver()
        self._tell = tell
        self._listeners = 0
        self._switch: DatagramSwitch | None = None

    @property
    def methods(self) -> dict[str, Method]:
        """For `RPCPeer`."""
        return {"open": self._open, "listen": self._listen, "associate": self._associate}

    async def close(self) -> None:
        """Gives back what outlives calls."""
        if self._switch is not None:
            await self._switch.close()

    async def _open(self, params: Any, call: Call) -> None:
        """Connects to a place and carries both ways until both have ended."""
        place = Place.of_params(params)
        session = Session(near=host_and_port(*call.peer.connection.peer_address), far=str(place))
        began = time.monotonic()
        try:
            made = await self.connected(place)
            channel = SocketChannel(made, str(place))
            try:
                bound = [] if place.path else list(made.getsockname()[:2])
                await call.send({"address": bound})
            except BaseException:
                channel.abort()
                raise
            near = CallChannel(call, session.near, called=False)
            await join(near, channel, session.carried, 0)
        except BaseException as error:
            session.error = error
            if isinstance(error, OSError) and not isinstance(error, RawprotoError):
                raise target_error(error, str(place)) from None
            raise
        finally:
            session.duration_s = time.monotonic() - began
            self._tell(session)

    async def _listen(self, params: Any, call: Call) -> None:
        """Listens until the caller gives up; opens back for each who connects."""
        place, listener = Place.of_params(params), _number(params, "listener")
        if self._listeners >= _MOST_LISTENERS:
            raise BusyError(f"{_MOST_LISTENERS} listeners already")

        async def serve(visit: Visit) -> None:
            visit.greeted()
            await self._serve_remote(visit.channel, listener, call)

        try:
            door = await self.door(place, serve)
        except LinkError as error:
            raise TargetError(f"{place}: {error.reason.lower()}") from None
        self._listeners += 1
        try:
            await call.send({"port": door.bound.port})
            await anext(call, None)  # nothing comes but the end
        finally:
            self._listeners -= 1
            await door.close()

    async def connected(self, place: Place) -> socket.socket:
        """A socket that is connected to a place. Raises TargetError, OSError.

        Who has others open sockets, overrides this and `door`.
        """
        return await connected_place(place, self._allow, self._resolve, self._timeout_s)

    async def door(self, place: Place, serve: Callable[[Visit], Awaitable[None]]) -> Door:
        """Has `serve` done for whoever comes to a place. Raises TargetError, LinkError."""
        if not self._may_listen(place):
            raise DeniedError(f"{place}: to listen there is not allowed")
        return Door(place, serve)

    def _may_listen(self, place: Place) -> bool:
        if place.path:
            return self._allow_remote.allows_path(place.path)
        try:
            return self._allow_remote.allows_bind(place.host, place.port)
        except ValueError:
            raise BadRequestError(f"{place}: listening takes an address") from None

    async def _serve_remote(self, channel: SocketChannel, listener: int, call: Call) -> None:
        session = Session(near=channel.name)
        began = time.monotonic()
        params = {"listener": listener, "from": channel.name}
        try:
            async with opened(call.peer, params, "the client", self._timeout_s) as far:
                session.far = far.name
                await join(channel, far, session.carried, 0)
        except BROKEN as error:
            session.error = error
        finally:
            session.duration_s = time.monotonic() - began
            self._tell(session)

    async def _associate(self, params: Any, call: Call) -> None:
        """Sends and receives UDP for the caller until it gives up."""
        number = _number(params, "association")
        if self._switch is None:
            self._switch = DatagramSwitch(call.peer.connection)
        if len(self._switch) >= _MOST_ASSOCIATIONS:
            raise BusyError(f"{_MOST_ASSOCIATIONS} associations already")
        association = Association(number, self._switch, self._allow, self._resolve, call)
        try:
            await call.send({})
            await association.run()
        finally:
            await association.close()


def _number(params: Any, name: str) -> int:
    value = params.get(name) if isinstance(params, dict) else None
    if type(value) is not int or not 0 <= value <= 0xFFFF_FFFF:
        raise BadRequestError(f"{name} is a number of 32 bits")
    return value
