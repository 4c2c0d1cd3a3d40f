"""Transport parameters, what each side tells of itself in the handshake (specification 3.3).

::

    +----+--------+-------+----+--------+-------+
    | id | length | value | id | length | value | ...
    +----+--------+-------+----+--------+-------+
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from rawproto.errors import MalformedError, TruncatedError
from rawproto.transport.constants import BASE_PACKET_BYTES, Kind

__all__ = ["Parameters"]

# name: (id, bytes of the value)
_FORMAT = {
    "connection_id": (1, 8),
    "reset_token": (2, 16),
    "original_cid": (3, 8),
    "kind": (4, 1),
    "max_data": (5, 8),
    "max_stream_data": (6, 8),
    "max_streams_two_way": (7, 4),
    "max_streams_one_way": (8, 4),
    "idle_timeout_ms": (9, 4),
    "max_packet_bytes": (10, 2),
    "max_datagram_bytes": (11, 2),
    "max_message_bytes": (12, 4),
}
_BY_ID = {number: (name, size) for name, (number, size) in _FORMAT.items()}


@dataclass(slots=True, kw_only=True)
class Parameters:
    """One side's parameters; the table of section 3.3 says what each means."""

    connection_id: int
    reset_token: bytes
    original_cid: int | None = None
    kind: int = 0
    max_data: int = 0
    max_stream_data: int = 0
    max_streams_two_way: int = 0
    max_streams_one_way: int = 0
    idle_timeout_ms: int = 0
    max_packet_bytes: int = 65_535
    max_datagram_bytes: int = 0
    max_message_bytes: int = 0

    @classmethod
    def parse(cls, data: bytes) -> Parameters:
        """Reads all parameters.

        Raises:
            TruncatedError: one is cut short.
            MalformedError: one comes twice, has another size than its own, or makes no sense.
        """
        found: dict[str, int | bytes] = {}
        at = 0
        while at < len(data):
            if at + 2 > len(data) or at + 2 + data[at + 1] > len(data):
                raise TruncatedError("parameters", at, 2, len(data) - at)
            number, length = data[at], data[at + 1]
            value = data[at + 2 : at + 2 + length]
            at += 2 + length
            if number not in _BY_ID:
                continue
            name, size = _BY_ID[number]
            if length != size or name in found:
                raise MalformedError("parameters", at, f"a second or misshapen {name}")
            found[name] = value if name == "reset_token" else int.from_bytes(value, "big")
        if not {"connection_id", "reset_token"} <= found.keys():
            raise MalformedError("parameters", 0, "connection_id or reset_token is missing")
        self = cls(**found)  # type: ignore[arg-type]
        if self.kind not in tuple(Kind):
            raise MalformedError("parameters", 0, f"kind {self.kind}")
        if self.max_packet_bytes < BASE_PACKET_BYTES:
            raise MalformedError("parameters", 0, f"max_packet_bytes {self.max_packet_bytes}")
        return self

    def emit(self) -> bytes:
        """The bytes of all parameters that are not None."""
        parts = []
        for field in fields(self):
            number, size = _FORMAT[field.name]
            value = getattr(self, field.name)
            if value is not None:
                value = value if isinstance(value, bytes) else value.to_bytes(size, "big")
                parts.append(bytes([number, size]) + value)
        return b"".join(parts)
