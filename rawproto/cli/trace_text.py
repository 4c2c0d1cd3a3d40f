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

# Codes of "destination unreachable" as traceroute on Linux sums them up; --json has the codes.
_MARKS = {0: "!N", 1: "!H", 2: "!P", 5: "!S", 6: "!N", 7: "!H", 8: "!N", 9: "!X", 10: "!X"}
_MARKS |= {11: "!N", 12: "!H", 13: "!X", 14: "!V", 15: "!C"}
_MARKS_V6 = {0: "!N", 1: "!X", 2: "!H", 3: "!H", 5: "!X", 6: "!X"}


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
        self._rewritten: tuple[str, ...] = ()
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
        if self._summary is not None and self._config.find_mtu:
            self._stream.write(self._mtu_line(self._summary) + "\n")

    def _is_settled(self, hop: TraceHop) -> bool:
        names = self._names
        return names is None or all(names.is_settled(each) for each in _addresses(hop))

    def _print(self, hop: TraceHop) -> None:
        """One line, spaced as traceroute spaces it: one before an address, two before a time."""
        cells = [f"{hop.ttl:2d} "]
        shown: tuple[str, list[str]] | None = None
        for answer in hop.answers:
            if answer is None:
                cells.append(" *")
                continue
            notes = self._notes(answer)
            if (answer.src_addr, notes) != shown:
                shown = answer.src_addr, notes
                cells += [f" {word}" for word in (self._label(answer.src_addr), *notes)]
            cells.append(f"  {answer.rtt_ns / 1e6:.3f} ms{self._mark(answer)}")
        if hop.rate_limited:
            cells.append("  [rate limited]")
        self._rewritten = next((p.rewritten or () for p in hop.answers if p), self._rewritten)
        self._stream.write("".join(cells) + "\n")

    def _label(self, address: str) -> str:
        if self._names is None:
            return address
        return f"{_plain(self._names.name_of(address) or address)} ({address})"

    def _notes(self, answer: TraceAnswer) -> list[str]:
        """What a router told besides: labels, interfaces, and what it got otherwise than we sent.

        A NAT rewrites for all who come behind it; it is noted where it first shows.
        """
        notes = []
        if answer.labels:
            stack = "/".join(
                f"L={each.label},E={each.exp},S={int(each.bottom_of_stack)},T={each.ttl}"
                for each in answer.labels
            )
            notes.append(f"<MPLS:{stack}>")
        notes += [_interface(each) for each in answer.interfaces]
        if answer.rewritten and answer.rewritten != self._rewritten:
            notes.append(f"[NAT: {', '.join(answer.rewritten)}]")
        return notes

    def _mark(self, answer: TraceAnswer) -> str:
        """What an error says beyond expiry; the target's own port unreachable is an arrival."""
        v6 = ":" in answer.src_addr
        kind, code = answer.icmp_type, answer.code
        if kind is None or code is None or kind in ((129, 3) if v6 else (0, 11)):
            return ""
        if kind == 2 if v6 else (kind, code) == (3, 4):
            return f" !F-{answer.mtu}" if answer.mtu else " !F"
        if kind != (1 if v6 else 3):
            return f" !<{kind}-{code}>"
        if code == (4 if v6 else 3):
            return "" if answer.src_addr == self._config.dst_addr else " !p"
        return " " + (_MARKS_V6 if v6 else _MARKS).get(code, f"!<{code}>")

    def _mtu_line(self, summary: TraceSummary) -> str:
        if summary.mtu is None:
            line = f"path MTU unknown: no answer from {self._config.dst_addr}"
        else:
            line = f"path MTU {summary.mtu}"
        limits = [f"{each.mtu} by {each.src_addr} (hop {each.ttl})" for each in self._narrowings]
        return line + (f", limited to {', then '.join(limits)}" if limits else "")


def _addresses(hop: TraceHop) -> set[str]:
    return {answer.src_addr for answer in hop.answers if answer is not None}


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
    return _plain(f"<{role}: {','.join(parts)}>")


def _plain(text: str) -> str:
    """What strangers call themselves may not steer a terminal."""
    return "".join(each if each.isprintable() else "?" for each in text)
