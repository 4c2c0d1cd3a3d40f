"""May this process open raw sockets, how could it, and how it gives that up again.

Read capabilities(7), and icmp(7) for `net.ipv4.ping_group_range`, which says whose
groups may open ICMP datagram sockets without any privilege.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from rawproto.errors import PrivilegeError

__all__ = [
    "become_nobody",
    "drop_privileges",
    "has_net_raw",
    "icmp_sockets_refused",
    "net_raw_remedy",
    "ping_group_range",
    "raw_socket_refused",
]

_CAP_NET_RAW = 13
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_PING_GROUP_RANGE = "/proc/sys/net/ipv4/ping_group_range"


def has_net_raw() -> bool:
    """Whether CAP_NET_RAW is in the effective set.

    Over the namespace of another user the kernel may refuse all the same: to be sure,
    open the socket.
    """
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    return bool(int(line.split()[1], 16) >> _CAP_NET_RAW & 1)
    except (OSError, ValueError):
        pass  # no /proc
    return os.geteuid() == 0


def ping_group_range() -> tuple[int, int] | None:
    """The groups whose members may ping unprivileged; None where the kernel doesn't tell."""
    try:
        with open(_PING_GROUP_RANGE) as file:
            low, high = file.read().split()
            return int(low), int(high)
    except (OSError, ValueError):
        return None


def raw_socket_refused(operation: str) -> PrivilegeError:
    """The error for a raw or packet socket that may not be opened."""
    return PrivilegeError(operation, "", errno.EPERM, "CAP_NET_RAW", net_raw_remedy())


def icmp_sockets_refused() -> PrivilegeError:
    """The error when neither a raw nor an ICMP datagram socket may be opened."""
    groups = ping_group_range()
    now = f" (now {groups[0]} {groups[1]})" if groups else ""
    return PrivilegeError(
        "open ICMP socket",
        "",
        errno.EPERM,
        "CAP_NET_RAW",
        f"{net_raw_remedy()}, or let your group ping unprivileged{now}: "
        "sudo sysctl -w net.ipv4.ping_group_range='0 2147483647'",
    )


def net_raw_remedy() -> str:
    """How this program would get CAP_NET_RAW, in a line."""
    # No setcap of sys.executable: that may be the system's, and so every Python program's.
    return "run it with sudo, or from a copied interpreter (README.md, Privilege)"


def drop_privileges() -> None:
    """Gives up for good what opened the sockets; for the verbs, never for the library.

    Under sudo the process becomes the user who called it, groups and all. Where that can't
    be (a root shell, a user namespace, a file capability), it keeps its name and gives up
    all its capabilities. Threads that run already keep theirs: call it before there are any.

    Raises:
        PrivilegeError: the process would keep its privilege.
    """
    uid, gid = _caller()
    if os.geteuid() == 0 and uid:
        # A user namespace may know no such user, or let nobody change groups.
        with suppress(OSError):
            os.setgroups(_groups(uid, gid))
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            return  # the kernel clears the capabilities of who leaves uid 0
    _drop_capabilities()


def _caller() -> tuple[int, int]:
    """Who called sudo or a set-uid program, (uid, gid); (0, 0) for nobody but root."""
    try:
        return int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    except (KeyError, ValueError):
        return os.getuid(), os.getgid()


def _groups(uid: int, gid: int) -> list[int]:
    import pwd

    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        return [gid]


def become_nobody(uid: int, gid: int, *, net_raw: bool) -> None:
    """Makes root's process another user's, for good, with no capability, or with one.

    A user namespace may know no such user: then the process keeps its name, and loses its
    capabilities all the same. Who is not root stays who it is.

    Args:
        uid: whose.
        gid: its only group.
        net_raw: whether CAP_NET_RAW stays, for carriers on bare IP.

    Raises:
        PrivilegeError: the process would keep its privilege.
    """
    import ctypes

    keep = 1 << _CAP_NET_RAW if net_raw and has_net_raw() else 0
    if os.geteuid() == 0:
        ctypes.CDLL(None).prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
    _drop_capabilities(keep)


def _drop_capabilities(keep: int = 0) -> None:
    """capset(2), for which Python has no name; and nothing executed gets any back."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # Else root would have them again after the next execve.
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # struct __user_cap_header_struct {version 3, pid 0}, then effective, permitted and
    # inheritable for the low and the high half.
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if libc.capset(header, (ctypes.c_uint32 * 6)(keep, keep)):
        raise PrivilegeError(
            "drop privileges", "", ctypes.get_errno(), "CAP_SETPCAP", "run it as an ordinary user"
        )
