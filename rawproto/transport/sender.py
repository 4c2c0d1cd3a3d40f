"""The sending half of a connection: what leaves, and in which packet.

::

    acks ------.
    control ----\\                     .-> recovery: in flight, lost, RTT
    datagrams ---+--> _fill --> seal --+
    streams ----/        ^             `-> packets     `-- feedback: ACKs, losses
                         |
         window, pace, packet size: congestion, pacing, pmtu

A packet costs one struct, one AEAD and one tuple: there is no object for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rawproto.transport.acks import Acks
from rawproto.transport.config import Config
from rawproto.transport.congestion import CONTROLLERS, Burst, Controller
from rawproto.transport.constants import (
    BASE_PACKET_BYTES,
    MAX_PHASE_PACKETS,
    MIN_SHORT_BYTES,
    TAG_BYTES,
)
from rawproto.transport.control import Control
from rawproto.transport.feedback import Feedback
from rawproto.transport.incoming import Incoming
from rawproto.transport.outgoing import Outgoing
from rawproto.transport.pacing import Pacer
from rawproto.transport.pmtu import MTUSearch
from rawproto.transport.protection import Protection
from rawproto.transport.recovery import Recovery
from rawproto.transport.stream import Stream
from rawproto.wire.rpt import KEY_PHASE, SHORT, VERSION_1
from rawproto.wire.rpt_frames import DATAGRAM_HEAD, STREAM_HEAD, FrameType

__all__ = ["OVERHEAD_BYTES", "Sender"]

OVERHEAD_BYTES = SHORT.size + TAG_BYTES
_MIN_FRAMES = MIN_SHORT_BYTES - OVERHEAD_BYTES
_PING = bytes([FrameType.PING])
_STREAM, _STREAM_FIN = FrameType.STREAM, FrameType.STREAM_FIN
_CHANGE_AT = MAX_PHASE_PACKETS // 2
_MOST_PER_ACK = 16
_ACK_ROOM = 600
_MOST_SKIPPED = 8
# A second stream's data goes into the same packet if so much room is left.
_WORTH_IT = 64
# An ACK of so many ranges goes along with `MOST_ALONE` bytes in a packet of the smallest size.
_FEW_RANGES = 8
# A peer that never acknowledges ACKs, as one that only sends need not, would have each kept.
_MOST_ACKS_KEPT = 1024


class Sender:
    """What a connection sends, once it has keys.

    Args:
        config: this side's settings.
        port: this side's RPT port.
        peer_port: the other side's.
        ceiling: the largest packet that the carrier takes.
        entropy: gives so many random bytes.
        outgoing: where data comes from.
        incoming: what lets the peer send, in case that is lost.
        acks: what is to be acknowledged.
        control: frames that wait.
        now_ns: by now.

    Attributes:
        peer_cid: the connection ID to send to.
        protection: the keys, None before the handshake is done.
        recovery: of what was sent.
        feedback: what the peer says of it.
        mtu: the search for the size of packets.
        datagrams: those that wait to be sent.
        number: that of the next packet.
        packets: how many were sent.
        active_ns: when something ack-eliciting was sent last.
    """

    def __init__(
        self,
        config: Config,
        *,
        port: int,
        peer_port: int,
        ceiling: int,
        entropy: Callable[[int], bytes],
        outgoing: Outgoing,
        incoming: Incoming,
        acks: Acks,
        control: Control,
        now_ns: int,
    ) -> None:
        self._config = config
        self._port, self._peer_port = port, peer_port
        self._entropy = entropy
        self._outgoing, self._acks, self.control = outgoing, acks, control
        self.peer_cid = 0
        self.protection: Protection | None = None
        self.mtu = MTUSearch(ceiling, now_ns)
        self.recovery = Recovery(self._controller())
        self.datagrams: list[bytes] = []
        self.number = 0
        self.packets = 0
        self.active_ns = now_ns
        self.pacer = Pacer(self.mtu.size)
        self._skipped = self.recovery.skipped
        self._draw_skip()
        self._probes_due = 0
        self.feedback = Feedback(self.recovery, self.mtu, outgoing, incoming, acks, control)

    def _controller(self) -> Controller:
        return CONTROLLERS[self._config.congestion](self.mtu.size, self._entropy)

    def _draw_skip(self) -> None:
        self._skip_at = self.number + 64 + int.from_bytes(self._entropy(2), "big") % 960

    @property
    def high_water(self) -> int:
        """How much of a stream waits in memory to be sent, in bytes."""
        least, window = self._config.send_buffer_bytes, self.recovery.controller.window
        return window if window > least else least

    @property
    def waits(self) -> bool:
        """Whether there is anything to send but acknowledgements."""
        if self.control.waiting or self.datagrams:
            return True
        outgoing = self._outgoing
        return bool(outgoing.ready) and outgoing.has_data()

    def rests(self, now_ns: int, armed_ns: int | None) -> bool:
        """Whether nothing is under way or to be sent, but an ACK that may wait until `armed_ns`.

        So it is after most packets of whoever only receives: he needs no turn before that.
        """
        due_ns = self._acks.due_ns
        return (
            due_ns is not None
            and armed_ns is not None
            and now_ns < armed_ns <= due_ns
            and not self.recovery.in_flight
            and not self._probes_due
            and not self.waits
        )

    # --- what leaves ---

    def transmit(self, now_ns: int, limit: int, probing: bool) -> list[bytes]:
        """The packets that leave now.

        Args:
            now_ns: by now.
            limit: at most so many.
            probing: whether larger sizes may be tried.
        """
        protection, recovery, acks = self.protection, self.recovery, self._acks
        assert protection is not None
        if self.number - protection.sealer.first >= _CHANGE_AT:
            self.change_keys(now_ns)
        window, size, probe_ns = recovery.controller.window, self.mtu.size, self.mtu.next_ns
        probing = probing and probe_ns is not None and probe_ns <= now_ns and recovery.rtt.sampled
        waits = self.waits
        due_ns = acks.due_ns
        if not waits and not self._probes_due and (due_ns is None or due_ns > now_ns):
            self.feedback.limited = limited = recovery.in_flight + size > window
            recovery.on_sent(None, not limited)
            return self._transmit_probe(now_ns, _per_ack(window, size)) if probing else []
        every = 1 if self._probes_due else _per_ack(window, size)
        room = size - OVERHEAD_BYTES
        self._set_pace(window, size)
        allowance = self.pacer.allowance(now_ns)
        packets: list[bytes] = []
        before = recovery.in_flight
        burst: Burst | None = None
        while len(packets) < limit:
            due_ns, in_flight = acks.due_ns, recovery.in_flight
            asked = self._probes_due > 0 or (due_ns is not None and due_ns <= now_ns)
            if not waits and not asked:
                break
            may_send = self._probes_due > 0 or (
                in_flight + size <= window and allowance - in_flight + before >= size
            )
            if not may_send and not asked:
                break
            if burst is None:
                burst = recovery.burst(now_ns, not waits)
            if may_send and waits and due_ns is None and not self._probes_due:
                may_leave = min(window - in_flight, allowance - in_flight + before) // size
                run = self._seal_run(min(may_leave, limit - len(packets)), size, burst, every)
                if run:
                    packets += run
                    waits = self.waits
                    continue
            frames, stream, start, end, rest, eliciting = self._fill(room, now_ns, may_send)
            if self._probes_due and not eliciting:
                frames, eliciting = frames + _PING, True
            if not frames:
                break
            packets.append(self._seal(frames, burst, every, stream, start, end, rest, eliciting))
            if stream is None or rest or end < start + room // 2:
                waits = self.waits
        # Only a window that is used may grow: full, or half full and spread over its time.
        in_flight = recovery.in_flight
        self.feedback.limited = in_flight + size > window or (waits and 2 * in_flight >= window)
        recovery.on_sent(burst, not waits and in_flight + size <= window)
        self.pacer.on_sent(max(in_flight - before, 0))
        if probing and len(packets) < limit:
            packets += self._transmit_probe(now_ns, every)
        return packets

    @property
    def prefix(self) -> bytes:
        """The header of packets that leave now, up to their number."""
        every = _per_ack(self.recovery.controller.window, self.mtu.size)
        sealer = self.protection.sealer  # type: ignore[union-attr]
        flags = KEY_PHASE | VERSION_1 if sealer.phase else VERSION_1
        return SHORT.pack(flags, every, self._peer_port, self._port, self.peer_cid, 0)[:-4]

    @property
    def last_plain(self) -> int:
        """The number before which none is left out, and no keys change."""
        sealer = self.protection.sealer  # type: ignore[union-attr]
        return min(self._skip_at, sealer.first + _CHANGE_AT)

    def transmit_alone(self, stream: Stream, data: bytes, now_ns: int) -> bytes | None:
        """The packet that takes `data` away, if nothing else is to be sent and nothing under way.

        What leaves is what `transmit` would send.

        Returns:
            None if that is not so: nothing was taken in, and nothing has happened.
        """
        recovery, protection, acks = self.recovery, self.protection, self._acks
        number, probe_ns, size = self.number, self.mtu.next_ns, self.mtu.size
        if (
            recovery.in_flight
            or self.control.waiting
            or self.datagrams
            or self._probes_due
            or protection is None
            or len(acks.received.starts) > _FEW_RANGES
            or number - protection.sealer.first >= _CHANGE_AT
            or (probe_ns is not None and probe_ns <= now_ns)
            or (window := recovery.controller.window) < size
            or not self.pacer.spend(size, now_ns)
        ):
            return None
        start = self._outgoing.write_alone(stream, data)
        if start < 0:
            self.pacer.on_sent(-size)  # nothing does
            return None
        length = len(data)
        frames = STREAM_HEAD.pack(_STREAM, stream.stream_id, start, length) + data
        rest: list[Any] | None = None
        if acks.due_ns is not None:
            frames = acks.frame(now_ns, _ACK_ROOM) + frames
            rest = [("ack", acks.largest)]
        burst = recovery.burst(now_ns, True)
        every = _per_ack(window, size)
        packet = self._seal(frames, burst, every, stream, start, start + length, rest, True)
        recovery.alone = self.number - 1
        self.feedback.limited = False
        recovery.on_sent(burst, True)
        return packet

    def _set_pace(self, window: int, size: int) -> None:
        controller, rtt, pacer = self.recovery.controller, self.recovery.rtt, self.pacer
        if not rtt.sampled:
            return
        rate = controller.pacing_rate
        if rate is None:
            share = 2 if controller.slow_start else 1.25
            rate = int(share * window * 1e9 / rtt.smoothed_rtt)
        if rate != pacer.rate or size != pacer.packet:
            pacer.set_rate(rate, size)

    def _fill(
        self, room: int, now_ns: int, may_send: bool
    ) -> tuple[bytes, Any, int, int, list[Any] | None, bool]:
        """The frames of the next packet: (frames, stream, start, end, rest, ack-eliciting)."""
        acks, outgoing = self._acks, self._outgoing
        frames = b""
        rest: list[Any] | None = None
        eliciting = False
        if acks.due_ns is not None:  # what need not leave yet goes along with the rest
            frames = acks.frame(now_ns, min(room // 2, _ACK_ROOM))
            rest = [("ack", acks.largest)]
        if not may_send:
            return frames, None, 0, 0, rest, False
        if self.control.waiting or self.datagrams:
            rest = rest or []
            frames, eliciting = self._fill_rare(frames, rest, room)
        found = outgoing.take(space) if (space := room - len(frames) - 15) > 0 else None
        if found is None:
            return frames, None, 0, 0, rest, eliciting
        stream, start, data, end = found
        length = len(data)
        kind = _STREAM if end == start + length else _STREAM_FIN
        frames = frames + STREAM_HEAD.pack(kind, stream.stream_id, start, length) + data
        while outgoing.ready and (space := room - len(frames) - 15) > _WORTH_IT:
            found = outgoing.take(space)
            if found is None:
                break
            other, other_start, data, other_end = found
            length = len(data)
            kind = _STREAM if other_end == other_start + length else _STREAM_FIN
            frames += STREAM_HEAD.pack(kind, other.stream_id, other_start, length) + data
            rest = [*(rest or ()), ("stream", other, other_start, other_end)]
        return frames, stream, start, end, rest, True

    def _fill_rare(self, frames: bytes, rest: list[Any], room: int) -> tuple[bytes, bool]:
        """Control frames and datagrams that fit behind `frames`: (frames, whether there were)."""
        eliciting = False
        while taken := self.control.take(room - len(frames)):
            frames += taken[1]
            rest.append(("control", taken[0]))
            eliciting = True
        datagrams = self.datagrams
        while datagrams and 3 + len(datagrams[0]) <= room - len(frames):
            data = datagrams.pop(0)
            frames += DATAGRAM_HEAD.pack(FrameType.DATAGRAM, len(data)) + data
            eliciting = True
        if datagrams and 3 + len(datagrams[0]) > room:
            datagrams.pop(0)  # the packets have become too small for it
        return frames, eliciting

    def _seal(
        self,
        frames: bytes,
        burst: Burst,
        every: int,
        stream: Any,
        start: int,
        end: int,
        rest: list[Any] | None,
        eliciting: bool,
    ) -> bytes:
        """A packet of `frames`, sealed and remembered."""
        number = self.number
        if number == self._skip_at:
            self._skipped.append(number)
            del self._skipped[:-_MOST_SKIPPED]
            self.number = number = number + 1
            self._draw_skip()
        self.number = number + 1
        padded = len(frames) < _MIN_FRAMES
        if padded:
            frames = frames.ljust(_MIN_FRAMES, b"\0")
        sealer = self.protection.sealer  # type: ignore[union-attr]
        header = SHORT.pack(
            KEY_PHASE | VERSION_1 if sealer.phase else VERSION_1,
            every,
            self._peer_port,
            self._port,
            self.peer_cid,
            number & 0xFFFFFFFF,
        )
        nonce = (sealer.iv ^ number).to_bytes(12, "big")
        packet: bytes = header + sealer.aead.encrypt(nonce, frames, header)
        self.packets += 1
        recovery = self.recovery
        if recovery.tracer is not None:
            recovery.tracer.packet_sent(burst.sent_ns, number, len(packet), frames)
        if eliciting or padded:
            size = len(packet)
            recovery.sent[number] = (burst, size, stream, start, end, rest)
            recovery.in_flight += size
            if eliciting:
                recovery.last_eliciting_ns = self.active_ns = burst.sent_ns
                if self._probes_due:
                    self._probes_due -= 1
        elif rest and number - recovery.largest_acked <= _MOST_ACKS_KEPT:
            recovery.sent[number] = (burst, 0, None, 0, 0, rest)
        return packet

    def _seal_run(self, count: int, size: int, burst: Burst, every: int) -> list[bytes]:
        """Up to `count` packets filled with new data of the only stream that has any.

        Nearly all of a bulk transfer leaves here. It is what `_fill` and `_seal` do, with
        everything done once that is the same for all packets.
        """
        packets: list[bytes] = []
        if self.control.waiting or self.datagrams:
            return packets
        share = size - OVERHEAD_BYTES - STREAM_HEAD.size
        found = self._outgoing.take_whole(share, min(count, self._skip_at - self.number))
        if found is None:
            return packets
        stream, start, shares = found
        stream_id, number, sent = stream.stream_id, self.number, self.recovery.sent
        sealer = self.protection.sealer  # type: ignore[union-attr]
        iv, encrypt, head = sealer.iv, sealer.aead.encrypt, STREAM_HEAD.pack
        tracer = self.recovery.tracer
        flags = KEY_PHASE | VERSION_1 if sealer.phase else VERSION_1
        prefix = SHORT.pack(flags, every, self._peer_port, self._port, self.peer_cid, 0)[:-4]
        for data in shares:
            header = prefix + (number & 0xFFFFFFFF).to_bytes(4, "big")
            frames = head(_STREAM, stream_id, start, share) + data
            nonce = (iv ^ number).to_bytes(12, "big")
            packets.append(header + encrypt(nonce, frames, header))
            if tracer is not None:
                tracer.packet_sent(burst.sent_ns, number, size, frames)
            end = start + share
            sent[number] = (burst, size, stream, start, end, None)
            start = end
            number += 1
        self.number = number
        self.packets += len(packets)
        self.recovery.in_flight += size * len(packets)
        self.recovery.last_eliciting_ns = self.active_ns = burst.sent_ns
        return packets

    def _transmit_probe(self, now_ns: int, every: int) -> list[bytes]:
        """A probe of the path's packet size, which is due."""
        size = self.mtu.probe()
        frames = _PING.ljust(size - OVERHEAD_BYTES, b"\0")
        burst = self.recovery.burst(now_ns, False)
        return [self._seal(frames, burst, every, None, 0, 0, [("probe", size)], True)]

    def close(self, frame: bytes, now_ns: int) -> bytes:
        """A packet of a CLOSE and of what is still to be acknowledged; it is not remembered."""
        if self._acks.largest >= 0:
            frame = self._acks.frame(now_ns, _ACK_ROOM) + frame
        burst = self.recovery.burst(self.active_ns, False)
        return self._seal(frame.ljust(_MIN_FRAMES, b"\0"), burst, 1, None, 0, 0, None, False)

    def stray(self, frames: bytes, size: int, now_ns: int) -> bytes:
        """A packet, padded to `size` bytes, for another way than the usual: not remembered."""
        frames = frames.ljust(max(size - OVERHEAD_BYTES, _MIN_FRAMES), b"\0")
        burst = self.recovery.burst(now_ns, False)
        return self._seal(frames, burst, 1, None, 0, 0, None, False)

    def begin_path(self, now_ns: int) -> None:
        """Packets go by another path from now on: RTT, window, size and marks begin anew."""
        self.mtu.fall_back(now_ns)
        self.recovery.begin_path(self._controller())
        self.pacer = Pacer(self.mtu.size)

    def resume(self, now_ns: int) -> None:
        """The peer can be reached again: what waited for a time-out leaves now."""
        self.recovery.pto_count = 0
        self._on_pto(now_ns)

    def change_keys(self, now_ns: int) -> bool:
        """Goes to the next phase of keys, if that is allowed now: whether it did."""
        protection = self.protection
        return protection is not None and protection.change(
            self.number, now_ns, self.recovery.rtt.pto
        )

    def on_ack(self, data: bytes, at: int, now_ns: int) -> int:
        """Takes in the ACK at `at`: where it ends. Raises as `Feedback.on_ack` does."""
        end, largest = self.feedback.on_ack(data, at, now_ns, self.number, self.high_water // 2)
        if self.protection is not None:
            self.protection.on_acked(largest)
        return end

    # --- time ---

    def due_ns(self, probing: bool) -> int | None:
        """When there is something to do; None for never. Asked after each turn."""
        recovery = self.recovery
        due_ns = recovery.pto_ns()
        ack_ns, loss_ns = self._acks.due_ns, recovery.loss_ns
        if ack_ns is not None and (due_ns is None or ack_ns < due_ns):
            due_ns = ack_ns
        if loss_ns is not None and (due_ns is None or loss_ns < due_ns):
            due_ns = loss_ns
        room = recovery.controller.window - recovery.in_flight
        if room >= self.mtu.size and self.waits:
            send_ns = self.pacer.next_ns()
            if due_ns is None or send_ns < due_ns:
                due_ns = send_ns
        probe_ns = self.mtu.next_ns if probing and recovery.rtt.sampled else None
        if probe_ns is not None and (due_ns is None or probe_ns < due_ns):
            due_ns = probe_ns
        return due_ns

    def handle_timeout(self, now_ns: int) -> None:
        """Time has passed."""
        recovery = self.recovery
        if recovery.loss_ns is not None and now_ns >= recovery.loss_ns:
            self.feedback.on_lost(recovery.on_loss_timeout(now_ns), now_ns)
        pto_ns = recovery.pto_ns()
        if pto_ns is not None and now_ns >= pto_ns:
            self._on_pto(now_ns)

    def _on_pto(self, now_ns: int) -> None:
        """Nothing was acknowledged for long: probes leave, whatever the window says."""
        recovery = self.recovery
        recovery.pto_count += 1
        recovery.last_eliciting_ns = now_ns
        self._probes_due = 1 if recovery.pto_count == 1 else 2
        if recovery.pto_count >= 3 and self.mtu.size > BASE_PACKET_BYTES:
            self.feedback.fall_back(now_ns)
        oldest = recovery.oldest()
        if oldest is not None and not self._outgoing.has_data():
            # It is sent again, and stays in flight until it counts as lost.
            self.feedback.send_again(oldest)
        recovery.tell(now_ns)


def _per_ack(window: int, size: int) -> int:
    """After how many packets the peer is asked to acknowledge (section 8.3)."""
    packets = window // size // 8
    if packets <= 1:
        return 1
    return packets if packets < _MOST_PER_ACK else _MOST_PER_ACK
