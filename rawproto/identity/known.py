"""Known peers: which key whom one connects to had, and must have again.

::

    rpt://10.0.0.2:4000 rpt-x25519 mDdUYJgu3Xe...=

A line a peer, by the address that was typed. Two programs may change the file at once: it
is locked, read anew, and replaced as a whole.
"""

from __future__ import annotations

import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rawproto.errors import UsageError
from rawproto.identity.keys import PublicKey, parse_public_key, write_private

__all__ = ["AuthorizedKeys", "KnownPeers", "authorize", "load_authorized"]

_log = logging.getLogger("rawproto")


class KnownPeers:
    """The file of known peers.

    Args:
        path: of it; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> dict[str, PublicKey]:
        """Every peer known, by address.

        Raises:
            UsageError: a line cannot be read; which one.
        """
        try:
            text = self.path.read_text(errors="replace")
        except FileNotFoundError:
            return {}
        peers = {}
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                address, _, rest = line.partition(" ")
                try:
                    peers[address] = parse_public_key(rest)
                except UsageError as error:
                    raise UsageError(f"{self.path} line {number}: {error}") from None
        return peers

    def key_of(self, address: str) -> bytes | None:
        """The key that a peer must have, None if it is not known."""
        known = self.all().get(address)
        return known.data if known else None

    def trust(self, address: str, key: PublicKey) -> None:
        """Pins a key to an address, in place of whatever was pinned.

        Raises:
            UsageError: no line could hold such an address.
        """
        if not address.isprintable() or " " in address:
            raise UsageError(f"{address!r}: no address has spaces and control characters")
        with _locked(self.path):
            peers = self.all()
            peers[address] = key
            self._write(peers)

    def forget(self, address: str) -> bool:
        """Unpins an address: whether it was known."""
        with _locked(self.path):
            peers = self.all()
            if address not in peers:
                return False
            del peers[address]
            self._write(peers)
            return True

    def _write(self, peers: dict[str, PublicKey]) -> None:
        lines = [f"{address} {key}\n" for address, key in peers.items()]
        write_private(self.path, "".join(lines))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps others from changing a file meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def load_authorized(path: Path) -> frozenset[bytes]:
    """The keys that a listener admits: public keys, a line each; `#` begins a remark.

    Raises:
        UsageError: a line cannot be read; which one. Or everybody may write to the file.
        OSError: the file cannot be read.
    """
    found = path.stat()
    if stat.S_ISREG(found.st_mode) and found.st_mode & stat.S_IWOTH:
        mode = stat.S_IMODE(found.st_mode)
        raise UsageError(f"{path} can be written by everybody (mode {mode:04o}): chmod o-w {path}")
    keys = set()
    for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            try:
                keys.add(parse_public_key(line.strip()).data)
            except UsageError as error:
                raise UsageError(f"{path} line {number}: {error}") from None
    return frozenset(keys)


def authorize(path: Path, key: PublicKey) -> None:
    """Adds a key to those that a listener admits, if it is not among them.

    Raises:
        UsageError: a line cannot be read; which one.
        OSError: the file cannot be read or written.
    """
    with _locked(path):
        text = path.read_text(errors="surrogateescape") if path.exists() else ""
        if text and key.data in load_authorized(path):
            return
        if text and not text.endswith("\n"):
            text += "\n"
        write_private(path, f"{text}{key}\n")


class AuthorizedKeys:
    """The keys that a listener admits, read anew when their file has changed.

    Where it cannot be read any more, nobody is admitted: a key that was taken out by who broke
    another line would be admitted still.

    Args:
        path: of the file; as for `load_authorized`.

    Raises:
        UsageError, OSError: as `load_authorized`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path.absolute()  # whatever directory this process goes to
        self._stamp = self._stamp_now()
        self._keys = load_authorized(path)

    def admits(self, key: bytes) -> bool:
        """Whether a key is in the file."""
        stamp = self._stamp_now()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._keys = load_authorized(self._path)
            except (OSError, UsageError) as error:
                self._keys = frozenset()
                _log.error("nobody is admitted: %s", error)
        return key in self._keys

    def _stamp_now(self) -> tuple[int, ...]:
        """What changes with the file; nothing does of a pipe, which can be read once."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        if not stat.S_ISREG(found.st_mode):
            return (found.st_dev, found.st_ino)
        return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
