"""Host names: to addresses before a measurement, back to names beside it.

Looking up takes as long as a name server likes, so addresses are turned into names
by a thread of their own; who asks gets what is known by now.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Literal

from rawproto.errors import EmitError, UsageError
from rawproto.wire.address import pack_address

__all__ = ["NameFinder", "is_address", "resolve", "resolve_all"]

Family = Literal[4, 6]
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6, None: socket.AF_UNSPEC}


def resolve(name: str, family: Family | None = None) -> str:
    """A host name or address to an address, which may carry a scope (`fe80::1%eth0`).

    Args:
        name: as the user gave it.
        family: 4 or 6, None for whichever the system prefers.

    Raises:
        UsageError: there is no such host, or none of that family.
    """
    return resolve_all(name, family)[0]


def resolve_all(name: str, family: Family | None = None) -> list[str]:
    """All addresses of a host, the one that the system prefers first; see `resolve`."""
    try:
        found = socket.getaddrinfo(name, None, _FAMILIES[family], socket.SOCK_DGRAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise UsageError(f"{name}: {reason}") from None
    # The scope is kept as the user wrote it; a literal's tells more than its number.
    scope = name.partition("%")[2] if "%" in name else ""
    bare = dict.fromkeys([str(address[0]).partition("%")[0] for *_, address in found])
    return [f"{each}%{scope}" if scope else each for each in bare]


def is_address(text: str) -> bool:
    """Whether `text` is an IPv4 or IPv6 address, perhaps with a scope, and no name."""
    bare = text.partition("%")[0]
    try:
        pack_address(bare)
    except EmitError:
        return False
    return True


MAX_THREADS = 8


class NameFinder:
    """Finds the names of addresses in the background, each once and several at a time.

    Its threads are daemons: a name server that does not answer holds up no exit.
    """

    def __init__(self, on_found: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            on_found: called from a thread of the finder's when it is known whether an
                address has a name.
        """
        # Loaded here because with -n, or without names, nobody needs threads.
        import threading
        from queue import SimpleQueue

        self._names: dict[str, str] = {}
        self._found = threading.Condition()
        self._wanted: SimpleQueue[str] = SimpleQueue()
        self._asked: set[str] = set()
        self._on_found = on_found
        self._threads = 0
        self._new_thread = threading.Thread

    def name_of(self, address: str, wait_s: float = 0.0) -> str | None:
        """The name of an address, None while (or if) there is none.

        Args:
            address: IPv4 or IPv6, perhaps with a scope.
            wait_s: how long to wait for it while nothing is known yet.
        """
        if address not in self._asked:
            if len(self._asked) >= 4096:  # hostile replies must not fill the memory
                return None
            self._asked.add(address)
            self._wanted.put(address)
            if self._threads < MAX_THREADS:
                self._threads += 1
                self._new_thread(target=self._work, daemon=True).start()
        if wait_s and address not in self._names:
            with self._found:
                self._found.wait_for(lambda: address in self._names, wait_s)
        return self._names.get(address) or None

    def is_settled(self, address: str) -> bool:
        """Whether it is known by now if the address, once asked for, has a name."""
        return address in self._names

    def await_all(self, wait_s: float) -> None:
        """Waits until all that were asked for are settled, at most so long."""
        with self._found:
            self._found.wait_for(lambda: len(self._names) >= len(self._asked), wait_s)

    def _work(self) -> None:
        while True:
            address = self._wanted.get()
            try:
                name = socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
            except (OSError, UnicodeError):
                name = ""
            if not (name.isascii() and name.isprintable()):
                name = ""  # whoever runs the reverse zone wrote it: no escapes to our terminal
            with self._found:
                self._names[address] = name
                self._found.notify_all()
            self._on_found()
