"""One connection: opens packets, hands their frames out, seals what its parts want to send.

It only orchestrates. What has a state of its own lives beside it: `acks` (what came),
`recovery` (what was sent), `streams`, `control` (frames that wait), `pmtu`, `pacing`,
`protection` (keys), `attempt` (a client's handshake).

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
from collections import deque
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any

from cryptography.exceptions import InvalidTag

from rawproto.errors import (
    ConnectionLostError,
    LocalProtocolError,
    NotAuthorizedError,
    RawprotoError,
    RemoteProtocolError,
    WireError,
)
from rawproto.transport.acks import Acks
from rawproto.transport.attempt import Attempt
from rawproto.transport.config import Config
from rawproto.transport.congestion import CONTROLLERS, Burst
from rawproto.transport.constants import (
    MAX_CIDS,
    MAX_FORGERIES,
    MAX_PHASE_PACKETS,
    MIN_SHORT_BYTES,
    TAG_BYTES,
    CloseCode,
)
from rawproto.transport.control import Control
from rawproto.transport.events import (
    ConnectionClosed,
    ConnectionEstablished,
    DatagramReadable,
    Event,
)
from rawproto.transport.handshake import Agreement
from rawproto.transport.pacing import Pacer
from rawproto.transport.pmtu import MTUSearch
from rawproto.transport.protection import Keys, Opener, Sealer
from rawproto.transport.recovery import Recovery, Sent
from rawproto.transport.streams import Streams
from rawproto.wire.rpt import KEY_PHASE, SHORT, VERSION_1
from rawproto.wire.rpt_frames import (
    ACK_HEAD,
    ACK_RANGE,
    DATAGRAM_HEAD,
    ECN_COUNTS,
    MAX_RANGES,
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

_OVERHEAD = SHORT.size + TAG_BYTES
_MIN_PLAINTEXT = MIN_SHORT_BYTES - _OVERHEAD
_MAX_BATCH = 32
_MAX_REASON = 255
_WINDOW = 1 << 31


class State(Enum):
    """Where a connection stands."""

    HANDSHAKE = "handshake"
    ESTABLISHED = "established"
    CLOSING = "closing"
    DRAINING = "draining"
    CLOSED = "closed"


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
        recovery: of what was sent.
        mtu: the search for the size of packets.
        attempt: a client's handshake until it is confirmed.
        address: as given.
        peer_key: the peer's static public key, b"" before it is known.
        packets_sent: how many short packets.
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
        self.peer_cid = 0
        self.address = address
        self.state = State.HANDSHAKE
        self.attempt: Attempt | None = None
        self.peer_key = b""
        self.log_cid = cid
        self.packets_sent = 0
        self.packets_received = 0
        self.forgeries = 0
        self._entropy = entropy
        self._ceiling = ceiling
        self._events: deque[Event] = deque()
        self._control = Control()
        self.streams = Streams(
            config, client=client, control=self._control, emit=self._events.append
        )
        self.acks = Acks()
        self.mtu = MTUSearch(ceiling, now_ns)
        self.recovery = Recovery(CONTROLLERS[config.congestion](self.mtu.size))
        self._pacer = Pacer(self.mtu.size)
        self._opener: Opener | None = None
        self._sealer: Sealer | None = None
        self._number = 0
        self._skip_at = 0
        self._skipped: deque[int] = deque(maxlen=8)
        self._probes_due = 0
        self._limited = False
        self._heard_ns = self._active_ns = now_ns
        self._idle_ns = 0
        self._peer_cids: dict[int, tuple[int, bytes]] = {}
        self._peer_max_packet = self._peer_max_datagram = 0
        self._ecn_counts = (0, 0, 0)
        self._datagrams_out: deque[bytes] = deque(maxlen=config.datagram_queue)
        self._datagrams_in: deque[bytes] = deque(maxlen=config.datagram_queue)
        self._phase_acked = False
        self._phase_changed_ns: int | None = None
        self._forget_keys_ns: int | None = None
        self._linger_until_ns: int | None = None
        self._close_frame = b""
        self._close_until_ns = 0
        self._close_answers = 0
        self._close_due = False

    # --- the beginning ---

    def begin(self, agreement: Agreement, now_ns: int) -> None:
        """The handshake came to an agreement: data may flow."""
        peer = agreement.parameters
        self._opener = Opener(Keys(agreement.receive_secret, agreement.cipher))
        self._sealer = Sealer(Keys(agreement.send_secret, agreement.cipher))
        self.secrets = (agreement.send_secret, agreement.receive_secret)
        self.peer_key = agreement.peer_key
        self.peer_cid = peer.connection_id
        self._peer_cids[0] = (peer.connection_id, peer.reset_token)
        self._peer_max_packet = peer.max_packet_bytes
        self._peer_max_datagram = peer.max_datagram_bytes
        if peer.max_packet_bytes < self._ceiling:
            self.mtu = MTUSearch(peer.max_packet_bytes, now_ns)
        idle = [ms for ms in (peer.idle_timeout_ms, self.config.idle_timeout_ns // 10**6) if ms]
        self._idle_ns = min(idle, default=0) * 10**6
        self._heard_ns = self._active_ns = now_ns
        self.state = State.ESTABLISHED
        self._draw_skip()
        self.streams.start(peer)
        self._events.append(ConnectionEstablished(agreement.peer_key))
        if not self.client:
            self._control.put("done", HandshakeDoneFrame())
        if peer.kind != self.config.kind:
            self._fail(RemoteProtocolError(CloseCode.KIND, "the peer speaks another kind"), now_ns)

    def fail_handshake(self, error: RawprotoError) -> None:
        """No connection comes of it."""
        self.state = State.CLOSED
        self._events.append(ConnectionClosed(error))

    def _draw_skip(self) -> None:
        self._skip_at = self._number + 64 + int.from_bytes(self._entropy(2), "big") % 960

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
        opener, acks = self._opener, self.acks
        if opener is None or self.state in (State.DRAINING, State.CLOSED):
            return False
        flags, every, _, _, _, low = SHORT.unpack_from(data)
        expected = acks.largest + 1
        number = low + ((expected - low + _WINDOW) >> 32 << 32)
        if number < 0 or not acks.is_new(number):
            return False
        header = data[:18]
        try:
            if flags >> 6 == opener.phase:
                nonce = (opener.iv ^ number).to_bytes(12, "big")
                frames = opener.aead.decrypt(nonce, data[18:], header)
            else:
                frames, is_next = opener.open_other(number, data[18:], header)
                if is_next:
                    self._follow_phase(opener, number, now_ns)
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
        if self.state is State.CLOSING:
            self._answer_closing(frames, now_ns)
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
        self._heard_ns = self._active_ns = now_ns
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
        if not end:
            raise RemoteProtocolError(CloseCode.FRAME, "a packet without a frame")
        while at < end:
            kind = data[at]
            if kind == FrameType.STREAM or kind == FrameType.STREAM_FIN:
                _, stream_id, offset, length = STREAM_HEAD.unpack_from(data, at)
                start = at + 15
                at = start + length
                if at > end:
                    raise RemoteProtocolError(CloseCode.FRAME, "STREAM is cut short")
                if not self.streams.on_data(
                    stream_id, offset, data[start:at], kind == FrameType.STREAM_FIN
                ):
                    return None
                eliciting = True
            elif kind == FrameType.ACK or kind == FrameType.ACK_ECN:
                at = self._on_ack(data, at, now_ns)
            elif kind == FrameType.PADDING:
                at = end - len(data[at:].lstrip(b"\0"))
            else:
                frame, at = parse_frame(data, at)
                self._on_frame(frame, now_ns)
                eliciting = eliciting or kind != FrameType.CLOSE
        return eliciting

    def _on_ack(self, data: bytes, at: int, now_ns: int) -> int:
        """Takes in an ACK: where it ends."""
        kind, largest, delay_us, count, first = ACK_HEAD.unpack_from(data, at)
        at += 18
        end = largest + 1
        if count >= MAX_RANGES or not 0 < first <= end:
            raise RemoteProtocolError(CloseCode.FRAME, "an ACK of packets that cannot be")
        if largest >= self._number:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "an ACK for a packet never sent")
        ranges = [(end - first, end)]
        for _ in range(count):
            gap, length = ACK_RANGE.unpack_from(data, at)
            at += 8
            end = ranges[-1][0] - gap
            if not gap or not length or length > end:
                raise RemoteProtocolError(CloseCode.FRAME, "an ACK of packets that cannot be")
            ranges.append((end - length, end))
        for skipped in self._skipped:
            if any(start <= skipped < end for start, end in ranges):
                raise RemoteProtocolError(CloseCode.PROTOCOL, "an ACK for a packet never sent")
        if kind == FrameType.ACK_ECN:
            counts = ECN_COUNTS.unpack_from(data, at)
            at += 24
            self._on_ecn(counts, now_ns)
        recovery = self.recovery
        acked, lost = recovery.on_acked(ranges, delay_us * 1000, now_ns, self._limited)
        if acked:
            self._on_acked(acked, now_ns)
        if lost:
            self._on_lost(lost, now_ns)
        sealer = self._sealer
        if sealer is not None and largest >= sealer.first:
            self._phase_acked = True
        return at

    def _on_ecn(self, counts: tuple[int, int, int], now_ns: int) -> None:
        more = counts[2] > self._ecn_counts[2]
        self._ecn_counts = counts
        if more:
            self.recovery.on_ce(now_ns, Burst(now_ns, 0, now_ns, now_ns, False))

    def _on_acked(self, acked: list[Sent], now_ns: int) -> None:
        """Packets arrived: their parts are told."""
        streams = self.streams
        low_water = self.high_water // 2
        largest = 0
        for _, size, stream, start, end, rest in acked:
            if size > largest:
                largest = size
            if stream is not None:
                streams.on_acked(stream, start, end, low_water)
            if rest:
                for item in rest:
                    kind = item[0]
                    if kind == "control":
                        streams.on_control_acked(item[1])
                    elif kind == "stream":
                        streams.on_acked(item[1], item[2], item[3], low_water)
                    elif kind == "ack":
                        self.acks.on_ack_acked(item[1])
                    elif kind == "probe" and self.mtu.on_acked(item[1], now_ns):
                        self.recovery.controller.on_packet_size(self.mtu.size)
        self.mtu.on_arrived(largest)
        if self.mtu.black_hole:
            self._fall_back(now_ns)

    def _on_lost(self, lost: list[Sent], now_ns: int) -> None:
        """Packets are gone: what was in them is to be sent again."""
        large = 0
        for _, size, stream, start, end, rest in lost:
            if stream is not None:
                self.streams.on_lost(stream, start, end)
            is_probe = False
            for item in rest or ():
                if item[0] == "probe":
                    is_probe = True
                    self.mtu.on_lost(item[1], now_ns)
                elif item[0] == "stream":
                    self.streams.on_lost(item[1], item[2], item[3])
                elif item[0] == "control":
                    self._again(item[1])
            if size > 1200 and not is_probe:
                large += 1
        if large:
            self.mtu.on_large_lost(large)

    def _again(self, key: Hashable) -> None:
        frame: Frame | None = self.streams.again(key)
        if key == "done":
            frame = HandshakeDoneFrame()
        elif isinstance(key, tuple) and key[0] == "retire":
            frame = RetireConnectionIDFrame(key[1])
        if frame is not None:
            self._control.put(key, frame)

    def _fall_back(self, now_ns: int) -> None:
        self.mtu.fall_back(now_ns)
        self.recovery.controller.on_packet_size(self.mtu.size)

    def _on_frame(self, frame: Frame, now_ns: int) -> None:
        handler = _HANDLERS.get(type(frame))
        if handler is not None:
            handler(self, frame, now_ns)

    def _on_datagram(self, frame: DatagramFrame, now_ns: int) -> None:
        if len(frame.data) > self.config.max_datagram_bytes:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "a datagram larger than allowed")
        if not self._datagrams_in:
            self._events.append(DatagramReadable())
        if len(self._datagrams_in) < self.config.datagram_queue:
            self._datagrams_in.append(frame.data)

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
        self.peer_cid = self._peer_cids[min(self._peer_cids)][0]

    def _on_retire(self, frame: RetireConnectionIDFrame, now_ns: int) -> None:
        raise RemoteProtocolError(CloseCode.PROTOCOL, "the only connection ID is retired")

    def _on_challenge(self, frame: PathChallengeFrame, now_ns: int) -> None:
        self._control.put("path_response", PathResponseFrame(frame.data))

    def _on_done(self, frame: HandshakeDoneFrame, now_ns: int) -> None:
        if not self.client:
            raise RemoteProtocolError(CloseCode.PROTOCOL, "HANDSHAKE_DONE from a client")

    def _on_close(self, frame: CloseFrame, now_ns: int) -> None:
        error: RawprotoError | None = None
        reason = frame.reason or _close_words(frame.code)
        if frame.code == CloseCode.NOT_AUTHORIZED:
            error = NotAuthorizedError(reason)
        elif frame.code:
            error = RemoteProtocolError(frame.code, reason)
        self.state = State.DRAINING
        self._close_until_ns = now_ns + 3 * self.recovery.rtt.pto
        self._events.append(ConnectionClosed(error))

    # --- keys ---

    def _follow_phase(self, opener: Opener, number: int, now_ns: int) -> None:
        """The peer changed its keys: so does this side (specification 4.4)."""
        sealer = self._sealer
        assert sealer is not None
        if sealer.phase == opener.phase:  # not in answer to a change of ours
            if self._phase_changed_ns is not None and not self._phase_acked:
                raise RemoteProtocolError(CloseCode.KEY_UPDATE, "keys changed too soon")
            sealer.change(self._number)
            self._phase_acked = False
            self._phase_changed_ns = now_ns
        opener.change(number)
        self._forget_keys_ns = now_ns + 3 * self.recovery.rtt.pto

    def change_keys(self, now_ns: int) -> bool:
        """Goes to the next phase of keys, if that is allowed now: whether it did."""
        sealer, opener = self._sealer, self._opener
        if (
            sealer is None
            or opener is None
            or self.state is not State.ESTABLISHED
            or not self._phase_acked
            or sealer.phase != opener.phase
        ):
            return False
        wait = 3 * self.recovery.rtt.pto
        if self._phase_changed_ns is not None and now_ns < self._phase_changed_ns + wait:
            return False
        sealer.change(self._number)
        self._phase_acked = False
        self._phase_changed_ns = now_ns
        return True

    # --- what leaves ---

    @property
    def high_water(self) -> int:
        """How much of a stream waits in memory to be sent or acknowledged at most, in bytes."""
        return max(self.config.send_buffer_bytes, 2 * self.recovery.controller.window)

    def transmit(self, now_ns: int, limit: int = _MAX_BATCH) -> list[bytes]:
        """The packets that leave now, to `address`; nothing for none.

        Args:
            now_ns: by now.
            limit: at most so many.
        """
        if self.state is State.HANDSHAKE:
            return self._transmit_attempt(now_ns)
        if self._linger_until_ns is not None and self._all_arrived():
            self.abort(CloseCode.NONE, "", now_ns)
        if self.state is State.CLOSING:
            return self._transmit_close(now_ns)
        if self.state is not State.ESTABLISHED:
            return []
        packets = self._transmit_attempt(now_ns) if self.attempt is not None else []
        recovery, streams, control, acks = self.recovery, self.streams, self._control, self.acks
        sealer = self._sealer
        assert sealer is not None
        if self._number - sealer.first >= MAX_PHASE_PACKETS // 2:
            self.change_keys(now_ns)
        controller, pacer = recovery.controller, self._pacer
        window, size = controller.window, self.mtu.size
        self._set_pace(size)
        allowance = pacer.allowance(now_ns)
        burst: Burst | None = None
        every = min(max(window // size // 8, 1), 16)
        flags = VERSION_1 | (KEY_PHASE if sealer.phase else 0)
        aead, iv = sealer.aead, sealer.iv
        data_waits = streams.has_data() or bool(control.waiting) or bool(self._datagrams_out)
        paced = 0
        limited = False
        while len(packets) < limit:
            may_send = self._probes_due > 0 or (
                recovery.in_flight + size <= window and allowance - paced >= size
            )
            ack_due = acks.due_ns is not None and acks.due_ns <= now_ns
            if not (data_waits and may_send) and not ack_due and not self._probes_due:
                limited = data_waits
                break
            if burst is None:
                burst = recovery.burst(now_ns, not data_waits)
            if self._number == self._skip_at:
                self._skipped.append(self._number)
                self._number += 1
                self._draw_skip()
            frames, stream, start, end, rest, eliciting = self._fill(
                size - _OVERHEAD, now_ns, may_send
            )
            if self._probes_due and not eliciting:
                frames, rest = frames + b"\x01", [*(rest or ()), ("ping",)]
                eliciting = True
            if not frames:
                data_waits = False
                continue
            if len(frames) < _MIN_PLAINTEXT:
                frames = frames.ljust(_MIN_PLAINTEXT, b"\0")
                padded = True
            else:
                padded = False
            number = self._number
            self._number = number + 1
            header = SHORT.pack(
                flags, every, self.peer_port, self.port, self.peer_cid, number & 0xFFFFFFFF
            )
            packet = header + aead.encrypt((iv ^ number).to_bytes(12, "big"), frames, header)
            packets.append(packet)
            self.packets_sent += 1
            if eliciting or padded:
                sent = len(packet)
                recovery.sent[number] = (burst, sent, stream, start, end, rest)
                recovery.in_flight += sent
                paced += sent
                if eliciting:
                    recovery.last_eliciting_ns = now_ns
                    self._active_ns = now_ns
                    if self._probes_due:
                        self._probes_due -= 1
            elif rest:
                recovery.sent[number] = (burst, 0, None, 0, 0, rest)
            if stream is None or rest is not None:
                data_waits = (
                    streams.has_data() or bool(control.waiting) or bool(self._datagrams_out)
                )
        if paced:
            pacer.on_sent(paced)
        if data_waits or limited:
            self._limited = recovery.in_flight + size > window or limited
        elif packets:
            self._limited = recovery.in_flight + size > window
        if len(packets) < limit:
            self._transmit_probe(packets, now_ns, flags, every)
        return packets

    def _set_pace(self, size: int) -> None:
        controller, rtt = self.recovery.controller, self.recovery.rtt
        rate = controller.pacing_rate
        if rate is None:
            gain = 2 if controller.slow_start else 1.25
            rate = int(gain * controller.window * 10**9) // max(rtt.smoothed_rtt, 1)
        if not rtt.sampled:
            rate = 0
        if rate:
            self._pacer.set_rate(rate, size)

    def _fill(
        self, room: int, now_ns: int, may_send: bool
    ) -> tuple[bytes, Any, int, int, list[Any] | None, bool]:
        """The frames of the next packet: (frames, stream, start, end, rest, ack-eliciting)."""
        acks = self.acks
        head = b""
        rest: list[Any] | None = None
        eliciting = False
        if acks.due_ns is not None and (acks.due_ns <= now_ns or may_send):
            head = acks.frame(now_ns, min(room // 2, 600))
            rest = [("ack", acks.largest)]
        if not may_send:
            return head, None, 0, 0, rest, False
        if self._control.waiting:
            while taken := self._control.take(room - len(head)):
                head += taken[1]
                rest = rest or []
                rest.append(("control", taken[0]))
                eliciting = True
        datagrams = self._datagrams_out
        while datagrams and 3 + len(datagrams[0]) <= room - len(head):
            data = datagrams.popleft()
            head += DATAGRAM_HEAD.pack(FrameType.DATAGRAM, len(data)) + data
            rest = rest or []
            rest.append(("datagram",))
            eliciting = True
        space = room - len(head) - 15
        if space <= 0:
            return head, None, 0, 0, rest, eliciting
        found = self.streams.take(
            space,
        )
        if found is None:
            return head, None, 0, 0, rest, eliciting
        stream, start, data_part, end = found
        length = len(data_part)
        kind = FrameType.STREAM if end == start + length else FrameType.STREAM_FIN
        head = head + STREAM_HEAD.pack(kind, stream.stream_id, start, length) + data_part
        if length < space - 64:
            # Room is left: what other streams have goes along.
            while space - length > 64 and (found := self.streams.take(room - len(head) - 15)):
                other, other_start, part, other_end = found
                length = len(part)
                kind = (
                    FrameType.STREAM if other_end == other_start + length else FrameType.STREAM_FIN
                )
                head += STREAM_HEAD.pack(kind, other.stream_id, other_start, length) + part
                rest = rest or []
                rest.append(("stream", other, other_start, other_end))
                space = room - len(head) - 15
                length = 0
        return head, stream, start, end, rest, True

    def _transmit_probe(self, packets: list[bytes], now_ns: int, flags: int, every: int) -> None:
        """A probe of the path's packet size, if one is due and the window lets it go."""
        search, recovery, sealer = self.mtu, self.recovery, self._sealer
        if search.next_ns is None or search.next_ns > now_ns or sealer is None:
            return
        if not recovery.rtt.sampled or self.attempt is not None:
            return
        size = search.probe()
        number = self._number
        self._number = number + 1
        header = SHORT.pack(
            flags, every, self.peer_port, self.port, self.peer_cid, number & 0xFFFFFFFF
        )
        frames = b"\x01".ljust(size - _OVERHEAD, b"\0")
        packets.append(
            header + sealer.aead.encrypt((sealer.iv ^ number).to_bytes(12, "big"), frames, header)
        )
        self.packets_sent += 1
        burst = recovery.burst(now_ns, False)
        recovery.sent[number] = (burst, size, None, 0, 0, [("probe", size)])
        recovery.in_flight += size
        recovery.last_eliciting_ns = now_ns

    def _transmit_attempt(self, now_ns: int) -> list[bytes]:
        if self.attempt is None:
            return []
        packet = self.attempt.poll(now_ns)
        if packet == b"" and not self.recovery.in_flight:
            self._control.put("ping", PingFrame())
        return [packet] if packet else []

    # --- time ---

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` or `transmit` has something to do, ns; None: never."""
        if self.state is State.CLOSED:
            return None
        if self.state is State.HANDSHAKE:
            return self.attempt.timeout_ns if self.attempt else None
        if self.state in (State.CLOSING, State.DRAINING):
            return 0 if self._close_due else self._close_until_ns
        recovery = self.recovery
        times = [
            recovery.loss_ns,
            recovery.pto_ns(),
            self.acks.due_ns,
            self._forget_keys_ns,
            self._linger_until_ns,
            self._send_ns(),
        ]
        if self._idle_ns:
            times.append(self._active_ns + self._idle_ns)
        if recovery.in_flight:
            times.append(self._heard_ns + self.config.dead_path_ns)
        elif self.config.keep_alive_ns:
            times.append(self._active_ns + self.config.keep_alive_ns)
        if self.mtu.next_ns is not None and recovery.rtt.sampled and self.attempt is None:
            times.append(self.mtu.next_ns)
        if self.attempt is not None:
            times.append(self.attempt.timeout_ns)
        return min([each for each in times if each is not None], default=None)

    def _send_ns(self) -> int | None:
        """When waiting data may leave, as far as window and pacing let it."""
        if not (self._control.waiting or self._datagrams_out or self.streams.has_data()):
            return None
        recovery = self.recovery
        if recovery.in_flight + self.mtu.size > recovery.controller.window:
            return None
        return self._pacer.next_ns(0)

    def handle_timeout(self, now_ns: int) -> None:
        """Time has passed; calling early does no harm."""
        if self.attempt is not None:
            self.attempt.handle_timeout(now_ns)
            if self.attempt.error is not None:
                self.fail_handshake(self.attempt.error)
                return
        if self.state in (State.CLOSING, State.DRAINING):
            if now_ns >= self._close_until_ns:
                self.state = State.CLOSED
            return
        if self.state is not State.ESTABLISHED:
            return
        recovery = self.recovery
        if recovery.loss_ns is not None and now_ns >= recovery.loss_ns:
            self._on_lost(recovery.on_loss_timeout(now_ns), now_ns)
        pto_ns = recovery.pto_ns()
        if pto_ns is not None and now_ns >= pto_ns:
            self._on_pto(now_ns)
        if self._forget_keys_ns is not None and now_ns >= self._forget_keys_ns:
            self._forget_keys_ns = None
            if self._opener is not None:
                self._opener.forget_previous()
        if self._idle_ns and now_ns >= self._active_ns + self._idle_ns:
            self._lose("nothing was heard for the idle time")
        elif recovery.in_flight and now_ns >= self._heard_ns + self.config.dead_path_ns:
            self._lose("the peer does not answer any more")
        elif (
            self.config.keep_alive_ns
            and not recovery.in_flight
            and now_ns >= self._active_ns + self.config.keep_alive_ns
        ):
            self._control.put("ping", PingFrame())
        if self._linger_until_ns is not None and now_ns >= self._linger_until_ns:
            self.abort(CloseCode.NONE, "", now_ns)

    def _on_pto(self, now_ns: int) -> None:
        recovery = self.recovery
        recovery.pto_count += 1
        recovery.last_eliciting_ns = now_ns
        self._probes_due = 1 if recovery.pto_count == 1 else 2
        if recovery.pto_count >= 3 and self.mtu.size > 1200:
            self._fall_back(now_ns)
        oldest = recovery.oldest()
        if oldest is not None and not self.streams.has_data():
            # What is oldest in flight is sent again; it stays in flight until it counts as lost.
            _, _, stream, start, end, rest = oldest
            if stream is not None:
                self.streams.on_lost(stream, start, end)
            for item in rest or ():
                if item[0] == "stream":
                    self.streams.on_lost(item[1], item[2], item[3])
                elif item[0] == "control":
                    self._again(item[1])

    # --- the user ---

    def poll_event(self) -> Event | None:
        """The next thing to tell the user, or None."""
        return self._events.popleft() if self._events else None

    def write(self, stream_id: int, data: bytes | memoryview) -> int:
        """Takes in data for a stream: how many bytes; `StreamWritable` says when more go.

        Raises:
            LocalProtocolError: the stream takes no data, or the connection is over.
        """
        self._check_open()
        return self.streams.write(stream_id, data, self.high_water)

    def finish(self, stream_id: int) -> None:
        """Ends a stream behind what was written. Raises LocalProtocolError."""
        self._check_open()
        self.streams.finish(stream_id)

    def read(self, stream_id: int, limit: int, now_ns: int) -> bytes:
        """Up to `limit` bytes that have come; b"" for none now, or at the end."""
        return self.streams.read(stream_id, limit, now_ns, self.recovery.rtt.smoothed_rtt)

    @property
    def max_datagram_bytes(self) -> int:
        """The largest datagram that can be sent now."""
        return min(self.mtu.size - _OVERHEAD - DATAGRAM_HEAD.size, self._peer_max_datagram)

    def send_datagram(self, data: bytes) -> bool:
        """Queues a datagram: False if the queue is full, and it is lost.

        Raises:
            LocalProtocolError: it is too large, or the connection is over.
        """
        self._check_open()
        if len(data) > self.max_datagram_bytes:
            words = f"a datagram of {len(data)} bytes; {self.max_datagram_bytes} fit"
            raise LocalProtocolError(CloseCode.MESSAGE, words)
        if len(self._datagrams_out) >= self.config.datagram_queue:
            return False
        self._datagrams_out.append(bytes(data))
        return True

    def receive_datagram(self) -> bytes | None:
        """The next datagram that came, None for none."""
        return self._datagrams_in.popleft() if self._datagrams_in else None

    def ping(self) -> None:
        """Has the peer answer."""
        self._control.put("ping", PingFrame())

    def _check_open(self) -> None:
        if self.state is not State.ESTABLISHED or self._linger_until_ns is not None:
            raise LocalProtocolError(CloseCode.NONE, "the connection is not open")

    def _all_arrived(self) -> bool:
        return self.streams.all_acked and not self._datagrams_out

    def close(self, now_ns: int) -> None:
        """Ends well: what was written is sent, acknowledged, and the peer told."""
        if self.state is State.HANDSHAKE:
            self.state = State.CLOSED
            self._events.append(ConnectionClosed(None))
        elif self.state is State.ESTABLISHED and self._linger_until_ns is None:
            arrived = self._all_arrived()
            self._linger_until_ns = now_ns if arrived else now_ns + self.config.linger_ns

    def abort(self, code: int, reason: str, now_ns: int) -> None:
        """Ends at once, with CLOSE."""
        if self.state is State.HANDSHAKE:
            self.state = State.CLOSED
            self._events.append(ConnectionClosed(None))
        elif self.state is State.ESTABLISHED:
            self._begin_closing(code, reason, now_ns)
            self._events.append(ConnectionClosed(None))

    def _fail(self, error: RemoteProtocolError, now_ns: int) -> None:
        if self.state is State.ESTABLISHED:
            self._begin_closing(error.code, error.reason, now_ns)
            self._events.append(ConnectionClosed(error))

    def _lose(self, reason: str) -> None:
        self.state = State.CLOSED
        self._events.append(ConnectionClosed(ConnectionLostError(reason)))

    def on_stateless_reset(self, token: bytes) -> bool:
        """Whether the peer has forgotten this connection, as its token proves."""
        from hmac import compare_digest

        if any(compare_digest(token, known) for _, known in self._peer_cids.values()):
            self._lose("the peer has forgotten the connection: was it restarted?")
            return True
        return False

    def _begin_closing(self, code: int, reason: str, now_ns: int) -> None:
        reason = reason.encode()[:_MAX_REASON].decode(errors="ignore")
        self._close_frame = CloseFrame(code, reason).emit()
        self._close_until_ns = now_ns + 3 * self.recovery.rtt.pto
        self._close_due = True
        self.state = State.CLOSING
        self._linger_until_ns = None

    def _transmit_close(self, now_ns: int) -> list[bytes]:
        sealer = self._sealer
        if not self._close_due or sealer is None:
            return []
        self._close_due = False
        number = self._number
        self._number += 1
        flags = VERSION_1 | (KEY_PHASE if sealer.phase else 0)
        header = SHORT.pack(flags, 1, self.peer_port, self.port, self.peer_cid, number & 0xFFFFFFFF)
        frames = self._close_frame.ljust(_MIN_PLAINTEXT, b"\0")
        self.packets_sent += 1
        return [
            header + sealer.aead.encrypt((sealer.iv ^ number).to_bytes(12, "big"), frames, header)
        ]

    def _answer_closing(self, frames: bytes, now_ns: int) -> None:
        """A packet came although CLOSE was sent: it is sent again, ever less often."""
        if frames[:1][0] == FrameType.CLOSE:
            self.state = State.DRAINING
            return
        self._close_answers += 1
        if self._close_answers & (self._close_answers - 1) == 0:
            self._close_due = True


def _close_words(code: int) -> str:
    known = {each.value: each.name.lower().replace("_", " ") for each in CloseCode}
    return f"the peer closed the connection: {known.get(code, f'code {code}')}"


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
