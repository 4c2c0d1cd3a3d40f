"""What has to be said to an interface by ioctl, in the calling thread's network namespace.

See netdevice(7) and linux/ethtool.h. Routes, addresses and links are `ip`'s business.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

from rawproto.errors import LinkError

__all__ = ["bring_up", "disable_offloads"]

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCETHTOOL = 0x8946
ETHTOOL_SRXCSUM = 0x15
ETHTOOL_STXCSUM = 0x17
ETHTOOL_STSO = 0x1F
ETHTOOL_SGSO = 0x24
ETHTOOL_SGRO = 0x2C

IFF_UP = 1

IFREQ_FLAGS = struct.Struct("=16sh22x")
IFREQ_DATA = struct.Struct("@16sP16x")
ETHTOOL_VALUE = struct.Struct("=II")


def bring_up(interface: str) -> None:
    """Sets IFF_UP. Raises LinkError."""
    request = IFREQ_FLAGS.pack(interface.encode(), 0)
    _, flags = IFREQ_FLAGS.unpack(_ioctl(interface, SIOCGIFFLAGS, request))
    _ioctl(interface, SIOCSIFFLAGS, IFREQ_FLAGS.pack(interface.encode(), flags | IFF_UP))


def disable_offloads(interface: str) -> None:
    """Packets pass as they are: every one by itself, with a finished sum that is verified.

    A veth pair computes no checksums, so captures on it would show unfinished ones, and
    it carries what the stack would have a device cut up in one piece of 64 KiB, which
    a link would then drop or delay as one. Raises LinkError.
    """
    for command in (
        ETHTOOL_STXCSUM,
        ETHTOOL_SRXCSUM,
        ETHTOOL_STSO,
        ETHTOOL_SGSO,
        ETHTOOL_SGRO,
    ):
        value = ctypes.create_string_buffer(ETHTOOL_VALUE.pack(command, 0))
        request = IFREQ_DATA.pack(interface.encode(), ctypes.addressof(value))
        _ioctl(interface, SIOCETHTOOL, request)


def _ioctl(interface: str, request: int, argument: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
            return fcntl.ioctl(control, request, argument)
    except OSError as error:
        raise LinkError("set up", interface, error.errno) from None
