"""Which labs are up: one small file each, so that another command can find them.

The files are in $XDG_RUNTIME_DIR/rawproto where there is one, for root in /run/rawproto,
for others in /tmp/rawproto-UID. Only `rawproto lab up` writes them; a lab that dies with its owner
needs none. A file says which process keeps the lab, by number and time of start, and
is stale when that process has gone: the lab went with it, so only the file is left to clean.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from rawproto.errors import UsageError
from rawproto.lab.namespaces import Keeper, start_time
from rawproto.lab.network import Network
from rawproto.lab.spec import from_document, to_document
from rawproto.lab.topology import NAME, Topology

__all__ = ["Entry", "Registry", "attach", "hold"]

DRAFT = ".draft"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one file says.

    Attributes:
        name: the lab's name.
        pid: its keeper; 0 if the file can't be read as one of ours.
        started: when that was started, in clock ticks since boot.
        topology: what was built; None if the file can't be read.
    """

    name: str
    pid: int
    started: int
    topology: Topology | None

    @property
    def alive(self) -> bool:
        """Whether its keeper still runs."""
        try:
            return self.topology is not None and start_time(self.pid) == self.started
        except OSError:
            return False


class Registry:
    """The labs of one user. Make it before `become_root`, which changes who that is."""

    def __init__(self, directory: Path | None = None) -> None:
        """Uses the given directory, or the one that suits the user; made if need be.

        Raises:
            UsageError: it can't be made, or is someone else's.
        """
        self.directory = directory or _user_directory()
        try:
            self.directory.mkdir(mode=0o700, exist_ok=True)
            found = self.directory.lstat()
        except OSError as error:
            raise UsageError(f"state in {self.directory}: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise UsageError(f"state in {self.directory}: not a directory of this user")

    def check_free(self, name: str) -> None:
        """Raises UsageError if no lab could have that name, or one that is up has it."""
        if not NAME.fullmatch(name):
            raise UsageError(f"lab name {name!r} is not letters, digits, '-' and '_', at most 31")
        entry = self.find(name)
        if entry is not None and entry.alive:
            raise UsageError(f"lab {name} is up already; `rawproto lab down {name}` ends it")

    def add(self, name: str | None, network: Network) -> str:
        """Records a lab that is up.

        Args:
            name: as the user wants it; None for the topology's own name, with a number
                behind it if that is taken.
            network: the lab.

        Returns:
            The name.

        Raises:
            UsageError: the name is taken, or can't be one.
        """
        with self.locked():
            wanted = self._free_name(network.topology.name) if name is None else name
            self.check_free(wanted)
            self._write(wanted, network, network.topology)
        return wanted

    def update(self, entry: Entry, network: Network) -> None:
        """Records that a lab's links have changed. To be called while `locked`."""
        assert entry.topology is not None  # or nothing could be attached to
        self._write(entry.name, network, replace(network.topology, name=entry.topology.name))

    def _write(self, name: str, network: Network, topology: Topology) -> None:
        document = {
            "pid": network.keeper.pid,
            "started": network.keeper.started,
            "topology": to_document(topology),
        }
        draft = self.directory / DRAFT  # one file changes at a time, and never by halves
        draft.write_text(json.dumps(document))
        draft.replace(self._path(name))

    def _free_name(self, base: str) -> str:
        """The topology's name, or the first of name-2, name-3, ... that no running lab has."""
        taken = {entry.name for entry in self.entries() if entry.alive}
        names = (base if number == 1 else f"{base}-{number}" for number in count(1))
        return next(name for name in names if name not in taken)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes what is recorded meanwhile."""
        fd = os.open(self.directory, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # released with the descriptor, at the latest by death
            yield
        finally:
            os.close(fd)

    def forget(self, name: str) -> None:
        """Removes a lab's file; harmless if it isn't there."""
        self._path(name).unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """All labs, by name, stale ones too."""
        paths = sorted(self.directory.glob("*.json"), key=lambda path: path.stem)
        return [self._read(path) for path in paths]

    def find(self, name: str) -> Entry | None:
        """The lab of that name, stale or not."""
        path = self._path(name)
        return self._read(path) if NAME.fullmatch(name) and path.exists() else None

    def choose(self, name: str | None) -> Entry:
        """The lab that a command means: the named one, or the only one that is up.

        Raises:
            UsageError: there is none, or which one isn't clear.
        """
        if name is not None:
            entry = self.find(name)
            if entry is None or not entry.alive:
                raise UsageError(f"no lab {name} is up; `rawproto lab list` shows those that are")
            return entry
        alive = [entry for entry in self.entries() if entry.alive]
        if not alive:
            raise UsageError("no lab is up; `rawproto lab up pair` starts one")
        if len(alive) > 1:
            names = ", ".join(entry.name for entry in alive)
            raise UsageError(f"several labs are up ({names}): say which with --name")
        return alive[0]

    def _path(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _read(self, path: Path) -> Entry:
        try:
            document = json.loads(path.read_text())
            topology = document["topology"]
            return Entry(
                name=path.stem,
                pid=int(document["pid"]),
                started=int(document["started"]),
                topology=None if topology is None else from_document(topology, path.stem),
            )
        except (OSError, ValueError, TypeError, KeyError):
            return Entry(name=path.stem, pid=0, started=0, topology=None)


def hold(entry: Entry) -> Keeper:
    """The keeper of a lab that is up. Raises UsageError if it went down meanwhile."""
    try:
        keeper = Keeper(entry.pid)
    except OSError:
        keeper = None
    # Looked at through a pidfd, the number can't pass to another process any more.
    if keeper is None or keeper.started != entry.started:
        raise UsageError(f"lab {entry.name} has gone down")
    return keeper


def attach(entry: Entry) -> Network:
    """Takes hold of a lab that is up, to run programs in it; its topology has the lab's name.

    Moves this process into the lab's user namespace if it was built without root.

    Raises:
        UsageError: it went down meanwhile.
        PrivilegeError: it is someone else's.
    """
    keeper = hold(entry)
    keeper.join_user_namespace()
    assert entry.topology is not None  # or it would not count as alive
    return Network(replace(entry.topology, name=entry.name), keeper)


def _user_directory() -> Path:
    uid = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    # `sudo -E` keeps the caller's, in which root should leave nothing.
    if runtime and os.path.isdir(runtime) and os.stat(runtime).st_uid == uid:
        return Path(runtime) / "rawproto"
    if uid == 0 and os.access("/run", os.W_OK):
        return Path("/run/rawproto")
    return Path(f"/tmp/rawproto-{uid}")
