"""`connect` and `serve`: RPT for coroutines.

async with rawproto.connect("rpt://10.0.0.2:4000") as connection:
    stream = await connection.open_stream()
    await stream.send(b"hello")
    await stream.send_eof()
    data = await stream.receive()

async with rawproto.serve("rpt://0.0.0.0:4000", handler):
    await asyncio.sleep(3600)
"""

from __future__ import annotations

import asyncio
import hmac
import os
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from rawproto.drivers.names import resolve, resolve_all
from rawproto.drivers.rpt.address import RPTAddress, parse_address
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.judges import careful_authorize, careful_trust
from rawproto.drivers.rpt.node import Node
from rawproto.drivers.rpt.race import first_to_answer
from rawproto.drivers.rpt.responder import Responder
from rawproto.drivers.rpt.workers import MOST_WORKERS, WorkerServer
from rawproto.errors import (
    RawprotoError,
    UsageError,
)
from rawproto.filter.rpt_programs import Share
from rawproto.link.rpt_carrier import Carrier, RawCarrier
from rawproto.link.rpt_udp import UDPCarrier
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.constants import CloseCode
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.halfopen import Listener
from rawproto.wire.address import family_of

if TYPE_CHECKING:
    from rawproto.capture import Writer

__all__ = ["Life", "Server", "connect", "serve"]

_FAREWELL_S = 3.0
"""How long a server that ends tells late peers so: clients that were slow, and are gone, would
keep it for three of their time-outs."""

Handler = Callable[[RPTConnection], Awaitable[None]]


class Life(Protocol):
    """What each process that serves does before its first client and after its last."""

    async def begin(self, number: int) -> None:
        """Gets ready; nobody is served before. If it raises, this process does not serve.

        Args:
            number: of the process, from 0; one that comes in a dead one's place has the same.
        """
        ...

    def ending(self) -> None:
        """Nobody is let in any more, and who is there may go on for the grace."""
        ...

    async def end(self) -> None:
        """The last client has gone."""
        ...


def _open_carrier(
    address: RPTAddress, family: int, *, peer: str, listens: bool, capture: Writer | None
) -> Carrier:
    carrier = _open_bare(address, family, peer=peer, listens=listens)
    if capture is None:
        return carrier
    from rawproto.drivers.rpt.tap import TappedCarrier  # a third of a program's start-up

    return TappedCarrier(carrier, capture)


def _open_bare(
    address: RPTAddress, family: int, *, peer: str, listens: bool, share: Share | None = None
) -> Carrier:
    wanted: Any = 6 if family == 6 else 4
    local = "" if peer else address.host
    if local in ("0.0.0.0", "::"):
        local = ""
    port = 0 if peer else address.port
    if address.carrier == "rpt+udp":
        return UDPCarrier(wanted, local, port, peer=peer, share=share)
    return RawCarrier(wanted, local, port, listens=listens, peer=peer, share=share)


def _open_shares(address: RPTAddress, family: int, workers: int) -> list[Carrier]:
    """A carrier for each worker, on one port."""
    carriers: list[Carrier] = []
    try:
        for number in range(workers):
            share = Share(number, workers)
            carriers.append(_open_bare(address, family, peer="", listens=True, share=share))
            address = address._replace(port=carriers[0].port)
    except BaseException:
        for carrier in carriers:
            carrier.close()
        raise
    return carriers


class connect:
    """Connects: `async with connect(...) as connection`, or `await connect(...)`.

    Args:
        address: `rpt://host:port` or `rpt+udp://host:port`.
        static: this side's private key, 32 bytes; None makes one for this connection alone.
        peer_key: the public key that the peer must have, None on first contact.
        trust: asked about the key of a peer on first contact; answers why not, or None.
        psk: a secret of 32 bytes that both know, b"" for none.
        config: other settings.
        family: 4 or 6, None for whichever the name has.
        capture: where every packet is written to, None for nowhere; it stays open.

    Raises:
        UsageError: the address is none.
        LinkError, PrivilegeError: no socket, no route.
        RefusedError: nobody listens there.
        HandshakeError (PeerMismatchError, NotAuthorizedError, UnknownPeerError): no trust.
        ConnectionLostError: nobody answers.
    """

    def __init__(
        self,
        address: str,
        *,
        static: bytes | None = None,
        peer_key: bytes | None = None,
        trust: Callable[[bytes], RawprotoError | None] = lambda key: None,
        psk: bytes = b"",
        config: Config | None = None,
        family: Any = None,
        capture: Writer | None = None,
    ) -> None:
        self._address = parse_address(address)
        self._credentials = Credentials(
            static=static or os.urandom(32), peer_key=peer_key, psk=psk, trust=careful_trust(trust)
        )
        self._config = config or Config()
        self._family = family
        self._capture = capture
        self._attempt: _Attempt | None = None

    async def _connect(self) -> RPTConnection:
        if not self._address.host or not self._address.port:
            raise UsageError(f"{self._address}: connecting takes a host and a port")
        loop = asyncio.get_running_loop()
        hosts = await loop.run_in_executor(None, resolve_all, self._address.host, self._family)
        self._attempt = await first_to_answer(hosts, self._connect_to, _Attempt.discard)
        return self._attempt.connection

    async def _connect_to(self, host: str) -> _Attempt:
        family = family_of(host)
        carrier = _open_carrier(
            self._address, family, peer=host, listens=False, capture=self._capture
        )
        try:
            endpoint = Endpoint(
                carrier.port, self._config, entropy=os.urandom, ceiling=carrier.ceiling
            )
            attempt = _Attempt(Node(endpoint, carrier))
        except BaseException:
            carrier.close()
            raise
        try:
            if self._address.carrier == "rpt":
                attempt.responder = Responder(6 if family == 6 else 4)
            carrier_port = self._address.port if self._address.carrier == "rpt+udp" else 0
            machine = endpoint.connect(
                (host, carrier_port), self._address.port, self._credentials, time.monotonic_ns()
            )
            attempt.connection = attempt.node.adopt(machine)
            attempt.connection.when_over(attempt.release)
            await attempt.connection.established()
        except BaseException:
            attempt.release()
            raise
        return attempt

    def __await__(self) -> Generator[Any, None, RPTConnection]:
        return self._connect().__await__()

    async def __aenter__(self) -> RPTConnection:
        return await self._connect()

    async def __aexit__(self, kind: object, *_: object) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        if kind is not None:
            await attempt.discard()
            return
        try:
            await attempt.connection.close()
            await attempt.node.drained()  # CLOSE may have to be said again
        finally:
            attempt.release()


class _Attempt:
    """What connecting to one address takes.

    Attributes:
        node: pumps the port.
        connection: what is to come of it.
        responder: refuses the ports that nobody holds, None for none.
    """

    connection: RPTConnection

    def __init__(self, node: Node) -> None:
        self.node = node
        self.responder: Responder | None = None

    async def discard(self) -> None:
        """Ends the connection, which nobody wants any more."""
        try:
            self.connection.abort()
            await self.node.drained()
        finally:
            self.release()

    def release(self) -> None:
        """Gives all back."""
        if self.responder is not None:
            self.responder.close()
        self.node.close()


class Server:
    """A listener that runs. Made by `serve`.

    Attributes:
        address: where it listens, with the port that it got.
        responder: refuses the ports that nobody holds, None for none.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        carrier: Carrier,
        handler: Handler,
        address: RPTAddress,
        life: Life | None = None,
    ) -> None:
        self._node = Node(endpoint, carrier, self._accepted)
        self._handler = handler
        self._life = life
        self.responder: Responder | None = None
        self.address = address
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[RPTConnection] = set()
        self._over = asyncio.Event()

    async def wait_closed(self) -> None:
        """Returns when it has stopped."""
        await self._over.wait()

    def refuse(self) -> None:
        """Accepts no more clients, as a port that nobody holds; connections go on."""
        self._node.endpoint.refuse()

    async def close(self, grace_s: float = 0.0) -> None:
        """Stops: connections get `grace_s` seconds to end by themselves and are aborted then."""
        self.refuse()
        life, self._life = self._life, None
        try:
            if life is not None:
                life.ending()
            if self._tasks and grace_s:
                await asyncio.wait(self._tasks, timeout=grace_s)
            self._abort()
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_S):
                    await self._node.drained()
        finally:
            self._abort()
            if self.responder is not None:
                self.responder.close()
            self._node.close()
            self._over.set()
            if life is not None:
                await life.end()

    def _abort(self) -> None:
        for connection in list(self._connections):
            connection.abort()
        for task in list(self._tasks):
            task.cancel()

    def _accepted(self, connection: RPTConnection) -> None:
        self._connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._run(connection))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, connection: RPTConnection) -> None:
        try:
            await self._handler(connection)
            await connection.close()
        except (RawprotoError, ConnectionError):
            connection.abort()  # it is over; what ended it is in `error`
        except asyncio.CancelledError:
            connection.abort()  # nobody else would end it
            raise
        except Exception as error:
            connection.abort(CloseCode.INTERNAL, "the listener failed")
            words = f"the handler of {connection.peer_address} failed"
            asyncio.get_running_loop().call_exception_handler(
                {"message": words, "exception": error}
            )
        finally:
            self._connections.discard(connection)


class serve:
    """Listens: `async with serve(address, handler) as server`, or `server = await serve(...)`.

    Args:
        address: `rpt://host:port` or `rpt+udp://host:port`; port 0 takes a free one, host
            0.0.0.0 or [::] all addresses of that family.
        handler: called with each connection, in a task of its own. When it returns, the
            connection is closed well; when it fails, the peer is told so.
        workers: so many processes share the port, each with a copy of what is there now, and
            connections are served by them alone (docs/many-clients.md); 1 for this process.
        static: the listener's private key, 32 bytes; None makes one.
        psk: a secret of 32 bytes that clients must know, b"" for none.
        authorize: whether the owner of a public key may connect.
        config: other settings.
        capture: where every packet is written to, None for nowhere; it stays open.
        life: what each process that serves has around its clients, None for nothing.
        opened: called once the port's sockets are open, before another process is begun: what
            only they needed may be given up. On bare IP that is not the right to raw sockets:
            who refuses ports that nobody holds opens them when his turn comes.

    Raises:
        UsageError: the address is none, 1 to 64 workers it cannot be, or a capture was asked of
            more than one.
        LinkError, PrivilegeError: no socket, or the port is held.
    """

    def __init__(
        self,
        address: str,
        handler: Handler,
        *,
        static: bytes | None = None,
        psk: bytes = b"",
        authorize: Callable[[bytes], bool] = lambda key: True,
        config: Config | None = None,
        capture: Writer | None = None,
        workers: int = 1,
        life: Life | None = None,
        opened: Callable[[], None] = lambda: None,
    ) -> None:
        if not 1 <= workers <= MOST_WORKERS:
            raise UsageError(f"{workers} workers: 1 to {MOST_WORKERS} can share a port")
        if workers > 1 and capture is not None:
            raise UsageError("one capture cannot be written by several workers")
        self._workers = workers
        self._life = life
        self._opened = opened
        self._capture = capture
        self._address = parse_address(address)
        self._handler = handler
        self._config = config or Config()
        static = static or os.urandom(32)
        # It follows from the key, so that a restarted listener can tell its old clients.
        self._reset_key = hmac.digest(static, b"rpt1 reset", "sha256")
        self._listener = Listener(
            static,
            self._config,
            psk=psk,
            authorize=careful_authorize(authorize),
            token_key=os.urandom(32),
        )
        self._server: Server | WorkerServer | None = None

    async def _serve(self) -> Server | WorkerServer:
        host = resolve(self._address.host) if self._address.host else "0.0.0.0"
        family = family_of(host)
        address = self._address._replace(host=host)
        if self._workers > 1:
            self._server = await self._serve_by_workers(address, family)
            return self._server
        carrier = _open_carrier(address, family, peer="", listens=True, capture=self._capture)
        try:
            self._opened()
            server = await self._begin(address, carrier, Share(0, 1))
        except BaseException:
            carrier.close()
            raise
        if address.carrier == "rpt":
            try:
                server.responder = Responder(6 if family == 6 else 4)
            except BaseException:
                await server.close()
                raise
        self._server = server
        return server

    async def _serve_by_workers(self, address: RPTAddress, family: int) -> WorkerServer:
        carriers = _open_shares(address, family, self._workers)
        address = address._replace(port=carriers[0].port)

        async def start(number: int) -> Server:
            return await self._begin(address, carriers[number], Share(number, self._workers))

        try:
            self._opened()
            server = WorkerServer(address, start, carriers)
        except BaseException:
            for carrier in carriers:
                carrier.close()
            raise
        await server.begin(family)
        return server

    async def _begin(self, address: RPTAddress, carrier: Carrier, share: Share) -> Server:
        """Serves a share of the port, in this process."""
        if self._life is not None:
            await self._life.begin(share.worker)
        endpoint = Endpoint(
            carrier.port,
            self._config,
            entropy=os.urandom,
            ceiling=carrier.ceiling,
            listener=self._listener,
            reset_key=self._reset_key,
            cid_of=share.cid_of,
        )
        address = address._replace(port=carrier.port)
        return Server(endpoint, carrier, self._handler, address, self._life)

    def __await__(self) -> Generator[Any, None, Server | WorkerServer]:
        return self._serve().__await__()

    async def __aenter__(self) -> Server | WorkerServer:
        return await self._serve()

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            await self._server.close()
