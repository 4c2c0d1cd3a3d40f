"""Socket options by number, for those that Python's socket module does not name.

The numbers are Linux's (asm-generic/socket.h, linux/in.h, in6.h, if_packet.h); the
manuals are socket(7), ip(7), ipv6(7) and packet(7). Beside them stands what several
sockets set alike: buffers, filter, interface, mark. It knows no address and no packet.
That memory freed by a batch of packets stays with the process is set here too.
"""

from __future__ import annotations

import array
import errno
import socket
import struct
from functools import cache

from rawproto.errors import LinkError, PrivilegeError

__all__ = [
    "attach_filter",
    "attach_selector",
    "bind_to_device",
    "grow_buffers",
    "keep_freed_memory",
    "leave_loop",
    "set_mark",
]

SOL_PACKET = 263

SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_TIMESTAMPING = 37
SO_RXQ_OVFL = 40
SO_ATTACH_REUSEPORT_CBPF = 51
SO_MEMINFO = 55

IP_PKTINFO = 8
IP_MTU_DISCOVER = 10
IP_RECVERR = 11
IP_RECVTTL = 12
IP_RECVERR_RFC4884 = 26

IPV6_MTU_DISCOVER = 23
IPV6_RECVERR = 25
IPV6_RECVERR_RFC4884 = 31
IPV6_FLOWINFO_SEND = 33
IPV6_HDRINCL = 36
IPV6_AUTOFLOWLABEL = 70

PMTUDISC_DONT = 0
PMTUDISC_PROBE = 3
"""Sets DF and heeds the device's MTU only, as a header of our own would."""

PACKET_ADD_MEMBERSHIP = 1
PACKET_STATISTICS = 6
PACKET_AUXDATA = 8
PACKET_TX_TIMESTAMP = 16
PACKET_IGNORE_OUTGOING = 23
PACKET_MR_PROMISC = 1

_BATCH_BYTES = 4 << 20

ACCEPT_ALL = struct.pack("@HBBI", 0x06, 0, 0, 0xFFFFFFFF)
"""Classic BPF: return all of it."""
_DROP_ALL = struct.pack("@HBBI", 0x06, 0, 0, 0)


def grow_buffers(sock: socket.socket, receive_bytes: int, send_bytes: int) -> None:
    """Raises both buffers, beyond the system's limit where the process may.

    Needs CAP_NET_ADMIN to pass `net.core.rmem_max`; without it the limit is what one gets.
    """
    for force, plain, size in (
        (SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_bytes),
        (SO_SNDBUFFORCE, socket.SO_SNDBUF, send_bytes),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, plain, size)


@cache
def keep_freed_memory() -> None:
    """Has the C library keep up to 8 MiB of what is freed, so that it can be handed out again.

    glibc gives the top of its heap back as soon as 128 KiB of it are free, which a batch of large
    packets is, and the next batch faults it in again page by page: as dear as to decrypt it.
    A large block that is freed teaches it otherwise (mallopt(3), M_MMAP_THRESHOLD: both
    thresholds follow the largest one so far). Nothing is touched, so it takes no memory.
    """
    bytes(_BATCH_BYTES)


def attach_filter(sock: socket.socket, program: bytes) -> None:
    """Attaches classic BPF so that nothing it refuses is ever read from the socket.

    Packets may have been queued before the filter took hold: a filter that drops all
    comes first, the queue is emptied, and then the kernel swaps the filters in one go.

    Args:
        sock: a non-blocking socket.
        program: `struct sock_filter` instructions in the host's byte order, 8 bytes each.

    Raises:
        LinkError: the kernel refuses the program.
    """
    try:
        _attach(sock, _DROP_ALL)
        while True:
            try:
                sock.recv(1)
            except BlockingIOError:
                break
            except OSError as error:  # ICMP's, about what was sent: told once, and no reason
                if error.errno == errno.EBADF:
                    raise
        _attach(sock, program)
    except OSError as error:
        raise LinkError("attach filter", "", error.errno) from None


def attach_selector(sock: socket.socket, program: bytes) -> None:
    """Has classic BPF choose among the sockets that share a port by SO_REUSEPORT.

    It answers a number, in the order in which they were bound; a number that none has leaves
    the choice to the kernel.

    Args:
        sock: any of them.
        program: as for `attach_filter`; it sees the payload.

    Raises:
        LinkError: the kernel refuses the program.
    """
    try:
        _attach(sock, program, SO_ATTACH_REUSEPORT_CBPF)
    except OSError as error:
        raise LinkError("attach selector", "", error.errno) from None


def _attach(sock: socket.socket, program: bytes, how: int = SO_ATTACH_FILTER) -> None:
    code = array.array("B", program)
    fprog = struct.pack("@HP", len(program) // 8, code.buffer_info()[0])
    sock.setsockopt(socket.SOL_SOCKET, how, fprog)


def bind_to_device(sock: socket.socket, interface: str) -> None:
    """Sends and receives through one interface only. Raises LinkError."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PrivilegeError(
                "bind to", interface, errno.EPERM, "CAP_NET_RAW", "run it with sudo"
            ) from None
        raise LinkError("bind to", interface, error.errno) from None


def leave_loop(sock: socket.socket, family: int) -> None:
    """Keeps what is sent to groups from this host's own members (RFC 1112 section 6.1)."""
    if family == 4:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    else:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)


def set_mark(sock: socket.socket, mark: int) -> None:
    """Gives every packet the mark that policy rules and firewalls match. Raises PrivilegeError."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    except OSError as error:
        raise PrivilegeError(
            "set mark", str(mark), error.errno or errno.EPERM, "CAP_NET_ADMIN", "run it with sudo"
        ) from None
