"""`rawproto sim` as a user runs it: figures, files, the same for the same seed."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from rawproto import read
from rawproto.cli.main import main
from rawproto.cli.sim_plot import Plot
from rawproto.impair import Impairment
from rawproto.sim.experiment import Experiment, jain


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


def test_flows_take_the_named_controllers_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["sim", "--congestion", "bbr,cubic", "--bytes", "50k", "--json"]
    for more, expected in (([], ["bbr", "cubic"]), (["--flows", "3"], ["bbr", "cubic", "bbr"])):
        assert main([*words, *more]) == 0
        *flows, _ = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [flow["congestion"] for flow in flows] == expected


def test_picture_names_every_flow_and_what_the_link_is(tmp_path: Path) -> None:
    path = tmp_path / "run.svg"
    words = ["--rate", "10mbit", "--queue", "20", "--loss", "1%", "--time", "2", "--seed", "3"]
    assert main(["sim", "--congestion", "bbr,cubic", *words, "--plot", str(path)]) == 0
    drawn = path.read_text()
    assert drawn.startswith("<?xml")
    for text in (
        "4000 bbr, ",
        "4001 cubic, ",
        "10mbit, RTT 40ms, queue of 20 packets, 1% lost each way, seed 3",
        "goodput, Mbit/s",
        "RTT, ms",
        "queue, packets",
        "full: packets are dropped",
    ):
        assert f"<!-- {text}" in drawn, text
    png = tmp_path / "run.PNG"
    assert main(["sim", "--bytes", "100k", "--plot", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG")


def test_picture_of_a_long_run_keeps_few_samples_evenly_apart(tmp_path: Path) -> None:
    link = Impairment(rate_bps=100_000, delay_ns=10_000_000)
    experiment = Experiment(1, link, link, size=500)
    plot = Plot(tmp_path / "long.png")
    for tick in range(100_000):
        plot.look(experiment, tick * 10_000_000)
    times = [sample[0] for sample in plot.samples]
    assert 2000 <= len(times) < 4000
    steps = {round(late - early, 6) for early, late in pairwise(times)}
    assert len(steps) == 1
    assert times[-1] > 990


def test_picture_without_matplotlib_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["sim", "--plot", "x.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install 'rawproto[plot]'" in line


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--congestion", "bbr,cubic", "--flows", "1"], "less than the 2 of --congestion"),
        (["--plot", "run.jpegg"], "must end in one of"),
        (["--plot", "run"], "must end in one of"),
        (["--plot", "/nowhere/run.png", "--limit", "1"], "no directory /nowhere"),
    ],
)
def test_wrong_flows_and_pictures_are_named_in_one_line(
    words: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


def test_controller_that_is_not_there_is_told_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["sim", "--congestion", "bbr,vegas"])
    assert stopped.value.code == 2
    assert "'vegas' is none of bbr, cubic, newreno" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--mtu", "500"],
        ["--rate", "fast"],
        ["--flows", "0"],
        ["--bytes", "x"],
        ["--bytes", "0k"],
        ["--queue", "0"],
        ["--queue", "0KB"],
    ],
)
def test_wrong_words_are_named_in_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sim", *words]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_jain_is_one_for_equals_and_one_nth_for_one_who_has_all() -> None:
    assert jain([3, 3, 3]) == pytest.approx(1)
    assert jain([9, 0, 0]) == pytest.approx(1 / 3)
