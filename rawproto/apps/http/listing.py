"""The page of a directory: its names, sizes and times, as HTML that runs no script."""

from __future__ import annotations

import html
import os
import re
import stat
import time
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote

from rawproto.apps.files.beneath import Root

__all__ = ["MOST_NAMES", "modified_s", "page"]

MOST_NAMES = 10_000
"""Of one directory on a page; more are only said to be there."""
_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, which dates of HTTP have (RFC 9110 section 5.6.7); files may have any."""
_COMMANDS = re.compile("[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What commands a terminal, ends a line, or turns its order, so that exe.png is a program."""

_STYLE = """body{font:15px system-ui,sans-serif;margin:2em}
td{padding:.1em 2em .1em 0}td+td{text-align:right;font-variant-numeric:tabular-nums}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}}"""


class _Row(NamedTuple):
    """Sorted as they are shown: directories first, by name."""

    is_file: bool
    name: str
    size: int
    mtime: float


def page(root: Root, path: str, shown: str) -> str:
    """The page.

    Args:
        root: what is served.
        path: of the directory, beneath it.
        shown: its path as asked for, with the slash at its end, for the title.

    Raises:
        OSError: it cannot be read.
    """
    fd = root.open_directory(path)
    try:
        with os.scandir(fd) as entries:
            first = list(islice(entries, MOST_NAMES + 1))
        rows = sorted(_rows(root, path, first[:MOST_NAMES]))
    finally:
        os.close(fd)
    title = html.escape(_text(f"Index of {shown}"))
    lines = [
        f'<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n<title>{title}</title>',
        f"<style>{_STYLE}</style>\n<h1>{title}</h1>\n<table>",
    ]
    if shown.strip("/"):
        lines.append('<tr><td><a href="../">../</a></td><td></td><td></td></tr>')
    lines += [_line(row) for row in rows]
    lines.append("</table>")
    if len(first) > MOST_NAMES:
        lines.append(f"<p>Only {MOST_NAMES} names of more are shown.</p>")
    return "\n".join(lines) + "\n"


def modified_s(found: os.stat_result) -> float:
    """When a file was changed, or the nearest time that a date can tell."""
    return min(max(found.st_mtime, _FIRST_S), _LAST_S)


def _rows(root: Root, path: str, entries: Iterable[os.DirEntry[str]]) -> Iterable[_Row]:
    for entry in entries:
        name = entry.name
        try:
            found = entry.stat(follow_symlinks=False)
            if stat.S_ISLNK(found.st_mode):
                found = root.stat(f"{path}/{name}".lstrip("/"), follow=True)
        except OSError:
            continue  # it leads out, or is gone by now
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            yield _Row(stat.S_ISREG(found.st_mode), name, found.st_size, modified_s(found))


def _line(row: _Row) -> str:
    mark = "" if row.is_file else "/"
    # Dot and slash ahead: a name with a colon is no scheme.
    link = "./" + quote(os.fsencode(row.name)) + mark
    size = f"{row.size:,}" if row.is_file else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(row.mtime))
    name = html.escape(_text(row.name)) + mark
    return f'<tr><td><a href="{link}">{name}</a></td><td>{size}</td><td>{when}</td></tr>'


def _text(name: str) -> str:
    """A name that HTML can hold, and a terminal: bytes that are no UTF-8 as the sign for that."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return _COMMANDS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
