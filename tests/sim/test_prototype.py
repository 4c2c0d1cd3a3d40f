"""The controller that docs/congestion.md writes in one file does what is said of it there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rawproto.impair import Impairment
from rawproto.sim.experiment import Experiment
from rawproto.transport.config import Config
from rawproto.transport.congestion import CONTROLLERS, Controller

PAGE = Path(__file__).parents[2] / "docs" / "congestion.md"
MS = 1_000_000
SECOND = 1_000_000_000


@pytest.fixture
def vegas(monkeypatch: pytest.MonkeyPatch) -> str:
    found = re.search(r'```python\n("""Vegas.*?)```', PAGE.read_text(), re.DOTALL)
    assert found is not None
    names: dict[str, type] = {}
    exec(compile(found[1], str(PAGE), "exec"), names)
    monkeypatch.setitem(CONTROLLERS, "vegas", lambda packet, entropy: names["Vegas"](packet))
    return "vegas"


def test_vegas_of_the_page_fills_the_link_with_a_queue_of_a_few_packets(vegas: str) -> None:
    link = Impairment(rate_bps=20_000_000, delay_ns=15 * MS, queue_packets=50)
    config = Config(congestion=vegas)
    experiment = Experiment(1, link, link, size=None, duration_ns=8 * SECOND, configs=[config])
    late: list[int] = []

    def look(now_ns: int) -> None:
        if 3 * SECOND < now_ns < 7 * SECOND:
            late.append(experiment.network.forward.queued(experiment.network.now_ns)[0])

    result = experiment.run(20 * SECOND, look)
    assert result.goodput_bps > 0.9 * 20_000_000
    assert sum(late) / len(late) < 6


def test_page_tells_every_controller_and_every_call() -> None:
    text = PAGE.read_text()
    for name in CONTROLLERS:
        assert f"| `{name}` |" in text
    for name in vars(Controller):
        if name.startswith("on_"):
            assert f"- `{name}(" in text, name
