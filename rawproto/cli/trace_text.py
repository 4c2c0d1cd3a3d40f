"""traceroute as text, in the table that its users know.

A hop is printed when all hops before it are, and when it is known whether its
addresses have names; the names are looked up meanwhile, off the measuring path.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TextIO

from rawproto.drivers.names import NameFinder
from rawproto.probe.trace_events import (
    TraceAnswer,
    TraceEvent,
    TraceHop,
    TraceMTU,
    TraceSummary,
)
from rawproto.probe.traceroute import Traceroute
from rawproto.wire.icmp_objects import InterfaceInformation

__all__ = ["TextReport"]

LAST_NAMES_S = 1.0
"""How long the end of a trace waits for the names that are still missing."""

_MARKS = {0: "!N", 1: "!H", 2: "!P", 5: "!S", 6: "!U", 7: "!W", 8: "!I", 9: "!A", 10: "!Z"}
_MARKS |= {11: "!Q", 12: "!T", 13: "!X", 14: "!V", 15: "!C"}
_MARKS_V6 = {0: "!N", 1: "!X", 2: "!B", 3: "!H", 5: "!X", 6: "!X"}


class TextReport:
    """Writes what a trace tells."""

    def __init__(
        self, stream: TextIO, machine: Traceroute, name: str, *, numeric: bool = False
    ) -> None:
        """
        Args:
            stream: where to.
            machine: whose events these are.
            name: of the target, as given.
            numeric: no names for addresses.
        """
        self._stream = stream
        self._config = machine.config
        self._name = name
        self._numeric = numeric
        self._names: NameFinder | None = None
        self._untold: deque[TraceHop] = deque()
        self._narrowings: list[TraceMTU] = []
        self._summary: TraceSummary | None = None

    def begin(self, wake: Callable[[], None]) -> None:
        """The header line.

        Args:
            wake: called from another thread when a name is known, for `refresh` to be called.
        """
        if not self._numeric:
            self._names = NameFinder(wake)
        config = self._config
        self._stream.write(
            f"traceroute to {self._name} ({config.dst_addr}), {config.max_ttl} hops max, "
            f"{config.size} byte packets\n"
        )

    def tell(self, event: TraceEvent) -> None:
        """Takes one event and prints what can be."""
        if isinstance(event, TraceHop):
            self._untold.append(event)
            if self._names is not None:
                for address in _addresses(event):
                    self._names.name_of(address)
        elif isinstance(event, TraceMTU):
            self._narrowings.append(event)
        else:
            self._summary = event
        self.refresh()

    def refresh(self) -> None:
        """Prints the hops whose names are settled, in order."""
        while self._untold and self._is_settled(self._untold[0]):
            self._print(self._untold.popleft())

    def end(self) -> None:
        """Prints the rest, with the names that are known soon, and what the MTU came to."""
        if self._names is not None and self._untold:
            self._names.await_all(LAST_NAMES_S)
        while self._untold:
            self._print(self._untold.popleft())
        if self._summary is not None and self._summary.mtu is not None:
            limits = ", ".join(f"{each.mtu} by {each.src_addr}" for each in self._narrowings)
            self._stream.write(
                f"path MTU {self._summary.mtu}"
                + (f" (limited to {limits})" if limits else "")
                + "\n"
            )

    def _is_settled(self, hop: TraceHop) -> bool:
        names = self._names
        return names is None or all(names.is_settled(each) for each in _addresses(hop))

    def _print(self, hop: TraceHop) -> None:
        cells = [f"{hop.ttl:2d} "]
        shown: str | None = None
        told: TraceAnswer | None = None
        for answer in hop.answers:
            if answer is None:
                cells.append("*")
                continue
            if answer.src_addr != shown:
                cells.append(self._label(answer.src_addr) + " ")
                shown = answer.src_addr
            cells.append(f"{answer.rtt_ns / 1e6:.3f} ms{self._mark(answer)} ")
            if told is None or answer.labels != told.labels or answer.rewritten != told.rewritten:
                cells += [f"{note} " for note in _notes(answer)]
            told = answer
        if hop.rate_limited:
            cells.append("[rate limited]")
        self._stream.write(" ".join(cells).rstrip() + "\n")

    def _label(self, address: str) -> str:
        if self._names is None:
            return address
        return f"{self._names.name_of(address) or address} ({address})"

    def _mark(self, answer: TraceAnswer) -> str:
        """How an unreachable is marked; the target's own port unreachable is an arrival."""
        v6 = ":" in answer.src_addr
        code = answer.code or 0
        if answer.icmp_type == (1 if v6 else 3):
            if code == (4 if v6 else 3):
                return "" if answer.src_addr == self._config.dst_addr else " !p"
            if code == 4 and not v6:
                return f" !F-{answer.mtu}" if answer.mtu else " !F"
            return " " + (_MARKS_V6 if v6 else _MARKS).get(code, f"!<{code}>")
        if v6 and answer.icmp_type == 2:
            return f" !F-{answer.mtu}"
        return ""


def _addresses(hop: TraceHop) -> set[str]:
    return {answer.src_addr for answer in hop.answers if answer is not None}


def _notes(answer: TraceAnswer) -> list[str]:
    """What a router told besides: labels, interfaces, and what it quoted otherwise."""
    notes = []
    if answer.labels:
        stack = "/".join(
            f"L={each.label},E={each.exp},S={int(each.bottom_of_stack)},T={each.ttl}"
            for each in answer.labels
        )
        notes.append(f"<MPLS:{stack}>")
    notes += [_interface(each) for each in answer.interfaces]
    if answer.rewritten:
        notes.append(f"[NAT: {', '.join(answer.rewritten)}]")
    return notes


def _interface(information: InterfaceInformation) -> str:
    role = InterfaceInformation.roles.get(information.role, str(information.role))
    parts = [
        f"{name}={value}"
        for name, value in (
            ("index", information.if_index),
            ("addr", information.if_addr),
            ("name", information.if_name),
            ("mtu", information.mtu),
        )
        if value is not None
    ]
    return f"<{role}: {','.join(parts)}>"
