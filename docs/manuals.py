"""Completions for shells and manual pages, built from the parsers of the verbs.

`python docs/manuals.py DIR` writes, as they are to stand below a prefix such as /usr/local::

    DIR/share/bash-completion/completions/rawproto
    DIR/share/zsh/site-functions/_rawproto
    DIR/share/fish/vendor_completions.d/rawproto.fish
    DIR/share/man/man1/rawproto.1, rawproto-ping.1, ...
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import shtab
from argparse_manpage.manpage import Manpage

from rawproto.cli.main import VERBS, whole_parser

COMPLETIONS = {
    "bash": "share/bash-completion/completions/rawproto",
    "zsh": "share/zsh/site-functions/_rawproto",
    "fish": "share/fish/vendor_completions.d/rawproto.fish",
}
PAGES = "share/man/man1"


def page(parser: argparse.ArgumentParser, name: str, line: str) -> str:
    """A parser's manual page.

    Args:
        parser: of a verb, or of all.
        name: of the page, such as rawproto-ping.
        line: what it is for.
    """
    verbatim, parser.epilog = parser.epilog or "", None
    text = str(Manpage(parser))
    text = re.sub(
        r"^\.TH .*$", f'.TH {name.upper()} 1 "" rawproto "rawproto"', text, count=1, flags=re.M
    )
    text = re.sub(r"^(\.SH NAME)\n.*$", rf"\1\n{name} \\- {line}", text, count=1, flags=re.M)
    if verbatim:
        text += "\n.SH NOTES\n.nf\n" + escaped(verbatim.strip()) + "\n.fi\n"
    others = [verb for verb in VERBS if f"rawproto-{verb}" != name]
    links = ", ".join(f"\\fBrawproto\\-{verb}\\fR(1)" for verb in others)
    return text + f"\n.SH SEE ALSO\n{links}\n"


def escaped(text: str) -> str:
    """Text that roff shows as it is."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def write(top: Path) -> list[Path]:
    """Writes them all: where to."""
    parser = whole_parser()
    written = []
    for shell, path in COMPLETIONS.items():
        written.append(top / path)
        put(written[-1], shtab.complete(parser, shell))
    verbs = next(each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    lines = dict(VERBS)
    for verb, each in verbs.choices.items():
        written.append(top / PAGES / f"rawproto-{verb}.1")
        put(written[-1], page(each, f"rawproto-{verb}", lines[verb]))
    written.append(top / PAGES / "rawproto.1")
    put(written[-1], page(whole_parser(), "rawproto", "packets by hand, paths measured exactly"))
    return written


def put(path: Path, text: str) -> None:
    """A file, and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write(Path(sys.argv[1]))
