"""A port of this host that nobody else uses meanwhile.

Raw packets that carry a port reserve nothing by themselves: an ordinary socket
bound to it does, and keeps the kernel from answering for it in another's name.
"""

from __future__ import annotations

import socket
from typing import Literal

from rawproto.errors import LinkError

__all__ = ["reserve_port"]


def reserve_port(
    kind: Literal["tcp", "udp"], address: str, port: int = 0, *, scope: int = 0
) -> socket.socket:
    """Binds a port and does nothing with it; closing the socket gives it back.

    Args:
        kind: whose ports.
        address: of this host, either family.
        port: which, 0 for any that is free; `getsockname()[1]` tells.
        scope: index of the interface of a link-local address.

    Raises:
        LinkError: the port is in use (EADDRINUSE), or the address is not this host's.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    reserved = socket.socket(
        family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    )
    try:
        reserved.bind((address, port, 0, scope) if ":" in address else (address, port))
    except OSError as error:
        reserved.close()
        raise LinkError(f"use {kind} port", f"{port} of {address}", error.errno) from None
    return reserved
