"""A run of questions in virtual time: windows, time-outs, late and second answers, full buffers.

The sender is a script: what it is given is answered when the test says so.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterator

import pytest

from rawproto.capture.packet import CapturedPacket
from rawproto.drivers import ask
from rawproto.drivers import asking as module
from rawproto.drivers.asking import Asking
from rawproto.drivers.send import Outgoing, Pace, Sender, each_of
from rawproto.errors import LinkError, UsageError
from rawproto.link.base import Transmitted
from rawproto.link.bench import Heard
from rawproto.link.packet import Frame
from rawproto.wire.dissect import RAW
from rawproto.wire.icmp import ICMPRedirect, ICMPTimeExceeded
from rawproto.wire.icmp_echo import ICMPEcho
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.layer import Packet

ME, YOU = "10.0.0.1", "10.0.0.2"
SECOND = 10**9


def echo(number: int) -> bytes:
    header = IPv4Header(src_addr=ME, dst_addr=YOU, identification=number + 1)
    return (header / ICMPEcho(identifier=7, sequence_number=number)).emit()


def reply(number: int, *, checksum: int | None = None) -> bytes:
    message = ICMPEcho(icmp_type=0, identifier=7, sequence_number=number, checksum=checksum)
    return (IPv4Header(src_addr=YOU, dst_addr=ME) / message).emit()


class Script:
    """Stands in for `Sender`, and for its link."""

    ready_bytes = Sender._ready_bytes

    def __init__(self) -> None:
        self.now_ns = SECOND
        self.sent: list[bytes] = []
        self.refusals: list[int] = []
        self.link = self
        self.dropped = 0
        self.failing = False
        self._stamps: list[Transmitted] = []
        self._heard: list[Heard] = []

    def ready(self, item: bytes) -> Outgoing:
        return self.ready_bytes(item)  # type: ignore[misc,arg-type]

    def send(self, outgoing: Outgoing, token: int) -> int:
        if self.refusals:
            raise LinkError("send to", outgoing.dst_addr, self.refusals.pop(0))
        self.sent.append(outgoing.data)
        self._stamps.append(
            Transmitted(
                token=token, sched_ns=None, sent_ns=self.now_ns + 1000, stamp_source="kernel"
            )
        )
        return self.now_ns

    def hear(self, data: bytes, at_ns: int | None = None) -> None:
        """A packet comes in."""
        frame = Frame(
            data=data,
            length=len(data),
            interface=2,
            direction="in",
            packet_type=0,
            hardware_type=65534,
            ethertype=0x0800,
            real_ns=0,
            stamp_source="kernel",
            checksum_ready=True,
        )
        self._heard.append(
            Heard(
                frame=frame,
                link_type=RAW,
                received_ns=self.now_ns if at_ns is None else at_ns,
                stamp_source="kernel",
            )
        )

    def receive(self, limit: int) -> tuple[list[Transmitted], list[Heard]]:
        stamps, self._stamps = self._stamps, []
        heard, self._heard = self._heard[:limit], self._heard[limit:]
        return stamps, heard

    def close(self) -> None:
        pass


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setattr(module, "Sender", lambda *_, **__: script)
    return script


def asking(script: Script, count: int, **options: object) -> Asking:
    packets = (echo(number) for number in range(count))
    return Asking(packets, clock=lambda: script.now_ns, **options)  # type: ignore[arg-type]


def told(run: Asking) -> list[tuple[int, int]]:
    """(number of the question, how many answers) of those settled since."""
    found = [(each.number, len(each.answers)) for each in run.settled]
    run.settled.clear()
    return found


def test_answer_settles_its_question_with_the_time_between_the_stamps(script: Script) -> None:
    run = asking(script, 1)
    run.turn()
    script.hear(reply(0), script.now_ns + 251_000)
    run.turn()
    ((question,), finished) = (run.settled, run.finished)
    assert finished
    (answer,) = question.answers
    assert (answer.kind, answer.rtt_ns, answer.src_addr) == ("reply", 250_000, YOU)
    assert (answer.tx_stamp, answer.rx_stamp, answer.interface) == ("kernel", "kernel", 2)
    assert (run.sent, run.answered) == (1, 1)


def test_question_without_answer_is_given_up_when_its_time_is_out(script: Script) -> None:
    run = asking(script, 1, timeout_ns=SECOND)
    due_ns = run.turn()
    assert due_ns == script.now_ns + SECOND
    script.now_ns = due_ns - 1
    assert run.turn() == due_ns
    assert not run.settled
    script.now_ns = due_ns
    assert run.turn() is None
    assert told(run) == [(1, 0)]
    assert (run.finished, run.answered) == (True, 0)


def test_answer_that_came_in_time_counts_even_if_it_is_read_late(script: Script) -> None:
    run = asking(script, 1)
    run.turn()
    script.hear(reply(0))
    script.now_ns += 5 * SECOND  # this process slept
    run.turn()
    assert told(run) == [(1, 1)]


def test_no_more_are_under_way_than_may_be(script: Script) -> None:
    taken: list[int] = []

    def packets() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield echo(number)

    run = Asking(packets(), most_in_flight=3, clock=lambda: script.now_ns)
    run.turn()
    assert (len(script.sent), len(taken)) == (3, 3)
    script.hear(reply(1))
    run.turn()
    assert told(run) == [(2, 1)]
    assert (len(script.sent), len(taken)) == (4, 4)


def test_late_answer_is_counted_and_told_to_nobody(script: Script) -> None:
    run = asking(script, 2, most_in_flight=1)
    run.turn()
    script.now_ns += SECOND
    run.turn()
    script.hear(reply(0))
    script.hear(reply(1))
    run.turn()
    assert told(run) == [(1, 0), (2, 1)]
    assert (run.late, run.duplicates) == (1, 0)


def test_second_answer_is_counted(script: Script) -> None:
    run = asking(script, 2)
    run.turn()
    for _ in range(3):
        script.hear(reply(0))
    run.turn()
    assert told(run) == [(1, 1)]
    assert (run.duplicates, run.answered) == (2, 1)


def test_who_waits_for_all_gets_the_second_too(script: Script) -> None:
    run = asking(script, 1, wait_for="all")
    run.turn()
    for _ in range(3):
        script.hear(reply(0))
    run.turn()
    assert not run.settled
    script.now_ns += SECOND
    run.turn()
    assert told(run) == [(1, 3)]
    assert (run.duplicates, run.answered) == (2, 1)


def test_redirect_is_told_beside_the_answer(script: Script) -> None:
    run = asking(script, 1)
    run.turn()
    redirect = ICMPRedirect(gateway_addr="10.0.0.3", original_datagram=echo(0)[:28])
    script.hear((IPv4Header(src_addr="10.0.0.254", dst_addr=ME) / redirect).emit())
    run.turn()
    assert not run.settled
    script.hear(reply(0))
    run.turn()
    assert [each.kind for each in run.settled[0].answers] == ["error", "reply"]


def test_answers_in_order_wait_for_those_before(script: Script) -> None:
    run = asking(script, 3, in_order=True)
    run.turn()
    script.hear(reply(2))
    script.hear(reply(1))
    run.turn()
    assert told(run) == []
    script.now_ns += SECOND
    run.turn()
    assert told(run) == [(1, 0), (2, 1), (3, 1)]


def test_hostile_flood_of_answers_is_bounded(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_ANSWERS", 5)
    run = asking(script, 1, wait_for="all")
    run.turn()
    for _ in range(1000):
        script.hear(reply(0))
    while run.turn() == script.now_ns:
        pass
    script.now_ns += SECOND
    run.turn()
    assert told(run) == [(1, 5)]


def test_damaged_answer_is_told_as_one(script: Script) -> None:
    run = asking(script, 2)
    run.turn()
    script.hear(reply(0, checksum=1))
    script.hear(reply(1))
    run.turn()
    assert [each.answers[0].valid for each in run.settled] == [False, True]


def test_hostile_answers_are_heard_without_complaint(script: Script) -> None:
    rng = random.Random(7)
    run = asking(script, 1, wait_for="all")
    run.turn()
    error = ICMPTimeExceeded(original_datagram=echo(0))
    whole = [reply(0), (IPv4Header(src_addr="10.0.0.254", dst_addr=ME) / error).emit()]
    for _ in range(3000):
        damaged = bytearray(rng.choice(whole))
        for _ in range(rng.randrange(4)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        script.hear(bytes(damaged[: rng.randrange(1, len(damaged) + 1)]))
    while run.turn() == script.now_ns:
        pass
    script.now_ns += SECOND
    run.turn()
    (question,) = run.settled
    assert {answer.kind for answer in question.answers} == {"reply", "error"}
    assert {answer.valid for answer in question.answers} == {True, False}


def test_full_buffer_is_tried_again_and_nothing_is_lost(script: Script) -> None:
    run = asking(script, 2)
    script.refusals = [errno.ENOBUFS, errno.EAGAIN]
    assert run.turn() == script.now_ns + module.FULL_WAIT_NS
    assert run.turn() == script.now_ns + module.FULL_WAIT_NS
    run.turn()
    assert script.sent == [echo(0), echo(1)]


def test_refused_packet_ends_the_run_when_those_before_are_settled(script: Script) -> None:
    run = asking(script, 3)
    run.turn()
    later = asking(script, 3)
    script.refusals = [errno.ENETUNREACH]
    later.turn()
    assert later.finished
    assert isinstance(later.failure, LinkError)
    assert run.failure is None


def test_what_went_before_a_failure_is_still_waited_for(script: Script) -> None:
    packets = iter([echo(0), b"no packet"])
    run = Asking(packets, clock=lambda: script.now_ns)
    run.turn()
    assert isinstance(run.failure, UsageError)
    assert not run.finished
    script.hear(reply(0))
    run.turn()
    assert run.finished
    assert told(run) == [(1, 1)]


def test_interval_spaces_the_questions(script: Script) -> None:
    run = asking(script, 3, interval_ns=SECOND // 10)
    times = []
    while not run.finished:
        due_ns = run.turn()
        times += [script.now_ns] * (len(script.sent) - len(times))
        script.now_ns = due_ns or script.now_ns
    assert [at - times[0] for at in times] == [0, SECOND // 10, SECOND // 5]


def test_stop_settles_all_that_is_under_way(script: Script) -> None:
    for in_order in (False, True):
        run = asking(script, 10, most_in_flight=4, in_order=in_order)
        run.turn()
        run.stop()
        assert run.finished
        assert told(run) == [(number, 0) for number in range(1, 5)]


def test_capture_has_all_of_it_in_the_order_of_its_times(script: Script) -> None:
    captured: list[CapturedPacket] = []
    run = asking(script, 2, on_packet=captured.append)
    run.turn()
    script.hear(reply(0), script.now_ns + 2000)
    script.hear(reply(1), script.now_ns + 3000)
    run.turn()
    assert [each.data for each in captured] == [echo(0), echo(1), reply(0), reply(1)]
    assert [each.direction for each in captured] == ["out", "out", "in", "in"]


def test_bytes_as_question_come_back_as_layers(script: Script) -> None:
    run = asking(script, 1)
    run.turn()
    script.now_ns += SECOND
    run.turn()
    request, answers = ask._asked(run.settled[0])
    assert request[ICMPEcho].identifier == 7
    assert answers == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"timeout_ns": 0}, "time-out"),
        ({"most_in_flight": 0}, "most_in_flight must be 1 to"),
        ({"wait_for": "none"}, "'first' or 'all'"),
        ({"count": 0}, "count 0: must be 1 or more"),
        ({"interval_ns": 1, "rate_pps": 1.0}, "say the same"),
        ({"interval_ns": -1}, "must be 0 to 86400 seconds"),
        ({"rate_pps": 1e-300}, "must be 0 to 86400 seconds"),
        ({"rate_pps": 0.0}, "must be more than 0"),
    ],
)
def test_value_that_makes_no_sense_is_refused(
    script: Script, options: dict[str, object], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        Asking(echo(0), **options)  # type: ignore[arg-type]


def test_pace_catches_up_what_is_little_and_gives_up_what_is_much() -> None:
    pace = Pace(rate_pps=1000)
    pace.took(SECOND)
    assert pace.due_ns == SECOND + 1_000_000
    pace.took(SECOND + 6_000_000)
    assert pace.due_ns == SECOND + 2_000_000
    pace.took(2 * SECOND)
    assert pace.due_ns == 2 * SECOND - 9_000_000


def test_generator_is_sent_again_as_it_was() -> None:
    items = (bytes((number,)) for number in range(2))
    assert list(each_of(items, 3)) == [b"\0", b"\1"] * 3
    packet = Packet((b"x",))
    assert list(each_of(packet, 2)) == [packet, packet]
