"""Numbers that both peers must agree on (docs/transport-spec.md names the sections).

What a side may choose for itself stands in `config`.
"""

from __future__ import annotations

from enum import IntEnum

MIN_INIT_BYTES = 1200
"""A listener drops a smaller INIT (2.3.1)."""
BASE_PACKET_BYTES = 1200
"""What every path carries (9.1)."""
MIN_SHORT_BYTES = 46
"""A sender pads up to it, so that a RESET about a packet is never larger (2.1.5)."""
TAG_BYTES = 16
MAX_PHASE_PACKETS = 1 << 22
"""After so many packets under one key its sender changes it (4.5)."""
MAX_FORGERIES = 1 << 36
"""So many packets that did not open end a connection (4.6)."""
MAX_ACK_RANGES = 64
MAX_ACK_DELAY_NS = 25_000_000
AMPLIFICATION = 3
"""How many times what came from it goes to an address that is not validated (12.4)."""
MAX_CIDS = 4
HELD_PACKETS = 8
"""Short packets that a listener keeps until message 3 has come (3.4)."""


class Kind(IntEnum):
    """What a connection carries (3.3, 6)."""

    STREAM = 0
    SEQPACKET = 1
    DGRAM = 2


class CloseCode(IntEnum):
    """Why a connection is closed (11.2); the application's codes begin at 256."""

    NONE = 0
    INTERNAL = 1
    PROTOCOL = 2
    FRAME = 3
    FLOW = 4
    STREAMS = 5
    STREAM_STATE = 6
    FINAL_SIZE = 7
    MESSAGE = 8
    KIND = 9
    NOT_AUTHORIZED = 10
    KEY_UPDATE = 11
    KEY_LIMIT = 12
    CID_LIMIT = 13


class ResetCode(IntEnum):
    """Why a packet is answered with RESET (12.2)."""

    PORT = 0
    KEY = 1
    UNKNOWN = 2
    SUITE = 3
    BUSY = 4
