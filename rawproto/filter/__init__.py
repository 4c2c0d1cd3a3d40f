"""Packet filters: programs for the kernel's classic BPF machine, and that machine itself.

`instructions` is the instruction set and what the kernel checks, `assembler` the
text of programs, `interpreter` the machine, `programs` the filters we attach.
`compiler` turns expressions (`tcp port 80`) into programs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawproto.filter.compiler import compile_filter
    from rawproto.filter.lexer import FilterError
    from rawproto.filter.names import Names

__all__ = ["FilterError", "Names", "compile_filter"]

_HOMES = {"FilterError": "lexer", "Names": "names", "compile_filter": "compiler"}


def __getattr__(name: str) -> Any:
    """Loaded when asked for: our sockets' own programs need none of it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
