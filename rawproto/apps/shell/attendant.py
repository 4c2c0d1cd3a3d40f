"""The process that is a user's for one login: starts sessions, signals them, opens sockets.

It is forked by the porter and becomes the user before it does anything else, so nothing here
can more than they can. Sessions it starts in process groups of their own; it hands their
terminals and pipes to the network process, and tells how they ended. When that process is no
more, or closes its end, the sessions get SIGHUP, as from a terminal that goes, and this ends.

Questions of the network process (`messages`), and the descriptors that come with the answers:

    start   command, pty, term, size, modes, environment   the terminal, or stdin, stdout, stderr
    signal  session, signal: a name without SIG       notice: nothing comes back
    hangup  session                                   likewise
    connect host, port or path                        a connected socket
    listen  host, port or path                        a listening one

What becomes of the descriptors, it does not know. It waits for nobody: names are looked up,
and connections made, by a child each.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import pwd
import resource
import select
import signal
import socket
import stat
import struct
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from rawproto.apps.shell.environment import of_session
from rawproto.apps.shell.messages import GoneError, receive, send
from rawproto.apps.shell.terminal import set_modes

__all__ = ["NO_NAME", "SIGNALS", "Attendant", "become"]

SIGNALS = (
    "ABRT", "ALRM", "CONT", "FPE", "HUP", "ILL", "INT", "KILL",
    "PIPE", "QUIT", "SEGV", "TERM", "TSTP", "USR1", "USR2",
)  # fmt: skip
"""What a client may send to a session: RFC 4254 section 6.9, and those of job control."""

NO_NAME = "EAI_NONAME"
"""The error where a name has no address; all others are those of errno(3)."""

_CONNECT_S = 15
_MOST_HELPERS = 64
_END_S = 2.0
_BACKLOG = 128
_DESCRIPTORS = 1024
_UTF8 = 0o40000  # IUTF8, for which Python 3.11 has no name
_LIBRARYS_SIGNALS = (32, 33)
_RT_SIGACTION = {"x86_64": 13, "aarch64": 134, "riscv64": 134}.get(os.uname().machine)
_libc = ctypes.CDLL(None)  # loaded before anybody is somebody


def become(account: pwd.struct_passwd) -> None:
    """Makes this process the user's, for good; where it is not root, it has to be already.

    Raises:
        OSError: it cannot.
    """
    if os.geteuid() == 0:
        try:
            os.initgroups(account.pw_name, account.pw_gid)
        except PermissionError:
            if account.pw_uid:
                raise  # the root of a user namespace that may not change its groups stays itself
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    ids = {*os.getresuid(), account.pw_uid}
    if len(ids) != 1:
        raise PermissionError(errno.EPERM, "the user cannot be changed")


class Attendant:
    """One login.

    Args:
        end: to the network process.
        account: who this process is by now.
        peer: who came, for sessions to see.
    """

    def __init__(self, end: socket.socket, account: pwd.struct_passwd, peer: str) -> None:
        self._end = end
        self._account = account
        self._peer = peer
        self._sessions: dict[int, int] = {}  # by process
        self._helpers: set[int] = set()
        self._paths: dict[str, os.stat_result] = {}  # sockets made here, to be taken away
        self._last = 0
        self._awake, wake = socket.socketpair()
        wake.setblocking(False)
        self._wake = wake
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        os.umask(0o022)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))

    def run(self) -> None:
        """Returns when the login is over."""
        try:
            while True:
                ready = select.select([self._end, self._awake], [], [])[0]
                if self._awake in ready:
                    numbers = self._awake.recv(256)
                    if signal.SIGTERM in numbers or signal.SIGHUP in numbers:
                        return
                    self._reap()
                if self._end in ready:
                    message, descriptors = receive(self._end)
                    for descriptor in descriptors:
                        os.close(descriptor)
                    self._handle(message)
        except (GoneError, OSError):
            pass
        finally:
            for session in list(self._sessions.values()):
                self._hang_up(session)
            self._await_sessions()
            for path, made in self._paths.items():
                with suppress(OSError):
                    found = os.lstat(path)  # whose number may be one that was given back
                    if os.path.samestat(found, made) and found.st_mtime_ns == made.st_mtime_ns:
                        os.unlink(path)

    def _await_sessions(self) -> None:
        """A moment for those that end by SIGHUP, so that none is left for others to wait for."""
        end = time.monotonic() + _END_S
        while self._sessions and (left := end - time.monotonic()) > 0:
            self._reap()
            if self._sessions and select.select([self._awake], [], [], left)[0]:
                self._awake.recv(256)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._helpers.discard(pid)
            session = self._sessions.pop(pid, None)
            if session is None:
                continue
            ended: dict[str, Any] = {"ended": session}
            if os.WIFSIGNALED(status):
                ended |= {"signal": _name_of(os.WTERMSIG(status)), "core": os.WCOREDUMP(status)}
            else:
                ended["status"] = os.waitstatus_to_exitcode(status)
            with suppress(OSError):  # that nobody hears it, is noticed where they are heard
                send(self._end, ended)

    def _handle(self, message: dict[str, Any]) -> None:
        what = message.get("do")
        if what == "signal":
            self._signal(message["session"], message["signal"])
        elif what == "hangup":
            self._hang_up(message["session"])
        elif what == "start":
            self._start(message)
        elif what == "listen" and message.get("path"):
            self._open(message, self._listening_at)  # for which nobody waits
        elif what in ("connect", "listen"):
            self._help(message, _connected if what == "connect" else _listening)

    # --- sessions ---

    def _start(self, message: dict[str, Any]) -> None:
        """Runs a command, or a login shell, and answers with its descriptors."""
        self._last += 1
        ours: list[int] = []
        theirs: list[int] = []
        failed_read = failed_write = -1
        try:
            pty = bool(message["pty"])
            _open_terminal(message, ours, theirs) if pty else _open_pipes(ours, theirs)
            failed_read, failed_write = os.pipe()
            pid = os.fork()
            if not pid:
                self._session(message, theirs, failed_write)
            os.close(failed_write)
            failed_write = -1
            self._sessions[pid] = self._last
            why = os.read(failed_read, 1024).decode(errors="replace")
            if why:
                del self._sessions[pid]  # nobody is to hear of its end
                send(self._end, {"id": message["id"], "error": why})
            else:
                send(self._end, {"id": message["id"], "session": self._last}, ours)
        except OSError as error:
            send(self._end, {"id": message["id"], "error": error.strerror or str(error)})
        finally:
            for descriptor in {*ours, *theirs, failed_read, failed_write} - {-1}:
                os.close(descriptor)

    def _session(self, message: dict[str, Any], theirs: list[int], failed: int) -> NoReturn:
        """In the child: what a login is, and then the shell."""
        why = ""
        try:
            account = self._account
            shell = account.pw_shell or "/bin/sh"
            term = message["term"] if message["pty"] else None
            environment = of_session(account, message["environment"], term, self._peer)
            os.setsid()
            if message["pty"]:
                fcntl.ioctl(theirs[0], termios.TIOCSCTTY, 0)
            # Out of the way of 0 to 3 first: one of them may be among what is copied.
            high = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in (*theirs, failed)]
            for number, descriptor in enumerate(high[:3]):
                os.dup2(descriptor, number)
            failed = os.dup2(high[3], 3, inheritable=False)
            os.closerange(4, _highest_descriptor())
            _reset_signals()
            if not _moved_to(account.pw_dir):
                words = f"no directory {account.pw_dir}: in / instead\n"
                os.write(2, words.encode(errors="replace"))
            name = os.path.basename(shell)
            command = message["command"]
            words_of = [f"-{name}"] if command is None else [name, "-c", command]
            os.execve(shell, words_of, environment)
        except OSError as error:
            why = f"{shell}: {error.strerror}"
        except BaseException as error:
            why = f"{type(error).__name__}: {error}"
        os.write(failed, why.encode(errors="replace")[:1024])
        os._exit(1)

    def _signal(self, session: int, name: str) -> None:
        # Who is not waited for yet still has its number: no other process can be meant.
        for pid, each in self._sessions.items():
            if each == session and name in SIGNALS:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, getattr(signal, f"SIG{name}"))

    def _hang_up(self, session: int) -> None:
        self._signal(session, "HUP")
        self._signal(session, "CONT")  # who was stopped could not hear it

    # --- sockets ---

    def _help(
        self, message: dict[str, Any], opened: Callable[[dict[str, Any]], socket.socket]
    ) -> None:
        """Has a child open a socket and answer, so that nobody waits for names and hosts."""
        if len(self._helpers) >= _MOST_HELPERS:
            send(self._end, {"id": message["id"], "error": "EAGAIN", "words": "too many at once"})
            return
        pid = os.fork()
        if pid:
            self._helpers.add(pid)
            return
        try:
            _reset_signals()
            signal.alarm(2 * _CONNECT_S)
            self._open(message, opened)
        finally:
            os._exit(0)

    def _open(
        self, message: dict[str, Any], opened: Callable[[dict[str, Any]], socket.socket]
    ) -> None:
        answer: dict[str, Any] = {"id": message["id"]}
        try:
            with opened(message) as made:
                send(self._end, answer, [made.fileno()])
        except socket.gaierror as error:
            send(self._end, {**answer, "error": NO_NAME, "words": error.strerror})
        except TimeoutError:
            send(self._end, {**answer, "error": "ETIMEDOUT", "words": "no answer"})
        except UnicodeEncodeError:  # a path that this locale's file names cannot have
            send(self._end, {**answer, "error": "EINVAL", "words": "no path here"})
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "EIO")
            send(self._end, {**answer, "error": name, "words": error.strerror or str(error)})

    def _listening_at(self, message: dict[str, Any]) -> socket.socket:
        made, path = _listening(message), message["path"]
        with suppress(OSError):  # an abstract name, or somebody took it away already
            found = os.lstat(path)
            if stat.S_ISSOCK(found.st_mode):
                self._paths[path] = found
        return made


def _name_of(number: int) -> str:
    """Without SIG; most of the real-time signals have none, and stay numbers."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return str(number)


def _open_terminal(message: dict[str, Any], ours: list[int], theirs: list[int]) -> None:
    terminal, line = os.openpty()
    ours.append(terminal)
    theirs += [line, line, line]
    columns, rows, width, height = message["size"]
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))
    settings = termios.tcgetattr(line)
    settings[0] |= _UTF8
    termios.tcsetattr(line, termios.TCSANOW, settings)
    set_modes(line, message["modes"])


def _open_pipes(ours: list[int], theirs: list[int]) -> None:
    for number in range(3):
        reader, writer = os.pipe()
        ours.append(reader if number else writer)
        theirs.append(writer if number else reader)


def _moved_to(directory: str) -> bool:
    try:
        os.chdir(directory)
    except OSError:
        os.chdir("/")
        return False
    return True


def _highest_descriptor() -> int:
    return max(map(int, os.listdir("/proc/self/fd"))) + 1


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    # Two are the C library's own, which it gives nobody a way to; but whatever its posix_spawn
    # starts, ignores them, as do all that come from that: a server that make started, and we.
    if _RT_SIGACTION is not None:
        for librarys in _LIBRARYS_SIGNALS:
            _libc.syscall(_RT_SIGACTION, librarys, bytes(64), None, ctypes.c_size_t(8))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _addresses(message: dict[str, Any], flags: int = 0) -> list[Any]:
    # As bytes: for text Python would load a codec, from where this user need not be let in.
    host = message["host"].encode("ascii", "replace")
    return socket.getaddrinfo(host, message["port"], type=socket.SOCK_STREAM, flags=flags)


def _connected(message: dict[str, Any]) -> socket.socket:
    """A connection to the first of a host's addresses that takes one, or to a path."""
    if message.get("path"):
        places: list[Any] = [(socket.AF_UNIX, 0, 0, "", _address_of(message["path"]))]
    else:
        places = _addresses(message)
    for last, (family, _, _, _, address) in enumerate(places, 1 - len(places)):
        made = socket.socket(family, socket.SOCK_STREAM)
        made.settimeout(_CONNECT_S)
        try:
            made.connect(address)
            return made
        except OSError:
            made.close()
            if not last:
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the name has no address")


def _address_of(path: str) -> str:
    return "\0" + path[1:] if path.startswith("@") else path


def _listening(message: dict[str, Any]) -> socket.socket:
    """A socket that listens at a path, at an address, or, without one, at all of them."""
    address: Any
    if message.get("path"):
        family, address = socket.AF_UNIX, _address_of(message["path"])
    elif not message["host"]:
        family, address = socket.AF_INET6, ("::", message["port"])
    else:
        family, _, _, _, address = _addresses(message, socket.AI_PASSIVE)[0]
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family != socket.AF_UNIX:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(message["host"])))
        made.bind(address)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made
