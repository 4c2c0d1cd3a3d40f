"""A port: finds the connection of each packet, begins new ones, gives each its turn.

An endpoint may listen, connect, or both. Clients that come, and what belongs to nobody, are
`reception`'s; when a connection wants to be woken is kept by `timers`; everything else goes to
a `Connection`.

Calling order, one turn of a driver: `receive` with all packets that came; `handle_timeout`
if `poll_timeout()` has come; `transmit` while there is something `pending`; for each connection of
`active()` drain its `poll_event`; `accept` until it answers None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from rawproto.errors import RawprotoError, WireError
from rawproto.transport.attempt import Attempt, Credentials
from rawproto.transport.budget import Budget
from rawproto.transport.config import Config
from rawproto.transport.connection import Address, Arrival, Connection, State
from rawproto.transport.constants import (
    MAX_ACK_DELAY_NS,
    MIN_INIT_BYTES,
    TAG_BYTES,
)
from rawproto.transport.dialogue import Dialogue
from rawproto.transport.halfopen import HalfOpen, Listener
from rawproto.transport.handshake import Ports
from rawproto.transport.lone import take_lone
from rawproto.transport.parameters import Parameters
from rawproto.transport.reception import Reception
from rawproto.transport.refusals import returned
from rawproto.transport.runs import take_shorts
from rawproto.transport.stream import Stream
from rawproto.transport.timers import Timers
from rawproto.transport.tokens import reset_token
from rawproto.wire.rpt import (
    LONG,
    LONG_FORM,
    SHORT,
    VERSION_1,
    RPTHandshake,
    RPTInit,
    RPTLong,
    RPTReset,
    RPTRetry,
    RPTVersion,
    parse_rpt,
)

__all__ = ["Departure", "Endpoint"]

_LEAST_BYTES = SHORT.size + TAG_BYTES + 1
_RESETS_PER_SECOND = 1000  # that come: for each, all connections are asked whether they know it
_BATCH = 32
_CLOSED = State.CLOSED  # an enumeration's member costs a call

Departure = tuple[list[bytes], Address, int]
"""Packets that leave by the same way: they, their address, their ECN bits."""


class Endpoint:
    """One RPT port of one carrier.

    Args:
        port: the port.
        config: for connections that it accepts, and the default for those it opens.
        entropy: gives so many random bytes.
        ceiling: the largest packet that the carrier takes, in bytes of RPT.
        listener: what is needed to accept connections, None for none.
        reset_key: the secret of reset tokens, 32 bytes; None draws one.
        cid_of: makes connection IDs from 64 random bits, for workers.

    Attributes:
        connections: a connection's first ID -> connection.
    """

    def __init__(
        self,
        port: int,
        config: Config,
        *,
        entropy: Callable[[int], bytes],
        ceiling: int,
        listener: Listener | None = None,
        reset_key: bytes | None = None,
        cid_of: Callable[[int], int] = lambda bits: bits,
    ) -> None:
        self.port = port
        self.connections: dict[int, Connection] = {}
        self._routes: dict[int, Connection] = {}  # by each ID that leads to one
        self._config = config
        self._entropy = entropy
        self._ceiling = ceiling
        self._reset_key = reset_key or entropy(32)
        self._cid_of = cid_of
        self._resets = Budget(_RESETS_PER_SECOND)
        self._reception = Reception(self._meet, self._add, self._token_of)
        self._waiting = self._reception.answers.waiting
        self._touched: dict[int, Connection] = {}
        self._woken: dict[int, Connection] = {}
        self._timers = Timers()
        if listener is not None:
            self.listen(listener, self._reset_key, config)

    def _draw_cid(self) -> int:
        while True:
            cid = self._cid_of(int.from_bytes(self._entropy(8), "big"))
            if cid and cid not in self._routes and self._reception.half_open(cid) is None:
                return cid

    def _token_of(self, cid: int) -> bytes:
        return reset_token(self._reset_key, self.port, cid)

    def _give_cid(self, first: int) -> tuple[int, bytes]:
        """Another connection ID for the connection whose first one is `first`, and its token."""
        cid = self._draw_cid()
        self._routes[cid] = self.connections[first]
        return cid, self._token_of(cid)

    def _forget_cid(self, cid: int) -> None:
        self._routes.pop(cid, None)

    def _new_parameters(self, original_cid: int | None, config: Config) -> Parameters:
        cid = self._draw_cid()
        return Parameters(
            connection_id=cid,
            reset_token=self._token_of(cid),
            original_cid=original_cid,
            kind=config.kind,
            max_data=config.shared_window_bytes or config.window_bytes,
            max_stream_data=config.window_bytes,
            max_streams_two_way=config.max_streams,
            max_streams_one_way=config.max_streams,
            idle_timeout_ms=config.idle_timeout_ns // 1_000_000,
            max_packet_bytes=config.max_packet_bytes,
            max_datagram_bytes=config.max_datagram_bytes,
            max_message_bytes=config.max_message_bytes,
        )

    # --- the user ---

    def connect(
        self,
        address: Address,
        peer_port: int,
        credentials: Credentials,
        now_ns: int,
        config: Config | None = None,
    ) -> Connection:
        """Begins a connection to `peer_port` at `address`; its events tell what comes of it."""
        config = config or self._config
        parameters = self._new_parameters(None, config)
        ports = Ports(
            self.port,
            peer_port,
            parameters.connection_id,
            int.from_bytes(self._entropy(8), "big"),
        )
        connection = self._make(config, parameters.connection_id, address, peer_port, True, now_ns)
        connection.attempt = Attempt(credentials, config, ports, parameters, self._entropy, now_ns)
        self._add(connection)
        return connection

    def _make(
        self, config: Config, cid: int, address: Address, peer_port: int, client: bool, now_ns: int
    ) -> Connection:
        return Connection(
            config,
            client=client,
            port=self.port,
            peer_port=peer_port,
            cid=cid,
            draw_cid=partial(self._give_cid, cid),
            forget_cid=self._forget_cid,
            address=address,
            ceiling=min(self._ceiling, config.max_packet_bytes),
            entropy=self._entropy,
            now_ns=now_ns,
        )

    def _meet(self, half_open: HalfOpen, now_ns: int) -> Connection:
        """A connection with a client, not kept yet."""
        cid, address = half_open.cid, half_open.address
        return self._make(self._config, cid, address, half_open.peer_port, False, now_ns)

    def _add(self, connection: Connection) -> None:
        self.connections[connection.cid] = self._routes[connection.cid] = connection
        self.touch(connection)

    def touch(self, connection: Connection) -> None:
        """A command was given to a connection: it gets its turn."""
        connection.end_dialogue()
        self._touched[connection.cid] = connection

    def listen(self, listener: Listener, reset_key: bytes, config: Config) -> None:
        """Accepts clients from now on, as in the constructor; connections go on."""
        self._reset_key, self._config = reset_key, config
        listener.attach(self._new_parameters, self._entropy)
        self._reception.listener = listener

    def refuse(self) -> None:
        """Accepts no more clients, as a port that nobody holds; connections go on."""
        self._reception.listener = None

    def accept(self) -> Connection | None:
        """The next connection that a client made, None for none."""
        accepted = self._reception.accepted
        return accepted.popleft() if accepted else None

    def active(self) -> list[Connection]:
        """Connections that may have events since this was asked last, before a turn or after."""
        active, self._woken = self._woken, {}
        if self._touched:
            active.update(self._touched)
        return list(active.values())

    # --- what arrives ---

    def receive(self, packets: Sequence[Arrival], now_ns: int) -> None:
        """Packets came, whatever is in them; each as (data, from where, ECN bits)."""
        routes, touched = self._routes, self._touched
        unpack = SHORT.unpack_from
        at, end = 0, len(packets)
        while at < end:
            data, address, ecn = packets[at]
            at += 1
            if data and data[0] & LONG_FORM:
                self._receive_long(data, address, now_ns)
                continue
            if len(data) < _LEAST_BYTES:
                continue
            flags, _, dst_port, src_port, cid, _ = unpack(data)
            if flags & 0x3F != VERSION_1 or dst_port != self.port:
                continue
            connection = routes.get(cid)
            if connection is not None:
                if connection.peer_port == src_port:
                    if end == 1:
                        connection.handle_short(data, address, ecn, now_ns)
                    else:
                        at += take_shorts(connection, packets, at - 1, now_ns) - 1
                    touched[connection.cid] = connection
            else:
                self._reception.on_short(data, address, ecn, now_ns)

    def receive_one(self, packet: Arrival, now_ns: int) -> tuple[Connection, Stream] | None:
        """A packet came, and none with it; see `receive`.

        Returns:
            The stream that can be read now, of which no event tells; None if events tell all.
        """
        data = packet[0]
        if len(data) >= _LEAST_BYTES:
            flags, every, dst_port, src_port, cid, low = SHORT.unpack_from(data)
            connection = self._routes.get(cid)
            if (
                connection is not None
                and connection.peer_port == src_port
                and dst_port == self.port
                and flags & 0xBF == VERSION_1
            ):
                self._touched[connection.cid] = connection
                dialogue = connection.dialogue
                if dialogue is not None and dialogue.take(packet, flags, every, low, now_ns):
                    return dialogue.found
                stream = take_lone(connection, packet, flags, every, low, now_ns)
                return None if stream is None else (connection, stream)
        self.receive((packet,), now_ns)
        return None

    def _receive_long(self, data: bytes, address: Address, now_ns: int) -> None:
        try:
            packet, behind = parse_rpt(data)
        except WireError:
            return
        if behind or packet.dst_port != self.port or not isinstance(packet, RPTLong):
            return
        if not RPTLong.verify(data):
            return
        if packet.version != VERSION_1:
            if (
                isinstance(packet, RPTInit)
                and len(data) >= MIN_INIT_BYTES
                and self._reception.listener
            ):
                answers, named = self._reception.answers, returned(packet)
                answers.put(
                    lambda: RPTVersion(**named, versions=(VERSION_1,)), address, len(data), now_ns
                )
            return
        if isinstance(packet, RPTInit):
            if len(data) >= MIN_INIT_BYTES:
                self._reception.on_init(packet, data, address, now_ns)
            return
        connection = self.connections.get(packet.dst_cid)
        if isinstance(packet, RPTHandshake) and connection is None:
            self._reception.on_handshake(packet, data, address, now_ns)
        elif isinstance(packet, RPTReset) and packet.dst_cid == 0:
            self._receive_reset(packet, now_ns)
        elif connection is not None and connection.attempt is not None:
            connection.history.note(now_ns, data, sent=False)
            self._receive_answer(connection, connection.attempt, packet, now_ns)

    def _receive_answer(
        self, connection: Connection, attempt: Attempt, packet: RPTLong, now_ns: int
    ) -> None:
        """What a listener says to an attempt of ours."""
        if packet.src_port != connection.peer_port:
            return
        if isinstance(packet, RPTHandshake):
            agreement = attempt.on_handshake(packet, now_ns)
            if agreement is not None:
                connection.begin(agreement, now_ns)
        elif isinstance(packet, RPTRetry):
            attempt.on_retry(packet, now_ns)
        elif isinstance(packet, RPTReset):
            attempt.on_reset(packet, now_ns)
        elif isinstance(packet, RPTVersion):
            attempt.on_version(packet)
        if attempt.error is not None:
            connection.fail_handshake(attempt.error)
        self.touch(connection)

    def _receive_reset(self, packet: RPTReset, now_ns: int) -> None:
        """Somebody says that he knows nothing of a connection: true if he has its token."""
        if not self._resets.take(now_ns):
            return
        for connection in self.connections.values():
            if (
                connection.peer_port == packet.src_port
                and connection.state is not State.HANDSHAKE
                and connection.on_stateless_reset(packet.src_cid, packet.token)
            ):
                self.touch(connection)
                return

    # --- what the carrier tells ---

    def on_refused(self, data: bytes, size: int, now_ns: int) -> None:
        """The carrier, or a router, takes packets of at most `size` bytes, and not this one."""
        if len(data) >= SHORT.size and not data[0] & LONG_FORM:
            cid = SHORT.unpack_from(data)[4]
            for connection in self.connections.values():
                if connection.sender.peer_cid == cid:
                    connection.sender.feedback.on_refused(size, now_ns)
                    self.touch(connection)

    def on_moved(self, ceiling: int, now_ns: int) -> None:
        """This host has another address, and an interface that takes packets of `ceiling` bytes."""
        self._ceiling = ceiling
        for connection in self.connections.values():
            connection.on_moved(min(ceiling, connection.config.max_packet_bytes), now_ns)
            self.touch(connection)

    def on_unreachable(self, data: bytes, error: RawprotoError) -> None:
        """An ICMP error says that a packet of ours, an INIT, reached nobody."""
        if len(data) < LONG.size or not data[0] & LONG_FORM:
            return
        src_cid = LONG.unpack_from(data)[5]
        connection = self.connections.get(src_cid)
        if connection is not None and connection.attempt is not None:
            connection.attempt.on_unreachable(error)
            if connection.attempt.error is not None:
                connection.fail_handshake(connection.attempt.error)
                self.touch(connection)

    # --- what leaves, and time ---

    @property
    def pending(self) -> bool:
        """Whether `transmit` may have something."""
        return bool(self._touched or self._waiting)

    def transmit(self, now_ns: int) -> list[Departure]:
        """The packets that leave now: (those of one connection, whereto, their ECN bits)."""
        departures: list[Departure] = []
        if self._waiting:
            departures += self._waiting
            self._waiting.clear()
        due_ns = self._timers.due_ns
        for cid, connection in list(self._touched.items()):
            sender = connection.sender
            if sender.rests(now_ns, due_ns.get(cid)) and connection.quiet:
                self._woken[cid] = self._touched.pop(cid)
                continue
            ecn = sender.recovery.ecn
            mark = ecn.mark
            sent = connection.transmit(now_ns, _BATCH)
            if sent:
                departures.append((sent, connection.paths.address, mark))
                if mark:
                    ecn.on_sent(len(sent))
            if connection.strays:
                departures += [([data], address, bits) for data, address, bits in connection.strays]
                connection.strays.clear()
            if len(sent) < _BATCH:  # it has no more for now
                del self._touched[cid]
                self._rest(connection)
        return departures

    def transmit_one(
        self, connection: Connection, stream: Stream, data: bytes, now_ns: int
    ) -> tuple[bytes, Address, int] | None:
        """Takes in `data`, of `MOST_ALONE` bytes at most, and says what leaves, if it can do so at
        once and that is all there is to send of the connection. A turn comes when it is due.

        Returns:
            None if that is not so: nothing was taken in, and nothing has happened.
        """
        dialogue = connection.dialogue
        if dialogue is not None and dialogue.stream is stream:
            packet = dialogue.send(data, now_ns)
            if packet is not None:
                if not connection.has_events:
                    self._touched.pop(connection.cid, None)
                return packet, dialogue.address, dialogue.mark
        if not connection.quiet:
            return None
        connection.end_dialogue()
        packet = connection.sender.transmit_alone(stream, data, now_ns)
        if packet is None:
            return None
        cid = connection.cid
        if not connection.has_events:
            self._touched.pop(cid, None)
        # Nothing is due before its probe time-out, and what is due then is looked at then.
        self._timers.arm(cid, now_ns + MAX_ACK_DELAY_NS)
        ecn = connection.sender.recovery.ecn
        mark = ecn.mark
        if mark:
            ecn.on_sent(1)
        if Dialogue.begins(connection, stream, now_ns):
            connection.dialogue = Dialogue(connection, stream, now_ns)
        return packet, connection.paths.address, mark

    def _rest(self, connection: Connection) -> None:
        """A connection has nothing to send for now: when it wants to be woken is noted."""
        cid = connection.cid
        self._woken[cid] = connection
        timeout = connection.poll_timeout()
        if connection.state is _CLOSED:
            self.connections.pop(cid, None)
            for known in connection.cids.known:
                self._forget_cid(known)
            self._timers.forget(cid)
        elif timeout is not None:
            self._timers.arm(cid, timeout)

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` has something to do, ns; None: never. 0: at once."""
        if self._waiting or self._touched:
            return 0
        due_ns = self._timers.next_ns()
        listener = self._reception.listener
        if listener is None or not listener.by_cid:
            return due_ns
        expiry_ns = listener.expiry_ns()
        return expiry_ns if due_ns is None else min(due_ns, expiry_ns)

    def handle_timeout(self, now_ns: int) -> None:
        """Time has passed."""
        for cid in self._timers.take(now_ns):
            connection = self.connections.get(cid)
            if connection is not None:
                connection.handle_timeout(now_ns)
                self._touched[cid] = connection
        if self._reception.listener is not None:
            self._reception.listener.expire(now_ns)
