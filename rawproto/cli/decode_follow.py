"""`rawproto decode --follow SPEC`: one conversation put together, or the list of all.

SPEC is `tcp:N` or `udp:N` (N alone is TCP's), with the numbers that `list` shows and
Wireshark calls `tcp.stream` and `udp.stream`; or a filter, for the conversation of the
first packet that it matches, from that packet on. Both `decode_follow` and its reports
read a capture once, as it comes; what waits for its turn is bounded.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from typing import Protocol

from rawproto.capture.packet import CapturedPacket
from rawproto.cli.file_filter import FileFilter
from rawproto.errors import UsageError
from rawproto.packets.conversations import Conversation, Conversations, transport
from rawproto.packets.reassembly import Reassembler
from rawproto.packets.streams import StreamData, StreamGap, TCPStream
from rawproto.wire.dissect import RAW, Dissection, dissect
from rawproto.wire.tcp import TCPHeader

MAX_TROUBLES = 5
"""How many packets that lack fragments are told one by one: a capture may hold any number."""

__all__ = ["Report", "run", "tell_reassembly"]


class Report(Protocol):
    """Who shows a conversation."""

    def begin(self, conversation: Conversation) -> None:
        """This is the one that is followed."""

    def tell(self, event: StreamData | StreamGap) -> None:
        """What was said next, or is missing."""

    def end(self, conversation: Conversation, stream: TCPStream | None) -> None:
        """That was all; `stream` is None for UDP."""


def run(packets: Iterable[CapturedPacket], arguments: argparse.Namespace) -> int:
    """Follows what `arguments.follow` chooses.

    Args:
        packets: in the order of the capture.
        arguments: of `rawproto decode`: follow, form, side, json, top, color.

    Raises:
        UsageError: SPEC chooses nothing, or the options contradict each other.
    """
    if arguments.form == "raw" and not arguments.side:
        raise UsageError("--as raw: whose bytes? add --side client or --side server")
    if arguments.form != "text" and arguments.json:
        raise UsageError(f"--as {arguments.form}: --json has a form of its own")
    follower = Follower(
        arguments.follow, None if arguments.follow == "list" else _report(arguments)
    )
    for packet in packets:
        follower.take(packet)
    follower.end()
    if arguments.follow == "list":
        _list(follower, arguments)
    elif follower.chosen is None:
        raise UsageError(
            f"--follow {arguments.follow}: there is none such among {follower.count_words}; "
            "--follow list shows them"
        )
    tell_reassembly(follower.reassembler)
    crowded = sum(table.untracked for table in follower.tables.values())
    if crowded:
        _complain(f"{crowded} packets belong to conversations beyond those that are kept")
    return 0


def tell_reassembly(reassembler: Reassembler) -> None:
    """Says on stderr which fragmented packets could not be put together, and counts the rest."""
    told = 0
    while told < MAX_TROUBLES and (trouble := reassembler.poll_trouble()):
        _complain(str(trouble))
        told += 1
    more = sum(reassembler.given_up.values()) - told
    if more:
        reasons = ", ".join(f"{n} {reason}" for reason, n in reassembler.given_up.items() if n)
        _complain(f"{more} more fragmented packets were not put together (of all: {reasons})")


class Follower:
    """Sorts packets into conversations and hands the chosen one's bytes to a report.

    Attributes:
        tables: the conversations, by protocol.
        reassembler: of their fragments.
        chosen: the one that is followed, None before its first packet.
    """

    def __init__(self, spec: str, report: Report | None) -> None:
        """
        Args:
            spec: as the user gave it; not looked at without a report.
            report: None to follow none.

        Raises:
            UsageError: `spec` is neither a number nor a filter (`FilterError`).
        """
        self.tables = {name: Conversations(name) for name in ("tcp", "udp")}
        self.reassembler = Reassembler()
        self.chosen: Conversation | None = None
        self._report = report
        self._stream: TCPStream | None = None
        self._said = [0, 0]
        self._last_ns = 0
        self._passes: FileFilter | None = None
        self._name = ""
        self._others: dict[str, None] = {}
        if report is None:
            return
        number = re.fullmatch(r"(?:(tcp|udp):)?(\d{1,9})", spec, re.ASCII)
        if number:
            self._name = f"{number[1] or 'tcp'}:{int(number[2])}"
        else:
            self._passes = FileFilter(spec)
            self._passes.judge(b"", RAW)  # what cannot be asked of reassembled packets, too

    @property
    def count_words(self) -> str:
        """How many conversations there were."""
        return " and ".join(f"{len(table.all)} of {name}" for name, table in self.tables.items())

    def take(self, packet: CapturedPacket) -> None:
        """The next packet of the capture."""
        found = dissect(packet.data, packet.link_type)
        self._last_ns = packet.time_ns
        whole = self.reassembler.whole(found, packet.time_ns)
        carried = None if whole is None else transport(whole)
        if whole is None or carried is None:
            return
        known = self.tables[carried.header.layer].add(
            carried.src_addr, carried.dst_addr, packet.time_ns, carried.header
        )
        if known is None:
            return
        conversation, side = known
        conversation.count(side, packet.original_length, packet.time_ns)
        if self._report is None or not self._is_chosen(conversation, packet, whole, found):
            return
        if isinstance(carried.header, TCPHeader):
            self._stream = self._stream or TCPStream()
            events = self._stream.add(
                side, carried.header, carried.data, carried.length, packet.time_ns
            )
            for event in events:
                self._report.tell(event)
            return
        said = self._said[side]
        self._said[side] += carried.length
        self._report.tell(
            StreamData(side=side, time_ns=packet.time_ns, offset=said, data=carried.data)
        )
        missing = carried.length - len(carried.data)
        if missing:
            at = said + len(carried.data)
            self._report.tell(
                StreamGap(side=side, time_ns=packet.time_ns, offset=at, length=missing)
            )

    def end(self) -> None:
        """That was the last packet."""
        self.reassembler.end(self._last_ns)
        if self._report is None or self.chosen is None:
            return
        if self._stream is not None:
            for event in self._stream.end(self._last_ns):
                self._report.tell(event)
        self._report.end(self.chosen, self._stream)
        if self._others:
            names = ", ".join(list(self._others)[:5]) + (", ..." if len(self._others) > 5 else "")
            asked = self._passes.expression if self._passes is not None else ""
            _complain(f"--follow {asked}: {self.chosen.name}; {names} match too")

    def _is_chosen(
        self,
        conversation: Conversation,
        packet: CapturedPacket,
        whole: Dissection,
        found: Dissection,
    ) -> bool:
        if self.chosen is conversation:
            return True
        if self._name:
            matches = conversation.name == self._name
        elif whole is found:
            matches = self._passes is not None and self._passes(packet)
        else:
            matches = self._passes is not None and self._passes.judge(whole.data, RAW)
        if not matches:
            return False
        if self.chosen is not None:
            if len(self._others) <= 5:
                self._others[conversation.name] = None
            return False
        self.chosen = conversation
        if self._report is not None:
            self._report.begin(conversation)
        return True


def _report(arguments: argparse.Namespace) -> Report:
    sides = {"client": (0,), "server": (1,)}.get(arguments.side or "", (0, 1))
    if arguments.json:
        from rawproto.cli.follow_json import FollowJSON

        return FollowJSON(sys.stdout, sides)
    from rawproto.cli.follow_text import FollowHex, FollowRaw, FollowText
    from rawproto.cli.render import Style

    if arguments.form == "raw":
        return FollowRaw(sys.stdout.buffer, sides[0], _complain)
    style = Style(sys.stdout, arguments.color)
    return (FollowHex if arguments.form == "hex" else FollowText)(sys.stdout, sides, style)


def _list(follower: Follower, arguments: argparse.Namespace) -> None:
    if arguments.json:
        from rawproto.cli.render import json_line
        from rawproto.cli.stats_json import conversation_fields

        for table in follower.tables.values():
            for each in table.all:
                sys.stdout.write(json_line("conversation", conversation_fields(each)))
        return
    from rawproto.cli.render import Style
    from rawproto.cli.stats_text import conversation_table

    everything = [each for table in follower.tables.values() for each in table.all]
    sys.stdout.write(conversation_table(everything, Style(sys.stdout, arguments.color)))


def _complain(words: str) -> None:
    """One line on stderr, behind what was shown before."""
    sys.stdout.flush()
    sys.stderr.write(f"rawproto decode: {words}\n")
