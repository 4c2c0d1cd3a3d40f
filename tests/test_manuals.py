"""Completions and manual pages are built from what the verbs take."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import pytest

from rawproto.cli.main import VERBS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where everything was written to."""
    spec = importlib.util.spec_from_file_location("manuals", ROOT / "docs" / "manuals.py")
    assert spec is not None
    assert spec.loader is not None
    manuals = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(manuals)
    top = tmp_path_factory.mktemp("prefix")
    manuals.write(top)
    return top


def test_every_verb_has_a_page_with_its_options_and_notes(installed: Path) -> None:
    for verb, line in VERBS.items():
        text = (installed / f"share/man/man1/rawproto-{verb}.1").read_text()
        assert text.startswith(f".TH RAWPROTO-{verb.upper()} 1 ")
        assert f"\nrawproto-{verb} \\- {line}\n" in text
        assert r"\-\-debug" in text
    ping = (installed / "share/man/man1/rawproto-ping.1").read_text()
    assert r"\fI\,COUNT\/\fR" in ping
    assert (installed / "share/man/man1/rawproto.1").exists()
    shell = (installed / "share/man/man1/rawproto-shell.1").read_text()
    assert r"\-\-allow\-root" in shell
    assert "[USER@]ADDRESS" in shell


def test_bash_completes_verbs_and_their_options(installed: Path) -> None:
    completions = installed / "share/bash-completion/completions/rawproto"
    script = f"""
        source {completions}
        COMP_WORDS=(rawproto "$@"); COMP_CWORD=$#
        COMP_LINE="rawproto $*"; COMP_POINT=${{#COMP_LINE}}
        function=$(complete -p rawproto | sed 's/.*-F \\([^ ]*\\).*/\\1/')
        $function rawproto "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """

    def completed(*words: str) -> set[str]:
        done = subprocess.run(
            ["bash", "-c", script, "bash", *words],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        return set(done.stdout.split())

    assert completed("tr") == {"traceroute"}
    assert completed("re") == {"relay", "replay"}
    assert "--flow-label" in completed("ping", "--fl")
    assert completed("files", "s") == {"serve", "sync"}
    assert completed("shell", "s") == {"serve"}
    assert completed("shell", "serve", "--allow") == {"--allow-root"}
    assert "-D" in completed("shell", "-")


@pytest.mark.parametrize("path", ["zsh/site-functions/_rawproto", "fish/vendor_completions.d"])
def test_other_shells_have_theirs(installed: Path, path: str) -> None:
    place = installed / "share" / path
    file = place if place.is_file() else place / "rawproto.fish"
    text = file.read_text()
    assert all(verb in text for verb in VERBS)
