"""One connection: opens packets, hands their frames out, seals what its parts want to send.

It only orchestrates. What has a state of its own lives beside it: `sender` (what leaves,
with recovery, pace, packet size, and what the peer says of it), `acks` (what came),
`streams` and their data, `outgoing` and `incoming`, `control` (frames that wait),
`protection` (keys), `attempt` (a client's handshake), `paths` (where the peer is), `cids`,
`silence` (how long to wait).

Calling order, one turn of a driver, times monotonic in ns:

1. `handle_short` for each packet of the turn, or the endpoint's `receive` for any packet;
2. `handle_timeout` if `poll_timeout()` has come;
3. `transmit` until it answers nothing;
4. `poll_event` until it answers None;
5. sleep until something arrives or `poll_timeout()` comes.

The user's commands (`write`, `read`, `close`, ...) may come at any time between two turns
and are followed by 3 to 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from cryptography.exceptions import InvalidTag

from rawproto.errors import (
    ConnectionLostError,
    LocalProtocolError,
    RawprotoError,
    RemoteProtocolError,
    WireError,
)
from rawproto.transport.acks import Acks
from rawproto.transport.attempt import Attempt
from rawproto.transport.cids import LocalCIDs, PeerCIDs
from rawproto.transport.config import Config
from rawproto.transport.constants import MAX_FORGERIES, CloseCode
from rawproto.transport.control import Control
from rawproto.transport.datagrams import Datagrams
from rawproto.transport.dialogue import Dialogue
from rawproto.transport.events import ConnectionClosed, ConnectionEstablished, Event, Queue
from rawproto.transport.farewell import Farewell, error_of
from rawproto.transport.handshake import Agreement
from rawproto.transport.incoming import Incoming
from rawproto.transport.lifecycle import TRANSITIONS, State
from rawproto.transport.lifecycle import Event as On
from rawproto.transport.linger import Linger
from rawproto.transport.outgoing import Outgoing
from rawproto.transport.paths import Address, Paths
from rawproto.transport.protection import Protection
from rawproto.transport.reading import read_frames
from rawproto.transport.sender import Sender
from rawproto.transport.silence import Silence
from rawproto.transport.streams import Streams
from rawproto.transport.trace import History, Tracer
from rawproto.wire.rpt import SHORT
from rawproto.wire.rpt_frames import (
    CloseFrame,
    HandshakeDoneFrame,
    NewConnectionIDFrame,
    PingFrame,
)

__all__ = ["Address", "Arrival", "Connection", "State"]

Arrival = tuple[bytes, Address, int]
"""A packet that came: its data, from where, its ECN bits."""

_WINDOW = 1 << 31
_ESTABLISHED, _CLOSING = State.ESTABLISHED, State.CLOSING
_OPEN = (State.HANDSHAKE, State.ESTABLISHED)
_DEAF = (State.DRAINING, State.CLOSED)


class Connection:
    """One side of a connection.

    Args:
        config: this side's settings.
        client: whether this side is the client.
        port: this side's RPT port.
        peer_port: the other side's.
        cid: this side's connection ID.
        draw_cid: makes another one that leads packets here: it and its reset token.
        forget_cid: one of them leads nowhere any more.
        address: where the peer is.
        ceiling: the largest packet that the carrier takes, in bytes of RPT.
        entropy: gives so many random bytes.
        now_ns: by now.

    Attributes:
        state: where it stands.
        streams: its streams.
        outgoing: what they send.
        incoming: what they receive.
        sender: the half that sends.
        datagrams: those that come and go.
        acks: what came.
        attempt: a client's handshake until it is confirmed.
        history: the packets of the handshake, for tracers.
        cids: this side's connection IDs.
        peer_cids: the peer's.
        paths: where the peer is.
        strays: packets that leave by another way than the rest, (data, address, ECN bits).
        peer_key: the peer's static public key, b"" before it is known.
        log_cid: `src_cid` of the INIT, by which key logs know the connection.
        secrets: of the first phase, for sending and for receiving.
        packets_received: how many opened.
        forgeries: how many did not open.
        dialogue: looks after the packets that go to and fro alone, if nothing else happens.
    """

    def __init__(
        self,
        config: Config,
        *,
        client: bool,
        port: int,
        peer_port: int,
        cid: int,
        draw_cid: Callable[[], tuple[int, bytes]],
        forget_cid: Callable[[int], None],
        address: Address,
        ceiling: int,
        entropy: Callable[[int], bytes],
        now_ns: int,
    ) -> None:
        # With more than 29 attributes CPython 3.11 keeps each connection's in a dictionary of its
        # own: a packet then costs 1.5 % more.
        self.config = config
        self.client = client
        self.peer_port = peer_port
        self.cid = cid
        self.state = State.HANDSHAKE
        self.attempt: Attempt | None = None
        self.history = History()
        self.peer_key = b""
        self.log_cid = cid
        self.secrets = (b"", b"")
        self.packets_received = self.forgeries = 0
        self._events = Queue()
        self._control = Control()
        emit = self._events.append
        self.streams: Streams = Streams(config, client=client, control=self._control, emit=emit)
        self.outgoing: Outgoing = Outgoing(config, self.streams, self._control, emit)
        self.incoming: Incoming = Incoming(config, self.streams, self._control, emit)
        self.acks = Acks()
        self.sender = Sender(
            config,
            port=port,
            peer_port=peer_port,
            ceiling=ceiling,
            entropy=entropy,
            outgoing=self.outgoing,
            incoming=self.incoming,
            acks=self.acks,
            control=self._control,
            now_ns=now_ns,
        )
        self.datagrams: Datagrams = Datagrams(config, self.sender, emit)
        self.cids: LocalCIDs = LocalCIDs(cid, draw_cid, forget_cid, self._control)
        self.sender.feedback.cids = self.cids
        self.peer_cids = PeerCIDs(self._control)
        self.paths: Paths = Paths(address, mobile=not client, entropy=entropy)
        self.strays: list[tuple[bytes, Address, int]] = []
        self.silence = Silence(config, self.sender, now_ns)
        self.protection: Protection | None = None
        self.dialogue: Dialogue | None = None
        self._linger: Linger | None = None
        self._farewell: Farewell | None = None

    # --- the beginning ---

    def begin(self, agreement: Agreement, now_ns: int) -> None:
        """The handshake came to an agreement: data may flow, unless all is over already."""
        if not self._move(On.AGREED):
            return
        peer = agreement.parameters
        self.secrets = (agreement.send_secret, agreement.receive_secret)
        self.protection = Protection(*self.secrets, agreement.cipher)
        self.peer_key = agreement.peer_key
        self.peer_cids.begin(peer.connection_id, peer.reset_token)
        self.datagrams.peer_bytes = peer.max_datagram_bytes
        self.sender.peer_cid = peer.connection_id
        self.sender.protection = self.protection
        self.sender.mtu.limit(peer.max_packet_bytes, now_ns)
        self.sender.active_ns = now_ns
        self.silence.begin(peer.idle_timeout_ms, now_ns)
        self.streams.start(peer)
        self.outgoing.data_limit = peer.max_data
        self._events.append(ConnectionEstablished(agreement.peer_key))
        if not self.client:
            self._control.put("done", HandshakeDoneFrame())
        if peer.kind != self.config.kind:
            self._fail(RemoteProtocolError(CloseCode.KIND, "the peer speaks another kind"), now_ns)

    def on_confirmed(self) -> None:
        """Each side knows that the other has all it needs."""
        self.cids.supply()
        self.sender.recovery.ecn.begin()

    def fail_handshake(self, error: RawprotoError) -> None:
        """No connection comes of it."""
        self._end(On.FAILED, error)

    def _move(self, event: On) -> bool:
        """Follows the table; whether it says anything."""
        after = TRANSITIONS.after(self.state, event)
        if after is None:
            return False
        self.state = after
        return True

    def _end(self, event: On, error: RawprotoError | None) -> bool:
        """The connection is over for its user, who is told once: whether he is told now."""
        was_open = self.state in _OPEN
        if not self._move(event) or not was_open:
            return False
        self._linger = None
        self._events.append(ConnectionClosed(error))
        return True

    def trace(self, tracer: Tracer) -> None:
        """Has a tracer told of all that happens, and first of the handshake so far."""
        self.end_dialogue()
        self.history.tell(tracer)
        self.sender.recovery.tracer = tracer

    def end_dialogue(self) -> None:
        """Something else happens than that one packet goes to and fro."""
        dialogue, self.dialogue = self.dialogue, None
        if dialogue is not None:
            dialogue.end()

    # --- what arrives ---

    def handle_short(self, data: bytes, address: Address, ecn: int, now_ns: int) -> bool:
        """A short packet for this connection came.

        Args:
            data: all of it, its version and reserved bits checked.
            address: where from.
            ecn: its ECN bits, 0 where unknown.
            now_ns: when it came.

        Returns:
            Whether it opened and was new.
        """
        protection, acks, state = self.protection, self.acks, self.state
        self.end_dialogue()
        if protection is None or (state is not _ESTABLISHED and state in _DEAF):
            return False
        flags, _, _, _, _, low = SHORT.unpack_from(data)
        expected = acks.largest + 1
        number = low + ((expected - low + _WINDOW) >> 32 << 32)
        if number < 0 or not acks.is_new(number):
            return False
        header, opener, sender = data[:18], protection.opener, self.sender
        try:
            if flags >> 6 == opener.phase:
                nonce = (opener.iv ^ number).to_bytes(12, "big")
                frames = opener.aead.decrypt(nonce, data[18:], header)
            else:
                frames = protection.open_other(
                    number, data[18:], header, sender.number, now_ns, sender.recovery.rtt.pto
                )
        except InvalidTag:
            self.forgeries += 1
            if self.forgeries >= MAX_FORGERIES:
                error = RemoteProtocolError(CloseCode.KEY_LIMIT, "too many forged packets")
                self._fail(error, now_ns)
            return False
        except RemoteProtocolError as error:
            self._fail(error, now_ns)
            return False
        return self.take_in(number, frames, data, address, ecn, now_ns)

    def take_in(
        self, number: int, frames: bytes, data: bytes, address: Address, ecn: int, now_ns: int
    ) -> bool:
        """A packet has opened. See `handle_short`."""
        sender, acks = self.sender, self.acks
        self.packets_received += 1
        if sender.recovery.tracer is not None:
            sender.recovery.tracer.packet_received(now_ns, number, len(data), frames)
        if self.state is _CLOSING:
            if self._farewell is not None:
                self._move(On.CLOSE if self._farewell.on_packet(frames) else On.PACKET)
            return True
        try:
            eliciting = read_frames(self, frames, now_ns)
            if address != self.paths.usual and eliciting is not None:
                self._look(address, frames, len(data), number > acks.largest, now_ns)
        except (WireError, struct.error) as wire_error:
            self._fail(RemoteProtocolError(CloseCode.FRAME, str(wire_error)), now_ns)
            return True
        except RemoteProtocolError as error:
            self._fail(error, now_ns)
            return True
        if eliciting is None:
            return False
        acks.on_packet(number, eliciting, data[1], ecn, now_ns)
        self.silence.heard_ns = sender.active_ns = now_ns
        if self.attempt is not None:
            self.attempt.on_short_packet()
            self.attempt = None
            self.on_confirmed()
        return True

    def on_new_cid(self, frame: NewConnectionIDFrame) -> None:
        """The peer gives another connection ID. Raises as `PeerCIDs.on_new` does."""
        self.peer_cids.on_new(frame)
        self.sender.peer_cid = self.peer_cids.current

    def on_close(self, frame: CloseFrame, now_ns: int) -> None:
        """The peer ends the connection."""
        error = error_of(frame)
        # Who ends his side as the peer goes may have lost that end, which nobody waits for.
        if error is None and not self.outgoing.bytes_acked:
            error = ConnectionLostError("the peer closed before it had all that was sent")
        # One CLOSE in return lets the peer forget us at once.
        self._say_farewell(CloseCode.NONE, "", now_ns)
        self._end(On.CLOSE, error)

    # --- where the peer is ---

    @property
    def address(self) -> Address:
        """Where packets go."""
        return self.paths.address

    def _look(self, address: Address, frames: bytes, size: int, newest: bool, now_ns: int) -> None:
        """A packet did not come from where they used to come from, or asks who is there."""
        pto_ns = self.sender.recovery.rtt.pto
        left = self.paths.on_packet(address, frames, size, newest, now_ns, pto_ns)
        if left is not None:
            if left[0] != address[0]:
                self._begin_path(now_ns)
            self.sender.resume(now_ns)

    def on_moved(self, ceiling: int, now_ns: int) -> None:
        """This host has another address by now: the peer is to hear of it from there.

        Args:
            ceiling: the largest packet that the carrier takes there.
            now_ns: by now.
        """
        self.end_dialogue()
        if self.state is State.ESTABLISHED:
            self.sender.mtu.widen(ceiling)
            self._begin_path(now_ns)
            self.ping()

    def _begin_path(self, now_ns: int) -> None:
        self.peer_cids.next()
        self.sender.peer_cid = self.peer_cids.current
        self.sender.begin_path(now_ns)

    # --- what leaves ---

    @property
    def quiet(self) -> bool:
        """Whether what is sent is nothing but data and what belongs to it, by the usual way."""
        return (
            self.state is _ESTABLISHED
            and self.attempt is None
            and self._linger is None
            and self.paths.usual is not None
        )

    def transmit(self, now_ns: int, limit: int) -> list[bytes]:
        """The packets that leave now, to `address`; fewer than `limit` if that is all for now.

        Those for other addresses are put into `strays`.

        Args:
            now_ns: by now.
            limit: at most so many, but for those of the handshake.
        """
        self.end_dialogue()
        if self.quiet:
            return self.sender.transmit(now_ns, limit, probing=True)  # nearly always
        if self._linger is not None and self._all_arrived():
            self.abort(CloseCode.NONE, "", now_ns)
        farewell = self._farewell
        if farewell is not None and farewell.due and self.state is not State.CLOSED:
            farewell.due = False
            # Message 3 goes first, or the listener could not open what follows.
            return [*self._transmit_attempt(now_ns), self.sender.close(farewell.frame, now_ns)]
        packets = self._transmit_attempt(now_ns) if self.attempt is not None else []
        if self.state is _ESTABLISHED:
            packets += self._transmit_data(now_ns, limit)
        return packets

    def _transmit_data(self, now_ns: int, limit: int) -> list[bytes]:
        sender, paths = self.sender, self.paths
        for frames, size, address in paths.probes(now_ns):
            self.strays.append((sender.stray(frames, size, now_ns), address, 0))
        if paths.budget is None:
            return sender.transmit(now_ns, limit, probing=self.attempt is None)
        limit = min(limit, paths.budget // sender.mtu.size)
        packets = sender.transmit(now_ns, limit, probing=False) if limit > 0 else []
        paths.on_sent(sum([len(packet) for packet in packets]))
        return packets

    def _transmit_attempt(self, now_ns: int) -> list[bytes]:
        if self.attempt is None:
            return []
        packet = self.attempt.poll(now_ns)
        if packet:
            self.history.note(now_ns, packet, sent=True)
        if packet == b"" and not self.sender.recovery.in_flight:
            self._control.put("ping", PingFrame())
        return [packet] if packet else []

    # --- time ---

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` or `transmit` has something to do, ns; None: never."""
        state, attempt, protection = self.state, self.attempt, self.protection
        if (
            state is _ESTABLISHED
            and attempt is None
            and self.paths.usual is not None
            and self._linger is None
            and (protection is None or protection.forget_ns is None)
        ):  # nearly always
            due_ns, silence_ns = self.sender.due_ns(probing=True), self.silence.due_ns()
            if due_ns is None or (silence_ns is not None and silence_ns < due_ns):
                return silence_ns
            return due_ns
        if state is State.CLOSED:
            return None
        if state is State.HANDSHAKE:
            return attempt.timeout_ns if attempt else None
        if self._farewell is not None:
            return self._farewell.timeout_ns
        paths, budget = self.paths, None
        times = [
            self.silence.due_ns(),
            self._linger.until_ns if self._linger is not None else None,
            protection.forget_ns if protection is not None else None,
            attempt.timeout_ns if attempt is not None else None,
        ]
        if paths.usual is None:
            times.append(paths.timeout_ns)
            budget = paths.budget
        if budget is None or budget >= self.sender.mtu.size:
            times.append(self.sender.due_ns(probing=attempt is None and budget is None))
        return min([each for each in times if each is not None], default=None)

    def handle_timeout(self, now_ns: int) -> None:
        """Time has passed; calling early does no harm."""
        self.end_dialogue()
        if self.attempt is not None and self.state in _OPEN:
            self.attempt.handle_timeout(now_ns)
            if self.attempt.error is not None:
                self.fail_handshake(self.attempt.error)
                return
        if self._farewell is not None and self._farewell.handle_timeout(now_ns):
            self._move(On.TIME)
        if self.state is not _ESTABLISHED:
            return
        sender, protection = self.sender, self.protection
        if self.paths.handle_timeout(now_ns):
            sender.resume(now_ns)
        sender.handle_timeout(now_ns)
        if protection is not None and protection.forget_ns and now_ns >= protection.forget_ns:
            protection.forget_previous()
        if verdict := self.silence.verdict(now_ns):
            self._lose(On.SILENCE, verdict)
        elif self.silence.wants_ping(now_ns):
            self.ping()
        if self._linger is not None and now_ns >= self._linger.until_ns:
            if self._linger.goes_on(now_ns, self.silence.heard_ns):
                self.ping()
            elif not self._all_arrived():  # or `transmit` ends it
                self._close(On.ENDED, self._linger.lost(), CloseCode.NONE, "", now_ns)

    # --- the user ---

    @property
    def has_events(self) -> bool:
        """Whether `poll_event` would answer one."""
        return bool(self._events)

    def poll_event(self) -> Event | None:
        """The next thing to tell the user, or None."""
        return self._events.next() if self._events else None

    def write(self, stream_id: int, data: bytes | memoryview) -> int:
        """Takes in data for a stream: how many bytes; `StreamWritable` says when more go.

        Raises:
            LocalProtocolError: the stream takes no data, or the connection is over.
        """
        self._check_open()
        return self.outgoing.write(stream_id, data, self.sender.high_water)

    def finish(self, stream_id: int) -> None:
        """Ends a stream behind what was written. Raises LocalProtocolError."""
        self._check_open()
        self.outgoing.finish(stream_id)

    def read(self, stream_id: int, limit: int, now_ns: int) -> bytes:
        """Up to `limit` bytes that have come; b"" for none now, or at the end."""
        rtt_ns = self.sender.recovery.rtt.smoothed_rtt
        return self.incoming.read(stream_id, limit, now_ns, rtt_ns)

    def send_datagram(self, data: bytes) -> bool:
        """Queues a datagram: False if the queue is full, and it is lost.

        Raises:
            LocalProtocolError: it is too large, or the connection is over.
        """
        self._check_open()
        return self.datagrams.send(data)

    def change_keys(self, now_ns: int) -> bool:
        """Goes to the next phase of keys, if that is allowed now: whether it did."""
        self.end_dialogue()
        return self.state is State.ESTABLISHED and self.sender.change_keys(now_ns)

    def ping(self) -> None:
        """Has the peer answer."""
        self._control.put("ping", PingFrame())

    def _check_open(self) -> None:
        if self.state is not _ESTABLISHED or self._linger is not None:
            raise LocalProtocolError(CloseCode.NONE, "the connection is not open")

    def _all_arrived(self) -> bool:
        return self.outgoing.all_acked and not self.sender.datagrams

    def close(self, now_ns: int) -> None:
        """Ends well: what was written is sent, acknowledged, and the peer told."""
        if self.state is State.HANDSHAKE:
            self._end(On.ENDED, None)
        elif self.state is State.ESTABLISHED and self._linger is None:
            self._linger = Linger(self.config, now_ns, arrived=self._all_arrived())

    def abort(self, code: int, reason: str, now_ns: int) -> None:
        """Ends at once, with CLOSE."""
        self._close(On.ENDED, None, code, reason, now_ns)

    def _fail(self, error: RemoteProtocolError, now_ns: int) -> None:
        self._close(On.BROKEN, error, error.code, error.reason, now_ns)

    def _close(
        self, event: On, error: RawprotoError | None, code: int, reason: str, now_ns: int
    ) -> None:
        """Ends with CLOSE, where somebody is there who could hear it."""
        if self._end(event, error) and self.state is State.CLOSING:
            self._say_farewell(code, reason, now_ns)

    def _lose(self, event: On, reason: str) -> None:
        self._end(event, ConnectionLostError(reason))

    def on_stateless_reset(self, cid: int, token: bytes) -> bool:
        """Whether the peer has forgotten this connection, as the token of its CID proves."""
        if self.peer_cids.knows(cid, token):
            self._lose(On.RESET, "the peer has forgotten the connection: was it restarted?")
            return True
        return False

    def _say_farewell(self, code: int, reason: str, now_ns: int) -> None:
        pto_ns = self.sender.recovery.rtt.pto
        self._farewell = Farewell(code, reason, now_ns, pto_ns, answer=self.state is not _CLOSING)
