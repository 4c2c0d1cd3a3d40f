"""The picture of a simulation: what each flow got and held, its RTT, and the queue, over time.

::

    goodput    --- each flow, and the link's rate
    in flight  --- each flow, and its window as a thin line
    RTT        --- each flow
    queue      --- packets before the bottleneck, its end, and where packets found it full

It needs matplotlib, which `pip install 'rawproto[plot]'` brings.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from rawproto.cli.sim_text import rate
from rawproto.errors import UsageError
from rawproto.impair import Impairment
from rawproto.sim.experiment import Experiment, Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plot"]

_MOST_SAMPLES = 4000
_GOODPUT_POINTS = 150
_LEAST_GOODPUT_S = 0.2
_COLORS = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#c2255c", "#5c7cfa", "#a07400", "#495057")
_QUIET = "#868e96"
_MOST_NAMED = 8


class Plot:
    """Samples of an experiment that runs, to be drawn when it is over.

    However long it takes, 4,000 samples are kept at most: then every other one goes.

    Args:
        path: of the picture; what stands behind its dot says the format, such as png or svg.

    Attributes:
        samples: (seconds, packets that wait, packets that found the queue full so far, of each
            flow: bytes received, bytes in flight, RTT in ms, window).

    Raises:
        UsageError: matplotlib is not there, or does not know the format; or no such directory.
    """

    def __init__(self, path: Path) -> None:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure
        except ImportError:
            raise UsageError("--plot needs matplotlib: pip install 'rawproto[plot]'") from None
        known = FigureCanvasAgg.get_supported_filetypes()
        if path.suffix[1:].lower() not in known:
            raise UsageError(f"--plot {path}: must end in one of .{', .'.join(sorted(known))}")
        if not path.parent.is_dir():
            raise UsageError(f"--plot {path}: there is no directory {path.parent}")
        self._figure = Figure(figsize=(10, 9.5), layout="constrained")
        self._path = path
        self.samples: list[tuple[float, int, int, list[tuple[int, int, float, int]]]] = []
        self._every = self._count = 1

    def look(self, experiment: Experiment, now_ns: int) -> None:
        """Takes a sample; to be called every so often, evenly."""
        self._count -= 1
        if self._count:
            return
        network = experiment.network
        flows = []
        for flow in experiment.flows:
            recovery = flow.client.sender.recovery
            active = recovery.rtt.sampled and flow.done_ns is None
            rtt_ms = recovery.rtt.latest_rtt / 1e6 if active else float("nan")
            flows.append((flow.received, recovery.in_flight, rtt_ms, recovery.controller.window))
        queued = network.forward.queued(network.now_ns)[0]
        drops = network.forward.statistics.queue_full
        self.samples.append((now_ns / 1e9, queued, drops, flows))
        if len(self.samples) >= _MOST_SAMPLES:
            del self.samples[::2]
            self._every *= 2
        self._count = self._every

    def draw(self, result: Result, links: tuple[Impairment, Impairment], title: str) -> None:
        """Writes the picture.

        Args:
            result: what came of it all.
            links: there and back.
            title: what stands above it.

        Raises:
            OSError: the file cannot be written.
        """
        times = [sample[0] for sample in self.samples]
        panels = self._figure.subplots(4, 1, sharex=True, height_ratios=(3, 4, 3, 3))
        goodput, flight, rtt, queue = panels
        for number, flow in enumerate(result.flows):
            color = _COLORS[number % len(_COLORS)]
            received, in_flight, rtts, windows = zip(
                *[sample[3][number] for sample in self.samples], strict=True
            )
            label = f"{flow.port} {flow.congestion}, {rate(flow.goodput_bps)}"
            named = label if number < _MOST_NAMED else None
            goodput.plot(*_rates(times, received), color=color, lw=1.4, label=named)
            kilobytes = [each / 1000 for each in windows]
            flight.plot(times, kilobytes, color=color, lw=0.8, ls="--", alpha=0.7)
            flight.plot(times, [each / 1000 for each in in_flight], color=color, lw=1.1)
            rtt.plot(times, rtts, color=color, lw=0.9)
        # In its slow start a window may stand far above what is in flight.
        most = max(
            max(sample[3][n][1] for n in range(len(result.flows))) for sample in self.samples
        )
        flight.set_ylim(0, max(most / 1000, 1) * 1.15)
        if links[0].rate_bps is not None:
            _line(goodput, links[0].rate_bps / 1e6, "link")
        _line(rtt, sum(link.delay_ns for link in links) / 1e6, "no queue")
        self._draw_queue(queue, times, links[0].queue_packets)
        labels = (
            "goodput, Mbit/s",
            "in flight, and window (dashed), KB",
            "RTT, ms",
            "queue, packets",
        )
        for panel, label in zip(panels, labels, strict=True):
            panel.set_ylabel(label)
            panel.set_ylim(bottom=0)
            panel.grid(color="#e9ecef", lw=0.8)
            panel.spines[["top", "right"]].set_visible(False)
            panel.margins(x=0)
        queue.set_xlabel("seconds")
        self._figure.suptitle(title, fontsize=11)
        goodput.legend(
            loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, fontsize=9
        )
        self._figure.savefig(self._path, dpi=120)

    def _draw_queue(self, queue: Axes, times: list[float], room: int) -> None:
        """How many packets waited, and marks where some found no room."""
        queued = [sample[1] for sample in self.samples]
        queue.fill_between(times, queued, color="#ced4da", step="mid", lw=0)
        queue.plot(times, queued, color=_QUIET, lw=0.7)
        drops = [sample[2] for sample in self.samples]
        full = [
            at
            for at, (before, after) in zip(times[1:], pairwise(drops), strict=True)
            if after > before
        ]
        if full:
            queue.plot(full, [room] * len(full), "v", color="#c92a2a", ms=4, mew=0, clip_on=False)
        if full or max(queued) * 3 > room:
            _line(queue, room, "full: packets are dropped")


def _rates(times: list[float], received: tuple[int, ...]) -> tuple[list[float], list[float]]:
    """Mbit/s over stretches that are long enough to show a rate, each at its middle."""
    step = max(len(times) // _GOODPUT_POINTS, 1)
    while step < len(times) - 1 and times[step] - times[0] < _LEAST_GOODPUT_S:
        step += 1
    at, rates = [], []
    for start in range(0, len(times) - step, step):
        end = start + step
        seconds = times[end] - times[start]
        if seconds > 0:
            at.append((times[start] + times[end]) / 2)
            rates.append((received[end] - received[start]) * 8e-6 / seconds)
    return at, rates


def _line(panel: Axes, height: float, text: str) -> None:
    panel.axhline(height, color=_QUIET, lw=0.8, ls=":")
    panel.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
        fontsize=8,
        color=_QUIET,
    )
