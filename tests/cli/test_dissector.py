"""The Wireshark dissector: tshark shows the clear fields of every packet as they were sent."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rawproto.cli.dissector import lua
from rawproto.cli.main import main
from rawproto.wire.rpt import (
    RPTHandshake,
    RPTInit,
    RPTLong,
    RPTReset,
    RPTRetry,
    RPTShort,
    RPTVersion,
    parse_rpt,
)
from tests.rpt_talk import CARRIERS, Sent, Talk, save, talk

# With CI=true a comparison that cannot be made is a failure and not a skip.
needs_tshark = pytest.mark.skipif(
    shutil.which("tshark") is None and os.environ.get("CI") != "true",
    reason="tshark is not installed",
)

COMMON = ("form", "version", "dst_port", "src_port", "dst_cid")
SHORT = ("key_phase", "reserved", "ack_every", "packet_number")
LONG = ("packet_type", "suite", "src_cid", "length", "checksum", "checksum_valid")
BODY = ("token", "message", "code", "versions")
NAMES = (*COMMON, *SHORT, *LONG, *BODY)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("plugins") / "made"
    assert main(["dissector", "install", "--directory", str(directory)]) == 0
    (path,) = directory.iterdir()
    return path


def tshark(script: Path, capture: Path, *words: str) -> list[str]:
    done = subprocess.run(
        ["tshark", "-n", "-X", f"lua_script:{script}", "-r", str(capture), *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Lua" not in done.stderr
    return done.stdout.splitlines()


def seen(script: Path, capture: Path) -> list[dict[str, str]]:
    """The fields of each packet, as tshark tells them."""
    fields = [word for name in NAMES for word in ("-e", f"rpt.{name}")]
    lines = tshark(script, capture, "-T", "fields", "-E", "separator=/t", *fields)
    return [dict(zip(NAMES, line.split("\t"), strict=True)) for line in lines]


def number(text: str) -> int:
    return int(text, 0)


def same_fields(told: dict[str, str], sent: Sent, *, right: bool = True) -> None:
    packet = parse_rpt(sent.data)[0]
    names = SHORT if isinstance(packet, RPTShort) else LONG[:-1]
    assert {name: number(told[name]) for name in (*COMMON, *names)} == {
        name: getattr(packet, name) for name in (*COMMON, *names)
    }
    absent = LONG + BODY if isinstance(packet, RPTShort) else SHORT
    assert not any(told[name] for name in absent)
    if isinstance(packet, RPTLong):
        assert number(told["checksum_valid"]) == right
        for name in ("token", "message"):
            assert told[name] == getattr(packet, name, b"").hex()
        if isinstance(packet, RPTReset):
            assert number(told["code"]) == packet.code
        if isinstance(packet, RPTVersion):
            assert tuple(map(number, told["versions"].split(","))) == packet.versions


@needs_tshark
@pytest.mark.parametrize("carrier", CARRIERS)
def test_clear_fields_of_a_talk_are_what_was_sent(
    carrier: str, script: Path, tmp_path: Path
) -> None:
    said = talk()
    told = seen(script, save(tmp_path, said, carrier))
    assert len(told) == len(said.packets)
    for each, sent in zip(told, said.packets, strict=True):
        same_fields(each, sent)


ODD = [
    RPTInit(suite=0x12, dst_port=1, src_port=65535, dst_cid=2**64 - 1, src_cid=1, token=b"t" * 60),
    RPTRetry(suite=0x21, dst_port=9, src_port=8, dst_cid=3, src_cid=4, token=b"again"),
    RPTHandshake(suite=0x32, dst_port=9, src_port=8, dst_cid=3, src_cid=4, message=b"m" * 99),
    RPTReset(dst_port=9, src_port=8, src_cid=4, code=3, token=bytes(range(16))),
    RPTVersion(dst_port=9, src_port=8, dst_cid=5, src_cid=4, versions=(1, 7)),
]


@needs_tshark
@pytest.mark.parametrize("right", [True, False])
def test_every_long_type_is_shown_and_its_crc_judged(
    right: bool, script: Path, tmp_path: Path
) -> None:
    packets = [packet.emit() for packet in ODD]
    if not right:
        packets = [data[:-1] + bytes([data[-1] ^ 1]) for data in packets]
    said = Talk([Sent(at, True, data, b"") for at, data in enumerate(packets)])
    for each, sent in zip(seen(script, save(tmp_path, said, "rpt4")), said.packets, strict=True):
        same_fields(each, sent, right=right)
    over_udp = seen(script, save(tmp_path, said, "udp"))
    assert [bool(each["form"]) for each in over_udp] == [right] * len(ODD)


@needs_tshark
def test_packets_cut_short_at_any_byte_are_told_and_break_nothing(
    script: Path, tmp_path: Path
) -> None:
    whole = [*[packet.emit() for packet in ODD[:1]], talk().packets[3].data]
    cut = [data[:size] for data in whole for size in range(1, len(data), 3)]
    said = Talk([Sent(at, True, data, b"") for at, data in enumerate(cut)])
    lines = tshark(script, save(tmp_path, said, "rpt4"), "-V", "-O", "rpt")
    assert not [line for line in lines if "Lua Error" in line]
    assert any("The packet ends too early" in line for line in lines)
    firsts = seen(script, tmp_path / "talk.pcapng")
    assert len(firsts) == len(cut)


def test_show_prints_what_install_writes(script: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dissector", "show"]) == 0
    assert capsys.readouterr().out == lua() == script.read_text()


def test_directory_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main(["dissector", "install", "--directory", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"rawproto dissector: {file}")
    assert said.count("\n") == 1
