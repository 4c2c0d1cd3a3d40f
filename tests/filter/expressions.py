"""Filter expressions that ours and libpcap's compilers must agree on.

`MAN_PAGE` has every example of pcap-filter(7) that our language covers; names of hosts
and networks in it are answered by `ExampleNames`, and given to libpcap as addresses.
`random_expression` writes as many more as one likes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from rawproto.filter.names import Names

__all__ = ["EXPRESSIONS", "MAN_PAGE", "ExampleNames", "for_libpcap", "random_expression"]

_HOSTS = {
    "sundown": "192.0.2.1",
    "helios": "192.0.2.1",
    "hot": "198.51.100.2",
    "ace": "192.0.2.7",
    "vs": "203.0.113.5",
    "foo": "192.0.2.1",
}
_NETWORKS = {"ucb-ether": "198.51.100.0/24", "localnet": "192.0.2.0/24"}


class ExampleNames(Names):
    """Knows the hosts and networks of the man page."""

    def hosts(self, name: str) -> Sequence[str]:
        return (_HOSTS[name],) if name in _HOSTS else ()

    def network(self, name: str) -> str | None:
        return _NETWORKS.get(name)


def for_libpcap(expression: str) -> str:
    """The expression with addresses in the place of `ExampleNames`' names."""
    names = {**_HOSTS, **_NETWORKS}
    pattern = "|".join(map(re.escape, names))
    return re.sub(rf"(?<![\w\\-])(?:{pattern})(?![\w-])", lambda found: names[found[0]], expression)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line for line in map(str.strip, text.splitlines()) if line)


MAN_PAGE = _lines(r"""
    host foo
    net 128.3
    port 20
    portrange 6000-6008
    src foo
    dst net 128.3
    src or dst port ftp-data
    ether src 02:00:00:00:00:01
    arp net 128.3
    tcp port 21
    udp portrange 7000-7009
    port 53
    host foo and not port ftp and not port ftp-data
    tcp dst port ftp or ftp-data or domain
    tcp dst port ftp or tcp dst port ftp-data or tcp dst port domain
    ip host foo
    ether proto \ip and host foo
    net 192.168.1.0
    net 192.168.1
    net 172.16
    net 10
    dst port 513
    port domain
    len <= 60
    len >= 60
    ip proto 1
    ip6 proto 58
    ip proto \tcp
    ip6 proto \ipv6-icmp
    proto \udp
    ether[0] & 1 != 0
    vlan 100 && vlan 200
    vlan && vlan 300 && ip
    mpls 100000 && mpls 1024
    mpls && mpls 1024 && host 192.9.200.1
    pppoed
    pppoes 0x27 && ip
    ip[0] & 0xf != 5
    ip[6:2] & 0x1fff = 0
    not host vs and ace
    not host vs and host ace
    not (host vs or ace)
    host sundown
    host helios and (hot or ace)
    ip host ace and not helios
    net ucb-ether
    ip and not net localnet
    tcp[tcpflags] & (tcp-syn|tcp-fin) != 0 and not src and dst net localnet
    tcp[tcpflags] & (tcp-rst|tcp-ack) == (tcp-rst|tcp-ack)
    tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)
    ether[0] & 1 = 0 and ip[16] >= 224
    icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply
    icmp6[icmp6type] != icmp6-echo and icmp6[icmp6type] != icmp6-echoreply
""")

EXPRESSIONS = MAN_PAGE + _lines(r"""
    ip
    ip6
    arp
    rarp
    tcp
    udp
    sctp
    icmp
    icmp6
    igmp
    ah
    esp
    pim
    vrrp
    carp
    stp
    iso
    netbeui
    decnet
    lat
    moprc
    mopdl
    sca
    not ip
    not ip6
    not arp
    not tcp
    not tcp and not udp
    ip and not tcp
    ip or arp
    tcp or udp or icmp
    ip and tcp or ip6 and udp
    (ip and tcp) or (ip6 and udp)
    ! (ip || ip6) && ! arp
    host 192.0.2.1
    src host 192.0.2.1
    dst host 192.0.2.1
    src 192.0.2.1
    dst 198.51.100.2
    src or dst host 192.0.2.1
    dst or src host 192.0.2.1
    src and dst host 192.0.2.1
    dst and src 192.0.2.1
    ip host 192.0.2.1
    ip src host 192.0.2.1
    arp host 192.0.2.1
    arp src host 192.0.2.1
    arp dst host 192.0.2.7
    rarp host 192.0.2.1
    host 192.0.2.1 and host 198.51.100.2
    host 192.0.2.1 and not 198.51.100.2
    host 192.0.2.1 or 198.51.100.2 or 203.0.113.5
    host (192.0.2.1 or 192.0.2.7)
    host not 192.0.2.1
    src host 192.0.2.1 and dst host 198.51.100.2
    host 10.1
    host 5
    host 2001:db8::1
    src host 2001:db8::1
    dst host 2001:db8::2
    src 2001:db8::1 and dst 2001:db8::2
    ip6 host 2001:db8::1
    ip6 src host 2001:db8:1::1
    host 2001:db8:2::1 or 192.0.2.1
    host ::ffff:192.0.2.1
    host ::1
    not host 2001:db8::1
    net 192
    net 192.0
    net 192.0.2
    net 192.0.2.0/24
    src net 192.0.2.0/24
    dst net 198.51.100.0/25
    net 192.0.2.0 mask 255.255.255.0
    src net 192.0.2.0 mask 255.255.255.0
    net 192.0.2.1 mask 255.0.255.255 or icmp
    net 0.0.0.0/0
    net 0.0.0.0/1
    ip net 10.0.0.0/8
    arp net 192.0.2.0/24
    net 2001:db8::/32
    src net 2001:db8::/33
    dst net 2001:db8:0:0::/64
    ip6 net 2001:db8::/127
    net ::/0
    net 2001::/16 or arp
    not net 192.0.2.0/24
    port 53
    src port 53
    dst port 53
    src or dst port 123
    src and dst port 53
    tcp port 443
    tcp src port 443
    tcp dst port 80
    udp port 53
    udp src port 53
    udp dst port 33434
    sctp port 9
    port 53 or 80
    port 53 or 80 or 443
    port (53 or 80 or 443)
    port 53 and host 192.0.2.1
    host 192.0.2.1 and port 53
    host 192.0.2.1 or port 80 or 81
    not port 53
    not port 53 and 80
    udp and not port 53
    tcp port 80 and not host 192.0.2.1
    port domain or ntp
    port http
    tcp port http or https
    udp port tftp
    portrange 1-1023
    portrange 1024-65535
    src portrange 1000-2000
    dst portrange 33434-33534
    tcp portrange 1-1023
    udp dst portrange 33434-33534
    not portrange 1-1023
    portrange 53
    port 0x35
    port 065
    ether host 02:00:00:00:00:01
    ether src 2:0:0:0:0:1
    ether dst 02-00-00-00-00-02
    ether host 0200.0000.0001
    ether src or dst 02:00:00:00:00:02
    ether src and dst 02:00:00:00:00:01
    ether src host 02:00:00:00:00:01 and ip
    not ether host 02:00:00:00:00:01
    ether broadcast
    broadcast
    ether multicast
    multicast
    not multicast
    ip multicast
    ip6 multicast
    ip multicast or ip6 multicast
    ether proto 0x800
    ether proto \arp
    ether proto \ip6
    ether proto 0x88b5
    ether proto 0x42
    ether proto \stp
    ether proto \loopback
    ether proto 0x0806 or 0x86dd
    ip proto 17
    ip proto \icmp
    ip proto \igmp or \udp
    ip6 proto 17
    ip6 proto \tcp
    ip6 proto 44
    proto 6
    proto \icmp or \sctp
    not ip proto 17
    vlan
    vlan 1
    vlan 7
    vlan 100
    vlan 4095
    not vlan
    vlan and ip
    vlan and arp
    vlan 7 and udp port 53
    vlan and vlan
    vlan and vlan and ip6
    vlan 100 and vlan 7 and host 192.0.2.1
    ip or vlan and ip
    vlan or ip
    not vlan and ip
    (vlan 7 or vlan 8) and tcp
    vlan and ether src 02:00:00:00:00:01
    mpls
    mpls 16
    mpls and ip
    mpls and host 192.0.2.1
    mpls and mpls
    mpls and ip6
    mpls 17 and udp port 9
    not mpls
    vlan and mpls
    pppoes
    pppoes and ip
    pppoes and ip6 and tcp port 80
    pppoes 7 and host 192.0.2.1
    vlan and pppoes
    inbound
    outbound
    inbound and tcp
    not outbound and udp port 53
    ifindex 7
    not ifindex 1 and ip
    less 60
    greater 100
    less 100 and greater 50
    not less 64
    len = 60
    len != 60
    len > 100 and len < 1000
    len - 14 > 46
    len & 1 = 0
    60 < len
    60 >= len
    1 = 1
    1 = 1 and ip
    1 > 2 or ip
    ip[8] < 5
    ip[8] = 1 or ip6[7] = 1
    ip[9] = 17
    ip[2:2] > 576
    ip[2:2] = len - 14
    ip[12:4] = 0xc0000201
    ip[12:4] != ip[16:4]
    ip[0] >> 4 = 4
    (ip[0] & 0xf) * 4 > 20
    (ip[0] & 0xf) << 2 != 20
    ip[6] & 0x40 != 0
    ip[6] & 0x20 = 0x20
    ip[1] & 0xfc = 0xb8
    ip[10:2] = 0
    ip[0] + ip[1] + ip[2] > 100
    -ip[8] > 0xffffffc0
    ip[ip[0] & 0xf] = 64
    ip[(ip[0] & 0xf) << 2] = 8
    ip[(ip[0] & 0xf) << 2 : 2] = 53
    ether[12:2] = 0x800
    ether[12:2] > 1500
    ether[0:4] = 0xffffffff and ether[4:2] = 0xffff
    link[0] & 1 = 1
    ether[len - 1] = 0
    ip6[6] = 17
    ip6[4:2] > 100
    ip6[0] & 0x0f = 0 and ip6[1] = 0
    ip6[7] < 64 or ip[8] < 64
    arp[6:2] = 1
    arp[6:2] = 2 or rarp[6:2] = 4
    arp[14:4] = arp[24:4]
    tcp[0:2] = 80
    tcp[2:2] = 443 or tcp[0:2] = 443
    tcp[13] = 2
    tcp[13] & 2 != 0
    tcp[tcpflags] = tcp-syn
    tcp[tcpflags] & tcp-syn != 0
    tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn
    tcp[tcpflags] == tcp-syn|tcp-ack
    tcp[tcpflags] & tcp-rst = tcp-rst or icmp[icmptype] = icmp-unreach
    tcp[tcpflags] & (tcp-ece|tcp-cwr|tcp-urg|tcp-push) != 0
    tcp[12] >> 4 > 5
    tcp[(tcp[12] & 0xf0) >> 2] = 0x16
    tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420
    tcp[14:2] < 1024 and not tcp port 80
    tcp[0:2] > tcp[2:2]
    tcp[0:2] + tcp[2:2] = 1000
    tcp[4:4] - tcp[8:4] < 0x80000000
    udp[4:2] > 100
    udp[0:2] = 53 or udp[2:2] = 53
    udp[6:2] = 0
    udp[8:2] & 0x8000 = 0
    udp[4:2] * 2 > ip[2:2]
    udp[4:2] / 2 > 10
    (udp[4:2] % 2) = 1
    (udp[0:2] ^ udp[2:2]) & 1 = 0
    icmp[icmptype] = icmp-echo
    icmp[icmptype] = icmp-echo or icmp[icmptype] = icmp-echoreply
    icmp[icmptype] = icmp-unreach and icmp[icmpcode] = 3
    icmp[0] = icmp-timxceed
    icmp[4:2] > 0
    icmp[icmptype] = icmp-redirect or icmp[icmptype] = icmp-paramprob
    icmp6[icmp6type] = icmp6-echo
    icmp6[icmp6type] = icmp6-neighborsolicit or icmp6[icmp6type] = icmp6-neighboradvert
    icmp6[0] >= 128
    icmp6[icmp6code] = 0 and icmp6[icmp6type] < 128
    igmp[0] = 0x16
    sctp[0:2] = 9
    pim[0] = 0x20
    not tcp[13] & 2 != 0
    not icmp[icmptype] = icmp-echo
    ip and udp and (port 53 or port 67) and not host 192.0.2.9
    (tcp port 80 or tcp port 443) and not (src net 192.0.2.0/24 and dst net 198.51.100.0/24)
    ip[8] = 1 and (udp or icmp or tcp) and not net 203.0.113.0/24
    ip and (host 192.0.2.1 or 192.0.2.2 or 192.0.2.3) and (port 80 or 53 or 443)
    ip[0] = 0x45 or ip[0] = 0x46 or ip[0] = 0x47 or ip6[0] = 0x60
    not (tcp or udp or icmp or icmp6 or arp)
    ip[8] = 64 and ip[8] = 63
    ip and not ip or arp
    ip[20] = 8 or not ip[20] = 8
""")


def random_expression(rng: random.Random, depth: int = 3) -> str:
    """An expression of any shape; most mean something on `captures/`."""
    if depth == 0 or rng.random() < 0.25:
        return _random_primitive(rng)
    joints = [random_expression(rng, depth - 1)]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        joints += [rng.choice(("and", "or")), random_expression(rng, depth - 1)]
    text = " ".join(joints)
    return rng.choice((f"({text})", f"({text})", f"not ({text})", text))


def _random_primitive(rng: random.Random) -> str:
    direction = rng.choice(("", "", "src ", "dst ", "src or dst ", "src and dst "))
    address = rng.choice(("192.0.2.1", "198.51.100.2", "192.0.2.7", "224.0.0.1"))
    address6 = rng.choice(("2001:db8::1", "2001:db8::2", "ff02::1"))
    transport = rng.choice(("", "", "tcp ", "udp ", "sctp "))
    port = rng.choice((9, 53, 80, 443, 1024, 33434))
    negation = rng.choice(("", "", "", "not "))
    return negation + rng.choice(
        (
            rng.choice(("ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "igmp", "sctp", "ah")),
            f"{rng.choice(('', 'ip ', 'arp '))}{direction}host {address}",
            f"{direction}host {address6}",
            f"{direction}net 192.0.{rng.choice((2, 3))}.0/{rng.choice((24, 25))}",
            f"{direction}net 2001:db8::/{rng.choice((31, 32, 33, 64, 100))}",
            f"{transport}{direction}port {port}",
            f"{transport}{direction}port ({port} or {port + 1})",
            f"{transport}{direction}portrange {port}-{port + rng.choice((1, 100, 9999))}",
            f"{rng.choice(('', 'ip ', 'ip6 '))}proto {rng.choice((1, 6, 17, 44, 58))}",
            f"ether proto {rng.choice((0x800, 0x806, 0x86DD, 0x88B5, 0x42))}",
            rng.choice(("ip multicast", "ip6 multicast", "inbound")),
            f"{rng.choice(('less', 'greater'))} {rng.randrange(40, 120)}",
            _random_relation(rng),
            _random_relation(rng),
        )
    )


def _random_relation(rng: random.Random) -> str:
    left = _random_sum(rng, 2)
    right = _random_sum(rng, 1) if rng.random() < 0.3 else _random_number(rng)
    return f"{left} {rng.choice(('<', '<=', '>', '>=', '=', '!='))} {right}"


def _random_sum(rng: random.Random, depth: int, protocol: str = "") -> str:
    """Begins with bytes of a protocol, and takes none of another.

    libpcap forgets to ask for the protocol of what stands right of an operator
    (docs/filter.md): `1 + ip[0]` is any packet's.
    """
    protocol = protocol or rng.choice(("ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "ether"))
    if depth == 0 or rng.random() < 0.4:
        return _random_accessor(rng, protocol)
    operator = rng.choice(("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"))
    if operator in ("<<", ">>", "/", "%"):
        right = str(rng.randrange(1, 9))
    elif rng.random() < 0.4:
        right = _random_sum(rng, depth - 1, protocol)
    else:
        right = rng.choice(("len", _random_number(rng), _random_number(rng)))
    return f"({_random_sum(rng, depth - 1, protocol)} {operator} {right})"


def _random_number(rng: random.Random) -> str:
    return str(rng.choice((0, 1, 2, 5, 8, 17, 64, 0x45, 0xFF, 0x800, 0xFFFFFFFF)))


def _random_accessor(rng: random.Random, protocol: str) -> str:
    offset = str(rng.randrange(24))
    if rng.random() < 0.15:
        offset = f"({protocol}[{rng.randrange(20)}] & {rng.choice((7, 15))}) + {offset}"
    return f"{protocol}[{offset}:{rng.choice((1, 2, 4))}]"
