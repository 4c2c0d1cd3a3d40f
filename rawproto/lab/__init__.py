"""Real hosts on one machine: namespaces, links between them, and routes.

    from rawproto import lab

    with lab.up(lab.chain(3)) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        print(h1.run(["ping", "-c1", h2.ipv4]).stdout)
        with h1.entered():
            sock = socket.socket(...)      # lives on h1

It needs root, or `lab.become_root()` at the start of the program where user namespaces
are allowed.
"""

from rawproto.lab.behaviour import Behaviour
from rawproto.lab.links import LinkReport, LiveLink
from rawproto.lab.namespaces import become_root, is_privileged
from rawproto.lab.network import LiveHost, Network, up
from rawproto.lab.spec import topology_of
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
    "Behaviour",
    "Host",
    "Interface",
    "LinkReport",
    "LinkSpec",
    "LiveHost",
    "LiveLink",
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
    "topology_of",
    "up",
]
