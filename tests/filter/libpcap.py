"""libpcap as an oracle: compiles expressions, through ctypes (tcpdump brings it along)."""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from pathlib import Path

from rawproto.filter.instructions import Program

__all__ = ["LibpcapError", "compile_with_libpcap", "in_byte_order_of", "version"]

NETMASK_UNKNOWN = 0xFFFF_FFFF
# Where the number in a file is not that of the library (pcap-common.c's translation on Linux).
_TO_DLT = {101: 12, 14: 12}


class LibpcapError(Exception):
    """libpcap refused an expression; its words."""


class _Code(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("pcap") or "libpcap.so.0.8")
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
    library.pcap_open_offline.restype = ctypes.c_void_p
    library.pcap_open_offline.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    library.pcap_compile.argtypes = (
        ctypes.c_void_p,
        ctypes.POINTER(_Code),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint32,
    )
    library.pcap_freecode.argtypes = (ctypes.POINTER(_Code),)
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_geterr.argtypes = (ctypes.c_void_p,)
    library.pcap_close.argtypes = (ctypes.c_void_p,)
    library.pcap_lib_version.restype = ctypes.c_char_p
    return library


def version() -> str:
    """Its name and version, as it says."""
    return _library().pcap_lib_version().decode()


def compile_with_libpcap(
    expression: str,
    *,
    link_type: int = 1,
    netmask: int = NETMASK_UNKNOWN,
    optimize: bool = True,
    file: Path | None = None,
) -> Program:
    """What libpcap makes of an expression; `file` compiles it for that capture.

    Raises:
        LibpcapError: it is refused.
    """
    library = _library()
    if file is None:
        handle = library.pcap_open_dead(_TO_DLT.get(link_type, link_type), 262_144)
    else:
        words = ctypes.create_string_buffer(256)
        handle = library.pcap_open_offline(str(file).encode(), words)
        if not handle:
            raise LibpcapError(words.value.decode())
    code = _Code()
    try:
        if library.pcap_compile(handle, code, expression.encode(), optimize, netmask):
            raise LibpcapError(library.pcap_geterr(handle).decode())
        try:
            return Program.from_bytes(ctypes.string_at(code.instructions, 8 * code.length))
        finally:
            library.pcap_freecode(code)
    finally:
        library.pcap_close(handle)


@cache
def _is_little(file: Path) -> bool:
    with file.open("rb") as opened:
        begin = opened.read(12)
    return (begin[8:] if begin[:4] == b"\n\r\r\n" else begin)[:1] in b"\xd4\x4d"


def in_byte_order_of(file: Path, packet: bytes) -> bytes:
    """A packet of link type 0 with its address family as libpcap expects it in a capture.

    libpcap goes by the byte order of the file; ours takes a family in either.
    """
    family = int.from_bytes(packet[:4], "little" if _is_little(file) else "big")
    return packet[3::-1] + packet[4:] if family > 0xFFFF else packet
