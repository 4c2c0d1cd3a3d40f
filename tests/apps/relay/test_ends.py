"""What people write for the ends of a relay."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawproto.apps.relay.ends import KINDS, End, parse_end, parse_targets
from rawproto.errors import UsageError


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("rpt:10.0.0.2:4000", End(kind="rpt", host="10.0.0.2", port=4000)),
        ("rpt://10.0.0.2:4000", End(kind="rpt", host="10.0.0.2", port=4000)),
        ("rpt+udp:[fd00::2]:4000", End(kind="rpt+udp", host="fd00::2", port=4000)),
        ("rpt-listen:4000", End(kind="rpt", listens=True, port=4000)),
        ("rpt-listen::0", End(kind="rpt", listens=True, port=0)),
        ("tcp-listen:[::1]:80", End(kind="tcp", listens=True, host="::1", port=80)),
        ("udp:host.example:53", End(kind="udp", host="host.example", port=53)),
        ("tls:[fe80::1%eth0]:443", End(kind="tls", host="fe80::1%eth0", port=443)),
        ("unix:/run/a:b", End(kind="unix", path="/run/a:b")),
        ("unix-listen:@name", End(kind="unix", listens=True, path="@name")),
        ("exec:sh -c 'a, b:c'", End(kind="exec", command=("sh", "-c", "a, b:c"))),
        ("stdio:", End(kind="stdio")),
        ("stdio", End(kind="stdio")),
    ],
)
def test_end_is_read(text: str, end: End) -> None:
    assert parse_end(text) == end
    assert parse_end(str(end)) == end, "and reads back"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "an end is KIND"),
        ("tcp", "an end is KIND"),
        ("ftp:host:21", "one of rpt"),
        ("tcp:host", "HOST:PORT"),
        ("tcp:host:65536", "HOST:PORT"),
        ("tcp:fd00::2:80", "in brackets"),
        ("tcp::80", "needs a host"),
        ("rpt:host:0", "needs a host and a port"),
        ("tcp-listen:99999", "HOST:PORT"),
        ("unix:", "1 to 107 bytes"),
        ("unix:@", "1 to 107 bytes"),
        ("unix:\ud800", "1 to 107 bytes"),
        ("unix:" + "x" * 108, "1 to 107 bytes"),
        ("exec:", "needs a command"),
        ("exec:'open", "no closing quotation"),
        ("stdio:x", "nothing follows"),
    ],
)
def test_what_is_no_end_is_told_in_one_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_end(text)
    assert "\n" not in str(caught.value)


def test_path_may_be_any_bytes() -> None:
    path = os.fsdecode(b"/run/\xff")
    assert parse_end(f"unix:{path}").path == path


def test_several_targets_are_told_apart_by_their_kinds() -> None:
    ends = parse_targets("tcp:a:80,unix:/run/a,b,rpt+udp:[fd00::2]:1")
    assert [str(end) for end in ends] == ["tcp:a:80", "unix:/run/a,b", "rpt+udp:[fd00::2]:1"]
    assert parse_targets("exec:echo tcp:a:80,tcp:b:80")[0].command[1] == "tcp:a:80,tcp:b:80"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tcp:a:80,tcp-listen:81", "to connect to"),
        ("tcp:a:80,stdio:", "to connect to"),
        ("tcp:a:80,udp:b:80", "borders"),
    ],
)
def test_what_cannot_be_chosen_from_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_targets(text)


@given(st.sampled_from(KINDS), st.text(max_size=200))
def test_whatever_is_typed_is_an_end_or_a_usage_error(kind: str, rest: str) -> None:
    try:
        end = parse_end(f"{kind}:{rest}")
    except UsageError:
        return
    assert parse_end(str(end)) == end
