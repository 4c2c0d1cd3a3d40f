"""A flood of forged INITs: `python rpt_flood.py ADDR PORT A_SECOND SECONDS`.

Every packet is a valid INIT of its own (connection IDs, key, CRC), on bare IPv4, from an
address of 198.18.0.0/15 (RFC 2544). Run it between namespaces only. What was sent is told
as a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from collections.abc import Iterator
from zlib import crc32

from rawproto.transport.constants import MIN_INIT_BYTES
from rawproto.transport.handshake import suite_of
from rawproto.wire.ipv4 import DF, IPv4Header
from rawproto.wire.rpt import IP_PROTOCOL, LONG, RPTInit

FIRST_SOURCE, SOURCES = int.from_bytes(socket.inet_aton("198.18.0.1"), "big"), (1 << 17) - 2
_REST_S, _MOST_LATE_S = 0.001, 0.02
_KEY_BYTES = 32  # XX's first message is a public key, and any bytes are one


def packets(addr: str, port: int, rng: random.Random) -> Iterator[bytes]:
    """Forged INITs without end, IP headers included.

    ::

        IPv4 header        | INIT: flags .. ports | CIDs |   ...  | key  | zeros | CRC
        `- source drawn                             drawn           drawn
    """
    suite = next(number for number in range(256) if suite_of(number) is not None)
    template = RPTInit(suite=suite, dst_port=port, src_port=50_000, message=bytes(_KEY_BYTES))
    template.padding = bytes(MIN_INIT_BYTES - len(template.emit()))
    init = template.emit()[:-4]
    header = IPv4Header(
        src_addr="0.0.0.0", dst_addr=addr, protocol=IP_PROTOCOL, flags=DF, total_length=20
    ).emit()
    key_at = LONG.size + 3
    first, lengths, zeros = init[:6], init[22:key_at], init[key_at + _KEY_BYTES :]
    checksum_of_first = crc32(first)
    while True:
        source = FIRST_SOURCE + rng.randrange(SOURCES)
        rest = rng.randbytes(16) + lengths + rng.randbytes(_KEY_BYTES) + zeros
        checksum = crc32(rest, checksum_of_first)
        packet = header[:12] + source.to_bytes(4, "big") + header[16:] + first + rest
        yield packet + checksum.to_bytes(4, "big")


def main() -> int:
    addr, port = sys.argv[1], int(sys.argv[2])
    rate, seconds = float(sys.argv[3]), float(sys.argv[4])
    forged = packets(addr, port, random.Random(os.getpid()))
    sent = refused = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        send, target = sock.sendto, (addr, 0)
        start = before = time.monotonic()
        due = 0.0
        while (now := time.monotonic()) < start + seconds:
            # What a slow machine could not send in time is not made up for.
            due = min(due + (now - before) * rate, rate * _MOST_LATE_S)
            before = now
            while due >= 1:
                due -= 1
                try:
                    send(next(forged), target)
                    sent += 1
                except OSError:
                    refused += 1
            time.sleep(_REST_S)
        took = time.monotonic() - start
    print(json.dumps({"sent": sent, "refused": refused, "seconds": took, "pps": sent / took}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
