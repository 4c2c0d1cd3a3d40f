"""One connection: opens packets, hands their frames out, seals what its parts want to send.

It only orchestrates. What has a state of its own lives beside it: `sender` (what leaves,
with recovery, pace, packet size, and what the peer says of it), `acks` (what came),
`streams`, `control` (frames that wait), `protection` (keys), `attempt` (a client's
handshake).

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
from hmac import compare_digest
from typing import Any

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
from rawproto.transport.config import Config
from rawproto.transport.constants import MAX_CIDS, MAX_FORGERIES, CloseCode
from rawproto.transport.control import Control
from rawproto.transport.events import (
    ConnectionClosed,
    ConnectionEstablished,
    DatagramReadable,
    Event,
)
from rawproto.transport.farewell import Farewell, error_of
from rawproto.transport.handshake import Agreement
from rawproto.transport.lifecycle import TRANSITIONS, State
from rawproto.transport.lifecycle import Event as On
from rawproto.transport.protection import Protection
from rawproto.transport.sender import OVERHEAD_BYTES, Sender
from rawproto.transport.streams import Streams
from rawproto.wire.rpt import SHORT
from rawproto.wire.rpt_frames import (
    DATAGRAM_HEAD,
    STREAM_HEAD,
    BlockedFrame,
    CloseFrame,
    DatagramFrame,
    Frame,
    FrameType,
    HandshakeDoneFrame,
    MaxDataFrame,
    MaxStreamDataFrame,
    MaxStreamsFrame,
    NewConnectionIDFrame,
    PathChallengeFrame,
    PathResponseFrame,
    PingFrame,
    ResetStreamFrame,
    RetireConnectionIDFrame,
    StopSendingFrame,
    parse_frame,
)

__all__ = ["Address", "Connection", "State"]

Address = tuple[str, int]
"""A peer's IP address and the carrier's port, 0 on raw IP."""

_WINDOW = 1 << 31
# Numbers, because each packet is compared with them and an enumeration's member costs a call.
_PADDING = int(FrameType.PADDING)
_STREAM_FIN = int(FrameType.STREAM_FIN)
_STREAMS = int(FrameType.STREAM), _STREAM_FIN
_ACKS = int(FrameType.ACK), int(FrameType.ACK_ECN)


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
        address: where packets go.
        ceiling: the largest packet that the carrier takes, in bytes of RPT.
        entropy: gives so many random bytes.
        now_ns: by now.

    Attributes:
        state: where it stands.
        streams: its streams.
        sender: the half that sends.
        acks: what came.
        attempt: a client's handshake until it is confirmed.
        address: as given.
        peer_key: the peer's static public key, b"" before it is known.
        log_cid: `src_cid` of the INIT, by which key logs know the connection.
        secrets: of the first phase, for sending and for receiving.
        packets_received: how many opened.
        forgeries: how many did not open.
    """

    def __init__(
        self,
        config: Config,
        *,
        client: bool,
        port: int,
        peer_port: int,
        cid: int,
        address: Address,
        ceiling: int,
        entropy: Callable[[int], bytes],
        now_ns: int,
    ) -> None:
        self.config = config
        self.client = client
        self.port = port
        self.peer_port = peer_port
        self.cid = cid
        self.address = address
        self.state = State.HANDSHAKE
        self.attempt: Attempt | None = None
        self.peer_key = b""
        self.log_cid = cid
        self.secrets = (b"", b"")
        self.packets_received = self.forgeries = 0
        # Lists, here and below: they are short, and an empty deque takes 700 bytes.
        self._events: list[Event] = []
        self._control = Control()
        self.streams = Streams(
            config, client=client, control=self._control, emit=self._events.append
        )
        self.acks = Acks()
        self.sender = Sender(
            config,
            port=port,
            peer_port=peer_port,
            ceiling=ceiling,
            entropy=entropy,
            streams=self.streams,
            acks=self.acks,
            control=self._control,
            now_ns=now_ns,
        )
        self._protection: Protection | None = None
        self._heard_ns = now_ns
        self._idle_ns = 0
        self._peer_cids: dict[int, tuple[int, bytes]] = {}
        self._peer_max_datagram = 0
        self._datagrams: list[bytes] = []
        self._linger_until_ns: int | None = None
        self._farewell: Farewell | None = None

    # --- the beginning ---

    def begin(self, agreement: Agreement, now_ns: int) -> None:
        """The handshake came to an agreement: data may flow, unless all is over already."""
        if not self._move(On.AGREED):
            return
        peer = agreement.parameters
        self.secrets = (agreement.send_secret, agreement.receive_secret)
        self._protection = Protection(*self.secrets, agreement.cipher)
        self.peer_key = agreement.peer_key
        self._peer_cids[0] = (peer.connection_id, peer.reset_token)
        self._peer_max_datagram = peer.max_datagram_bytes
        self.sender.peer_cid = peer.connection_id
        self.sender.protection = self._protection
        self.sender.feedback.on_refused(peer.max_packet_bytes, now_ns)
        idle = [ms for ms in (peer.idle_timeout_ms, self.config.idle_timeout_ns // 10**6) if ms]
        self._idle_ns = min(idle, default=0) * 10**6
        self._heard_ns = self.sender.active_ns = now_ns
        self.streams.start(peer)
        self._events.append(ConnectionEstablished(agreement.peer_key))
        if not self.client:
            self._control.put("done", HandshakeDoneFrame())
        if peer.kind != self.config.kind:
            self._fail(RemoteProtocolError(CloseCode.KIND, "the peer speaks another kind"), now_ns)

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
        self._linger_until_ns = None
        self._events.append(ConnectionClosed(error))
        return True

    # --- what arrives ---

    def handle_short(self, data: bytes, ecn: int, now_ns: int) -> bool:
        """A short packet for this connection came.

        Args:
            data: all of it, its version and reserved bits checked.
            ecn: its ECN bits, 0 where unknown.
            now_ns: when it came.

        Returns:
            Whether it opened and was new.
        """
        protection, acks = self._protection, self.acks
        if protection is None or self.state in _DEAF:
            return False
        flags, every, _, _, _, low = SHORT.unpack_from(data)
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
        self.packets_received += 1
        if sender.recovery.tracer is not None:
            sender.recovery.tracer.packet_received(now_ns, number, len(data), frames)
        if self.state is _CLOSING:
            if self._farewell is not None:
                self._move(On.CLOSE if self._farewell.on_packet(frames) else On.PACKET)
            return True
        try:
            eliciting = self._read_frames(frames, now_ns)
        except (WireError, struct.error) as wire_error:
            self._fail(RemoteProtocolError(CloseCode.FRAME, str(wire_error)), now_ns)
            return True
        except RemoteProtocolError as error:
            self._fail(error, now_ns)
            return True
        if eliciting is None:
            return False
        acks.on_packet(number, eliciting, every, ecn, now_ns)
        self._heard_ns = sender.active_ns = now_ns
        if self.attempt is not None:
            self.attempt.on_short_packet()
            self.attempt = None
        return True

    def _read_frames(self, data: bytes, now_ns: int) -> bool | None:
        """Hands the frames out: whether they want an ACK; None if the packet must count as lost.

        Raises:
            WireError, struct.error: a frame cannot be read.
            RemoteProtocolError: the peer broke a rule.
        """
        at, end = 0, len(data)
        eliciting = False
        on_data = self.streams.on_data
        if not end:
            raise RemoteProtocolError(CloseCode.FRAME, "a packet without a frame")
        while at < end:
            kind = data[at]
            if kind in _STREAMS:
                _, stream_id, offset, length = STREAM_HEAD.unpack_from(data, at)
                start = at + 15
                at = start + length
                if at > end:
                    raise RemoteProtocolError(CloseCode.FRAME, "STREAM is cut short")
                if not on_data(stream_id, offset, data[start:at], kind == _STREAM_FIN):
                    return None
                eliciting = True
            elif kind in _ACKS:
                at = self.sender.on_ack(data, at, now_ns)
            elif kind == _PADDING:
                at = end - len(data[at:].lstrip(b"\0"))
            else:
                frame, at = parse_frame(data, at)
                self._on_frame(frame, now_ns)
                if kind == FrameType.CLOSE:
                    break  # nothing comes after the end
                eliciting = True
        return eliciting

    def _on_frame(self, frame: Frame, now_ns: int) -> None:
        handler = _HANDLERS.get(type(frame))
        if handler is not None:
            handler(self, frame, now_ns)

    def _on_datagram(self, frame: DatagramFrame, now_ns: int) -> None:
        if len(frame.data) > self.config.max_datagram_bytes:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "a datagram larger than allowed")
        if not self._datagrams:
            self._events.append(DatagramReadable())
        if len(self._datagrams) < self.config.datagram_queue:
            self._datagrams.append(frame.data)

    def _on_new_cid(self, frame: NewConnectionIDFrame, now_ns: int) -> None:
        if frame.retire_prior_to > frame.sequence:
            raise RemoteProtocolError(CloseCode.FRAME, "a connection ID that retires itself")
        known = self._peer_cids.get(frame.sequence)
        if known is not None and known != (frame.cid, frame.reset_token):
            raise RemoteProtocolError(CloseCode.PROTOCOL, "two connection IDs of one number")
        self._peer_cids[frame.sequence] = (frame.cid, frame.reset_token)
        for sequence in [each for each in self._peer_cids if each < frame.retire_prior_to]:
            del self._peer_cids[sequence]
            self._control.put(("retire", sequence), RetireConnectionIDFrame(sequence))
        if len(self._peer_cids) > MAX_CIDS:
            raise RemoteProtocolError(CloseCode.CID_LIMIT, "more connection IDs than allowed")
        self.sender.peer_cid = self._peer_cids[min(self._peer_cids)][0]

    def _on_retire(self, frame: RetireConnectionIDFrame, now_ns: int) -> None:
        raise RemoteProtocolError(CloseCode.PROTOCOL, "the only connection ID is retired")

    def _on_challenge(self, frame: PathChallengeFrame, now_ns: int) -> None:
        self._control.put("path_response", PathResponseFrame(frame.data))

    def _on_done(self, frame: HandshakeDoneFrame, now_ns: int) -> None:
        if not self.client:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "HANDSHAKE_DONE from a client")

    def _on_close(self, frame: CloseFrame, now_ns: int) -> None:
        error = error_of(frame)
        if error is None and not self.streams.all_acked:
            error = ConnectionLostError("the peer closed before it had all that was sent")
        # One CLOSE in return lets the peer forget us at once.
        self._say_farewell(CloseCode.NONE, "", now_ns)
        self._end(On.CLOSE, error)

    # --- what leaves ---

    def transmit(self, now_ns: int, limit: int) -> list[bytes]:
        """The packets that leave now, to `address`; fewer than `limit` if that is all for now.

        Args:
            now_ns: by now.
            limit: at most so many, but for those of the handshake.
        """
        if self.state is _ESTABLISHED and self.attempt is None and self._linger_until_ns is None:
            return self.sender.transmit(now_ns, limit, probing=True)  # nearly always
        if self._linger_until_ns is not None and self._all_arrived():
            self.abort(CloseCode.NONE, "", now_ns)
        farewell = self._farewell
        if farewell is not None and farewell.due and self.state is not State.CLOSED:
            farewell.due = False
            # Message 3 goes first, or the listener could not open what follows.
            return [*self._transmit_attempt(now_ns), self.sender.close(farewell.frame, now_ns)]
        packets = self._transmit_attempt(now_ns) if self.attempt is not None else []
        if self.state is State.ESTABLISHED:
            packets += self.sender.transmit(now_ns, limit, probing=self.attempt is None)
        return packets

    def _transmit_attempt(self, now_ns: int) -> list[bytes]:
        if self.attempt is None:
            return []
        packet = self.attempt.poll(now_ns)
        if packet == b"" and not self.sender.recovery.in_flight:
            self._control.put("ping", PingFrame())
        return [packet] if packet else []

    # --- time ---

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` or `transmit` has something to do, ns; None: never."""
        if self.state is State.CLOSED:
            return None
        if self.state is State.HANDSHAKE:
            return self.attempt.timeout_ns if self.attempt else None
        if self._farewell is not None:
            return 0 if self._farewell.due else self._farewell.until_ns
        sender = self.sender
        times = sender.timeouts(probing=self.attempt is None)
        times.append(self._linger_until_ns)
        if self._protection is not None:
            times.append(self._protection.forget_ns)
        if self._idle_ns:
            times.append(sender.active_ns + self._idle_ns)
        if sender.recovery.in_flight:
            times.append(self._dead_ns())
        elif self.config.keep_alive_ns:
            times.append(sender.active_ns + self.config.keep_alive_ns)
        if self.attempt is not None:
            times.append(self.attempt.timeout_ns)
        return min([each for each in times if each is not None], default=None)

    def handle_timeout(self, now_ns: int) -> None:
        """Time has passed; calling early does no harm."""
        if self.attempt is not None and self.state in _OPEN:
            self.attempt.handle_timeout(now_ns)
            if self.attempt.error is not None:
                self.fail_handshake(self.attempt.error)
                return
        if self._farewell is not None and now_ns >= self._farewell.until_ns:
            self._move(On.TIME)
        if self.state is not State.ESTABLISHED:
            return
        sender, protection = self.sender, self._protection
        sender.handle_timeout(now_ns)
        if protection is not None and protection.forget_ns and now_ns >= protection.forget_ns:
            protection.forget_previous()
        if self._idle_ns and now_ns >= sender.active_ns + self._idle_ns:
            self._lose(On.SILENCE, "nothing was heard for the idle time")
        elif sender.recovery.in_flight:
            if now_ns >= self._dead_ns():
                self._lose(On.SILENCE, "the peer does not answer any more")
        elif self.config.keep_alive_ns and now_ns >= sender.active_ns + self.config.keep_alive_ns:
            self.ping()
        if self._linger_until_ns is not None and now_ns >= self._linger_until_ns:
            words = "closed before the peer had acknowledged all that was sent"
            error = None if self._all_arrived() else ConnectionLostError(words)
            self._close(On.ENDED, error, CloseCode.NONE, "", now_ns)

    def _dead_ns(self) -> int:
        """When the path counts as dead: silence counts from when there was something to answer."""
        oldest = self.sender.recovery.oldest()
        asked_ns = oldest[0].sent_ns if oldest else 0
        return max(self._heard_ns, asked_ns) + self.config.dead_path_ns

    # --- the user ---

    def poll_event(self) -> Event | None:
        """The next thing to tell the user, or None."""
        return self._events.pop(0) if self._events else None

    def write(self, stream_id: int, data: bytes | memoryview) -> int:
        """Takes in data for a stream: how many bytes; `StreamWritable` says when more go.

        Raises:
            LocalProtocolError: the stream takes no data, or the connection is over.
        """
        self._check_open()
        return self.streams.write(stream_id, data, self.sender.high_water)

    def finish(self, stream_id: int) -> None:
        """Ends a stream behind what was written. Raises LocalProtocolError."""
        self._check_open()
        self.streams.finish(stream_id)

    def read(self, stream_id: int, limit: int, now_ns: int) -> bytes:
        """Up to `limit` bytes that have come; b"" for none now, or at the end."""
        return self.streams.read(stream_id, limit, now_ns, self.sender.recovery.rtt.smoothed_rtt)

    @property
    def max_datagram_bytes(self) -> int:
        """The largest datagram that can be sent now."""
        return min(
            self.sender.mtu.size - OVERHEAD_BYTES - DATAGRAM_HEAD.size, self._peer_max_datagram
        )

    def send_datagram(self, data: bytes) -> bool:
        """Queues a datagram: False if the queue is full, and it is lost.

        Raises:
            LocalProtocolError: it is too large, or the connection is over.
        """
        self._check_open()
        if len(data) > self.max_datagram_bytes:
            words = f"a datagram of {len(data)} bytes; {self.max_datagram_bytes} fit"
            raise LocalProtocolError(CloseCode.MESSAGE, words)
        if len(self.sender.datagrams) >= self.config.datagram_queue:
            return False
        self.sender.datagrams.append(bytes(data))
        return True

    def receive_datagram(self) -> bytes | None:
        """The next datagram that came, None for none."""
        return self._datagrams.pop(0) if self._datagrams else None

    def change_keys(self, now_ns: int) -> bool:
        """Goes to the next phase of keys, if that is allowed now: whether it did."""
        return self.state is State.ESTABLISHED and self.sender.change_keys(now_ns)

    def ping(self) -> None:
        """Has the peer answer."""
        self._control.put("ping", PingFrame())

    def _check_open(self) -> None:
        if self.state is not State.ESTABLISHED or self._linger_until_ns is not None:
            raise LocalProtocolError(CloseCode.NONE, "the connection is not open")

    def _all_arrived(self) -> bool:
        return self.streams.all_acked and not self.sender.datagrams

    def close(self, now_ns: int) -> None:
        """Ends well: what was written is sent, acknowledged, and the peer told."""
        if self.state is State.HANDSHAKE:
            self._end(On.ENDED, None)
        elif self.state is State.ESTABLISHED and self._linger_until_ns is None:
            arrived = self._all_arrived()
            self._linger_until_ns = now_ns if arrived else now_ns + self.config.linger_ns

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

    def on_stateless_reset(self, token: bytes) -> bool:
        """Whether the peer has forgotten this connection, as its token proves."""
        if any(compare_digest(token, known) for _, known in self._peer_cids.values()):
            self._lose(On.RESET, "the peer has forgotten the connection: was it restarted?")
            return True
        return False

    def _say_farewell(self, code: int, reason: str, now_ns: int) -> None:
        self._farewell = Farewell(code, reason, now_ns + 3 * self.sender.recovery.rtt.pto)


_HANDLERS: dict[type[Frame], Callable[[Connection, Any, int], None]] = {
    DatagramFrame: Connection._on_datagram,
    NewConnectionIDFrame: Connection._on_new_cid,
    RetireConnectionIDFrame: Connection._on_retire,
    PathChallengeFrame: Connection._on_challenge,
    HandshakeDoneFrame: Connection._on_done,
    CloseFrame: Connection._on_close,
    ResetStreamFrame: lambda self, frame, now: self.streams.on_reset(frame),
    StopSendingFrame: lambda self, frame, now: self.streams.on_stop(frame),
    MaxDataFrame: lambda self, frame, now: self.streams.on_max_data(frame.maximum),
    MaxStreamDataFrame: lambda self, frame, now: self.streams.on_max_stream_data(frame),
    MaxStreamsFrame: lambda self, frame, now: self.streams.on_max_streams(frame),
    # A peer that is blocked knows why; that there is nothing to do for it is in 6.2.2.
    BlockedFrame: lambda self, frame, now: None,
    PathResponseFrame: lambda self, frame, now: None,
    PingFrame: lambda self, frame, now: None,
}
