"""Who may log in as whom: accounts, lines of the server's file, users' own files.

Read sshd(8) on AUTHORIZED_KEYS FILE FORMAT and StrictModes, nologin(5), shadow(5).

::

    ada,bob rpt-x25519 mDdUYJgu3Xe...= ada@laptop       the server's file: for whom, and the key
    rpt-x25519 mDdUYJgu3Xe...= ada@laptop               ~/.config/rawproto/authorized

A file that others may write to, itself or by way of a directory above it, admits nobody.
"""

from __future__ import annotations

import os
import pwd
import stat
import time
from pathlib import Path

from rawproto.errors import UsageError
from rawproto.identity.keys import parse_public_key

__all__ = ["OWN_FILE", "Admitted", "expired", "load_admitted", "no_logins"]
__all__ += ["own_file_admits", "why_not"]

OWN_FILE = ".config/rawproto/authorized"
_NO_LOGINS = Path("/etc/nologin")
_SHADOW = Path("/etc/shadow")
_MOST_BYTES = 1 << 20
_MOST_TEXT = 2000
_OTHERS_WRITE = 0o022
_NO_SHELLS = ("nologin", "false")

Admitted = frozenset[tuple[str, bytes]]
"""Pairs of a user and a key."""


def load_admitted(path: Path) -> Admitted:
    """The server's file: lines of users, with commas between, and a key; `#` begins a remark.

    Raises:
        UsageError: a line cannot be read, or others may write to the file.
        OSError: it cannot be read.
    """
    with path.open(errors="replace") as file:
        why = _not_trusted(str(path), os.fstat(file.fileno()), "/", os.geteuid())
        if why is not None:
            raise UsageError(why)
        lines = file.read().splitlines()
    pairs: set[tuple[str, bytes]] = set()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        users, _, key = line.strip().partition(" ")
        try:
            data = parse_public_key(key.strip()).data
        except UsageError as error:
            words = "users and a key, such as `ada rpt-x25519 AAAA...`"
            raise UsageError(f"{path} line {number}: {words}: {error}") from None
        pairs.update((user, data) for user in users.split(",") if user)
    return frozenset(pairs)


def why_not(account: pwd.struct_passwd, *, allow_root: bool) -> str | None:
    """Why nobody may be that user here, whatever the key; None if somebody may."""
    if account.pw_uid == 0 and not allow_root:
        return "root is not allowed (--allow-root)"
    if os.path.basename(account.pw_shell) in _NO_SHELLS:
        return f"the shell is {account.pw_shell}"
    if os.geteuid() and account.pw_uid != os.geteuid():
        return "this server is not root, and serves its own user alone"
    if expired(account.pw_name):
        return "the account has expired"
    return None


def no_logins(account: pwd.struct_passwd) -> str | None:
    """What users are told while nologin(5) keeps everybody but root out; None if it does not.

    To be called as that user, as `own_file_admits` is.
    """
    if not account.pw_uid or not _NO_LOGINS.exists():
        return None
    try:
        with _NO_LOGINS.open(errors="replace") as file:
            return file.read(_MOST_TEXT) or "no logins now"
    except OSError:
        return "no logins now"


def expired(name: str) -> bool:
    """Whether shadow(5) says that an account is over: its eighth field, in days since 1970."""
    try:
        lines = _SHADOW.read_text(errors="replace").splitlines()
    except OSError:
        return False  # no such file, or we are not root and serve ourselves
    for line in lines:
        fields = line.split(":")
        if fields[0] == name and len(fields) > 7 and fields[7].isdigit():
            return time.time() // 86_400 >= int(fields[7])
    return False


def own_file_admits(account: pwd.struct_passwd, key: bytes) -> str | None:
    """Why a user's own file does not admit a key; None if it does.

    To be called as that user: what it may not read, nobody reads for it.
    """
    path = os.path.join(account.pw_dir, OWN_FILE)
    try:
        # A pipe is not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return f"{path}: {error.strerror}"
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return f"{path} is no file"
        why = _not_trusted(path, status, account.pw_dir, account.pw_uid)
        if why is not None:
            return why
        text = file.read(_MOST_BYTES).decode(errors="replace")
    for line in text.splitlines():
        try:
            if parse_public_key(line.strip()).data == key:
                return None
        except UsageError:
            continue  # a remark, or a key of some other kind
    return f"the key is not in {path}"


def _not_trusted(path: str, status: os.stat_result, top: str, owner: int) -> str | None:
    """Why others could have written a file, itself or by way of a directory up to `top`."""
    places = [(path, status)]
    place = os.path.realpath(path)
    last = os.path.realpath(top)
    while place not in (last, "/"):
        place = os.path.dirname(place)
        places.append((place, os.stat(place)))
    for name, found in places:
        if found.st_uid not in (0, owner):
            return f"{name} belongs to somebody else"
        # What stands in a directory as /tmp is, only its owner takes away.
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_mode & _OTHERS_WRITE and not sticky:
            return f"{name} can be written by others"
    return None
