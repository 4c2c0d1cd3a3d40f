"""How `files` shows what is there, how far it is, and how it went."""

from __future__ import annotations

import stat
import sys
import time
from types import TracebackType
from typing import Any

from rawproto.apps.files.entries import Entry
from rawproto.apps.files.plan import Progress
from rawproto.cli.render import counted, json_line

__all__ = ["Meter", "listed", "listed_json", "shown", "summary", "summary_json"]

_UNITS = ("B", "kB", "MB", "GB", "TB")
_TYPES = {"file": stat.S_IFREG, "directory": stat.S_IFDIR, "link": stat.S_IFLNK}


# Letters and signs that show nothing: one behind a name makes another that looks the same.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def shown(text: str) -> str:
    """A name as a terminal may have it: what cannot be shown, or not be seen, is escaped."""
    return "".join([c if c.isprintable() and c not in _BLANK
                    else c.encode("unicode_escape", "replace").decode()
                    if not "\udc80" <= c <= "\udcff" else f"\\x{ord(c) - 0xDC00:02x}"
                    for c in text])  # fmt: skip


def listed(entry: Entry, path: str, *, long: bool) -> str:
    """One line of `ls`."""
    name = entry.path or path.rpartition("/")[2]
    mark = {"directory": "/", "link": "@"}.get(entry.kind, "")
    if not long:
        return f"{shown(name)}{mark}\n"
    mode = stat.filemode(_TYPES.get(entry.kind, 0) | entry.mode)
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.mtime_ns // 10**9))
    target = f" -> {shown(entry.target)}" if entry.kind == "link" else ""
    return f"{mode} {entry.size:>14} {when} {shown(name)}{target}\n"


def listed_json(entry: Entry, path: str, *, long: bool) -> str:
    """The same as a record; bytes that are no UTF-8 are lone surrogates (PEP 383)."""
    return json_line(
        "entry",
        {
            "path": f"{path}/{entry.path}".strip("/").encode("utf-8", "replace").decode(),
            "path_hex": f"{path}/{entry.path}".strip("/").encode("utf-8", "surrogateescape").hex(),
            "kind": entry.kind,
            "size_bytes": entry.size,
            "mode": entry.mode,
            "mtime_ns": entry.mtime_ns,
            "target": entry.target.encode("utf-8", "replace").decode() or None,
        },
    )


def size_text(size: float) -> str:
    """`512 B`, `1.5 MB`, in powers of ten."""
    for unit in _UNITS[:-1]:
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} {_UNITS[-1]}"


def summary(progress: Progress, seconds: float) -> str:
    """The line at the end."""
    parts = [f"{counted(progress.done_files, 'file')}, {size_text(progress.done_bytes)}"]
    parts.append(f"{seconds:.1f} s, {size_text(progress.done_bytes / max(seconds, 1e-9))}/s")
    if progress.skipped_files:
        parts.append(f"{progress.skipped_files} were the same")
    if progress.removed:
        parts.append(f"{progress.removed} removed")
    return "; ".join(parts) + "\n"


def summary_json(progress: Progress, seconds: float) -> str:
    """The same as a record."""
    fields = {
        "files": progress.done_files,
        "bytes": progress.done_bytes,
        "skipped_files": progress.skipped_files,
        "removed": progress.removed,
        "faults": len(progress.faults),
        "duration_s": round(seconds, 6),
    }
    return json_line("summary", fields)


class Meter:
    """A bar with rate and time left on a terminal, nothing elsewhere. Use `with`.

    Args:
        progress: what it shows.
        wanted: whether it is to be seen at all.
    """

    def __init__(self, progress: Progress, *, wanted: bool) -> None:
        self._progress = progress
        self._wanted = wanted and sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> Meter:
        if self._wanted:
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                Progress,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )

            progress = self._progress

            class Following(Progress):
                """Looks at how far it is each time it draws."""

                def get_renderables(self) -> Any:
                    for task in self.tasks:
                        self.update(  # which counts the rate, as setting the fields does not
                            task.id,
                            total=progress.total_bytes,
                            completed=progress.done_bytes,
                            description=shown(progress.path)[-40:],
                        )
                    return super().get_renderables()

            self._bar = Following(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
