"""Ports for blocking sockets: a carrier, an endpoint on it, and the pump of both."""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING, Literal, NamedTuple

from rawproto.drivers.rpt.caretaker import CARETAKER
from rawproto.drivers.rpt.judges import careful_authorize, careful_trust
from rawproto.drivers.rpt.office import Office
from rawproto.drivers.rpt.options import Options
from rawproto.drivers.rpt.pump import Pump
from rawproto.errors import LinkError
from rawproto.link.rpt_carrier import Carrier, RawCarrier
from rawproto.link.rpt_udp import UDPCarrier
from rawproto.transport.config import Config
from rawproto.transport.connection import Address
from rawproto.transport.constants import Kind, ResetCode
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.halfopen import Listener
from rawproto.wire.rpt import RPTInit, RPTRetry

if TYPE_CHECKING:
    from rawproto.drivers.rpt.ends import ListeningEnd

__all__ = ["Way", "careful_authorize", "careful_trust", "former_pumps", "let_in", "open_pump"]


class Way(NamedTuple):
    """How a socket talks.

    Attributes:
        kind: streams, messages or datagrams.
        version: of IP.
        udp: whether RPT stands in UDP.
    """

    kind: Kind
    version: Literal[4, 6]
    udp: bool


def open_pump(options: Options, way: Way, host: str = "", port: int = 0, *, peer: str = "") -> Pump:
    """Takes a port of this host, or any one for talking to `peer`.

    Raises:
        OSError: EADDRINUSE, EADDRNOTAVAIL, no route; PermissionError: no CAP_NET_RAW.
    """
    local = "" if host in ("0.0.0.0", "::") else host
    config = options.settings(way.kind)
    carrier: Carrier
    try:
        if way.udp:
            carrier = UDPCarrier(way.version, local, port, peer=peer)
        else:
            # A port without a peer mostly comes to listen; what it then needs is there already.
            carrier = RawCarrier(way.version, local, port, listens=not peer, peer=peer)
    except PermissionError:
        raise
    except LinkError as error:
        raise OSError(error.errno, f"{error.operation}: {error.reason}") from error
    endpoint = Endpoint(carrier.port, config, entropy=os.urandom, ceiling=carrier.ceiling)
    bound = None if peer else (way.version, way.udp, local, carrier.port)
    return Pump(carrier, endpoint, None if way.udp else Office(way.version), bound)


def former_pumps(way: Way, host: str, port: int) -> list[Pump]:
    """Of a port that a socket of this process was bound to, and perhaps still is."""
    local = "" if host in ("0.0.0.0", "::") else host
    wanted = (way.version, way.udp, local, port)
    return [pump for pump in CARETAKER.pumps() if pump.bound == wanted]


def let_in(options: Options, way: Way, pump: Pump, door: ListeningEnd | None = None) -> None:
    """Has a port accept clients; its lock is held.

    Args:
        options: of the socket that wants it.
        way: likewise.
        pump: of the port.
        door: who says whether it is full or closed just now.
    """
    config = options.settings(way.kind)
    identity = options.identity or os.urandom(32)
    # It follows from the key, so that a restarted listener can tell its old clients.
    reset_key = hmac.digest(identity, b"rpt1 reset", "sha256")
    pump.port.endpoint.listen(_Gate(identity, config, options, door), reset_key, config)


class _Gate(Listener):
    """A listener with a door: who comes while it is full is let ask again until it is not."""

    def __init__(
        self, identity: bytes, config: Config, options: Options, door: ListeningEnd | None
    ) -> None:
        super().__init__(identity, config, psk=options.psk, authorize=options.authorize)
        self._door = door

    def on_init(
        self, packet: RPTInit, data: bytes, address: Address, now_ns: int
    ) -> bytes | RPTRetry | ResetCode | None:
        door = self._door
        if door is not None and door.closed:
            return ResetCode.PORT
        if door is not None and door.full():
            return None
        return super().on_init(packet, data, address, now_ns)
