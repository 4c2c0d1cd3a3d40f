"""How `craft --send` tells what went out and what came back: as text, or as JSON Lines."""

from __future__ import annotations

from typing import Protocol, TextIO

from rawproto.capture.packet import CapturedPacket
from rawproto.cli.render import json_line, milliseconds
from rawproto.drivers.asking import Asking
from rawproto.drivers.send import SendResult
from rawproto.packets.answers import Answer, Question
from rawproto.wire.dissect import Dissection, checksums, dissect
from rawproto.wire.show import diagram, hexdump, summary

__all__ = ["JSONReport", "Report", "TextReport"]


class Report(Protocol):
    """What both forms of telling have."""

    def sent(self, packet: CapturedPacket) -> None:
        """A packet went out, and nobody waits for an answer."""
        ...

    def told(self, result: SendResult) -> None:
        """All that was sent, or all so far."""
        ...

    def asked(self, question: Question, offset_ns: int) -> None:
        """A packet went out, and nobody waits for its answer any longer.

        Args:
            question: with its answers.
            offset_ns: what makes its times those of the calendar.
        """
        ...

    def summed(self, asking: Asking) -> None:
        """All that was asked, or all so far."""
        ...


class RoundTrips:
    """Least, mean and greatest of round-trip times, in ns; as many as there are."""

    def __init__(self) -> None:
        self.count = self.total = self.least = self.greatest = 0

    def add(self, rtt_ns: int) -> None:
        """One more."""
        self.least = min(self.least, rtt_ns) if self.count else rtt_ns
        self.greatest = max(self.greatest, rtt_ns)
        self.count += 1
        self.total += rtt_ns

    @property
    def all(self) -> tuple[float, float, float]:
        """(min, avg, max)."""
        return self.least, self.total / (self.count or 1), self.greatest


class TextReport:
    """Lines for people.

    Args:
        stream: where to.
        form: `line`, or what stands below each line: `hexdump` or `diagram`.
        quiet: tell the summary only.
    """

    def __init__(self, stream: TextIO, form: str, *, quiet: bool = False) -> None:
        self._stream = stream
        self._form = form
        self._quiet = quiet
        self._round_trips = RoundTrips()

    def sent(self, packet: CapturedPacket) -> None:
        if not self._quiet:
            self._tell("", dissect(packet.data, packet.link_type))

    def told(self, result: SendResult) -> None:
        words = f"{_counted(result.pieces, 'packet')} sent"
        if result.pieces > result.packets:
            words += f" (fragments of {result.packets})"
        words += f", {_counted(result.bytes, 'byte')}"
        if result.packets > 1 and result.duration_ns:
            rate = (result.packets - 1) / result.duration_ns * 1e9
            words += f" in {result.duration_ns / 1e9:.3f} s, {rate:.0f} packets/s"
        self._sum(words)

    def asked(self, question: Question, offset_ns: int) -> None:
        for answer in question.answers:
            self._round_trips.add(answer.rtt_ns)
        if self._quiet:
            return
        self._tell("", dissect(question.data, question.link_type))
        for number, answer in enumerate(question.answers):
            head = f"  {answer.rtt_ns / 1e6:.3f} ms  "
            self._tell(head, answer.found, _notes(answer, number, question.group))
        if not question.answers:
            why = " (no neighbor)" if question.unsent else ""
            self._stream.write(f"  no answer{why}\n")

    def summed(self, asking: Asking) -> None:
        words = f"{_counted(asking.sent, 'packet')} sent, {asking.answered} answered"
        for count, what in (
            (asking.unsent, "not sent"),
            (asking.duplicates, "more answers"),
            (asking.late, "too late"),
            (asking.dropped, "frames dropped by this host"),
        ):
            if count:
                words += f", {count} {what}"
        if self._round_trips.count:
            least, mean, greatest = self._round_trips.all
            words += (
                f", rtt min/avg/max = {least / 1e6:.3f}/{mean / 1e6:.3f}/{greatest / 1e6:.3f} ms"
            )
        self._sum(words)

    def _tell(self, head: str, found: Dissection, notes: str = "") -> None:
        self._stream.write(f"{head}{summary(found)}{notes}\n")
        if self._form == "hexdump":
            self._stream.write(hexdump(found.data) + "\n")
        elif self._form == "diagram":
            self._stream.write("\n\n".join(diagram(layer) for layer in found.layers) + "\n")

    def _sum(self, words: str) -> None:
        self._stream.write(words + "\n" if self._quiet else f"\n{words}\n")


class JSONReport:
    """JSON Lines: `packet` for each sent, or `exchange` for each with its answers; a `summary`.

    Args:
        stream: where to.
        quiet: tell the summary only.
    """

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._number = 0
        self._round_trips = RoundTrips()

    def sent(self, packet: CapturedPacket) -> None:
        self._number += 1
        if not self._quiet:
            self._write("packet", _fields(self._number, packet))

    def told(self, result: SendResult) -> None:
        self._write(
            "summary",
            {
                "sent": result.pieces,
                "uncut": result.packets,
                "bytes": result.bytes,
                "duration_ms": milliseconds(result.duration_ns),
            },
        )

    def asked(self, question: Question, offset_ns: int) -> None:
        for answer in question.answers:
            self._round_trips.add(answer.rtt_ns)
        if self._quiet:
            return
        request = CapturedPacket(
            time_ns=question.sent_ns + offset_ns,
            data=question.data,
            link_type=question.link_type,
            direction="out",
        )
        self._write(
            "exchange",
            {
                "request": _fields(question.number, request),
                "answers": [
                    _answer_fields(number, answer, offset_ns)
                    for number, answer in enumerate(question.answers, 1)
                ],
                "unsent": question.unsent or None,
            },
        )

    def summed(self, asking: Asking) -> None:
        times = self._round_trips
        least, mean, greatest = times.all if times.count else (None, None, None)
        self._write(
            "summary",
            {
                "sent": asking.sent,
                "unsent": asking.unsent,
                "answered": asking.answered,
                "duplicates": asking.duplicates,
                "late": asking.late,
                "dropped_by_host": asking.dropped,
                "min_rtt_ms": milliseconds(least),
                "mean_rtt_ms": milliseconds(mean),
                "max_rtt_ms": milliseconds(greatest),
            },
        )

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        self._stream.write(json_line(kind, fields))


def _fields(number: int, packet: CapturedPacket) -> dict[str, object]:
    from rawproto.packets.json import packet_fields

    return packet_fields(number, packet, dissect(packet.data, packet.link_type))


def _answer_fields(number: int, answer: Answer, offset_ns: int) -> dict[str, object]:
    captured = CapturedPacket(
        time_ns=answer.received_ns + offset_ns,
        data=answer.found.data,
        link_type=answer.link_type,
        direction="in",
    )
    return {
        "kind": answer.kind,
        "src_addr": answer.src_addr,
        "rtt_ms": milliseconds(answer.rtt_ns),
        "tx_stamp": answer.tx_stamp,
        "rx_stamp": answer.rx_stamp,
        **_fields(number, captured),
    }


def _notes(answer: Answer, number: int, group: bool) -> str:
    """What to say behind an answer: that it is damaged, or one too many."""
    notes = ""
    if not answer.valid:
        wrong = [
            answer.found.layers[i].layer for i, right in checksums(answer.found) if right is False
        ]
        notes += f" [bad {' and '.join(wrong)} checksum]"
    if number and not group:
        notes += " [one more]"
    return notes


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
