"""The NAT of our own router, with scapy to say whether its packets are right."""

from __future__ import annotations

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrHopByHop,
)
from scapy.packet import Packet, Raw

from rawproto.lab.nat import MAX_MAPPINGS, NAT
from rawproto.wire.address import pack_address
from tests.lab.forwarders import (
    FAMILIES,
    FAR,
    NEAR,
    addresses,
    checksums_are_right,
    echo,
    forwarder,
    ip,
    parsed,
    udp,
)

families = pytest.mark.parametrize("family", FAMILIES)


class Site:
    """A NAT, somebody inside, somebody else inside, and a server outside."""

    def __init__(self, family: str, quotes: str = "full") -> None:
        self.family = family
        self.nat = NAT(quotes)
        self.inside, self.other, self.outside, self.server = addresses(
            family, (1, 1), (1, 7), (3, 1), (4, 2)
        )

    def out(self, packet: Packet | bytes) -> bytes | None:
        return self.nat.outbound(bytes(packet), pack_address(self.outside))

    def sent(self, packet: Packet | bytes) -> Packet:
        """A packet as it is outside, right in all its sums."""
        found = self.out(packet)
        assert found is not None
        assert checksums_are_right(found)
        return parsed(found)

    def came(self, packet: Packet | bytes) -> Packet:
        """A packet as it is inside, right in all its sums."""
        found = self.nat.inbound(bytes(packet))
        assert checksums_are_right(found)
        return parsed(found)

    def request(self, src: str, sport: int = 40000, kind: type[Packet] = UDP) -> Packet:
        return ip(self.family, src, self.server) / kind(sport=sport, dport=53) / Raw(b"odd")

    def answer(self, dport: int, kind: type[Packet] = UDP) -> Packet:
        return ip(self.family, self.server, self.outside) / kind(sport=53, dport=dport) / Raw(b"a")

    def about(self, packet: Packet | bytes, cut: int = 1000) -> Packet:
        """An error from beyond about a packet as it was outside."""
        quote = bytes(packet)[:cut]
        (router,) = addresses(self.family, (3, 2))
        outer = ip(self.family, router, self.outside)
        error = ICMP(type=11) if self.family == "ipv4" else ICMPv6TimeExceeded()
        return outer / error / Raw(quote)

    def quote(self, error: Packet) -> bytes:
        return bytes(error)[28 if self.family == "ipv4" else 48 :]


# --- there and back -------------------------------------------------------------------------------


@families
@pytest.mark.parametrize("kind", [UDP, TCP])
def test_ports_are_kept_and_answers_find_back(family: str, kind: type[Packet]) -> None:
    site = Site(family)
    sent = site.sent(site.request(site.inside, kind=kind))
    assert (sent.src, sent.dst, sent[kind].sport) == (site.outside, site.server, 40000)
    came = site.came(site.answer(40000, kind))
    assert (came.src, came.dst, came[kind].dport) == (site.server, site.inside, 40000)


@families
def test_echoes_are_known_by_their_identifier(family: str) -> None:
    site = Site(family)
    for inside, identifier in ((site.inside, 7), (site.other, 7)):
        site.sent(echo(family, inside, site.server, identifier))
    replies = [echo(family, site.server, site.outside, number, reply=True) for number in (7, 1024)]
    assert [site.came(reply).dst for reply in replies] == [site.inside, site.other]
    again = site.came(replies[1])
    assert (again[ICMP].id if family == "ipv4" else again.payload.id) == 7


@families
def test_port_that_somebody_has_is_exchanged_for_a_free_one_and_back(family: str) -> None:
    site = Site(family)
    assert site.sent(site.request(site.inside))[UDP].sport == 40000
    assert site.sent(site.request(site.other))[UDP].sport == 1024
    assert site.sent(site.request(site.other))[UDP].sport == 1024
    came = site.came(site.answer(1024))
    assert (came.dst, came[UDP].dport) == (site.other, 40000)


@families
def test_other_protocols_go_by_their_addresses_alone(family: str) -> None:
    site = Site(family)
    number = {"proto": 253} if family == "ipv4" else {"nh": 253}
    sent = site.sent(ip(family, site.inside, site.server, **number) / Raw(b"rpt"))
    assert (sent.src, bytes(sent[Raw])) == (site.outside, b"rpt")
    came = site.came(ip(family, site.server, site.outside, **number) / Raw(b"back"))
    assert came.dst == site.inside


@families
def test_what_nobody_asked_for_is_left_as_it_came(family: str) -> None:
    site = Site(family)
    site.sent(site.request(site.inside))
    strangers = [
        site.answer(40001),
        site.answer(40000, TCP),
        echo(family, site.server, site.outside, 7),
        site.about(site.request(site.outside, sport=9)),
        site.about(b""),
    ]
    for packet in strangers:
        assert site.nat.inbound(bytes(packet)) == bytes(packet)


def test_udp_without_checksum_stays_without() -> None:
    site = Site("ipv4")
    request = site.request(site.inside)
    request[UDP].chksum = 0
    assert parsed(site.out(request) or b"")[UDP].chksum == 0


@pytest.mark.parametrize(("kind", "checksum"), [(UDP, 0xFFFF), (TCP, 0)])
def test_checksum_of_zero_is_written_as_each_protocol_writes_it(
    kind: type[Packet], checksum: int
) -> None:
    site = Site("ipv4")

    def packet(src: str, word: int) -> Packet:
        return IP(src=src, dst=site.server) / kind(sport=1, dport=2) / word.to_bytes(2, "big")

    # What the checksum outside would be, as a word of the data, makes it 0.
    word = parsed(bytes(packet(site.outside, 0)))[kind].chksum
    assert site.sent(packet(site.inside, word))[kind].chksum == checksum


def test_later_fragments_have_no_port_and_go_by_their_addresses() -> None:
    site = Site("ipv4")
    site.sent(site.request(site.inside))
    like_ports = b"\x9c\x40" * 10  # 40000, which somebody has
    for sender in (site.inside, site.other):
        later = IP(src=sender, dst=site.server, frag=10, proto=17) / Raw(like_ports)
        sent = site.sent(later)
        assert (sent.src, bytes(sent[Raw])) == (site.outside, like_ports)
    later = IP(src=site.server, dst=site.outside, frag=10, proto=17) / Raw(like_ports)
    came = site.came(later)
    assert (came.dst, bytes(came[Raw])) == (site.other, like_ports)


def test_extension_headers_stand_before_what_is_translated() -> None:
    site = Site("ipv6")
    packet = IPv6(src=site.inside, dst=site.server) / IPv6ExtHdrHopByHop()
    sent = site.sent(packet / UDP(sport=40000, dport=53))
    assert (sent.src, sent[UDP].sport) == (site.outside, 40000)
    assert site.came(site.answer(40000)).dst == site.inside


def test_mappings_are_bounded_and_the_idle_ones_go_first() -> None:
    site = Site("ipv4")
    busy, idle = 1, 10000
    for sport in (busy, *range(idle, idle + MAX_MAPPINGS - 1), busy, 9, 10):
        site.out(site.request(site.inside, sport=sport))
    assert site.came(site.answer(busy)).dst == site.inside
    for sport in (idle, idle + 1):
        forgotten = bytes(site.answer(sport))
        assert site.nat.inbound(forgotten) == forgotten


# --- errors and what they quote -----------------------------------------------------------------


@families
@pytest.mark.parametrize("kind", [UDP, TCP])
@pytest.mark.parametrize("owner", ["inside", "other"])
def test_quote_is_as_it_was_sent_by_default(family: str, kind: type[Packet], owner: str) -> None:
    site = Site(family)
    site.sent(site.request(site.inside, kind=kind))
    request = bytes(site.request(getattr(site, owner), kind=kind))
    error = site.came(site.about(site.sent(request)))
    assert error.dst == getattr(site, owner)
    assert site.quote(error) == request


@families
def test_quote_of_eight_bytes_is_mended_as_far_as_it_goes(family: str) -> None:
    site = Site(family)
    cut = 28 if family == "ipv4" else 48
    for kind in (UDP, TCP):
        request = bytes(site.request(site.inside, kind=kind))
        error = site.came(site.about(site.sent(request), cut))
        assert site.quote(error) == request[:cut]


@families
def test_quote_may_keep_the_checksums_of_beyond(family: str) -> None:
    site = Site(family, "addresses")
    site.sent(site.request(site.inside))
    request = site.request(site.other)
    outside = site.sent(request)
    quote = parsed(site.quote(site.came(site.about(outside))))
    assert (quote.src, quote.dst, quote[UDP].sport) == (site.other, site.server, 40000)
    assert quote[UDP].chksum == outside[UDP].chksum != parsed(bytes(request))[UDP].chksum
    if family == "ipv4":
        assert quote.chksum == outside.chksum


@families
def test_quote_may_be_left_as_it_was_beyond(family: str) -> None:
    site = Site(family, "plain")
    site.sent(site.request(site.inside))
    outside = site.sent(site.request(site.other))
    error = site.came(site.about(outside))
    assert error.dst == site.other
    assert site.quote(error) == bytes(outside)


@families
def test_error_about_an_echo_finds_back(family: str) -> None:
    site = Site(family)
    site.sent(echo(family, site.inside, site.server, 7))
    request = echo(family, site.other, site.server, 7)
    error = site.came(site.about(site.sent(request)))
    assert error.dst == site.other
    assert site.quote(error) == request


@families
@pytest.mark.parametrize("quotes", ["full", "addresses", "plain"])
def test_error_from_inside_is_about_what_came_from_outside(family: str, quotes: str) -> None:
    site = Site(family, quotes)
    site.sent(site.request(site.inside))
    site.sent(site.request(site.other))  # known outside by port 1024
    answer = bytes(site.answer(1024))
    inside = site.came(answer)
    outer = ip(family, site.other, site.server)
    kind = ICMP(type=3, code=3) if family == "ipv4" else ICMPv6DestUnreach(code=4)
    error = site.sent(outer / kind / Raw(bytes(inside)))
    assert (error.src, error.dst) == (site.outside, site.server)
    if quotes == "plain":
        assert site.quote(error) == bytes(inside)
    else:
        quote = parsed(site.quote(error))
        assert (quote.dst, quote[UDP].dport) == (site.outside, 1024)
        assert (site.quote(error) == answer) == (quotes == "full")


# --- in a router ----------------------------------------------------------------------------------


@families
def test_router_rewrites_on_the_way_out_alone(family: str) -> None:
    router = forwarder("r2:nat,userspace")
    inside, outside = addresses(family, (1, 1), (3, 1))
    ((port, sent),) = router.handle(udp(family), NEAR)
    assert (port, parsed(sent).src) == (FAR, outside)
    back = ip(family, parsed(sent).dst, outside) / UDP(sport=33434, dport=40000)
    ((port, came),) = router.handle(bytes(back), FAR)
    assert (port, parsed(came).dst) == (NEAR, inside)
    through = ip(family, parsed(sent).dst, inside) / UDP(sport=1, dport=2)
    ((port, untouched),) = router.handle(bytes(through), FAR)
    assert (port, parsed(untouched).dst, parsed(untouched).src) == (NEAR, inside, back.src)


@families
def test_routers_own_errors_quote_what_it_was_sent(family: str) -> None:
    router = forwarder("r2:nat=plain")
    late = udp(family, ttl=1)
    ((_, error),) = router.handle(late, NEAR)
    assert error[28 if family == "ipv4" else 48 :] == late
    router.handle(udp(family), NEAR)
    server, outside = addresses(family, (4, 2), (3, 1))
    answer = bytes(ip(family, server, outside, 1) / UDP(sport=33434, dport=40000))
    ((_, error),) = router.handle(answer, FAR)
    assert parsed(error).dst == server
    assert error[28 if family == "ipv4" else 48 :] == answer


@families
def test_router_itself_can_still_be_asked_from_outside(family: str) -> None:
    router = forwarder("r2:nat,userspace")
    server, outside = addresses(family, (4, 2), (3, 1))
    assert router.handle(echo(family, server, outside, 1), FAR) == []


def test_hidden_request_of_ipv6_is_found_behind_its_headers() -> None:
    site = Site("ipv6")
    hidden = IPv6(src=site.inside, dst=site.server) / IPv6ExtHdrHopByHop()
    sent = site.sent(hidden / ICMPv6EchoRequest(id=9, data=b"x"))
    assert sent.src == site.outside
    assert site.came(echo("ipv6", site.server, site.outside, 9, reply=True)).dst == site.inside
