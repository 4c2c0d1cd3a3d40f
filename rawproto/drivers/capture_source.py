"""What a live capture takes its frames from: interfaces by name, a filter, a ring.

Everything is refused before the first frame comes: an interface that isn't there, a
filter that cannot be read. Then `CaptureSource` hands out the ring's blocks until it is
told to `finish`; what the kernel has let in by then still comes, so that nothing which
was captured is lost for having been asked to stop.

Of an interface that goes down one waits for it to come up again; one that is gone ends
the capture, after what it had brought. It knows no file and decodes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rawproto.capture.packet import Interface as CapturedInterface
from rawproto.errors import LinkError, UsageError
from rawproto.filter.instructions import Program
from rawproto.link.admission import COOKED, ETHERNET, RAW, admission, link_type_of
from rawproto.link.interfaces import Interface, interface, interfaces
from rawproto.link.ring import LARGEST_FRAME, Block, PacketRing

if TYPE_CHECKING:
    from rawproto.filter import Names

__all__ = ["ANY", "CaptureOptions", "CaptureSource"]


ANY = "any"
"""Stands for all interfaces, those that come later too."""

LOOK_MS = 500
"""How often one looks whether the interfaces are still there."""
DRAIN_NS = 2_000_000_000
"""How long to wait at most for what the kernel has let in; the kernel takes 50 ms."""
_MIN_BUFFER, _MAX_BUFFER = 1 << 20, 1 << 30


@dataclass(slots=True, kw_only=True)
class CaptureOptions:
    """What to capture.

    Attributes:
        interfaces: names; `any` alone is all of them.
        filter: in the language of pcap-filter(7), or a program that all frames must pass,
            whatever they begin with; None lets all pass.
        snaplen: how many bytes of each frame are kept at most.
        promiscuous: whether the interfaces named also take in what is for other hosts.
        buffer_bytes: how much waits in the kernel when nobody reads.
        names: who knows the hosts and networks that a filter names; None for nobody.
    """

    interfaces: Sequence[str] = (ANY,)
    filter: str | Program | None = None
    snaplen: int = LARGEST_FRAME
    promiscuous: bool = True
    buffer_bytes: int = 32 << 20
    names: Names | None = None

    def __post_init__(self) -> None:
        if not self.interfaces:
            raise UsageError("no interface to capture on")
        if ANY in self.interfaces and len(self.interfaces) > 1:
            raise UsageError("any: is all interfaces, so name no other beside it")
        if not 1 <= self.snaplen <= LARGEST_FRAME:
            raise UsageError(f"snaplen {self.snaplen}: must be 1 to {LARGEST_FRAME}")
        if not _MIN_BUFFER <= self.buffer_bytes <= _MAX_BUFFER:
            raise UsageError(
                f"buffer of {self.buffer_bytes} bytes: must be {_MIN_BUFFER} to {_MAX_BUFFER}"
            )


class CaptureSource:
    """Blocks of frames as they come; a context manager.

    Args:
        options: what to capture.

    Attributes:
        options: those.
        watched: the interfaces that were named, by index; empty for `any`.
        ring: where the frames come from, which counts them.

    Raises:
        UsageError: a filter that cannot be read.
        PrivilegeError: the process may not open packet sockets.
        LinkError: no such interface; the kernel refuses.
    """

    def __init__(self, options: CaptureOptions) -> None:
        self.options = options
        found = [interface(name) for name in options.interfaces if name != ANY]
        self.watched: dict[int, Interface] = {each.index: each for each in found}
        self._described: dict[int, CapturedInterface] = {}
        several = len(self.watched) != 1
        program = admission(
            _filters(options, self.watched),
            snaplen=options.snaplen,
            indexes=sorted(self.watched) if several else (),
        )
        self._finishing_ns: int | None = None
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            self.ring = PacketRing(
                None if several else found[0].name,
                program,
                promiscuous=self.watched if options.promiscuous else (),
                buffer_bytes=options.buffer_bytes,
            )
        except BaseException:
            os.close(self._wake_fd)
            raise
        self._poll = select.poll()
        self._poll.register(self._wake_fd, select.POLLIN)
        self._poll.register(self.ring, select.POLLIN)
        self._looked_ns = time.monotonic_ns()

    @property
    def filter_text(self) -> str:
        """The filter as it was written, "" where it wasn't."""
        return self.options.filter if isinstance(self.options.filter, str) else ""

    def blocks(
        self, deadline_ns: int | None = None, *, wait: bool = True
    ) -> Iterator[Block | None]:
        """The blocks, until `finish` was called and all has come.

        Args:
            deadline_ns: when to finish by itself, monotonic; None for never.
            wait: whether to sleep here while there is none, before yielding None; else the
                caller does, until the ring is readable or `patience` is over.

        Yields:
            A block, or None when it was woken or has waited for a while.

        Raises:
            LinkError: an interface is gone; all that it brought has been handed out.
        """
        while True:
            now_ns = time.monotonic_ns()
            if deadline_ns is not None and now_ns >= deadline_ns:
                self.finish()
            block = self.ring.take()
            if block is not None:
                yield block
                continue
            if self._finishing_ns is not None and (
                not self.ring.pending or now_ns > self._finishing_ns + DRAIN_NS
            ):
                return
            self._look(self._wait(deadline_ns) if wait else select.POLLERR)
            yield None

    def finish(self) -> None:
        """Lets no more frames in. `blocks` ends when those that are in have been handed out."""
        if self._finishing_ns is None:
            self.ring.stop()
            self._finishing_ns = time.monotonic_ns()

    def wake(self) -> None:
        """Makes `blocks` yield soon: for signal handlers and other threads."""
        os.eventfd_write(self._wake_fd, 1)

    def describe(self, index: int) -> CapturedInterface:
        """An interface as a capture file describes it; one that is gone has a number only."""
        known = self._described.get(index)
        if known is None:
            try:
                name, hardware_type, mac_addr = self.ring.device(index)
            except LinkError:
                known = CapturedInterface(link_type=COOKED, name=f"if{index}")
            else:
                known = CapturedInterface(
                    link_type=link_type_of(hardware_type),
                    name=name,
                    snaplen=self.options.snaplen,
                    mac_addr=mac_addr,
                    filter=self.filter_text,
                    os=f"{os.uname().sysname} {os.uname().release}",
                )
            self._described[index] = known
        return known

    def close(self) -> None:
        """Gives the descriptors and the ring's memory back. May be called twice."""
        if self._wake_fd >= 0:
            self.ring.close()
            os.close(self._wake_fd)
            self._wake_fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def patience(self, deadline_ns: int | None) -> float:
        """How long to wait for the ring at most before `blocks` is asked again, in seconds."""
        if self._finishing_ns is not None:
            return 0.01  # a block that is being filled is handed over within its time
        patience = LOOK_MS / 1000
        if deadline_ns is not None:
            patience = min(patience, max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
        return patience

    def _wait(self, deadline_ns: int | None) -> int:
        """Sleeps until there is something: what poll says of the ring."""
        ready = dict(self._poll.poll(math.ceil(self.patience(deadline_ns) * 1000)))
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
        return ready.get(self.ring.fileno(), 0)

    def _look(self, ready: int) -> None:
        """Looks now and then whether the interfaces are there, and when the ring complains."""
        now_ns = time.monotonic_ns()
        complains = ready & select.POLLERR and self.ring.is_down()
        if complains or now_ns >= self._looked_ns + LOOK_MS * 1_000_000:
            self._looked_ns = now_ns
            self._check_interfaces()

    def _check_interfaces(self) -> None:
        for index, each in self.watched.items():
            try:
                self.ring.device(index)
            except LinkError:
                if not self.ring.pending:
                    gone = "the interface is gone"
                    raise LinkError("capture on", each.name, errno.ENODEV, gone) from None


def _filters(options: CaptureOptions, watched: dict[int, Interface]) -> dict[int, Program] | None:
    """The filter for each link type that may be met."""
    wanted = options.filter
    if wanted is None or wanted == "":
        return None
    if isinstance(wanted, Program):
        return {ETHERNET: wanted, RAW: wanted}
    from rawproto.filter import FilterError, Names, compile_filter

    def compiled(link_type: int) -> Program:
        return compile_filter(
            wanted,
            link_type=link_type,
            names=options.names or Names(),
            netmask=_netmask(watched) if "broadcast" in wanted else None,
            live=True,
            snap_length=options.snaplen,
        )

    for each in watched.values():
        if link_type_of(each.hardware_type) == COOKED:
            raise UsageError(
                f"{each.name}: no filter is known for its kind of hardware ({each.hardware_type})"
            )
    if watched:
        types = {link_type_of(each.hardware_type) for each in watched.values()}
        return {link_type: compiled(link_type) for link_type in sorted(types)}
    filters = {ETHERNET: compiled(ETHERNET)}
    with contextlib.suppress(FilterError):
        # Refused where it asks for what only Ethernet has: then nothing else can match.
        filters[RAW] = compiled(RAW)
    return filters


def _netmask(watched: dict[int, Interface]) -> str | None:
    """Of the IPv4 network of the only interface, for `ip broadcast`."""
    if len(watched) != 1:
        return None
    import ipaddress

    for each in interfaces():
        for one in each.addresses if each.index in watched else ():
            if ":" not in one.addr:
                return str(ipaddress.ip_network(f"0.0.0.0/{one.prefix_length}").netmask)
    return None
