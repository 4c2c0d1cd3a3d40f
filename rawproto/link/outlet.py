"""A packet socket that only sends whole frames, and does so fast (packet(7)).

`PacketLink` tells of each packet when it left; here nobody asks, and nothing is done for a
packet but the system call. Where the device's queue is full the call waits for room, so that
nothing is lost on the way to it. Nothing is received.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Self

from rawproto.errors import LinkError
from rawproto.link.interfaces import interface as find_interface
from rawproto.link.privileges import raw_socket_refused

__all__ = ["Outlet"]

_SEND_BYTES = 4 << 20


class Outlet:
    """Sends frames by one interface. Needs CAP_NET_RAW.

    Args:
        interface: by name.

    Raises:
        PrivilegeError: the process may not open packet sockets.
        LinkError: no such interface, or one whose frames begin with no Ethernet header.
    """

    def __init__(self, interface: str) -> None:
        device = find_interface(interface)
        if not device.has_ethernet_header:
            raise LinkError("send frames by", interface, errno.EOPNOTSUPP, "it takes none")
        self.interface = interface
        self.mtu = device.mtu
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise raw_socket_refused("open packet socket") from None
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BYTES)
            self._socket.bind((interface, 0))
        except OSError as error:
            self._socket.close()
            raise LinkError("open packet socket", interface, error.errno) from None
        self._send = self._socket.send

    def send(self, frame: bytes) -> None:
        """Sends one frame exactly as it is, waiting for room.

        Raises:
            LinkError: the kernel refuses: too large, the interface is down or gone.
        """
        try:
            self._send(frame)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            if error.errno == errno.EMSGSIZE:
                reason = f"{len(frame)} bytes are more than its MTU of {self.mtu} allows"
            raise LinkError("send by", self.interface, error.errno, reason) from None

    def close(self) -> None:
        """Gives the descriptor back."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
