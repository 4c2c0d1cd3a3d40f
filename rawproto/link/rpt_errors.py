"""ICMP errors about what RPT's carriers sent, as the kernel keeps them (ip(7), IP_RECVERR)."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Literal

from rawproto.link.timestamps import EXTENDED_ERROR, ORIGIN_LOCAL, split_error_message

__all__ = ["CarrierError", "read_errors"]

_MOST_ERRORS = 64


@dataclass(slots=True, kw_only=True)
class CarrierError:
    """An ICMP error about a packet of ours.

    Attributes:
        data: as much of the RPT packet as was quoted.
        errno: what the kernel makes of it (ECONNREFUSED, EHOSTUNREACH, EMSGSIZE, ...).
        mtu: the largest RPT packet that passes, of EMSGSIZE; else None.
    """

    data: bytes
    errno: int
    mtu: int | None = None


def read_errors(sock: socket.socket, family: Literal[4, 6], skip: int) -> list[CarrierError]:
    """Empties a socket's error queue; `skip` bytes stand before RPT in what it quotes."""
    found = []
    for _ in range(_MOST_ERRORS):
        try:
            data, ancillary, _, _ = sock.recvmsg(2048, 512, socket.MSG_ERRQUEUE)
        except OSError:
            break
        _, extended = split_error_message(ancillary)
        if extended is None:
            continue
        number, origin, _, _, _, info, _ = EXTENDED_ERROR.unpack_from(extended)
        if origin == ORIGIN_LOCAL:
            continue  # the system call said so itself
        mtu = info - (20 if family == 4 else 40) if number == errno.EMSGSIZE else None
        found.append(CarrierError(data=data[skip:], errno=number, mtu=mtu))
    return found
