"""Real hosts on one machine: namespaces, links between them, and routes.

    from rawproto import lab

    with lab.up(lab.chain(3)) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        print(h1.run(["ping", "-c1", h2.ipv4]).stdout)
        with h1.entered():
            sock = socket.socket(...)      # lives on h1

It needs root, or `lab.become_root()` at the start of the program where user namespaces
are allowed. The public names are loaded when first used: the keeper of a lab imports
this package too, and must start fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawproto.lab.namespaces import become_root, is_privileged
    from rawproto.lab.network import LiveHost, Network, up
    from rawproto.lab.topology import (
        Host,
        Interface,
        LinkSpec,
        Route,
        Router,
        Topology,
        chain,
        diamond,
        pair,
        star,
    )

__all__ = [
    "Host",
    "Interface",
    "LinkSpec",
    "LiveHost",
    "Network",
    "Route",
    "Router",
    "Topology",
    "become_root",
    "chain",
    "diamond",
    "is_privileged",
    "pair",
    "star",
    "up",
]

_HOMES = {
    "namespaces": ("become_root", "is_privileged"),
    "network": ("LiveHost", "Network", "up"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((home for home, names in _HOMES.items() if name in names), "topology")
    return getattr(import_module(f"{__name__}.{home}"), name)
