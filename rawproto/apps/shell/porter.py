"""The process at the door: alone root, it judges who may be whom, and starts what is theirs.

It believes nothing of the network process, which speaks with everybody: who has a key is proved
to it past that process (`proof`), and whom a key may be, it looks up itself. All that it can be
asked is a challenge, and a login; the answer to a login is one end of a pair, at whose other
end an attendant has become the user before it reads anything of theirs, their own file of keys
too. It knows no RPT, has no event loop, and no thread.

    challenge   key                           challenge
    login       challenge, proof, user, peer  an end to the attendant, whose first message is
                                              {"admitted": true} or {"denied": why, "say": text}

When the network process ends, so does the porter; when the porter ends, the network process.
"""

from __future__ import annotations

import gc
import os
import pwd
import select
import signal
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from rawproto.apps.shell.accounts import Admitted, no_logins, own_file_admits, why_not
from rawproto.apps.shell.attendant import Attendant, become
from rawproto.apps.shell.messages import GoneError, pair, receive, send
from rawproto.apps.shell.proof import Challenge

__all__ = ["LOGIN_S", "Porter"]

LOGIN_S = 20
"""How long a login may take, a user's home directory on a slow disk included."""
_MOST_CHALLENGES = 1024
_END_S = 3.0


class Porter:
    """The judge, and the parent of all others.

    Args:
        network: does the network process's life, given its ends of pairs, and answers with
            the exit code. It runs in a child, and in those that this one has.
        server: this server's public key, which clients have seen.
        ends: how many pairs there are, one for each process that speaks with clients.
        admitted: the server's own file of users and keys, read anew for each login.
        allow_root: whether root may be logged in.
        most: logins at once.
    """

    def __init__(
        self,
        network: Callable[[Sequence[socket.socket]], int],
        admitted: Callable[[], Admitted],
        *,
        server: bytes,
        ends: int,
        allow_root: bool,
        most: int,
    ) -> None:
        self._admitted = admitted
        self._allow_root = allow_root
        self._most = most
        self._server = server
        self._challenges: OrderedDict[bytes, Challenge] = OrderedDict()
        self._attendants: set[int] = set()
        self._code: int | None = None
        gc.freeze()  # what is here is the same for all children; to collect it would copy it
        pairs = [pair() for _ in range(ends)]
        self._ends = [ours for ours, _ in pairs]
        theirs = [each for _, each in pairs]
        self._awake, self._wake = socket.socketpair()
        self._wake.setblocking(False)
        self._network = os.fork()
        if not self._network:
            for each in (*self._ends, self._awake, self._wake):
                each.close()
            os.setpgid(0, 0)  # Ctrl-C comes by way of the porter, once
            _end_with(lambda: network(theirs))
        for each in theirs:
            each.close()
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, frame: None)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)

    def run(self) -> int:
        """Serves until the network process has ended; its exit code."""
        while self._code is None:
            ready = select.select([self._awake, *self._ends], [], [])[0]
            if self._awake in ready:
                self._signalled(self._awake.recv(256))
            for end in set(self._ends).intersection(ready):
                try:
                    self._serve(end)
                except (GoneError, OSError):
                    self._ends.remove(end)
                    end.close()
        self._await_attendants()
        return self._code

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif self._code is None:
                os.kill(self._network, number)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._attendants.discard(pid)
            if pid == self._network:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else 128 - code

    def _await_attendants(self) -> None:
        """They end by themselves, having lost the network process; no zombie of theirs stays."""
        end = time.monotonic() + _END_S
        while self._attendants and (left := end - time.monotonic()) > 0:
            if select.select([self._awake], [], [], left)[0]:
                self._awake.recv(256)
            self._reap()

    # --- judging ---

    def _serve(self, end: socket.socket) -> None:
        """Answers one question. Raises GoneError, OSError."""
        message, strange = receive(end)
        for descriptor in strange:
            os.close(descriptor)
        answer: dict[str, Any]
        descriptors: list[int] = []
        try:
            answer, descriptors = self._answer(message)
        except (KeyError, TypeError, ValueError):
            answer = {"denied": "no such question"}
        try:
            send(end, {"id": message.get("id", 0), **answer}, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _answer(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        what = message.get("do")
        if what == "challenge":
            challenge = Challenge(bytes.fromhex(message["key"]), self._server)
            self._challenges[challenge.data] = challenge
            if len(self._challenges) > _MOST_CHALLENGES:
                self._challenges.popitem(last=False)
            return {"challenge": challenge.data.hex()}, []
        if what == "login":
            return self._login(
                bytes.fromhex(message["challenge"]),
                bytes.fromhex(message["proof"]),
                message["user"],
                message["peer"],
            )
        return {"denied": "no such question"}, []

    def _login(
        self, data: bytes, proof: bytes, user: str, peer: str
    ) -> tuple[dict[str, Any], list[int]]:
        challenge = self._challenges.pop(data, None)
        if challenge is None or not challenge.holds(proof, user):
            return {"denied": "the key is not proved"}, []
        if len(self._attendants) >= self._most:
            return {"denied": f"{self._most} logins are there", "say": "too many logins"}, []
        try:
            account = pwd.getpwnam(user)
        except (KeyError, ValueError):
            return {"denied": "no such user"}, []
        why = why_not(account, allow_root=self._allow_root)
        if why is not None:
            return {"denied": why}, []
        try:
            central = (user, challenge.client) in self._admitted()
        except (OSError, ValueError) as error:
            return {"denied": str(error)}, []
        ours, theirs = pair()
        pid = os.fork()
        if not pid:
            # Of the others' pairs nothing may stay open here, or nobody would see them end.
            keep = theirs.fileno()
            _end_with(lambda: _attend(account, challenge.client, theirs, keep, peer, central))
        self._attendants.add(pid)
        theirs.close()
        return {}, [ours.detach()]


def _attend(
    account: pwd.struct_passwd,
    key: bytes,
    end: socket.socket,
    keep: int,
    peer: str,
    central: bool,
) -> int:
    """In the child: becomes the user, then looks whether that was right, and serves."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LOGIN_S)
    os.setsid()  # Ctrl-C at the server's terminal is the porter's
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    os.closerange(3, keep)
    os.closerange(keep + 1, max(map(int, os.listdir("/proc/self/fd"))) + 1)
    become(account)
    why = None if central else own_file_admits(account, key)
    if why is not None:
        send(end, {"denied": why})
        return 1
    text = no_logins(account)
    if text is not None:
        send(end, {"denied": "nobody but root may log in now: /etc/nologin", "say": text})
        return 1
    signal.alarm(0)
    send(end, {"admitted": True})
    Attendant(end, account, peer).run()
    return 0


def _end_with(life: Callable[[], int]) -> NoReturn:
    """A child's life; whatever its parent has begun, and would end, is none of its own."""
    code = 1
    try:
        code = life()
    except KeyboardInterrupt:
        code = 130
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)
