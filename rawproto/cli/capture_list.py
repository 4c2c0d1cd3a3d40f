"""The interfaces that one can capture on, as a table or as JSON Lines.

::

    any   all interfaces, those that come later too
    lo    up    ethernet  00:00:00:00:00:00  127.0.0.1/8 ::1/128

What an interface captures as is its link type: what its packets begin with.
"""

from __future__ import annotations

from typing import TextIO

from rawproto.cli.render import json_line
from rawproto.drivers.capture_source import ANY
from rawproto.link.admission import link_type_of
from rawproto.link.interfaces import IFF_UP, Interface, interfaces
from rawproto.wire.dissect import LINK_TYPES

__all__ = ["print_interfaces"]

_IFF_RUNNING = 0x40


def print_interfaces(stream: TextIO, *, as_json: bool) -> None:
    """Prints them, by index. Raises LinkError."""
    found = interfaces()
    if as_json:
        for each in found:
            stream.write(json_line("interface", _fields(each)))
        return
    rows = [[ANY, "", "", "", "all interfaces, those that come later too"], *map(_row, found)]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        stream.write("  ".join([*cells, row[-1]]).rstrip() + "\n")


def _state(each: Interface) -> str:
    if not each.flags & IFF_UP:
        return "down"
    return "up" if each.flags & _IFF_RUNNING else "no carrier"


def _row(each: Interface) -> list[str]:
    addresses = " ".join(f"{one.addr}/{one.prefix_length}" for one in each.addresses)
    link_type = LINK_TYPES[link_type_of(each.hardware_type)]
    return [each.name, _state(each), link_type, each.mac_addr, addresses]


def _fields(each: Interface) -> dict[str, object]:
    link_type = link_type_of(each.hardware_type)
    return {
        "name": each.name,
        "index": each.index,
        "state": _state(each),
        "mtu": each.mtu,
        "mac_addr": each.mac_addr,
        "hardware_type": each.hardware_type,
        "link_type": link_type,
        "link_type_name": LINK_TYPES[link_type],
        "addresses": [
            {"addr": one.addr, "prefix_length": one.prefix_length, "scope": one.scope}
            for one in each.addresses
        ],
    }
