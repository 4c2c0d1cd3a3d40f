"""What the documents promise: links lead somewhere, examples run, commands and files exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rawproto import lab
from rawproto.cli.main import VERBS
from tests.test_architecture import MAY_IMPORT

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("captures/*.md")])
README = (ROOT / "README.md").read_text()
RUN = (ROOT / "README.md", ROOT / "docs" / "sockets.md")
"""The pages whose Python blocks are run."""
PROGRAM = ROOT / "docs" / "asyncio.md"
"""The page whose Python blocks are one program."""

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.M | re.S)
_EXAMPLE = re.compile(
    # Programs that have a name run between hosts: tests/live/test_sockets_page.py.
    r"^```python\n(?!# \w+\.py\n)(.*?)^```\n(?:\n```\n(.*?)^```\n)?",
    re.M | re.S,
)
_SENDS = re.compile(r"\bping\(|rawproto\.(create_server|ThreadingRPTServer)\(")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_TARGET = re.compile(r"\bmake ((?:[a-z]+ )*[a-z]+)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_PATH = re.compile(r"`((?:rawproto|tests|docs|captures|\.ci)/[\w./-]+)`")


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _FENCE.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The names that a forge gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


def examples() -> list[object]:
    """(Python block of a page, the plain block right behind it: what it prints at the end)."""
    return [
        pytest.param(
            code,
            shown,
            id=f"{page.name}, block {number}",
            # Those that send packets are live.
            marks=[pytest.mark.live] if _SENDS.search(code) else [],
        )
        for page in RUN
        for number, (code, shown) in enumerate(_EXAMPLE.findall(page.read_text()), 1)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_link_leads_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_path_named_in_a_page_exists(page: Path) -> None:
    named = {path for path in _PATH.findall(prose(page)) if "NAME" not in path}
    named -= {path for path in named if path.startswith("rawproto/rpt/")}  # sockets' names
    assert sorted(path for path in named if not (ROOT / path).exists()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_test_named_in_a_page_exists(page: Path) -> None:
    gone = [
        f"{path}::{name}"
        for path, name in _TEST.findall(prose(page))
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert gone == []


def test_page_about_security_names_tests() -> None:
    """And in a form in which they are looked for."""
    page = prose(ROOT / "docs" / "security.md")
    assert len(_TEST.findall(page)) == page.count(".py::") > 40


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_target_named_in_a_page_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    code = "\n".join([*(c for _, c in _FENCE.findall(page.read_text()))])
    code += "\n" + "\n".join(re.findall(r"`([^`\n]+)`", prose(page)))
    named = {target for found in _TARGET.findall(code) for target in found.split()}
    assert sorted(named - targets) == []


def test_readme_has_a_line_for_every_verb() -> None:
    assert set(re.findall(r"^\| `rawproto (\w+)", README, re.M)) == set(VERBS)


def test_architecture_page_and_its_test_tell_the_same_rules() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rules = [
        (room.strip(), {one.strip() for one in allowed.split(",")})
        for rooms, allowed in re.findall(r"`([a-z, ]+) -> ([a-z,\s]+)`", page)
        for room in rooms.split(",")
    ]
    there = {path.stem for path in (ROOT / "rawproto").iterdir()}
    assert rules
    assert rules == [(room, set(MAY_IMPORT[room]) & there) for room, _ in rules]


@pytest.mark.parametrize(("code", "shown"), examples())
def test_example_of_a_page_runs(code: str, shown: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    promised = re.findall(r"# -> (.*)$", code, re.M)
    assert done.stdout.splitlines()[: len(promised)] == promised
    assert done.stdout.endswith(shown)


@pytest.mark.live
def test_page_that_is_one_program_runs(tmp_path: Path) -> None:
    blocks = _EXAMPLE.findall(PROGRAM.read_text())
    code = "".join(code for code, _ in blocks)
    with lab.up(lab.pair()) as network:
        command = [sys.executable, "-W", "error", "-c", code]
        done = network.host("h1").run(command, timeout=30, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "".join(shown for _, shown in blocks)
