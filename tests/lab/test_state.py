"""Which labs are up: names, stale files, and files that others wrote."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from rawproto.errors import UsageError
from rawproto.lab.namespaces import start_time
from rawproto.lab.state import Registry, hold
from rawproto.lab.topology import Topology, chain, pair


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "labs")


def running(topology: Topology, started: int | None = None) -> SimpleNamespace:
    """A lab as the registry sees it; this process stands for its keeper."""
    pid = os.getpid()
    keeper = SimpleNamespace(pid=pid, started=start_time(pid) if started is None else started)
    return SimpleNamespace(topology=topology, keeper=keeper)


def test_lab_is_found_again_as_it_was_recorded(registry: Registry) -> None:
    assert registry.add("mine", running(chain(2))) == "mine"
    (entry,) = Registry(registry.directory).entries()
    assert (entry.name, entry.pid, entry.topology) == ("mine", os.getpid(), chain(2))
    assert entry.alive
    assert registry.choose("mine") == registry.choose(None) == entry


def test_lab_without_a_name_gets_its_topologys_with_a_number_where_that_is_taken(
    registry: Registry,
) -> None:
    assert [registry.add(None, running(pair())) for _ in range(3)] == ["pair", "pair-2", "pair-3"]


def test_name_of_a_running_lab_is_taken(registry: Registry) -> None:
    registry.add("mine", running(pair()))
    message = "lab mine is up already; `rawproto lab down mine` ends it"
    with pytest.raises(UsageError, match=message):
        registry.check_free("mine")
    with pytest.raises(UsageError, match=message):
        registry.add("mine", running(chain(3)))
    assert registry.choose("mine").topology == pair()


@pytest.mark.parametrize("name", ["", "../pair", "a/b", ".draft", "x" * 32, "a b"])
def test_name_that_would_leave_the_directory_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(UsageError, match="is not letters"):
        registry.add(name, running(pair()))
    assert registry.find(name) is None
    assert os.listdir(registry.directory) == []


def test_dead_lab_is_stale_and_its_name_free(registry: Registry) -> None:
    registry.add("pair", running(pair(), started=1))  # our number, but not our start
    (entry,) = registry.entries()
    assert not entry.alive
    with pytest.raises(UsageError, match="no lab pair is up"):
        registry.choose("pair")
    with pytest.raises(UsageError, match="has gone down"):
        hold(entry)
    assert registry.add(None, running(chain(2))) == "chain-2"
    assert registry.add(None, running(pair())) == "pair"
    assert registry.choose("pair").alive


def test_process_that_only_waits_to_be_reaped_is_dead() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(ProcessLookupError):
        start_time(child.pid)
    child.wait()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"pid": 1}', '{"pid": "x", "started": 1, "topology": null}', "\x00"],
)
def test_file_that_is_none_of_ours_is_a_dead_lab(registry: Registry, text: str) -> None:
    (registry.directory / "pair.json").write_text(text)
    (entry,) = registry.entries()
    assert (entry.name, entry.pid, entry.alive) == ("pair", 0, False)
    registry.forget("pair")
    assert registry.entries() == []


def test_topology_that_contradicts_itself_is_a_dead_lab(registry: Registry) -> None:
    registry.add("pair", running(pair()))
    path = registry.directory / "pair.json"
    document = json.loads(path.read_text())
    document["topology"]["links"][0]["ends"][1] = "h9"
    path.write_text(json.dumps(document))
    assert not registry.entries()[0].alive


def test_command_without_a_name_wants_exactly_one_lab(registry: Registry) -> None:
    with pytest.raises(UsageError, match="no lab is up; `rawproto lab up pair` starts one"):
        registry.choose(None)
    registry.add("a", running(pair()))
    registry.add("dead", running(pair(), started=1))
    assert registry.choose(None).name == "a"
    registry.add("b", running(pair()))
    with pytest.raises(UsageError, match=r"several labs are up \(a, b\): say which with --name"):
        registry.choose(None)


def test_directory_is_private_and_must_be_ours(tmp_path: Path) -> None:
    directory = tmp_path / "labs"
    assert Registry(directory).directory.stat().st_mode & 0o777 == 0o700
    (tmp_path / "link").symlink_to(directory)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a directory of this user"):
        Registry(tmp_path / "link")
    with pytest.raises(UsageError, match="File exists"):
        Registry(tmp_path / "file")
    with pytest.raises(UsageError, match="No such file"):
        Registry(tmp_path / "none" / "labs")


def test_runtime_directory_of_the_user_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert Registry().directory == tmp_path / "rawproto"
