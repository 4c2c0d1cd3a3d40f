"""Echo requests as whole IP packets, cut into fragments where the path asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rawproto.probe.ping_events import PingConfig, PingTarget
from rawproto.wire.icmp_echo import ICMPEcho, ICMPv6Echo
from rawproto.wire.ipv4 import DF, IPv4Header
from rawproto.wire.ipv6 import IPv6Header

if TYPE_CHECKING:
    import random

    from rawproto.wire.ipv4_options import IPv4Option

__all__ = ["EchoBuilder"]


class EchoBuilder:
    """Builds one config's requests."""

    def __init__(self, config: PingConfig, rng: random.Random) -> None:
        """
        Args:
            config: what the requests look like.
            rng: where identifications begin, so that they tell nothing of this host.
        """
        self._config = config
        self._header_length = 20
        if config.options:
            from rawproto.wire.ipv4_options import emit_options

            self._header_length += len(emit_options(config.options))
        self._identification = rng.randrange(1 << 32)

    def build(
        self, target: PingTarget, sequence_number: int, mtu: int, now_ns: int
    ) -> list[bytes] | None:
        """The request's packets, or None where it exceeds `mtu` and must not be cut.

        Args:
            target: whose addresses it carries.
            sequence_number: 16 bits.
            mtu: of the path, in bytes.
            now_ns: monotonic, for the timestamp option.
        """
        self._identification += 1
        if ":" in target.dst_addr:
            packet = self._request_v6(target, sequence_number)
        else:
            packet = self._request_v4(target, sequence_number, mtu, now_ns)
        if len(packet) <= mtu or self._config.fragmentation == "probe":
            return [packet]
        if self._config.fragmentation == "do":
            return None
        if self._config.link_fragments:
            return [packet]
        # Loaded here because few requests are that large.
        from rawproto.wire.fragment import fragment_ipv4, fragment_ipv6

        if ":" in target.dst_addr:
            return fragment_ipv6(packet, mtu, self._identification & 0xFFFFFFFF)
        return fragment_ipv4(packet, mtu)

    def _request_v4(self, target: PingTarget, sequence_number: int, mtu: int, now_ns: int) -> bytes:
        config = self._config
        echo = ICMPEcho(identifier=config.identifier, sequence_number=sequence_number)
        message = echo.emit(config.payload)
        keep_whole = config.fragmentation in ("do", "probe") or (
            config.fragmentation == "want" and self._header_length + len(message) <= mtu
        )
        header = IPv4Header(
            dscp=config.dscp,
            ecn=config.ecn,
            # Never 0: the kernel would put a number of its own there.
            identification=self._identification % 0xFFFF + 1,
            flags=DF if keep_whole else 0,
            ttl=config.ttl,
            protocol=1,
            src_addr=target.src_addr,
            dst_addr=target.dst_addr,
            options=tuple(self._begun(option, target, now_ns) for option in config.options),
        )
        return header.emit(message)

    def _begun(self, option: IPv4Option, target: PingTarget, now_ns: int) -> IPv4Option:
        """The option with this host's own entry, which the kernel adds only to its own headers."""
        from rawproto.wire.ipv4_options import RecordRoute, Timestamp

        if isinstance(option, RecordRoute) and option.pointer == 4:
            addresses = (target.src_addr, *option.addresses[1:])
            return replace(option, addresses=addresses, pointer=8)
        if isinstance(option, Timestamp) and option.pointer == 5 and option.flag in (0, 1):
            # Milliseconds since midnight UT (RFC 791 section 3.1).
            stamp = (now_ns + self._config.realtime_offset_ns) // 1_000_000 % 86_400_000
            own = (target.src_addr if option.flag else None, stamp)
            pointer = 13 if option.flag else 9
            return replace(option, entries=(own, *option.entries[1:]), pointer=pointer)
        return option

    def _request_v6(self, target: PingTarget, sequence_number: int) -> bytes:
        config = self._config
        echo = ICMPv6Echo(identifier=config.identifier, sequence_number=sequence_number)
        message = echo.emit(config.payload, src_addr=target.src_addr, dst_addr=target.dst_addr)
        header = IPv6Header(
            traffic_class=config.dscp << 2 | config.ecn,
            flow_label=config.flow_label,
            next_header=58,
            hop_limit=config.ttl,
            src_addr=target.src_addr,
            dst_addr=target.dst_addr,
        )
        return header.emit(message)
