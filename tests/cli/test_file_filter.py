"""Filters of files: the same in decode, in --follow and in replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from rawproto.capture import CapturedPacket, write
from rawproto.cli.main import main
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.udp import UDPHeader

RAW = 101


@pytest.fixture
def cut(tmp_path: Path) -> str:
    """One packet of 528 bytes, of which 60 were captured."""
    header = IPv4Header(src_addr="127.0.0.1", dst_addr="10.0.0.2") / UDPHeader(
        src_port=9, dst_port=53
    )
    data = (header / bytes(500)).emit()
    path = str(tmp_path / "cut.pcap")
    packet = CapturedPacket(time_ns=0, data=data[:60], original_length=len(data), link_type=RAW)
    write(path, [packet])
    return path


@pytest.mark.parametrize(
    ("expression", "passes"),
    [("greater 500", True), ("less 100", False), ("src host localhost", True), ("port 54", False)],
)
def test_what_passes_in_decode_passes_in_replay(
    expression: str, passes: bool, cut: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["decode", "--filter", expression, cut]) == 0
    assert bool(capsys.readouterr().out) is passes
    assert main(["replay", "--dry-run", "--filter", expression, cut]) == 0
    told = capsys.readouterr()
    assert ("1 packet would be sent" in told.out + told.err) is passes


def test_filter_that_is_none_is_told_before_a_file_is_opened(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["decode", "--filter"], ["replay", "--dry-run", "--filter"]):
        assert main([*words, "prot 80", "/nowhere.pcap"]) == 2
        assert "nowhere" not in capsys.readouterr().err
