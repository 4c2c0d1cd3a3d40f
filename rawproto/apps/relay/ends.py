"""What people write for an end of a relay, read: `tcp-listen:127.0.0.1:8080`, `rpt:10.0.0.2:4000`.

::

    end      kind ":" rest
    targets  end *("," end)           where each is one to connect to
    rest     [host] ":" port          rpt, rpt+udp, tcp, udp, tls; their listeners, and there
                                      also port alone. IPv6 stands in brackets; `//` may lead
             path | "@" name          unix: a file, or an abstract name
             command                  exec: split as a shell does, run without one
             nothing                  stdio
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass

from rawproto.errors import UsageError

__all__ = ["KINDS", "End", "parse_end", "parse_targets"]

_HOSTED = ("rpt", "rpt+udp", "tcp", "udp", "tls")
_LISTEN = "-listen"

KINDS = (
    *_HOSTED,
    *[name + _LISTEN for name in _HOSTED],
    "unix",
    "unix" + _LISTEN,
    "exec",
    "stdio",
)
"""What an end may be."""

_PLACE = re.compile(r"(?://)?(?:\[([^\]]+)\]|([^:/\[\]]*)):(\d{1,5})/?")
_PORT = re.compile(r"\d{1,5}")
_NEXT = re.compile(r",(?=(?:" + "|".join(map(re.escape, sorted(KINDS, reverse=True))) + r"):)")
_MOST_PATH_BYTES = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """One end.

    Attributes:
        kind: one of `KINDS`, without `-listen`.
        listens: whether it waits for others to connect.
        host: a name or an address; "" for all of this host's, and where it has none.
        port: 0 to 65535.
        path: of a Unix socket; an abstract name begins with `@`.
        command: the words of a command.
    """

    kind: str
    listens: bool = False
    host: str = ""
    port: int = 0
    path: str = ""
    command: tuple[str, ...] = ()

    @property
    def datagrams(self) -> bool:
        """Whether what it carries has borders by nature; RPT goes by the other end."""
        return self.kind == "udp"

    @property
    def is_rpt(self) -> bool:
        """Whether it is one of RPT's two carriers."""
        return self.kind in ("rpt", "rpt+udp")

    @property
    def place(self) -> str:
        """Host and port, as an RPT address has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        kind = self.kind + _LISTEN if self.listens else self.kind
        if self.kind in _HOSTED:
            return f"{kind}:{self.place}"
        return f"{kind}:{self.path or shlex.join(self.command)}"


def parse_end(text: str) -> End:
    """Reads one end.

    Raises:
        UsageError: it is none.
    """
    name, colon, rest = text.partition(":")
    if name not in KINDS or not (colon or name == "stdio"):
        raise UsageError(f"{text}: an end is KIND:..., where KIND is one of {', '.join(KINDS)}")
    kind, listens = name.removesuffix(_LISTEN), name.endswith(_LISTEN)
    if kind == "stdio":
        if rest:
            raise UsageError(f"{text}: nothing follows stdio:")
        return End(kind=kind)
    if kind == "exec":
        return End(kind=kind, command=_command(text, rest))
    if kind == "unix":
        if not 0 < _size(rest) <= _MOST_PATH_BYTES or rest == "@" or "\0" in rest:
            raise UsageError(f"{text}: a Unix socket's path has 1 to {_MOST_PATH_BYTES} bytes")
        return End(kind=kind, listens=listens, path=rest)
    if listens and _PORT.fullmatch(rest):
        rest = ":" + rest
    found = _PLACE.fullmatch(rest)
    if found is None or int(found[3]) > 0xFFFF:
        raise UsageError(f"{text}: {name} takes HOST:PORT, an IPv6 address in brackets")
    host, port = found[1] or found[2] or "", int(found[3])
    if not listens and not (host and port):
        raise UsageError(f"{text}: {name} needs a host and a port to connect to")
    return End(kind=kind, listens=listens, host=host, port=port)


def parse_targets(text: str) -> tuple[End, ...]:
    """Reads where to relay to: one end, or several to choose from, with commas between.

    Raises:
        UsageError: one of them is none, or cannot be chosen from.
    """
    if text.startswith("exec:"):  # a command may hold commas
        return (parse_end(text),)
    ends = tuple(parse_end(each) for each in _NEXT.split(text))
    if len(ends) > 1:
        for end in ends:
            if end.listens or end.kind in ("stdio", "exec"):
                raise UsageError(f"{end}: only ends to connect to can be chosen from")
        if len({end.datagrams for end in ends}) > 1:
            raise UsageError(f"{text}: some keep the borders of datagrams and some do not")
    return ends


def _size(path: str) -> int:
    """Of a path that may be any bytes, as Python has them; 0 for what is none."""
    try:
        return len(os.fsencode(path))
    except UnicodeEncodeError:
        return 0


def _command(text: str, rest: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(rest))
    except ValueError as error:
        raise UsageError(f"{text}: {str(error).lower()}") from None
    if not words:
        raise UsageError(f"{text}: exec needs a command")
    return words
