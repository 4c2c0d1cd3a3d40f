"""The rules of docs/architecture.md, held by reading every import with `ast`.

An import counts wherever it stands: inside a function, relative, under
TYPE_CHECKING, or as `importlib.import_module("...")` with the name written out.
`python tests/test_architecture.py` lists the modules by size.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]

# room: the rooms it may import. A room is a package or module right under rawproto/.
MAY_IMPORT: dict[str, frozenset[str]] = {
    room: frozenset(allowed.split())
    for room, allowed in {
        "errors": "",
        "machine": "",
        "wire": "",
        "capture": "wire",
        "filter": "wire",
        "packets": "wire capture",
        "impair": "wire",
        "probe": "wire",
        "transport": "wire",
        "link": "wire capture filter impair",
        "identity": "",
        "drivers": "wire packets filter capture probe transport link identity",
        "sim": "wire capture impair probe transport",
        "lab": "link wire impair",
        "rpc": "drivers",
        "apps": "drivers rpc identity",
    }.items()
}
FREE_TO_ALL = frozenset({"errors", "machine"})
# The shop window and the command line stand above all rooms.
ABOVE_ALL = frozenset({"__init__", "__main__", "cli"})

_WORLD = frozenset(
    {"socket", "asyncio", "time", "os", "threading", "select", "selectors", "subprocess"}
)
# room: what it may not import. A machine has no clock, no socket and no chance of its own,
# they are arguments; the other rooms here are plain functions of what they are given.
FORBIDDEN: dict[str, frozenset[str]] = {
    "wire": _WORLD | {"random", "pathlib", "io", "ctypes"},
    "filter": _WORLD,
    "packets": _WORLD,
    "impair": _WORLD,
    "probe": _WORLD | {"random"},
    "transport": _WORLD | {"random"},
}
# From `socket`, wire/ may take the C library's pure functions on addresses.
PURE_SOCKET_NAMES = ("AF_INET", "AF_INET6", "inet_")
# What opens a raw or a packet socket; `link` alone does.
CARRIER_NAMES = frozenset({"SOCK_RAW", "SOCK_PACKET", "AF_PACKET", "PF_PACKET"})

COMFORTABLE_LINES = 400
MOST_LINES = 600
"""Past 500, a part with its own test wants to move out; past this it has to."""


class Import(NamedTuple):
    """One import: `module` absolute and dotted, `name` what is taken from it, if anything."""

    module: str
    name: str
    line: int
    for_types: bool


def modules(root: Path) -> Iterator[tuple[Path, ast.Module]]:
    """Every module of the package below `root`, parsed."""
    for path in sorted((root / "rawproto").rglob("*.py")):
        yield path, ast.parse(path.read_text(), str(path))


def room_of(path: Path, root: Path) -> str:
    return path.relative_to(root / "rawproto").parts[0].removesuffix(".py")


def imports(tree: ast.Module, package: tuple[str, ...]) -> Iterator[Import]:
    """Every import in a module that stands in `package`, `('rawproto', 'wire')`."""
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        for_types = id(node) in typing_only
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", node.lineno, for_types)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *filter(None, [node.module])))
            for alias in node.names:
                yield Import(module, alias.name, node.lineno, for_types)
        elif isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            first = node.args[0]
            if called in {"import_module", "__import__"} and isinstance(first, ast.Constant):
                name = str(first.value)
                level = len(name) - len(name.lstrip("."))
                above = package[: len(package) - level + 1] if level else ()
                module = ".".join((*above, *filter(None, [name.lstrip(".")])))
                yield Import(module, "", node.lineno, for_types)


def judge_rooms(room: str, found: Import) -> str | None:
    """Why a room may not make that import of the project's own, or None."""
    whole = f"{found.module}.{found.name}".rstrip(".").split(".")
    if whole[0] != "rawproto" or room in ABOVE_ALL:
        return None
    # `from rawproto import wire` and `from rawproto import ping` look alike; the second
    # takes a public name, and with it the shop window, which stands above all rooms.
    target = whole[1] if len(whole) > 1 else "__init__"
    if target == "__version__" or target in FREE_TO_ALL | {room} | MAY_IMPORT[room]:
        return None
    return f"{room} may not import {target}"


def judge_outside(room: str, found: Import) -> str | None:
    """Why a room may not import that module of the standard library or of others, or None."""
    top = found.module.split(".")[0]
    if top == "scapy":
        return "scapy is for the tests only"
    if top not in FORBIDDEN.get(room, ()):
        return None
    if room == "wire" and top == "socket" and found.name.startswith(PURE_SOCKET_NAMES):
        return None
    if top == "random" and found.for_types:
        return None
    return f"{room} may not import {found.name + ' of ' if found.name else ''}{top}"


def judge_names(room: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, why) of each use of a name that only `link` may use, or of a file in a pure room."""
    for node in ast.walk(tree):
        name = ""
        if isinstance(node, ast.Name):
            name = node.id
        elif isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.ImportFrom):
            name = next((a.name for a in node.names if a.name in CARRIER_NAMES), "")
        if name in CARRIER_NAMES and room != "link":
            yield node.lineno, f"{name}: link alone opens raw and packet sockets"
        if room in FORBIDDEN and isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called in {"open", "input", "print"}:
                yield node.lineno, f"{room} may not call {called}()"


def violations(root: Path) -> list[str]:
    """Every breach of the rules below `root`, as `path:line: why`."""
    found: list[str] = []
    for path, tree in modules(root):
        where, room = path.relative_to(root), room_of(path, root)
        if room not in MAY_IMPORT and room not in ABOVE_ALL:
            found.append(f"{where}:1: {room} is in no rule; say in MAY_IMPORT what it may import")
            continue
        for one in imports(tree, where.parent.parts):
            for why in (judge_rooms(room, one), judge_outside(room, one)):
                if why:
                    found.append(f"{where}:{one.line}: {why}")
        found.extend(f"{where}:{line}: {why}" for line, why in judge_names(room, tree))
    return found


def sizes(root: Path) -> list[tuple[int, Path]]:
    """(lines, module), the longest first."""
    counted = [
        (path.read_text().count("\n"), path.relative_to(root))
        for path in (root / "rawproto").rglob("*.py")
    ]
    return sorted(counted, reverse=True)


def test_every_module_keeps_the_rules() -> None:
    found = violations(ROOT)
    assert not found, "\n" + "\n".join(found)


def test_no_module_has_outgrown_one_idea() -> None:
    assert [f"{path}: {lines} lines" for lines, path in sizes(ROOT) if lines > MOST_LINES] == []


def test_every_room_is_named_on_the_way_in() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {room_of(path, ROOT) for path, _ in modules(ROOT)} - {"__init__", "__main__"}
    assert sorted(room for room in rooms if room not in page) == []


# --- the checker itself ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("wire/a.py", "import rawproto.link.raw", "wire may not import link"),
        ("wire/a.py", "from rawproto.probe import ping", "wire may not import probe"),
        ("probe/a.py", "from rawproto import transport", "probe may not import transport"),
        ("probe/a.py", "from .. import link", "probe may not import link"),
        ("probe/a.py", "from ..link.base import Link", "probe may not import link"),
        ("probe/deep/a.py", "from ...link import base", "probe may not import link"),
        ("probe/__init__.py", "from ..link import base", "probe may not import link"),
        ("wire/a.py", "def f():\n    from rawproto import capture", "wire may not import capture"),
        (
            "wire/a.py",
            "if TYPE_CHECKING:\n    from rawproto.link import base",
            "wire may not import link",
        ),
        ("errors.py", "import rawproto.wire.udp", "errors may not import wire"),
        ("link/a.py", "import importlib\nimportlib.import_module('rawproto.cli')", "import cli"),
        ("wire/a.py", "import importlib\nimportlib.import_module('..link', x)", "import link"),
        ("drivers/a.py", "from rawproto import ping", "drivers may not import ping"),
        ("probe/a.py", "import socket", "probe may not import socket"),
        ("probe/a.py", "import os.path", "probe may not import os"),
        ("probe/a.py", "from time import monotonic_ns", "monotonic_ns of time"),
        ("probe/a.py", "def f():\n    __import__('time')", "probe may not import time"),
        ("transport/a.py", "import random", "transport may not import random"),
        ("transport/a.py", "if TYPE_CHECKING:\n    import time", "transport may not import time"),
        ("wire/a.py", "from socket import inet_pton, socket", "socket of socket"),
        ("wire/a.py", "import socket", "wire may not import socket"),
        ("wire/a.py", "open('x')", "wire may not call open()"),
        ("link/a.py", "import scapy.all", "scapy is for the tests only"),
        ("cli/a.py", "import socket\nsocket.socket(17, socket.SOCK_RAW)", "link alone"),
        ("lab/a.py", "from socket import AF_PACKET", "link alone"),
        ("cellar/a.py", "", "cellar is in no rule"),
    ],
)
def test_breach_is_found(tmp_path: Path, path: str, source: str, why: str) -> None:
    file = tmp_path / "rawproto" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    found = violations(tmp_path)
    assert len(found) == 1, found
    assert found[0].startswith(f"rawproto/{path}:")
    assert why in found[0]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("wire/a.py", "from socket import AF_INET, inet_ntoa, inet_pton"),
        ("wire/a.py", "from . import layer\nfrom .layer import Layer\nimport struct"),
        ("probe/a.py", "if TYPE_CHECKING:\n    import random\n    from random import Random"),
        ("probe/a.py", "from rawproto.wire import icmp\nfrom ..machine import Datagram"),
        ("link/a.py", "import os, socket, time\nsocket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
        ("cli/a.py", "import rawproto.lab, rawproto.drivers.blocking, asyncio"),
        ("__init__.py", "from rawproto.drivers import blocking"),
        ("link/a.py", "from rawproto import __version__, errors"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, path: str, source: str) -> None:
    file = tmp_path / "rawproto" / path
    file.parent.mkdir(parents=True)
    file.write_text(source)
    assert violations(tmp_path) == []


def test_scapy_is_a_dependency_of_the_tests_only() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    users = [*project["dependencies"], *(d for e in extras if e != "dev" for d in extras[e])]
    assert not [one for one in users if one.startswith("scapy")]


if __name__ == "__main__":
    for lines, module in sizes(ROOT):
        print(f"{lines:5} {module}" + (" (long)" if lines > COMFORTABLE_LINES else ""))
