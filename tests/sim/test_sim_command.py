"""`rawproto sim` as a user runs it: figures, files, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rawproto import read
from rawproto.cli.main import main
from rawproto.sim.experiment import jain


def test_same_seed_writes_the_same_files_byte_for_byte(tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        folder = tmp_path / name
        pcap = folder / "sim.pcapng"
        folder.mkdir()
        words = ["sim", "--bytes", "100k", "--loss", "2%", "--seed", "5", "--flows", "2"]
        assert main([*words, "--pcap", str(pcap), "--qlog", str(folder)]) == 0
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert found[0] == found[1]
    assert len(found[0]) == 5


def test_qlog_tells_what_qvis_draws(tmp_path: Path) -> None:
    assert main(["sim", "--bytes", "300k", "--loss", "3%", "--qlog", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*_client.sqlog")
    records = [json.loads(text) for text in path.read_text().split("\x1e")[1:]]
    head, events = records[0], records[1:]
    assert (head["qlog_version"], head["qlog_format"]) == ("0.3", "JSON-SEQ")
    assert head["trace"]["vantage_point"]["type"] == "client"
    names = {event["name"] for event in events}
    assert names == {
        "transport:packet_sent",
        "transport:packet_received",
        "recovery:packet_lost",
        "recovery:metrics_updated",
        "recovery:congestion_state_updated",
    }
    times = [event["time"] for event in events]
    assert times == sorted(times)
    sent = [event["data"] for event in events if event["name"] == "transport:packet_sent"]
    streams = [
        frame for data in sent for frame in data["frames"] if frame["frame_type"] == "stream"
    ]
    covered: set[int] = set()
    for frame in streams:
        covered |= set(range(frame["offset"], frame["offset"] + frame["length"]))
    assert covered == set(range(300_000))


def test_json_adds_up(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pcap = tmp_path / "x.pcapng"
    words = ["sim", "--flows", "2", "--bytes", "200k", "--json", "--pcap", str(pcap)]
    assert main(words) == 0
    *flows, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [flow["received_bytes"] for flow in flows] == [200_000, 200_000]
    assert 0.5 <= summary["fairness"] <= 1
    assert len(list(read(pcap))) > sum(flow["packets_sent"] for flow in flows)


def test_flow_that_cannot_end_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sim", "--loss", "100%", "--limit", "60"]) == 1
    assert "flow 4000: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["--mtu", "500"], ["--rate", "fast"], ["--flows", "0"], ["--bytes", "x"]]
)
def test_wrong_words_are_named_in_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_jain_is_one_for_equals_and_one_nth_for_one_who_has_all() -> None:
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
