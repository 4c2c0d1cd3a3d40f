"""decode's eye for RPT: finds its packets, inside UDP too, and opens them with a key log.

Protocol 253 is RPT. A UDP datagram is, where a handshake with a right CRC was seen before
it, or where the key log knows its connection; then its RPT header becomes a layer like any
other. Secrets come from `--keylog` and from the secrets blocks of pcapng files, and each
file is a world of its own: what one tells of connections says nothing about another's.

Most captures hold no RPT: what opens it is imported with the first packet that may be some.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rawproto.capture import RPT_KEY_LOG
from rawproto.capture.pcapng import PcapngReader
from rawproto.capture.reader import Reader
from rawproto.cli.decode_files import Found
from rawproto.errors import UsageError
from rawproto.wire.dissect import Dissection
from rawproto.wire.rpt import LONG, LONG_FORM, SHORT, VERSION_1, RPTLong, RPTShort
from rawproto.wire.show import fields
from rawproto.wire.udp import UDPHeader

if TYPE_CHECKING:
    from rawproto.transport.opened import Reading, Sessions

__all__ = ["RPTView", "load_key_log", "opened_fields", "opened_words"]

_MAX_KEY_LOG_BYTES = 1 << 28


def load_key_log(name: str | None) -> bytes:
    """A key log's text; none without a name.

    Raises:
        UsageError: it cannot be read, or there is no secret in it.
    """
    if name is None:
        return b""
    try:
        with Path(name).open("rb") as file:
            text = file.read(_MAX_KEY_LOG_BYTES)
    except OSError as error:
        raise UsageError(f"--keylog {name}: {error.strerror or error}") from None
    from rawproto.transport.key_log import KeyLog

    if not len(KeyLog(text)):
        raise UsageError(f"--keylog {name}: no RPT_CLIENT_SECRET or RPT_SERVER_SECRET line in it")
    return text


class RPTView:
    """What is known of the RPT connections of the file that is being read.

    Args:
        key_log: text of the key log that holds for all files.
    """

    def __init__(self, key_log: bytes = b"") -> None:
        self._key_log = key_log
        self._reader: Reader | None = None
        self._secrets_taken = 0
        self._sessions: Sessions | None = None

    def look(self, found: Found, seen: Dissection) -> Reading | None:
        """Reads the RPT packet in `seen`, whose header becomes a layer of it if it was none yet.

        Returns:
            What the packet says; None where there is none, or one cut short.
        """
        if found.reader is not self._reader:
            self._reader, self._secrets_taken, self._sessions = found.reader, 0, None
        start = _rpt_start(seen)
        if start is None or seen.fragment:
            return None
        innermost = seen.layers[-1]
        data = seen.data[start : seen.payload_offset + len(seen.payload)]
        in_udp = isinstance(innermost, UDPHeader)
        reading = self._read(found.reader, data, in_udp=in_udp)
        if reading is not None and in_udp:
            size = SHORT.size if isinstance(reading.packet, RPTShort) else len(data)
            seen.layers.append(reading.packet)
            seen.offsets.append(start)
            seen.payload_offset = start + size
            seen.payload = data[size:]
        return reading

    def _read(self, reader: Reader, data: bytes, *, in_udp: bool) -> Reading | None:
        secrets = reader.secrets if isinstance(reader, PcapngReader) else []
        if self._sessions is None:
            if in_udp and not (self._key_log or secrets or _like_long(data)):
                return None
            from rawproto.transport.key_log import KeyLog
            from rawproto.transport.opened import Sessions

            self._sessions = Sessions(KeyLog(self._key_log))
        for each in secrets[self._secrets_taken :]:
            if each.secrets_type == RPT_KEY_LOG:
                self._sessions.key_log.add(each.data)
        self._secrets_taken = len(secrets)
        return self._sessions.read(data, certain=not in_udp)


def _like_long(data: bytes) -> bool:
    """Whether the lengths agree with those of a long packet; its CRC is asked for later."""
    if len(data) < LONG.size or data[0] & ~0x70 != LONG_FORM | VERSION_1:
        return False
    length: int = LONG.unpack_from(data)[6]
    return len(data) == LONG.size + length + 4


def _rpt_start(seen: Dissection) -> int | None:
    """Where an RPT packet begins, or may begin within UDP."""
    innermost = seen.layers[-1] if seen.layers else None
    if isinstance(innermost, RPTShort | RPTLong):
        return seen.offsets[-1]
    return seen.payload_offset if seen.payload and isinstance(innermost, UDPHeader) else None


def opened_words(reading: Reading) -> str:
    """What stood sealed in a packet, on the packet's line; "" where nothing was opened."""
    if reading.number is None:
        return ""
    from rawproto.wire.frame_words import frames_words

    words = frames_words(reading.frames)
    return f"{words} [{reading.damage}]" if reading.damage else words


def opened_fields(reading: Reading) -> dict[str, Any]:
    """What a packet says to who has its keys, as JSON can carry it.

    `opened` is None for a packet that was not, and `sealed` says why it stayed so.
    """
    sender = {True: "client", False: "listener", None: None}[reading.from_client]
    damage = reading.damage
    opened = None
    if reading.number is not None:
        opened = {
            "packet_number": reading.number,
            "plaintext_bytes": len(reading.plaintext),
            "frames": [fields(frame) for frame in reading.frames],
            "damage": damage
            and {"layer": damage.layer, "offset": damage.offset, "reason": damage.reason},
        }
    return {"sender": sender, "opened": opened, "sealed": reading.sealed or None}
