"""Making, entering and ending the namespaces of a lab. See namespaces(7), user_namespaces(7).

A namespace belongs to a thread, not to a process. Whoever wants to start a program
inside a lab therefore does it from a thread of its own that enters, starts and
ends: `in_thread`. The program is then in the lab's PID namespace and dies with it,
and no code runs between fork and exec.

Without privilege a process can move itself into a user namespace in which it may
do all this: `become_root`. That is for good, and only a process of one thread can.

Nothing here knows what is configured inside a namespace; see network.py.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from rawproto.errors import LinkError, PrivilegeError
from rawproto.lab import syscalls
from rawproto.lab.devices import bring_up
from rawproto.lab.keeper import NETNS, start_code

__all__ = ["Keeper", "become_root", "enter", "in_thread", "is_privileged", "python_command"]

T = TypeVar("T")

CAP_NET_ADMIN = 12
CAP_SYS_ADMIN = 21

APPARMOR_SWITCH = "kernel.apparmor_restrict_unprivileged_userns"
"""Ubuntu's: user namespaces are made, but may then do nothing."""

HOME = "/proc/thread-self/ns/net"

STOP_TIMEOUT_S = 10.0
"""A killed PID namespace is gone in milliseconds; this bounds the wait for a stuck kernel."""


def is_privileged() -> bool:
    """True if this process may make network namespaces and configure them."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
            return bool(held >> CAP_SYS_ADMIN & 1 and held >> CAP_NET_ADMIN & 1)
    return False


def become_root() -> None:
    """Gets this process what a lab needs; does nothing where it is there already.

    Moves the whole process into user, mount and network namespaces of its own, for
    good: it sees itself as uid 0, owns what it owned before, and has no network but
    `lo` and its labs. Call it before any thread is started.

    Raises:
        PrivilegeError: the kernel does not allow it; the message says what would help.
    """
    if is_privileged():
        return
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
        # A group map can be written without privilege only once setgroups is given up.
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
        Path("/proc/self/gid_map").write_text(f"0 {gid} 1")
        bring_up("lo")
    except OSError as error:
        remedy = "run as root"
        if error.errno == errno.EINVAL:  # what the kernel says to a process of several threads
            remedy += ", or call become_root() before any thread is started"
        else:
            remedy += ", or allow user namespaces (sysctl user.max_user_namespaces"
            if os.path.exists(f"/proc/sys/{APPARMOR_SWITCH.replace('.', '/')}"):
                remedy += f", {APPARMOR_SWITCH}=0"
            remedy += ")"
        raise _refusal(remedy) from None


def _refusal(remedy: str) -> PrivilegeError:
    # Whatever the kernel's number (ENOSPC for too many, EINVAL for threads), it means this.
    return PrivilegeError("make namespaces", "", errno.EPERM, "CAP_SYS_ADMIN", remedy)


def in_thread(function: Callable[[], T]) -> T:
    """Runs `function` in a thread of its own, so that what it enters ends with it.

    Returns what it returns, raises what it raises.
    """
    result: list[T] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body, name="rawproto-lab", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def enter(path: str, kind: int) -> None:
    """Puts the calling thread in the namespace at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fd, kind)
    finally:
        os.close(fd)


class Keeper:
    """The process that a lab lives and dies with (see keeper.py), held by a pidfd.

    Attributes:
        pid: its process number as we see it.
        started: when it was started, in clock ticks since boot; with `pid` this names
            one process for as long as the machine is up.
    """

    def __init__(self, pid: int, process: subprocess.Popen[bytes] | None = None) -> None:
        """Takes hold of a running keeper. Raises OSError if there is none."""
        self.pid = pid
        self._process = process
        self._programs: list[subprocess.Popen[Any]] = []
        self._lock = threading.Lock()
        self._pidfd = os.pidfd_open(pid)
        try:
            self.started = start_time(pid)
        except OSError:
            self.close()
            raise

    @classmethod
    def start(cls, hosts: Sequence[str], hosts_file: str) -> Keeper:
        """A new keeper with a network namespace for each host; it dies with this process.

        Args:
            hosts: their names.
            hosts_file: what to put before the machine's own /etc/hosts in the lab.

        Raises:
            PrivilegeError: this process may not make namespaces.
            LinkError: the keeper could not build them.
        """
        command = python_command("keeper", *hosts)

        def begin() -> subprocess.Popen[bytes]:
            syscalls.unshare(syscalls.CLONE_NEWPID)
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd="/",
                start_new_session=True,  # Ctrl-C at our terminal is not for the keeper
            )

        try:
            process = in_thread(begin)
        except OSError as error:
            if error.errno != errno.EPERM:
                raise LinkError("make namespaces", "", error.errno) from None
            raise _refusal("run as root, or call become_root() before") from None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            keeper = cls(process.pid, process)
        except OSError:
            process.communicate()
            raise LinkError("make namespaces", "", None, "the keeper died") from None
        try:
            process.stdin.write(hosts_file.encode() + b"\0")
            process.stdin.flush()
            answer = process.stdout.readline().decode(errors="replace").strip()
        except BrokenPipeError:
            answer = ""
        except BaseException:
            keeper.stop()
            raise
        if answer != "ready":
            keeper.stop()
            raise LinkError("make namespaces", "", None, answer or "the keeper died")
        return keeper

    def release(self) -> None:
        """Lets the keeper, and with it the lab, outlive this process, and lets go of it.

        Raises:
            LinkError: it is dead already.
        """
        assert self._process is not None, "a lab that this process did not start"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"\0")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise LinkError("keep lab up", "", error.errno, "the lab is down") from None
        self._close_pipes()
        self.close()

    def _close_pipes(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(BrokenPipeError):  # what it was too dead to read
                        pipe.close()

    @property
    def alive(self) -> bool:
        """False once it is dead, and everything in the lab with it."""
        return self._pidfd >= 0 and not self._ended(0)

    def _ended(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def network_namespace(self, host: str) -> str:
        """Where a host's network namespace can be opened. Raises LinkError if the lab is down."""
        if not self.alive:
            raise LinkError("enter lab", host, errno.ESRCH, "the lab is down")
        return f"/proc/{self.pid}/root{NETNS}/{host}"

    @contextmanager
    def entered(self, host: str) -> Iterator[None]:
        """The calling thread is in a host's network; other threads stay where they are.

        Sockets opened meanwhile stay there. `/proc/net` is the main thread's view,
        `/proc/thread-self/net` the caller's.

        Raises:
            LinkError: the lab is down.
            PrivilegeError: there would be no way back.
        """
        home = os.open(HOME, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                syscalls.setns(home, syscalls.CLONE_NEWNET)
            except PermissionError:
                # Root of a user namespace, but its network was made outside of that.
                remedy = "make the user namespace with a network of its own (unshare -rn)"
                raise PrivilegeError(
                    "come back from", host, errno.EPERM, "CAP_SYS_ADMIN", remedy
                ) from None
            enter(self.network_namespace(host), syscalls.CLONE_NEWNET)
            try:
                yield
            finally:
                syscalls.setns(home, syscalls.CLONE_NEWNET)
        finally:
            os.close(home)

    def join_user_namespace(self) -> None:
        """Moves this process into the user namespace of a lab that was built without root.

        For good, as `become_root`, and likewise only from a process of one thread.

        Raises:
            PrivilegeError: the lab is someone else's, or there are threads.
        """
        theirs = f"/proc/{self.pid}/ns/user"
        try:
            if os.stat(theirs).st_ino == os.stat("/proc/self/ns/user").st_ino:
                return
            enter(theirs, syscalls.CLONE_NEWUSER)
            syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWNET)
        except OSError as error:
            remedy = "run as the user who built the lab"
            raise PrivilegeError(
                "enter lab", "", error.errno or 0, "CAP_SYS_ADMIN", remedy
            ) from None

    def enter(self) -> None:
        """Puts the calling thread among the lab's mounts, and its children among its processes.

        For a thread that `in_thread` made: there is no way back.
        """
        syscalls.unshare(syscalls.CLONE_FS)
        enter(f"/proc/{self.pid}/ns/pid", syscalls.CLONE_NEWPID)
        enter(f"/proc/{self.pid}/ns/mnt", syscalls.CLONE_NEWNS)

    def popen(self, host: str, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Starts a program on a host; options are those of `subprocess.Popen`.

        It sees the host's interfaces in /sys and the host's name as its own; it is
        killed when the lab goes down.

        Raises:
            OSError: as `subprocess.Popen` does, FileNotFoundError for no such program.
            LinkError: the lab is down.
        """
        options.setdefault("cwd", os.getcwd())  # entering mounts puts a thread in /

        def begin() -> subprocess.Popen[Any]:
            network = os.open(self.network_namespace(host), os.O_RDONLY | os.O_CLOEXEC)
            try:
                self.enter()
                syscalls.setns(network, syscalls.CLONE_NEWNET)
            finally:
                os.close(network)
            syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS)
            syscalls.set_host_name(host)
            # A container that masks parts of /sys allows no new one; the old one still serves.
            with suppress(PermissionError):
                syscalls.mount("sysfs", "/sys", "sysfs")
            return self.adopt(subprocess.Popen(argv, **options))

        return in_thread(begin)

    def adopt(self, program: subprocess.Popen[Any]) -> subprocess.Popen[Any]:
        """Remembers a child of ours that is in the lab, to reap it in the end.

        A PID namespace ends only when nothing in it is left, dead or alive.
        """
        with self._lock:
            self._programs = [known for known in self._programs if known.poll() is None]
            self._programs.append(program)
        return program

    def stop(self) -> None:
        """Kills the lab and waits until all of its processes are gone; harmless when it is.

        Raises:
            LinkError: it would not die.
        """
        if self._pidfd < 0:
            return
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self._close_pipes()
        for program in self._programs:
            program.wait()
        if not self._ended(STOP_TIMEOUT_S):
            reason = "killed, but some parent outside (stopped?) does not collect its dead child"
            raise LinkError("stop lab", f"process {self.pid}", None, reason)
        if self._process is not None:
            self._process.wait()
        self.close()

    def close(self) -> None:
        """Lets go of the process without stopping it."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def python_command(module: str, *arguments: str) -> list[str]:
    """What runs a module of the lab as a process, isolated from the caller's own Python set-up."""
    directory = str(Path(__file__).resolve().parents[1])
    return [sys.executable, "-I", "-S", "-c", start_code(module), directory, *arguments]


def start_time(pid: int) -> int:
    """When a process was started, in clock ticks since boot (proc_pid_stat(5), field 22).

    Raises:
        OSError: there is no such process, or it is dead and only waits to be reaped.
    """
    text = Path(f"/proc/{pid}/stat").read_text()
    # The second field is the name in parentheses, and may itself hold anything.
    fields = text.rpartition(")")[2].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return int(fields[19])
