"""What `craft --send` does: sends what craft has built, and with --answer shows what came back.

::

    IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 4711, seq 1, length 8
      0.038 ms  IP 10.0.0.2 > 10.0.0.1: ICMP echo reply, id 4711, seq 1, length 8

    1 packet sent, 1 answered, rtt min/avg/max = 0.038/0.038/0.038 ms

Requests are told in their order, each with its answers. Signals leave a wish that is
granted between two turns, so that the summary is always told. What sends is imported by
`run` only: craft shows much more often than it sends.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rawproto.capture import CapturedPacket, open_writer
from rawproto.cli.signals import Wishes
from rawproto.errors import LinkError, RawprotoError, UsageError
from rawproto.wire.layer import Packet

if TYPE_CHECKING:
    from rawproto.cli.craft_report import Report
    from rawproto.drivers.send import Outgoing

__all__ = ["add_arguments", "is_wanted", "run"]

INTERRUPTED = 130
NOTHING_CAME = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whether to send, how fast, and how long to wait for answers."""
    how = parser.add_argument_group("sending")
    how.add_argument("--send", action="store_true", help="send the packets")
    how.add_argument(
        "--answer",
        type=float,
        metavar="SECONDS",
        help="send, and wait for the answer to each; exit 1 when nothing came",
    )
    how.add_argument(
        "--all-answers",
        action="store_true",
        help="wait out the time for every packet, for duplicates",
    )
    how.add_argument("-c", "--count", type=int, default=1, metavar="N", help="send all N times (1)")
    pace = how.add_mutually_exclusive_group()
    pace.add_argument(
        "--rate", type=float, metavar="PPS", help="packets a second (as fast as it goes)"
    )
    pace.add_argument(
        "--interval", type=float, default=0.0, metavar="SECONDS", help="from packet to packet"
    )
    how.add_argument(
        "-i", "--interface", metavar="NAME", help="leave by this one (what routes say)"
    )
    how.add_argument(
        "--as-is",
        action="store_true",
        help="fill in no address, port or identifier that was left out",
    )
    how.add_argument("-q", "--quiet", action="store_true", help="tell the summary only")


def is_wanted(arguments: argparse.Namespace) -> bool:
    """Whether anything is to be sent.

    Raises:
        UsageError: nothing is, and yet it is said how.
    """
    if arguments.send or arguments.answer is not None:
        if arguments.all_answers and arguments.answer is None:
            raise UsageError("--all-answers says how to wait; add --answer SECONDS")
        return True
    for name, default in (
        ("all_answers", False),
        ("count", 1),
        ("rate", None),
        ("interval", 0.0),
        ("interface", None),
        ("as_is", False),
        ("quiet", False),
    ):
        if getattr(arguments, name) != default:
            option = name.replace("_", "-")
            raise UsageError(f"--{option} says how to send; add --send or --answer SECONDS")
    return False


def run(packets: Iterable[Packet], arguments: argparse.Namespace) -> int:
    """Sends packets, taken one by one, and tells of them.

    Args:
        packets: what craft built, unfragmented.
        arguments: those of `add_arguments`, and of craft `form`, `pcap`, `fragment`.

    Returns:
        0; 1 when answers were waited for and none came; 130 after Ctrl-C.

    Raises:
        UsageError: a value out of range.
        LinkError: no way, no such interface, too large, no privilege; after the summary.
    """
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    options = _options(arguments)
    report = _report(arguments)
    with ExitStack() as stack:
        record = None
        if arguments.pcap is not None:
            if arguments.pcap == "-":
                raise UsageError("--pcap -: a capture of what is sent needs a file")
            record = stack.enter_context(open_writer(arguments.pcap)).write
        wakener = stack.enter_context(_wakener())
        act = _send
        if arguments.answer is not None:
            act = _ask
            options["timeout_ns"] = _nanoseconds("--answer", arguments.answer)
            options["wait_for"] = "all" if arguments.all_answers else "first"
        try:
            return act(packets, options, report, record, wakener)
        except LinkError as error:
            if error.errno == errno.EMSGSIZE and arguments.fragment is None:
                error.reason += "; --fragment SIZE cuts packets"
            raise


Record = Callable[[CapturedPacket], None] | None
Wakener = tuple[int, Callable[[], None], int]


def _send(
    packets: Iterable[Packet],
    options: dict[str, Any],
    report: Report,
    record: Record,
    wakener: Wakener,
) -> int:
    from rawproto.drivers.blocking import wait_readable
    from rawproto.drivers.send import Sending

    offset_ns = time.time_ns() - time.monotonic_ns()

    def on_sent(outgoing: Outgoing, sent_ns: int) -> None:
        for piece in outgoing.fragments or (outgoing,):
            captured = CapturedPacket(
                time_ns=sent_ns + offset_ns,
                data=piece.data,
                link_type=piece.link_type,
                direction="out",
            )
            if record is not None:
                record(captured)
            report.sent(captured)

    sending = Sending(packets, **options, on_sent=on_sent)
    interrupted = False

    def end() -> None:
        nonlocal interrupted
        interrupted = True

    wishes = Wishes(end=end, tell=lambda: report.told(sending.result))
    awakened, wake, waker = wakener
    try:
        with wishes.noted(wake, waker):
            for wait_ns in sending.steps():
                if wait_ns:
                    wait_readable(wait_ns, awakened)
                wishes.grant()
                if interrupted:
                    break
    except RawprotoError:
        if sending.result.packets:
            report.told(sending.result)
        raise
    finally:
        sending.close()
    report.told(sending.result)
    return INTERRUPTED if interrupted else 0


def _ask(
    packets: Iterable[Packet],
    options: dict[str, Any],
    report: Report,
    record: Record,
    wakener: Wakener,
) -> int:
    from rawproto.drivers.asking import Asking
    from rawproto.drivers.blocking import wait_readable

    awakened, wake, waker = wakener
    interrupted = False
    with Asking(packets, **options, in_order=True, on_packet=record) as asking:

        def end() -> None:
            nonlocal interrupted
            interrupted = True
            asking.stop()

        wishes = Wishes(end=end, tell=lambda: report.summed(asking))
        with wishes.noted(wake, waker):
            while not asking.finished or asking.settled:
                due_ns = asking.turn()
                while asking.settled:
                    report.asked(asking.settled.popleft(), asking.offset_ns)
                if due_ns is not None:
                    left_ns = max(due_ns - time.monotonic_ns(), 0)
                    wait_readable(left_ns, asking.fileno(), awakened)
                wishes.grant()
        if asking.sent or asking.failure is None:
            report.summed(asking)
        if asking.failure is not None:
            raise asking.failure
        if interrupted:
            return INTERRUPTED
        return 0 if asking.answered else NOTHING_CAME


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "interface": arguments.interface,
        "count": arguments.count,
        "interval_ns": _nanoseconds("--interval", arguments.interval),
        "rate_pps": arguments.rate,
        "fill": not arguments.as_is,
        "fragment_bytes": arguments.fragment,
    }


def _nanoseconds(option: str, seconds: float) -> int:
    if not 0 <= seconds <= 86400:
        raise UsageError(f"{option} {seconds:g}: must be 0 to 86400 seconds")
    return round(seconds * 1e9)


def _report(arguments: argparse.Namespace) -> Report:
    from rawproto.cli.craft_report import JSONReport, TextReport

    if arguments.form == "json":
        return JSONReport(sys.stdout, quiet=arguments.quiet)
    if arguments.form not in ("line", "hexdump", "diagram"):
        raise UsageError(f"--{arguments.form} shows packets and does not send them")
    return TextReport(sys.stdout, arguments.form, quiet=arguments.quiet)


@contextmanager
def _wakener() -> Iterator[Wakener]:
    """(what becomes readable, what makes it so, where a byte does): to interrupt a sleep."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def wake() -> None:
        with suppress(BlockingIOError):
            os.write(writer, b"\0")

    try:
        yield reader, wake, writer
    finally:
        os.close(reader)
        os.close(writer)
