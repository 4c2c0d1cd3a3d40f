"""What has to be said to an interface by ioctl, in the calling thread's network namespace.

See netdevice(7) and linux/ethtool.h. Routes, addresses and links are `ip`'s business.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import re
import socket
import struct

from rawproto.errors import LinkError

__all__ = ["bring_up", "disable_offloads"]

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCETHTOOL = 0x8946
ETHTOOL_GSTRINGS = 0x1B
ETHTOOL_GSSET_INFO = 0x37
ETHTOOL_SFEATURES = 0x3B
ETH_SS_FEATURES = 4

IFF_UP = 1

IFREQ_FLAGS = struct.Struct("=16sh22x")
IFREQ_DATA = struct.Struct("@16sP16x")
SET_INFO = struct.Struct("=IIQI")
STRINGS = struct.Struct("=III")
STRING_BYTES = 32
FEATURES = struct.Struct("=II")
FEATURE_BLOCK = struct.Struct("=II")

OFFLOADS = re.compile("[rt]x-checksum|.*-segmentation|.*-gso-list|rx-.*gro|rx-lro")
"""The kernel's names of what has a device compute sums, or join and cut up packets."""


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
    blocks = _offload_blocks()
    of_these_none = b"".join(FEATURE_BLOCK.pack(bits, 0) for bits in blocks)
    _ethtool(interface, FEATURES.pack(ETHTOOL_SFEATURES, len(blocks)) + of_these_none)


@functools.cache
def _offload_blocks() -> tuple[int, ...]:
    """The offloads as bits, in blocks of 32; a kernel has them alike for all interfaces."""
    info = _ethtool("lo", SET_INFO.pack(ETHTOOL_GSSET_INFO, 0, 1 << ETH_SS_FEATURES, 0))
    count = SET_INFO.unpack(info)[3]
    request = STRINGS.pack(ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count)
    strings = _ethtool("lo", request + bytes(count * STRING_BYTES))[STRINGS.size :]
    names = [
        strings[start : start + STRING_BYTES].rstrip(b"\0").decode()
        for start in range(0, len(strings), STRING_BYTES)
    ]
    bits = [int(OFFLOADS.match(name) is not None) for name in names]
    return tuple(
        sum(bit << at for at, bit in enumerate(bits[start : start + 32]))
        for start in range(0, count, 32)
    )


def _ethtool(interface: str, request: bytes) -> bytes:
    """One command of linux/ethtool.h: the structure as the kernel leaves it."""
    value = ctypes.create_string_buffer(request, len(request))
    _ioctl(interface, SIOCETHTOOL, IFREQ_DATA.pack(interface.encode(), ctypes.addressof(value)))
    return value.raw


def _ioctl(interface: str, request: int, argument: bytes) -> bytes:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
            return fcntl.ioctl(control, request, argument)
    except OSError as error:
        raise LinkError("set up", interface, error.errno) from None
