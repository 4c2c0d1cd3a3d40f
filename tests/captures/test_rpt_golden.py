"""The golden capture of RPT holds what was put down by hand: to decode, and to scapy."""

from __future__ import annotations

import json

import pytest
from scapy.layers.inet import IP
from scapy.utils import RawPcapNgReader

from rawproto.capture import RPT_KEY_LOG
from rawproto.capture.files import read
from rawproto.cli.main import main
from tests.captures.make import DIRECTORY
from tests.captures.packets_rpt import NAME, ROWS, emit_rpt_file
from tests.rpt_scapy import RPT, KeyedReader
from tests.rpt_talk import talk

PATH = DIRECTORY / NAME


def test_same_seed_writes_the_same_capture() -> None:
    assert emit_rpt_file(talk()) == emit_rpt_file(talk())


def test_decode_shows_what_each_packet_must_hold(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["decode", "-t", str(PATH)]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, (sender, _, holds) in zip(lines, ROWS, strict=True):
        ports = "50000 > 198.51.100.2.4000" if sender == "client" else "4000 > 192.0.2.1.50000"
        assert ports in line
        if " | " in line:
            assert line.split(" | ")[1] == holds
        else:
            assert f"RPT {holds}, xx-aesgcm" in line
    assert main(["decode", "--json", str(PATH)]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["rpt"]["sender"] for record in records] == [row[0] for row in ROWS]
    assert not any(record["damage"] for record in records)


def test_scapy_opens_it_with_the_key_log_inside() -> None:
    with read(PATH) as ours:
        packets = [packet.data for packet in ours]
        (secrets,) = ours.secrets
    assert secrets.secrets_type == RPT_KEY_LOG
    with RawPcapNgReader(str(PATH)) as theirs:
        assert [data for data, _ in theirs] == packets
    reader = KeyedReader(secrets.data.decode())
    for data, (_, _, holds) in zip(packets, ROWS, strict=True):
        ip = IP(data)
        again = ip.copy()
        del again.chksum
        assert bytes(again) == data, "the IP header is sound"
        assert isinstance(ip.payload, RPT)
        frames = reader.read(ip.payload)
        if frames is None:
            assert ip.payload.sprintf("%packet_type%") == holds
            continue
        names = ["STREAM" if each.name == "STREAM_FIN" else each.name for each in frames.frames]
        assert names == [words.split()[0] for words in holds.split(", ")]
