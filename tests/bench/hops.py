"""The paths that traceroutes print, each in its own form, as lists that can be compared.

A path is a list with an entry a hop, from the first on: the addresses that answered, in the
order of printing and each once; none for a hop that is silent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

__all__ = ["Path", "mistakes", "read_mtr", "read_nmap", "read_traceroute"]

Path = list[tuple[str, ...]]

_ADDRESS = re.compile(r"(?<![\w.:])(?:\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f:]+)(?![\w.:])")


def read_traceroute(lines: Iterable[str]) -> Path:
    """Of `traceroute -n`, ours as well: ` 1  192.0.2.1  0.031 ms  0.012 ms *`."""
    return _rows(lines, r" ?(\d+)  (.*)", _ADDRESS.findall)


def read_mtr(lines: Iterable[str]) -> Path:
    """Of `mtr -n -r`: `  1.|-- 192.0.2.1  0.0%  3 ...`, with `???` for a silent hop."""
    return _rows(lines, r" *(\d+)\.\|-- (\S+)", _ADDRESS.findall)


def read_nmap(lines: Iterable[str]) -> Path:
    """Of `nmap -n --traceroute`: `1   0.01 ms 192.0.2.1`, `2   ...`, `3   ... 5` for three."""
    return _rows(lines, r"(\d+) +((?:[\d.]+ ms|--) .*|\.\.\.(?: \d+)?)$", _ADDRESS.findall)


def _rows(lines: Iterable[str], form: str, addresses: Callable[[str], list[str]]) -> Path:
    """The hops of a table; one that it leaves out is silent."""
    path: Path = []
    for line in lines:
        row = re.match(form, line)
        if row is None:
            continue
        path += [()] * (int(row[1]) - 1 - len(path))
        path.append(tuple(dict.fromkeys(addresses(row[2]))))
    return path


def mistakes(path: Sequence[object], expected: Sequence[object]) -> int:
    """How many hops are not as they were built: another's address, none, one too many."""
    wrong = sum(found != built for found, built in zip(path, expected, strict=False))
    return wrong + abs(len(path) - len(expected))
