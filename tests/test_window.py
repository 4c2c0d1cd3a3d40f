"""The shop window shows what the rooms hold, and costs nothing to look at."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rawproto


def test_every_public_name_is_there() -> None:
    for name in rawproto.__all__:
        assert getattr(rawproto, name) is not None
    assert set(rawproto.__all__) <= set(dir(rawproto))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(rawproto.__file__).read_text())
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rawproto.")
        for alias in node.names
    }
    assert typed == set(rawproto.__all__) - {"__version__"}


def test_importing_the_package_loads_no_room() -> None:
    script = "import sys, rawproto; print([m for m in sys.modules if m.startswith('rawproto.')])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert shown.stdout.strip() == "[]"


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = rawproto.nothing


def test_version_is_the_projects() -> None:
    project = (Path(rawproto.__file__).parents[1] / "pyproject.toml").read_text()
    assert f'version = "{rawproto.__version__}"' in project
