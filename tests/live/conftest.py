"""What every live test of RPT has to leave as it found it, whatever it did."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rawproto import lab
from tests.live.peers import Peer
from tests.live.shells import ShellHost, hosts_of, serving

SECONDS = 180
"""For one test: three times what others get. Its programs share a slow machine with two more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(SECONDS))


@pytest.fixture(autouse=True)
def nothing_of_rpt_stays(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails a test of RPT behind which descriptors, tasks, threads, processes or ports stay."""
    if not request.path.name.startswith("test_rpt"):
        yield
        return
    hosts = [
        host
        for value in request.node.funcargs.values()
        if isinstance(value, lab.Network)
        for host in value.hosts.values()
    ]
    before = _held(hosts)
    yield
    gc.collect()
    _await_threads(before["threads"])
    after = _held(hosts)
    stay = {
        what: sorted(after[what] - before[what]) for what in after if after[what] - before[what]
    }
    assert not stay, f"left behind: {stay}"


def _await_threads(before: set[str]) -> None:
    """Those that were joined are over, but before 3.13 the kernel may have them for a moment."""
    deadline = time.monotonic() + 10
    while threading.active_count() < len(_threads()) > len(before) and time.monotonic() < deadline:
        time.sleep(0.001)


def _threads() -> list[str]:
    return os.listdir("/proc/self/task")


def _children(thread: str) -> list[str]:
    """None of one that has just ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/self/task/{thread}/children").read_text().split()
    return []


def _held(hosts: list[lab.LiveHost]) -> dict[str, set[str]]:
    """What this process has, and what is held on the hosts of its labs."""
    held = {
        "descriptors": _descriptors(),
        "threads": set(_threads()),
        "tasks": {
            str(task)
            for task in gc.get_objects()
            if isinstance(task, asyncio.Task) and not task.done()
        },
        "processes": {child for thread in _threads() for child in _children(thread)},
    }
    for host in hosts:
        with host.entered():
            held[f"ports on {host.name}"] = _ports()
    return held


def _descriptors() -> set[str]:
    """Each with what it is open on; the numbers alone are given out again."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{number} {os.readlink(f'/proc/self/fd/{number}')}")
        except FileNotFoundError:
            continue  # that of the listing itself
    return found


def _ports() -> set[str]:
    """RPT's names, raw sockets of its protocol and UDP sockets, of this thread's namespace."""
    net = Path("/proc/thread-self/net")
    found = {
        line.split()[-1]
        for line in (net / "unix").read_text().splitlines()
        if line.split()[-1].startswith("@rawproto/rpt/")
    }
    for name in ("raw", "raw6", "udp", "udp6"):
        for line in (net / name).read_text().splitlines()[1:]:
            local = line.split()[1]
            if name.startswith("udp") or local.endswith(":00FD"):
                found.add(f"{name} {local} inode {line.split()[9]}")
    return found


@pytest.fixture(scope="module")
def cable() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        yield network


@pytest.fixture
def peers(cable: lab.Network, tmp_path: Path) -> tuple[Peer, Peer]:
    left, right = cable.host("h1"), cable.host("h2")
    return Peer(left, tmp_path / "left"), Peer(right, tmp_path / "right")


# --- of tests of the shell, for each module of them ----------------------------------------------


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Where ada can be at home: she may not look into pytest's own directories."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def hosts(cable: lab.Network, home: Path) -> tuple[Peer, ShellHost]:
    return hosts_of(cable, home)


@pytest.fixture(scope="module")
def ada(hosts: tuple[Peer, ShellHost]) -> Iterator[str]:
    """Her address at a server that serves all tests which need none of their own."""
    with serving(hosts[1], "--grace", "0") as (address, _):  # tests leave clients that were killed
        yield address
