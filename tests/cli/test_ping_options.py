"""The command line of ping: every letter becomes the option that it names, or one line of error."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rawproto import __version__
from rawproto.cli import ping as verb
from rawproto.cli.main import main
from rawproto.drivers.ping_session import PingOptions
from rawproto.errors import UsageError
from rawproto.wire.ipv4_options import RecordRoute, Timestamp

Parse = Callable[..., tuple[list[str], PingOptions, str | None]]
DEFAULTS = {"count": None}
"""Where the command line differs from the library: it pings until it is told to stop."""


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Parse:
    """Runs the verb as far as its session: hosts, options and capture file that it asked for."""
    seen: list[tuple[list[str], PingOptions, str | None]] = []

    def session(
        hosts: list[str], options: PingOptions, *, pcap: str | None, on_refused: object
    ) -> None:
        seen.append((hosts, options, pcap))
        raise UsageError("far enough")

    monkeypatch.setattr(verb, "PingSession", session)

    def run(*words: str) -> tuple[list[str], PingOptions, str | None]:
        assert main(["ping", *words]) == 2
        return seen.pop()

    return run


def test_hosts_alone_are_pinged_once_a_second_until_ctrl_c(parse: Parse) -> None:
    assert parse("h2", "10.0.0.3") == (["h2", "10.0.0.3"], PingOptions(**DEFAULTS), None)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("-4", {"family": 4}),
        ("-6", {"family": 6}),
        ("-c 5", {"count": 5}),
        ("-c5", {"count": 5}),
        ("-i 0.25", {"interval_ms": 250}),
        ("-i.5", {"interval_ms": 500}),
        ("-W 2", {"timeout_ms": 2000}),
        ("-W 0", {"timeout_ms": None}),
        ("-w 1.5", {"deadline_ms": 1500}),
        ("-w 0", {"deadline_ms": None}),
        ("-s 1000", {"size": 1000}),
        ("-p ff", {"pattern": b"\xff"}),
        ("-p abc", {"pattern": b"\xab\x0c"}),
        ("-t 3", {"ttl": 3}),
        ("-Q 184", {"tos": 184}),
        ("-Q 0xb8", {"tos": 184}),
        ("-M do", {"fragmentation": "do"}),
        ("-M want", {"fragmentation": "want"}),
        ("-M dont", {"fragmentation": "dont"}),
        ("-M probe", {"fragmentation": "probe"}),
        ("-I eth0", {"interface": "eth0"}),
        ("-I 10.0.0.1", {"source": "10.0.0.1"}),
        ("-I fe80::1%eth0", {"source": "fe80::1%eth0"}),
        ("-I eth0 --source 10.0.0.1", {"interface": "eth0", "source": "10.0.0.1"}),
        ("-I 10.0.0.1 --source 10.0.0.9", {"source": "10.0.0.9"}),
        ("-f", {"flood": True}),
        ("-f -i 0.1", {"interval_ms": 100}),
        ("-i 0", {"flood": True}),
        ("-A", {"adaptive": True}),
        ("-l 3", {"preload": 3}),
        ("-b", {"broadcast": True}),
        ("-O", {"report_outstanding": True}),
        ("-F 0x12345", {"flow_label": 0x12345}),
        ("--flow-label 7", {"flow_label": 7}),
        ("-R", {"options": (RecordRoute(),)}),
        ("-T tsonly", {"options": (Timestamp(flag=0, entries=((None, 0),) * 9),)}),
        ("-T tsandaddr", {"options": (Timestamp(flag=1, entries=(("0.0.0.0", 0),) * 4),)}),
        (
            "-T tsprespec=10.0.0.1,10.0.0.2",
            {"options": (Timestamp(flag=3, entries=(("10.0.0.1", 0), ("10.0.0.2", 0))),)},
        ),
        ("-e 77", {"identifier": 77}),
        ("-e 0x4d", {"identifier": 77}),
        ("-m 0x10", {"mark": 16}),
        ("-L", {"multicast_loop": False}),
        ("-n -q -v -D -a -B -H --json", {}),
    ],
)
def test_option_means_what_ping_means_by_it(words: str, options: dict, parse: Parse) -> None:
    assert parse(*words.split(), "h2")[1] == PingOptions(**DEFAULTS | options)


def test_capture_file_is_passed_on(parse: Parse) -> None:
    assert parse("--pcap", "a.pcapng", "h2")[2] == "a.pcapng"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("", "required: HOST"),
        ("-4 -6 h2", "-6: not allowed with argument -4"),
        ("-c many h2", "-c many: must be a whole number"),
        ("-i soon h2", "-i soon: must be a number"),
        ("-Q high h2", "-Q: 'high' is no number"),
        ("-M maybe h2", "-M: invalid choice: 'maybe'"),
        ("--colour h2", "unknown option: --colour"),
        ("--flow 3 h2", "unknown option: --flow"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["ping", *words.split()])
    assert exit_.value.code == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert told in error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-p xyz", "pattern xyz: must be hexadecimal digits"),
        (f"-p {'00' * 17}", "must be 1 to 16 bytes"),
        ("-R -T tsonly", "-R and -T do not fit into one header"),
        ("-T soon", "-T soon: must be tsonly, tsandaddr, or tsprespec= and 1 to 4 addresses"),
        ("-T tsonly=10.0.0.1", "must be tsonly"),
        ("-T tsprespec", "must be tsonly"),
        ("-T tsprespec=h1", "must be tsonly"),
        ("-T tsprespec=fd00::1", "must be tsonly"),
        ("-T tsprespec=10.0.0.1,10.0.0.1,10.0.0.1,10.0.0.1,10.0.0.1", "must be tsonly"),
        ("-c 0", "count 0: must be 1 to"),
        ("-s 65528", "size 65528: must be 0 to 65527"),
        ("-e 0", "identifier 0: must be 1 to 65535"),
        ("-e 65536", "identifier 65536: must be 1 to 65535"),
        ("-m 4294967296", "mark 4294967296: must be 0 to 4294967295"),
        ("-t 0", "ttl 0: must be 1 to 255"),
        ("-t 256", "ttl 256: must be 1 to 255"),
        ("-Q 256", "tos 256: must be 0 to 255"),
        ("-F 0x100000", "flow label 1048576: must be 0 to 1048575"),
        ("-l 0", "preload 0: must be 1 to 65535"),
        ("-W 2e6", "timeout in ms 2000000000: must be"),
        ("-i nan", "interval in ms nan: must be"),
        ("-i inf", "interval in ms inf: must be"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # Should one be let through, the address that is of another family ends it.
    assert main(["ping", "-6", *words.split(), "127.0.0.1"]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert error.startswith("rawproto ping: ")
    assert told in error


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("-s 65508", "size 65508: must be 0 to 65507"),
        ("-s 65480 -R", "size 65480: must be 0 to 65467"),
    ],
)
def test_what_ipv4_has_no_room_for_is_told_in_one_line(
    words: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ping", *words.split(), "127.0.0.1"]) == 2
    assert capsys.readouterr() == ("", f"rawproto ping: {told}\n")


def test_version_is_told_as_ping_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["ping", "-V"])
    assert (exit_.value.code, capsys.readouterr().out) == (0, f"rawproto {__version__}\n")
