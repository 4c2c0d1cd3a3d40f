"""Topologies as people write them: `chain 12`, `chain:12`, or a TOML file.

    name = "office"                      # optional, else the file's name
    hosts = ["h1", "h2"]
    routers = ["r1", { name = "r2", silent = true, mtu = 1400 }]  # behaviour.py has all words

    [[links]]                            # link 1
    ends = ["h1", "r1"]                  # the first end has .1 and ::1
    mtu = 1400                           # optional
    delay = "20ms"                       # optional: impairments.py has them all
    forward = { loss = "1%" }            # of the first end's packets only

    [[links]]                            # link 2
    ends = ["r1", "h2"]
    ipv4 = "192.0.2.0/24"                # optional, else 10.99.2.0/24; false for none
    ipv6 = false                         # optional, else fd99:2::/64; false for none

    [[routes]]                           # optional: beside the computed ones, or instead
    host = "r1"
    to = "203.0.113.0/24"
    via = "192.0.2.2"                    # or a list, to share the flows

The same document, as JSON, is what the state of a running lab holds. Errors are one
line that says where: `office.toml: links[2].ends: no host 'h3'`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rawproto.errors import UsageError
from rawproto.lab.behaviour import Behaviour, check_word
from rawproto.lab.impairments import DIRECTIONS, KEYS
from rawproto.lab.topology import (
    Host,
    LinkSpec,
    Route,
    Router,
    Topology,
    chain,
    diamond,
    numbered_link,
    pair,
    star,
)

__all__ = ["from_document", "read", "to_document", "topology_of"]

BUILDERS: Mapping[str, Callable[[int], Topology]] = {
    "chain": chain,
    "diamond": diamond,
    "star": star,
}

KINDS = "pair, chain N, diamond N, star N, or a TOML file"

MAX_FILE_BYTES = 1 << 20


def topology_of(words: Sequence[str]) -> Topology:
    """The topology that a command line names: `["chain", "12"]`, `["chain:12"]`, `["lab.toml"]`.

    Raises:
        UsageError: there is none of that name, or the file is wrong.
    """
    first, *rest = words
    if first.endswith(".toml") or os.sep in first:
        if rest:
            raise UsageError(f"{first} is a file: {' '.join(rest)!r} behind it has no meaning")
        return read(first)
    kind, *sizes = [*first.split(":", 1), *rest]
    if kind == "pair":
        if sizes:
            raise UsageError("pair takes no number; for more hops, chain N")
        return pair()
    if kind not in BUILDERS:
        raise UsageError(f"no topology {kind!r}; there are {KINDS}")
    if len(sizes) != 1 or not re.fullmatch("[0-9]{1,6}", sizes[0]):
        given = f", not {' '.join(sizes)!r}" if sizes else ""
        raise UsageError(f"{kind} wants one number, as in `{kind} 3`{given}")
    return BUILDERS[kind](int(sizes[0]))


def read(path: str) -> Topology:
    """Reads a TOML file. Raises UsageError, with the file's name and the place in it."""
    import tomllib  # most labs are named, not read

    try:
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise UsageError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        return from_document(tomllib.loads(data.decode()), Path(path).stem)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 at byte {error.start}") from None
    except (UsageError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: {error}") from None


def from_document(document: Mapping[str, Any], name: str) -> Topology:
    """A topology from what TOML or JSON gave.

    Args:
        document: as in the module's docstring.
        name: what to call it if the document doesn't say.

    Raises:
        UsageError: naming the place and what is wrong there.
    """
    _check_keys("", document, ("name", "hosts", "routers", "links", "routes"))
    hosts = [Host(name=text) for text in _strings("hosts", document.get("hosts", []))]
    routers = document.get("routers", [])
    if not isinstance(routers, list):
        raise UsageError(f"routers: {routers!r} is not a list of names or tables")
    return Topology(
        name=_string("name", document.get("name", name)),
        hosts=(*hosts, *(_router(number, given) for number, given in enumerate(routers, 1))),
        links=tuple(
            _link(number, table) for number, table in _tables("links", document.get("links", []))
        ),
        routes=tuple(
            _route(number, table) for number, table in _tables("routes", document.get("routes", []))
        ),
    )


def to_document(topology: Topology) -> dict[str, Any]:
    """What `from_document` reads back as an equal topology; only lists, tables and plain values."""
    return {
        "name": topology.name,
        "hosts": [host.name for host in topology.hosts if not host.forwards],
        "routers": [_described(host) for host in topology.hosts if isinstance(host, Router)],
        "links": [
            {"ends": list(link.ends), "ipv4": link.ipv4 or False, "ipv6": link.ipv6 or False}
            | ({} if link.mtu is None else {"mtu": link.mtu})
            | _nested(link.impairments)
            for link in topology.links
        ],
        "routes": [
            {"host": route.host, "to": route.destination, "via": list(route.gateways)}
            for route in topology.routes
        ],
    }


def _router(number: int, given: object) -> Router:
    """A router by its name alone, or by a table with its name and what it does."""
    where = f"routers[{number}]"
    if not isinstance(given, dict):
        return Router(name=_string(where, given))
    if "name" not in given:
        raise UsageError(f"{where}: 'name' is missing")
    said = {word: value for word, value in given.items() if word != "name"}
    try:
        for word in said:
            check_word(word)
        behaviour = Behaviour.of(
            {word: _word(word, value) for word, value in said.items() if value is not False}
        )
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return Router(name=_string(f"{where}.name", given["name"]), behaviour=behaviour)


def _word(where: str, value: object) -> str:
    """The text of a word's value: `true` is a word alone, a list its parts between slashes."""
    if value is True:
        return ""
    if isinstance(value, list):
        return "/".join(_setting(where, item) for item in value)
    return _setting(where, value)


def _described(router: Router) -> str | dict[str, Any]:
    """What `_router` reads back."""
    if not router.behaviour:
        return router.name
    words = router.behaviour.words()
    return {"name": router.name} | {word: text or True for word, text in words.items()}


def _link(number: int, table: Mapping[str, Any]) -> LinkSpec:
    where = f"links[{number}]"
    _check_keys(where, table, ("ends", "ipv4", "ipv6", "mtu", *KEYS, *DIRECTIONS))
    ends = _strings(f"{where}.ends", table.get("ends", []))
    if len(ends) != 2:
        raise UsageError(f'{where}.ends: wants two hosts, as in ends = ["h1", "r1"]')
    mtu = table.get("mtu")
    if mtu is not None and (not isinstance(mtu, int) or isinstance(mtu, bool)):
        raise UsageError(f"{where}.mtu: {mtu!r} is not a whole number")
    networks: list[str | None] = []
    for family in ("ipv4", "ipv6"):
        given = table.get(family)
        if given is None:
            # Only a link that wants a number needs one that fits.
            given = getattr(numbered_link(number, ends[0], ends[1]), family)
        networks.append(None if given is False else _string(f"{where}.{family}", given))
    return LinkSpec(
        ends=(ends[0], ends[1]),
        ipv4=networks[0],
        ipv6=networks[1],
        mtu=mtu,
        impairments=_impairments(where, table),
    )


def _impairments(where: str, table: Mapping[str, Any]) -> dict[str, str]:
    """What a link's table says of impairments, with `forward = { loss = "1%" }` made flat."""
    found: dict[str, str] = {}
    for key, value in table.items():
        if key in KEYS:
            found[key] = _setting(f"{where}.{key}", value)
        elif key in DIRECTIONS:
            if not isinstance(value, dict):
                raise UsageError(f'{where}.{key}: wants a table, as {{ loss = "1%" }}')
            for inner, text in value.items():
                found[f"{key}.{inner}"] = _setting(f"{where}.{key}.{inner}", text)
    return found


def _setting(where: str, value: object) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return _string(where, value)


def _nested(impairments: Mapping[str, str]) -> dict[str, Any]:
    """What `_impairments` makes flat again."""
    tables: dict[str, Any] = {}
    for key, text in impairments.items():
        direction, dot, name = key.rpartition(".")
        (tables.setdefault(direction, {}) if dot else tables)[name] = text
    return tables


def _route(number: int, table: Mapping[str, Any]) -> Route:
    where = f"routes[{number}]"
    _check_keys(where, table, ("host", "to", "via"))
    for key in ("host", "to", "via"):
        if key not in table:
            raise UsageError(f"{where}: {key!r} is missing")
    via = table["via"]
    gateways = _strings(f"{where}.via", [via] if isinstance(via, str) else via)
    return Route(
        host=_string(f"{where}.host", table["host"]),
        destination=_string(f"{where}.to", table["to"]),
        gateways=tuple(gateways),
    )


def _check_keys(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            place = f"{where}: " if where else ""
            raise UsageError(f"{place}unknown key {key!r} (known are {', '.join(known)})")


def _string(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{where}: {value!r} is not a string")
    return value


def _strings(where: str, value: object) -> list[str]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: {value!r} is not a list of strings")
    return [_string(where, item) for item in value]


def _tables(where: str, value: object) -> list[tuple[int, Mapping[str, Any]]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise UsageError(f"{where}: wants tables, each begun with [[{where}]]")
    return list(enumerate(value, 1))
