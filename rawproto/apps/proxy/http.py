"""An HTTP proxy for programs of this host (RFC 9110, 9112): CONNECT, and requests passed on.

Messages are read and written anew by h11, one at a time: what is framed in two ways is refused,
what is sent on has one framing. Headers of one hop (RFC 9110 section 7.6.1) stay here; a
request's target becomes `/path`, and its Host what the target was. A client's connection to a
server is kept for its next request there, if that can be made twice: the server may close it just
then. Who takes longer than 10 s for a request's head is sent away; a head has 64 KiB at most.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import re
from contextlib import AsyncExitStack, suppress
from http import HTTPStatus
from typing import Any

import h11

from rawproto.apps.proxy.door import Door, Visit, take_leave
from rawproto.apps.proxy.faults import http_status
from rawproto.apps.proxy.forwards import Tell, Way, accounted
from rawproto.apps.proxy.places import Place, parse_host_port
from rawproto.apps.relay.channels import Channel, SocketChannel
from rawproto.apps.relay.join import join
from rawproto.apps.relay.openers import BROKEN
from rawproto.apps.relay.relay import Session
from rawproto.errors import RemoteProtocolError, UsageError

__all__ = ["HTTPDoor"]

_PATIENCE_S = 10.0
_IDLE_S = 60.0
_LEAVE_S = 1.0
_LEAVE_PIECES = 16
_MOST_LEAVING = 2
_MOST_HEAD_BYTES = 1 << 16
_ABSOLUTE = re.compile(r"(?i:http)://([^/?#@\\]+)([/?][^#]*)?")
_ONE_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"upgrade",
}
_VIA = (b"Via", b"1.1 rawproto")
_OVER = (h11.IDLE, h11.DONE, h11.MUST_CLOSE, h11.CLOSED)
_SAFE = (b"GET", b"HEAD", b"OPTIONS")

Headers = list[tuple[bytes, bytes]]


class HTTPDoor:
    """--http: listens here, and is a proxy for who comes.

    Args:
        bind: where.
        way: to where the targets are.
        tell: hears of requests.
        login: name and password that clients must know (RFC 7617), None for nobody is asked.
        most: clients at once.

    Attributes:
        door: what listens.

    Raises:
        LinkError: the port cannot be had.
    """

    def __init__(
        self,
        bind: Place,
        way: Way,
        tell: Tell,
        *,
        login: tuple[bytes, bytes] | None = None,
        most: int = 500,
    ) -> None:
        self._way = way
        self._tell = tell
        self._token = None if login is None else b"Basic " + base64.b64encode(b":".join(login))
        self.door = Door(bind, self._serve, most=most)

    async def _serve(self, visit: Visit) -> None:
        client, servers = _Peer(visit.channel, h11.SERVER), _Servers(self._way)
        try:
            with suppress(OSError):  # it left, or took too long
                await self._answer_all(visit, client, servers)
            await servers.leave()
            await servers.left()
        finally:
            await servers.stop()
            await client.stop()

    async def _answer_all(self, visit: Visit, client: _Peer, servers: _Servers) -> None:
        patience_s = _PATIENCE_S
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    request = await client.next()
            except h11.RemoteProtocolError as error:
                await _answer(client, error.error_status_hint, "this is no request")
                return
            if not isinstance(request, h11.Request):
                await visit.channel.close()
                return
            visit.greeted()
            patience_s = _IDLE_S
            if not await self._pass_on(visit.channel, client, request, servers):
                return
            client.machine.start_next_cycle()

    async def _pass_on(
        self, channel: SocketChannel, client: _Peer, request: h11.Request, servers: _Servers
    ) -> bool:
        """Does what a request wants: whether another may follow."""
        if self._token is not None and not hmac.compare_digest(
            _value(request.headers, b"proxy-authorization"), self._token
        ):
            ask = [(b"Proxy-Authenticate", b'Basic realm="rawproto"')]
            await _answer(client, 407, "a name and a password are needed", ask)
            return False
        try:
            place, authority, path = _target(request)
        except UsageError as error:
            await _answer(client, 400, str(error))
            return False
        goes_on = False

        async def carry(session: Session) -> None:
            nonlocal goes_on
            exchange = _Exchange(client, request, session)
            try:
                if request.method == b"CONNECT":
                    async with self._way.open(place) as far:
                        exchange.answered = True
                        rest = await client.switch()
                        if rest:
                            await far.send(rest)
                        await join(channel, far, session.carried, 0)
                else:
                    goes_on = await self._exchanged(exchange, servers, place, authority, path)
            except (*BROKEN, h11.RemoteProtocolError) as error:
                if not exchange.answered:
                    its_own = client.machine.their_state is h11.ERROR
                    await _answer(client, 400 if its_own else http_status(error), str(error))
                if isinstance(error, h11.RemoteProtocolError):
                    raise RemoteProtocolError(0, str(error)) from None
                raise

        await accounted(channel, str(place), self._tell, carry)
        return goes_on

    async def _exchanged(
        self, exchange: _Exchange, servers: _Servers, place: Place, authority: bytes, path: bytes
    ) -> bool:
        """Passes a request on, once more where a kept connection turns out to be over."""
        server = servers.kept(place) if exchange.can_be_repeated else None
        goes_on = None
        if server is not None:
            try:
                goes_on = await exchange.run(server, authority, path)
            except (*BROKEN, h11.RemoteProtocolError):
                if exchange.answered or not exchange.can_be_repeated:
                    raise
        if server is None or goes_on is None:
            server = await servers.opened(place)
            goes_on = await exchange.run(server, authority, path)
        if not server.is_ready():
            await servers.leave()
        return goes_on


class _Peer:
    """HTTP over a channel."""

    def __init__(self, channel: Channel, role: type[h11.CLIENT] | type[h11.SERVER]) -> None:
        self.channel = channel
        self.machine = h11.Connection(role, max_incomplete_event_size=_MOST_HEAD_BYTES)
        self._coming: asyncio.Future[bytes | None] | None = None

    async def next(self) -> Any:
        """The next event. Raises h11.RemoteProtocolError, and what breaks the channel."""
        while (event := self.machine.next_event()) is h11.NEED_DATA:
            await self.read()
        return event

    async def read(self) -> None:
        """Waits for more; who gives up waiting loses nothing of it."""
        coming = self._coming or asyncio.ensure_future(self.channel.receive())
        self._coming = coming
        await asyncio.wait({coming})
        self._coming = None
        self.machine.receive_data(coming.result() or b"")

    def has_room(self) -> bool:
        """Whether more may come: it has not ended, and little waits for its turn."""
        waiting, ended = self.machine.trailing_data
        return not ended and len(waiting) < _MOST_HEAD_BYTES

    def listen(self) -> None:
        """Sees what comes from here on, behind a message that is over on both sides."""
        if self.machine.our_state is h11.DONE and self.machine.their_state is h11.DONE:
            self.machine.start_next_cycle()
            self._coming = self._coming or asyncio.ensure_future(self.channel.receive())

    def is_ready(self) -> bool:
        """Whether another request can be sent: nothing has come that nobody asked for."""
        silent = self._coming is None or not self._coming.done()
        return self.machine.our_state is h11.IDLE and silent and not self.machine.trailing_data[0]

    def is_over(self) -> bool:
        """Whether all that was asked has been answered, and neither side is in the middle."""
        machine = self.machine
        return machine.our_state in _OVER and machine.their_state in _OVER

    async def leave(self) -> None:
        """Ends this side, and closes once the other has ended; what it says until then is lost."""
        await self.channel.send_eof()
        for _ in range(_LEAVE_PIECES):
            if self.machine.trailing_data[1]:
                await self.channel.close()
                return
            await self.read()

    async def stop(self) -> None:
        """Reads no more."""
        if self._coming is not None:
            self._coming.cancel()
            await asyncio.gather(self._coming, return_exceptions=True)

    async def send(self, event: Any) -> None:
        """Sends an event."""
        data = self.machine.send(event)
        if data:
            try:
                await self.channel.send(data)
            except BaseException:  # also who gives up: half of it may be there
                self.machine.send_failed()
                raise

    async def switch(self) -> bytes:
        """Says yes to CONNECT: what the client has sent behind it."""
        await self.send(h11.Response(status_code=200, headers=[], reason=b"Connection established"))
        self.machine.next_event()
        return bytes(self.machine.trailing_data[0])


class _Servers:
    """Where a client's requests go: one connection, for as long as they go to the same place.

    One that is over is ended well beside the next: no request waits for that.

    Args:
        way: to there.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._place: Place | None = None
        self._server: _Peer | None = None
        self._stack = AsyncExitStack()
        self._leaving: dict[asyncio.Task[None], AsyncExitStack] = {}

    def kept(self, place: Place) -> _Peer | None:
        """The last connection, if it led there, its server keeps it, and has said nothing since."""
        server = self._server
        return server if server and place == self._place and server.is_ready() else None

    async def opened(self, place: Place) -> _Peer:
        """A new one. Raises one of `BROKEN`."""
        await self.leave()
        channel = await self._stack.enter_async_context(self._way.open(place))
        self._place, self._server = place, _Peer(channel, h11.CLIENT)
        return self._server

    async def leave(self) -> None:
        """Begins to end the connection, or breaks it where something is under way."""
        server, self._server = self._server, None
        if server is None or not server.is_over():
            if server is not None:
                await server.stop()
            await self._stack.aclose()
            return
        stack, self._stack = self._stack, AsyncExitStack()
        if len(self._leaving) >= _MOST_LEAVING:
            await self._break(min(self._leaving, key=lambda each: not each.done()))
        self._leaving[asyncio.create_task(_end(server, stack))] = stack

    async def left(self) -> None:
        """Returns once what was begun to end has ended, which takes a little at most."""
        await asyncio.gather(*self._leaving)

    async def _break(self, leaving: asyncio.Task[None]) -> None:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await self._leaving.pop(leaving).aclose()  # which it never did if it had not begun

    async def stop(self) -> None:
        """Breaks what has not ended."""
        for leaving in list(self._leaving):
            await self._break(leaving)
        if self._server is not None:
            await self._server.stop()
        await self._stack.aclose()


async def _end(server: _Peer, stack: AsyncExitStack) -> None:
    """Ends a connection, and waits a little until its server has done so."""
    try:
        with suppress(*BROKEN):
            async with asyncio.timeout(_LEAVE_S):
                await server.leave()
    finally:
        await server.stop()
        await stack.aclose()


class _Exchange:
    """One request and its answer, the body of one beside the other's.

    Attributes:
        can_be_repeated: whether it is all the same if a server gets it twice (RFC 9110 section
            9.2.1), and somebody waits for the answer; it has no body then.
        answered: whether the client has had anything of an answer.
    """

    def __init__(self, client: _Peer, request: h11.Request, session: Session) -> None:
        self._client = client
        self._request = request
        self._session = session
        framed = {name for name, _ in request.headers} & {b"content-length", b"transfer-encoding"}
        self.can_be_repeated = request.method in _SAFE and not framed
        self.answered = False

    async def run(self, origin: _Peer, authority: bytes, path: bytes) -> bool:
        """Passes both on: whether the client may send another request.

        Raises: what breaks either side, h11.RemoteProtocolError for what is no HTTP.
        """
        request = self._request
        passed_on = [each for each in _passed_on(request.headers) if each[0].lower() != b"host"]
        headers = [(b"Host", authority), *passed_on, _VIA]
        await origin.send(h11.Request(method=request.method, target=path, headers=headers))
        up = asyncio.create_task(self._send_body(origin))
        down = asyncio.create_task(self._receive(origin))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done():
                up.result()
            await self._await_rest(down)
        finally:
            for way in (up, down):
                way.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
        origin.listen()
        machine = self._client.machine
        if machine.our_state is h11.DONE and machine.their_state is h11.DONE:
            return True
        await self._client.stop()
        await take_leave(self._client.channel, b"")
        return False

    async def _send_body(self, origin: _Peer) -> None:
        """Passes the request's body on, and then sees whether the client stays."""
        reads = True  # it may answer before it has read all, and no more is wanted then
        while self._client.machine.their_state is h11.SEND_BODY:  # else it was read before
            event = await self._client.next()
            if isinstance(event, h11.Data):
                self._session.carried.up_bytes += len(event.data)
                if reads:
                    reads = await _sent(origin, h11.Data(data=event.data))
            elif not isinstance(event, h11.EndOfMessage):
                raise RemoteProtocolError(0, "the client left within its request")
        if reads:
            await _sent(origin, h11.EndOfMessage())
        try:
            while self._client.has_room():
                await self._client.read()
        except OSError:
            self.can_be_repeated = False  # nobody waits for its answer any more
            raise

    async def _await_rest(self, down: asyncio.Task[None]) -> None:
        """Waits for an answer's end, but not for silence for ever: who has ended may be gone, and
        so may be who has said so much ahead that no more is read."""
        while not down.done():
            before = self._session.carried.down_bytes
            await asyncio.wait({down}, timeout=_IDLE_S)
            if not down.done() and self._session.carried.down_bytes == before:
                self.can_be_repeated = False
                raise TimeoutError("no answer in time for a client that may be gone")
        down.result()

    async def _receive(self, origin: _Peer) -> None:
        client = self._client
        while True:
            event = await origin.next()
            if isinstance(event, h11.InformationalResponse):
                if event.status_code != 101 and self._request.http_version != b"1.0":
                    await client.send(
                        h11.InformationalResponse(
                            status_code=event.status_code, headers=_passed_on(event.headers)
                        )
                    )
            elif isinstance(event, h11.Response):
                self.answered = True
                headers = [*_passed_on(event.headers), _VIA]
                await client.send(
                    h11.Response(
                        status_code=event.status_code, headers=headers, reason=event.reason
                    )
                )
            elif isinstance(event, h11.Data):
                self._session.carried.down_bytes += len(event.data)
                await client.send(h11.Data(data=event.data))
            elif isinstance(event, h11.EndOfMessage):
                await client.send(h11.EndOfMessage())
                return
            else:
                raise RemoteProtocolError(0, "the server left without an answer")


async def _sent(origin: _Peer, event: Any) -> bool:
    """Sends, where somebody reads."""
    try:
        await origin.send(event)
    except (*BROKEN, h11.LocalProtocolError):
        return False
    return True


def _target(request: h11.Request) -> tuple[Place, bytes, bytes]:
    """Where a request goes; its Host there, and what it asks for. Raises UsageError."""
    target = request.target.decode("ascii", "replace")
    if {b"content-length", b"transfer-encoding"} <= {name for name, _ in request.headers}:
        raise UsageError("a request that is framed in two ways")  # RFC 9112 section 6.1
    if request.method == b"CONNECT":
        return parse_host_port(target), b"", b""
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        raise UsageError("this is a proxy: it takes http://HOST/PATH, and CONNECT HOST:PORT")
    authority, path = found[1], found[2] or "/"
    with_port = authority if re.search(r":[0-9]+$", authority) else authority.rstrip(":") + ":80"
    path = "/" + path if path[0] == "?" else path
    return parse_host_port(with_port), authority.encode(), path.encode()


def _passed_on(headers: Any) -> Headers:
    """All but those that are for one hop alone."""
    named = {
        each.strip().lower()
        for name, value in headers
        if name == b"connection"
        for each in value.split(b",")
    }
    # What frames a body, and says whose it is, nobody takes out by naming it.
    left_out = _ONE_HOP | named - {b"content-length", b"transfer-encoding", b"host"}
    return [each for each in headers.raw_items() if each[0].lower() not in left_out]


def _value(headers: Any, wanted: bytes) -> bytes:
    return next((value for name, value in headers if name == wanted), b"")


async def _answer(client: _Peer, status: int, words: str, more: Headers | None = None) -> None:
    """An answer of this proxy's own, behind which the connection ends."""
    body = words.encode("ascii", "backslashreplace") + b"\n"
    headers = [
        (b"Content-Type", b"text/plain"),
        (b"Content-Length", b"%d" % len(body)),
        (b"Connection", b"close"),
        *(more or []),
    ]
    machine, data = client.machine, b""
    if machine.our_state in (h11.IDLE, h11.SEND_RESPONSE):
        for event in (
            h11.Response(
                status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
            ),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            data += machine.send(event) or b""
    await client.stop()
    await take_leave(client.channel, data)
