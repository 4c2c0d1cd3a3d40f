"""Other people's packets, opened: a capture and its key log (specification section 14).

::

    RPT_CLIENT_SECRET 8c0f... 51ab...  --> KeyLog ----.
                                                      v
    packets, in the order of the capture ---------> Sessions --> Reading: sender, number, frames

`Sessions` learns connection IDs from handshakes whose CRC is right, from the key log (which
knows a client's first one) and from the NEW_CONNECTION_ID frames that it opens. The cipher
is found by trying: a forged handshake may name any. It checks nothing that an endpoint has
to check, such as replays, and it answers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag

from rawproto.errors import WireError
from rawproto.transport.key_log import Bounded, KeyLog
from rawproto.transport.noise import AES_GCM, CHACHA_POLY
from rawproto.transport.protection import Keys, Opener
from rawproto.wire.rpt import (
    LONG_FORM,
    SHORT,
    VERSION_1,
    RPTHandshake,
    RPTInit,
    RPTLong,
    RPTShort,
    parse_rpt,
)
from rawproto.wire.rpt_frames import Frame, NewConnectionIDFrame, parse_frame

__all__ = ["Reading", "Sessions"]

_MOST_CIDS = 1 << 17
_HALF_RANGE = 1 << 31


@dataclass(slots=True, kw_only=True)
class Reading:
    """What was made of one packet.

    Attributes:
        packet: its header, of a long one all.
        from_client: who sent it; None where that is not known.
        number: of a short packet that was opened, all 62 bits of it.
        plaintext: what was sealed in it, b"" unless it was opened.
        frames: what stands there, as far as it can be read.
        damage: why no further.
        sealed: why a short packet was not opened, "" where it was.
    """

    packet: RPTShort | RPTLong
    from_client: bool | None = None
    number: int | None = None
    plaintext: bytes = b""
    frames: list[Frame] = field(default_factory=list)
    damage: WireError | None = None
    sealed: str = ""


class _Way:
    """One direction of a connection: the keys of what its sender sends."""

    __slots__ = ("_expected", "_openers")

    def __init__(self, secret: bytes) -> None:
        # The first packet that opens tells which of the two it is.
        self._openers = [Opener(Keys(secret, cipher)) for cipher in (AES_GCM, CHACHA_POLY)]
        self._expected = 0

    def open(self, packet: RPTShort, header: bytes, sealed: bytes) -> tuple[int, bytes] | None:
        """(whole packet number, frames), None if it does not open (sections 4.4, 7.2)."""
        low = packet.packet_number
        number = low + ((self._expected - low + _HALF_RANGE) >> 32 << 32)
        number = low if number < 0 else number
        for opener in self._openers:
            is_next = False
            try:
                if packet.key_phase == opener.phase:
                    nonce = (opener.iv ^ number).to_bytes(12, "big")
                    frames: bytes = opener.aead.decrypt(nonce, sealed, header)
                else:
                    frames, is_next = opener.open_other(number, sealed, header)
            except InvalidTag:
                continue
            if is_next:
                opener.change(number)
            self._openers = [opener]
            self._expected = max(self._expected, number + 1)
            return number, frames
        return None


class _Session:
    """One connection; `client_cid` is None where its INIT was not seen and no key is known."""

    __slots__ = ("client_cid", "ways")

    def __init__(self, client_cid: int | None) -> None:
        self.client_cid = client_cid
        self.ways: dict[bool, _Way] = {}

    def way(self, key_log: KeyLog, *, from_client: bool) -> _Way | None:
        """The keys of what one side sends, made when they are first needed."""
        way = self.ways.get(from_client)
        if way is None and self.client_cid is not None:
            secret = key_log.secret(self.client_cid, of_client=from_client)
            if secret is not None:
                way = self.ways[from_client] = _Way(secret)
        return way


_Heading = tuple[int, int, int]
"""What leads a packet to its receiver: dst_port, src_port, dst_cid."""


class Sessions:
    """The connections of a capture.

    Args:
        key_log: their secrets; more may be added while packets are read.
    """

    def __init__(self, key_log: KeyLog) -> None:
        self.key_log = key_log
        self._known: Bounded[_Heading, tuple[_Session, bool]] = Bounded(_MOST_CIDS)
        # Connections whose listener's CID was not seen, by ports: (dst_port, src_port) there.
        self._one_sided: Bounded[tuple[int, int], _Session] = Bounded(_MOST_CIDS)

    def read(self, data: bytes, *, certain: bool = True) -> Reading | None:
        """Reads the next packet of the capture, and opens it if there is a key for it.

        Args:
            data: the packet from `flags` on.
            certain: whether its carrier says that it is RPT. Where it doesn't (UDP), a long
                packet has to have the right CRC, and a short one to be of a connection seen.

        Returns:
            What it says, None if it is no RPT packet.
        """
        if not data:
            return None
        if data[0] & LONG_FORM:
            return self._read_long(data, certain)
        return self._read_short(data, certain)

    def _read_long(self, data: bytes, certain: bool) -> Reading | None:
        try:
            packet, rest = parse_rpt(data)
        except WireError:
            return None
        assert isinstance(packet, RPTLong)
        right = packet.version == VERSION_1 and not rest and packet.verify(data)
        if not right:
            return Reading(packet=packet) if certain else None
        return Reading(packet=packet, from_client=self._learn(packet))

    def _learn(self, packet: RPTLong) -> bool | None:
        """Notes the CIDs of a handshake: whether the client sent this packet."""
        there = packet.dst_port, packet.src_port, packet.dst_cid
        back = packet.src_port, packet.dst_port, packet.src_cid
        if isinstance(packet, RPTInit):
            if back not in self._known:
                self._known.remember(back, (_Session(packet.src_cid), False))
            return True
        known = self._known.get(there)
        if not isinstance(packet, RPTHandshake):
            return None if known is None else known[1]
        if known is None:  # the capture began late
            if self.key_log.knows(packet.src_cid):
                known = _Session(packet.src_cid), True
            else:
                cid = packet.dst_cid if self.key_log.knows(packet.dst_cid) else None
                known = _Session(cid), False
            self._known.remember(there, known)
        session, from_client = known
        if back not in self._known:
            self._known.remember(back, (session, not from_client))
        return from_client if session.client_cid is not None else None

    def _read_short(self, data: bytes, certain: bool) -> Reading | None:
        try:
            packet, sealed = RPTShort.parse(data)
        except WireError:
            return None
        reading = Reading(packet=packet, sealed="of no connection whose handshake was seen")
        if packet.version != VERSION_1 or packet.reserved:
            return reading if certain else None
        heading = packet.dst_port, packet.src_port, packet.dst_cid
        header = data[: SHORT.size]
        session, reading.from_client = self._find(packet, heading)
        if session is None:
            return self._guess(reading, heading, header, sealed) or (reading if certain else None)
        from_client = bool(reading.from_client)
        way = session.way(self.key_log, from_client=from_client)
        if way is None:
            reading.sealed = "no secret of it is known"
        elif opened := way.open(packet, header, sealed):
            self._take(reading, session, *opened)
        else:
            reading.sealed = "it does not open with the secret that is known"
        if session.client_cid is None:
            reading.from_client = None
        return reading

    def _find(self, packet: RPTShort, heading: _Heading) -> tuple[_Session | None, bool | None]:
        """The connection that a packet names: (it, whether the client sent the packet)."""
        known = self._known.get(heading)
        if known is None and self.key_log.knows(packet.dst_cid):
            # No handshake in the capture, but the log knows the client's first CID.
            session = _Session(packet.dst_cid)
            known = session, False
            self._known.remember(heading, known)
            self._one_sided.remember((packet.src_port, packet.dst_port), session)
        return known or (None, None)

    def _guess(
        self, reading: Reading, heading: _Heading, header: bytes, sealed: bytes
    ) -> Reading | None:
        """Tries the connection between the same ports of which the listener's CID is unknown."""
        session = self._one_sided.get(heading[:2])
        way = session.way(self.key_log, from_client=True) if session is not None else None
        assert isinstance(reading.packet, RPTShort)
        if session is None or way is None:
            return None
        opened = way.open(reading.packet, header, sealed)
        if opened is None:
            return None
        self._known.remember(heading, (session, True))
        reading.from_client = True
        self._take(reading, session, *opened)
        return reading

    def _take(self, reading: Reading, session: _Session, number: int, plaintext: bytes) -> None:
        """Reads the frames of a packet that opened."""
        reading.number, reading.plaintext, reading.sealed = number, plaintext, ""
        packet, at = reading.packet, 0
        try:
            while at < len(plaintext):
                frame, at = parse_frame(plaintext, at)
                reading.frames.append(frame)
                if isinstance(frame, NewConnectionIDFrame):
                    heading = packet.src_port, packet.dst_port, frame.cid
                    self._known.remember(heading, (session, not reading.from_client))
        except WireError as error:
            reading.damage = error
