"""The one process that keeps a lab alive, and by its death ends it.

It is process 1 of a PID namespace and lives in a mount namespace of its own. The
hosts' network namespaces are pinned by nothing but mounts in there, as `ip netns`
makes them (`/run/netns/h1`), so `ip netns` works inside the lab and shows nothing
outside. When the keeper dies, by whatever means, the kernel itself kills every
process of the lab, drops the mounts, and with them namespaces and interfaces: no
clean-up code has to run.

    rawproto ──pipe──> keeper (PID 1) ── mount namespace ── /run/netns/{h1,r1,...,h2}
                         └── whatever runs on the hosts

It reads a pipe whose other end only the lab's owner holds, so it dies with the owner,
kill -9 included. `rawproto lab up`, once it has written down where the lab is, sets
it free: then it lives until it is killed.

It is started as `python -I -S -c CODE DIRECTORY HOST...` in a new PID namespace, reads
the lab's /etc/hosts from stdin up to a NUL, and answers one line on stdout: `ready`, or
what went wrong. A second NUL sets it free.
"""

from __future__ import annotations

import os
import signal
import sys

from rawproto.lab.syscalls import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    MS_BIND,
    MS_REC,
    MS_SLAVE,
    mount,
    set_process_name,
    unshare,
)

__all__ = ["NETNS", "main", "start_code"]

NETNS = "/run/netns"
"""Where `ip netns` looks for names; also where the lab's owner finds its hosts."""

MARK = b"# above: this lab\n"

# The packages stand in for themselves: their __init__ would import typing, which takes as
# long as all else that the keeper does until it is ready.
START = """
import sys
for name, path in (("rawproto", sys.argv[1]), ("rawproto.lab", sys.argv[1] + "/lab")):
    sys.modules[name] = type(sys)(name)
    sys.modules[name].__path__ = [path]
from rawproto.lab.{module} import main
main()
"""


def start_code(module: str) -> str:
    """What `python -c` is told to run a module of the lab; rawproto's directory comes next."""
    return START.format(module=module)


def main() -> None:
    """The process's whole life. `sys.argv`: "-c", DIRECTORY, HOST..."""
    _, _, *hosts = sys.argv
    # Process 1 inherits the lab's orphans; ignored, they are reaped by the kernel.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    set_process_name("rawproto-lab")
    try:
        _build(hosts, _read_hosts_file())
        answer = "ready"
    except OSError as error:
        answer = f"{error.filename or 'lab'}: {error.strerror}"
    try:
        os.write(1, f"{answer}\n".encode())
    except BrokenPipeError:
        return  # whoever wanted the lab has died
    if not os.read(0, 1):
        return
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    while True:
        signal.pause()


def _read_hosts_file() -> bytes:
    text = b""
    while not text.endswith(b"\0"):
        piece = os.read(0, 65536)
        if not piece:
            raise BrokenPipeError("its owner has gone")
        text += piece
    return text[:-1]


def _build(hosts: list[str], hosts_file: bytes) -> None:
    unshare(CLONE_NEWNS)
    # Slave: what is mounted outside still shows up here, nothing of ours goes out.
    mount("none", "/", flags=MS_REC | MS_SLAVE)
    _mount_proc()
    _mount_netns()
    _mount_hosts_file(hosts_file)
    for host in hosts:
        path = f"{NETNS}/{host}"
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o444))
        unshare(CLONE_NEWNET)
        mount("/proc/self/ns/net", path, flags=MS_BIND)


def _mount_proc() -> None:
    """A /proc that shows this PID namespace, where the kernel lets us.

    Inside a container that masks parts of /proc a user namespace may not mount one;
    the old one still serves, its numbers being those of outside.
    """
    try:
        mount("proc", "/proc", "proc")
    except PermissionError:
        return


def _mount_netns() -> None:
    """An empty /run/netns of our own, without making one on the machine.

    Where it doesn't exist, /run is covered by a new directory that holds all that the
    old one held, bound to the same places, and `netns` beside it.
    """
    if not os.path.isdir(NETNS):
        old = os.open("/run", os.O_PATH)
        names = os.listdir("/run")
        mount("tmpfs", "/run", "tmpfs", data="mode=755")
        for name in names:
            _bind_again(f"/proc/self/fd/{old}/{name}", f"/run/{name}")
        os.close(old)
        os.mkdir(NETNS)
    mount("tmpfs", NETNS, "tmpfs", data="mode=755")


def _bind_again(source: str, target: str) -> None:
    try:
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
            return
        if os.path.isdir(source):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_RDONLY, 0o600))
        mount(source, target, flags=MS_BIND | MS_REC)
    except FileNotFoundError:
        return  # removed meanwhile: others work in /run too


def _mount_hosts_file(content: bytes) -> None:
    """Puts the lab's names over /etc/hosts, from a file that a second mount hides.

    Unlinked it would be hidden too, but then nobody could mount over /etc/hosts again,
    as a lab within the lab wants to.
    """
    if not os.path.isfile("/etc/hosts"):
        return
    path = f"{NETNS}/hosts"
    with open("/etc/hosts", "rb") as old, open(path, "wb") as new:
        # Within a lab, the names of the lab around it would shadow ours.
        new.write(content + MARK + old.read().rpartition(MARK)[2])
    mount(path, "/etc/hosts", flags=MS_BIND)
    mount("tmpfs", NETNS, "tmpfs", data="mode=755")
