"""A host as `packets.complete` asks about it, without a kernel: one cable, one gateway."""

from __future__ import annotations

from dataclasses import dataclass, field

from rawproto.errors import LinkError

OWN_MAC = "02:00:00:00:00:01"
NEIGHBOR_MAC = "02:00:00:00:00:02"
GROUP_MAC = "01:00:5e:00:00:01"


@dataclass
class Way:
    src_addr: str
    interface: str
    next_hop: str
    kind: str = "unicast"


@dataclass
class Host:
    """10.0.0.1 and fd00::1 on eth0; 192.0.2.0 lies behind 10.0.0.254, all else nowhere."""

    interface: str = ""
    asked: list[str] = field(default_factory=list)

    def route(self, dst_addr: str) -> Way:
        self.asked.append(dst_addr)
        if dst_addr.startswith("203."):
            raise LinkError("route to", dst_addr, 101)
        if dst_addr.startswith("127."):
            return Way("127.0.0.1", "lo", dst_addr, "local")
        src_addr = "fd00::1" if ":" in dst_addr else "10.0.0.1"
        kind = "unicast"
        if dst_addr.endswith(".255"):
            kind = "broadcast"
        elif dst_addr.startswith(("ff", "224.")):
            kind = "multicast"
        gateway = "10.0.0.254" if dst_addr.startswith("192.0.2.") else dst_addr
        return Way(src_addr, "eth0", gateway, kind)

    def mac_addr(self, interface: str) -> str:
        if interface == "tun0":
            raise LinkError("send frame by", interface, 95)
        return "00:00:00:00:00:00" if interface == "lo" else OWN_MAC

    def neighbor(self, next_hop: str, interface: str) -> str:
        self.asked.append(f"{next_hop} on {interface}")
        if interface == "lo":
            return "00:00:00:00:00:00"
        return GROUP_MAC if next_hop.startswith("224.") else NEIGHBOR_MAC
