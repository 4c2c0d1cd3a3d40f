"""The names of the filter language, and the names that only the system knows.

pcap-filter(7) lists the constants (`icmp-echo`, `tcp-syn`); the numbers are IANA's
("ICMP Parameters", "ICMPv6 Parameters", "Protocol Numbers") and the IEEE's EtherTypes.
Hosts, networks and most services are known to the system and not to this module:
whoever compiles hands in a `Names`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CONSTANTS",
    "ETHERTYPES",
    "IP_PROTOCOLS",
    "LLC_SAPS",
    "Names",
]

ETHERTYPES: dict[str, int] = {
    "ip": 0x0800,
    "arp": 0x0806,
    "rarp": 0x8035,
    "ip6": 0x86DD,
    "pppoed": 0x8863,
    "mopdl": 0x6001,
    "moprc": 0x6002,
    "decnet": 0x6003,
    "lat": 0x6004,
    "sca": 0x6007,
    "loopback": 0x9000,
}
"""What `ether proto NAME` and `NAME` alone test, by name -> EtherType."""

LLC_SAPS: dict[str, int] = {"stp": 0x42, "iso": 0xFE, "netbeui": 0xF0}
"""The same for what IEEE 802.2 headers announce, by name -> service access point."""

IP_PROTOCOLS: dict[str, int] = {
    "icmp": 1,
    "igmp": 2,
    "ipip": 4,
    "tcp": 6,
    "egp": 8,
    "igp": 9,
    "udp": 17,
    "ipv6": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "icmp6": 58,
    "ipv6-icmp": 58,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "eigrp": 88,
    "ospf": 89,
    "pim": 103,
    "vrrp": 112,
    "carp": 112,
    "sctp": 132,
    "udplite": 136,
}
"""What `ip proto NAME` tests, by name -> IP protocol."""

CONSTANTS: dict[str, int] = {
    "icmptype": 0,
    "icmpcode": 1,
    "icmp6type": 0,
    "icmp6code": 1,
    "tcpflags": 13,
    "icmp-echoreply": 0,
    "icmp-unreach": 3,
    "icmp-sourcequench": 4,
    "icmp-redirect": 5,
    "icmp-echo": 8,
    "icmp-routeradvert": 9,
    "icmp-routersolicit": 10,
    "icmp-timxceed": 11,
    "icmp-paramprob": 12,
    "icmp-tstamp": 13,
    "icmp-tstampreply": 14,
    "icmp-ireq": 15,
    "icmp-ireqreply": 16,
    "icmp-maskreq": 17,
    "icmp-maskreply": 18,
    "icmp6-destinationunreach": 1,
    "icmp6-packettoobig": 2,
    "icmp6-timeexceeded": 3,
    "icmp6-parameterproblem": 4,
    "icmp6-echo": 128,
    "icmp6-echoreply": 129,
    "icmp6-multicastlistenerquery": 130,
    "icmp6-multicastlistenerreportv1": 131,
    "icmp6-multicastlistenerdone": 132,
    "icmp6-routersolicit": 133,
    "icmp6-routeradvert": 134,
    "icmp6-neighborsolicit": 135,
    "icmp6-neighboradvert": 136,
    "icmp6-redirect": 137,
    "icmp6-routerrenum": 138,
    "icmp6-nodeinformationquery": 139,
    "icmp6-nodeinformationresponse": 140,
    "icmp6-ineighbordiscoverysolicit": 141,
    "icmp6-ineighbordiscoveryadvert": 142,
    "icmp6-multicastlistenerreportv2": 143,
    "icmp6-homeagentdiscoveryrequest": 144,
    "icmp6-homeagentdiscoveryreply": 145,
    "icmp6-mobileprefixsolicit": 146,
    "icmp6-mobileprefixadvert": 147,
    "icmp6-certpathsolicit": 148,
    "icmp6-certpathadvert": 149,
    "icmp6-multicastrouteradvert": 151,
    "icmp6-multicastroutersolicit": 152,
    "icmp6-multicastrouterterm": 153,
    "tcp-fin": 0x01,
    "tcp-syn": 0x02,
    "tcp-rst": 0x04,
    "tcp-push": 0x08,
    "tcp-ack": 0x10,
    "tcp-urg": 0x20,
    "tcp-ece": 0x40,
    "tcp-cwr": 0x80,
}
"""Names for offsets and values in `proto[x:y]` and what it is compared with."""

_TCP, _UDP, _SCTP = 6, 17, 132
# As IANA assigns them, what is in use: a service that only one transport has is that transport's.
_SERVICES: dict[str, tuple[int, tuple[int, ...]]] = {
    "ftp-data": (20, (_TCP,)),
    "ftp": (21, (_TCP,)),
    "ssh": (22, (_TCP,)),
    "telnet": (23, (_TCP,)),
    "smtp": (25, (_TCP,)),
    "domain": (53, (_TCP, _UDP)),
    "bootps": (67, (_UDP,)),
    "bootpc": (68, (_UDP,)),
    "tftp": (69, (_UDP,)),
    "http": (80, (_TCP,)),
    "kerberos": (88, (_TCP, _UDP)),
    "pop3": (110, (_TCP,)),
    "ntp": (123, (_UDP,)),
    "imap2": (143, (_TCP,)),
    "snmp": (161, (_TCP, _UDP)),
    "bgp": (179, (_TCP,)),
    "ldap": (389, (_TCP, _UDP)),
    "https": (443, (_TCP, _UDP)),
    "syslog": (514, (_UDP,)),
    "submission": (587, (_TCP,)),
    "ldaps": (636, (_TCP, _UDP)),
    "imaps": (993, (_TCP,)),
    "pop3s": (995, (_TCP,)),
    "radius": (1812, (_TCP, _UDP)),
    "sip": (5060, (_TCP, _UDP)),
}


class Names:
    """Who answers for names that stand in an expression.

    This one knows the usual services, and neither hosts nor networks; one that asks the
    system inherits from it (`rawproto.cli.filter` has one).
    """

    def hosts(self, name: str) -> Sequence[str]:
        """The IPv4 and IPv6 addresses of a host, none if it is not known."""
        return ()

    def network(self, name: str) -> str | None:
        """A network as `net` takes it (`192.0.2.0/24`), None if it is not known."""
        return None

    def ports(self, name: str) -> dict[int, int]:
        """The ports of a service, by IP protocol (6 TCP, 17 UDP, 132 SCTP)."""
        port, protocols = _SERVICES.get(name.lower(), (0, ()))
        return dict.fromkeys(protocols, port)
