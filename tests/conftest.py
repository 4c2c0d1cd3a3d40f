"""Settings that every test shares, and what becomes of live tests.

Everything under tests/live/ is marked `live`. Where no network namespace can be
made, live tests are skipped, loudly; with CI=true a skipped live test fails.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Whoever runs tests in the background of a shell has them ignore Ctrl-C, and all they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# No deadline: a noisy machine must not fail a property. Derandomized: a run can be repeated.
settings.register_profile("rawproto", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("rawproto")

_LIVE_DIR = Path(__file__).parent / "live"
_NEEDED = {"CAP_NET_ADMIN": 12, "CAP_NET_RAW": 13, "CAP_SYS_ADMIN": 21}


def missing_capabilities() -> list[str]:
    """The names of those that live tests need and this process does not have."""
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    return [name for name, bit in _NEEDED.items() if not effective >> bit & 1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = missing_capabilities()
    for item in items:
        if _LIVE_DIR in item.path.parents:
            item.add_marker("live")
        if missing and item.get_closest_marker("live"):
            reason = f"needs {', '.join(missing)}; `make live` makes a user namespace, or use sudo"
            item.add_marker(pytest.mark.skip(reason=reason))


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") == "true" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"a live test may not be skipped under CI: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if item.get_closest_marker("live"):
        _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if collector.path == _LIVE_DIR or _LIVE_DIR in collector.path.parents:
        _refuse_skip(report)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    live = [report for report in skipped if "live" in report.keywords]
    if live:
        terminalreporter.section(f"{len(live)} LIVE TESTS DID NOT RUN", red=True, bold=True)
        for reason in sorted({report.longrepr[2] for report in live}):
            terminalreporter.line(reason.removeprefix("Skipped: "))
