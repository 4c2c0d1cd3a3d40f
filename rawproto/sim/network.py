"""Two hosts and a cable in virtual time: jumps from event to event, repeats byte for byte.

::

    left 10.0.0.1  --- forward: LinkModel --->  right 10.0.0.2
      endpoints    <--- backward: LinkModel --    endpoints
      (by port)                                   (by port)

Every flow shares the cable. The clock stands still while anything happens at a time, and
then jumps to the next time at which something does. All chance, the endpoints' keys too,
comes from the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush

from rawproto.errors import RawprotoError
from rawproto.impair import Impairment, LinkModel
from rawproto.transport.connection import Address, Arrival
from rawproto.transport.endpoint import Endpoint
from rawproto.wire.ipv4 import DF, IPv4Header
from rawproto.wire.rpt import IP_PROTOCOL, SHORT

__all__ = ["Host", "Network", "SimulationError"]

LEFT_ADDR, RIGHT_ADDR = "10.0.0.1", "10.0.0.2"
_HEADER_BYTES = 20
_MAX_TURNS = 10_000
START_NS = 1_000_000_000
_NEVER = 1 << 62


class SimulationError(RawprotoError):
    """Something in the simulation runs in a circle."""


class Host:
    """One end of the cable.

    Attributes:
        address: its IP address; may be changed while it runs.
        carrier_port: the port that the carrier shows, as a NAT would; 0 for none.
        ahead_ns: how far its clock is before the network's; grows when its clock jumps.
        endpoints: RPT port -> endpoint.
        apps: RPT port -> its program, called with the time in ns whenever something happened
            to its endpoint; whether it did anything.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.carrier_port = 0
        self.ahead_ns = 0
        self.endpoints: dict[int, Endpoint] = {}
        self.apps: dict[int, Callable[[int], bool]] = {}


class _Seat:
    """An endpoint in its place, what has come for it, and when it wants its turn."""

    __slots__ = ("app", "cable", "due_ns", "endpoint", "from_left", "host", "inbox", "wake_ns")

    def __init__(self, host: Host, port: int, cable: LinkModel, from_left: bool) -> None:
        self.host, self.cable, self.from_left = host, cable, from_left
        self.endpoint = host.endpoints[port]
        self.app = host.apps.get(port)
        self.inbox: list[Arrival] = []
        self.wake_ns = 0
        self.due_ns = 0  # by the host's clock: when its timers are


_Route = tuple[_Seat, str, Address]
"""Whose a packet is, the address that it came to, and from where."""


class Network:
    """The two hosts and their cable.

    Args:
        seed: of all chance.
        forward: the way from left to right.
        backward: the way back.

    Attributes:
        now_ns: the virtual time.
        rng: for whatever else is left to chance.
        left: a host.
        right: the other.
        forward: the model of the way there.
        backward: likewise.
        tap: told of each packet that is sent: (ns, from left, IP packet).
        middlebox: given each packet that is sent, (from left, IP packet); what it answers goes
            on, nothing where it answers None.
        turns: how often an endpoint had its turn, which is what a simulation costs.
    """

    def __init__(self, seed: int, forward: Impairment, backward: Impairment) -> None:
        self.now_ns = START_NS
        self.rng = random.Random(seed)
        self.left, self.right = Host(LEFT_ADDR), Host(RIGHT_ADDR)
        # What flips in an IP header is dropped by any host; the model flips what is behind.
        self.forward = LinkModel(replace(forward, corrupt_from=_HEADER_BYTES), self.rng)
        self.backward = LinkModel(replace(backward, corrupt_from=_HEADER_BYTES), self.rng)
        self.tap: Callable[[int, bool, bytes], None] | None = None
        self.middlebox: Callable[[bool, bytes], bytes | None] | None = None
        self.turns = 0
        self._seats: dict[tuple[bool, int], _Seat] = {}  # (on the left, port) -> endpoint
        # (when, which, to the left, IP packet): those that arrive at once do so in their order.
        self._under_way: list[tuple[int, int, bool, bytes]] = []
        self._sent = 0
        self._heads: dict[tuple[str, int, str, int], tuple[bytes, bytes]] = {}
        # By whether packets come to the left, and their bytes 4 to 24: addresses and ports.
        self._routes: tuple[dict[bytes, _Route], dict[bytes, _Route]] = ({}, {})

    def entropy(self, size: int) -> bytes:
        """Random bytes from the seed."""
        return self.rng.randbytes(size)

    def run(
        self,
        done: Callable[[], bool],
        limit_ns: int,
        look: Callable[[], None] | None = None,
        every_ns: int = _NEVER,
    ) -> bool:
        """Lets time pass until something is done.

        Args:
            done: asked whenever all that happens at a time has happened.
            limit_ns: for so long at most, in virtual ns.
            look: called every `every_ns`; it gives no endpoint anything to do.
            every_ns: in virtual ns, from now on.

        Returns:
            Whether it was done by then.

        Raises:
            SimulationError: something happens without end and without time.
        """
        end_ns = self.now_ns + limit_ns
        look_ns = _NEVER if look is None else self.now_ns + every_ns
        # Who called us may have done anything since: each endpoint gets a turn.
        sides = ((self.left, self.forward, True), (self.right, self.backward, False))
        self._seats = {
            (from_left, port): _Seat(host, port, cable, from_left)
            for host, cable, from_left in sides
            for port in host.endpoints
        }
        self._routes = ({}, {})
        seats, under_way, now_ns = list(self._seats.values()), self._under_way, self.now_ns
        rounds = 0
        while True:
            while under_way and under_way[0][0] <= now_ns:
                _, _, at_left, packet = heappop(under_way)
                self._arrive(at_left, packet)
            following = _NEVER
            for seat in seats:
                if seat.wake_ns <= now_ns:
                    self._turn(seat)
                if seat.wake_ns < following:
                    following = seat.wake_ns
            if under_way and under_way[0][0] < following:
                following = under_way[0][0]
            if following <= now_ns:
                rounds += 1
                if rounds == _MAX_TURNS:
                    raise SimulationError(f"no end of turns at {now_ns} ns")
                continue
            rounds = 0
            if done():
                return True
            while look is not None and look_ns <= following and look_ns < end_ns:
                self.now_ns = look_ns
                look()
                look_ns += every_ns
            if following >= end_ns:
                self.now_ns = end_ns
                return False
            self.now_ns = now_ns = following

    def _turn(self, seat: _Seat) -> None:
        """One turn of an endpoint and of its program, as a driver would give it."""
        endpoint, app, ahead_ns = seat.endpoint, seat.app, seat.host.ahead_ns
        now_ns = self.now_ns + ahead_ns
        self.turns += 1
        inbox = seat.inbox
        if inbox:
            seat.inbox = []
            if len(inbox) > 1:
                endpoint.receive(inbox, now_ns)
            elif (found := endpoint.receive_one(inbox[0], now_ns)) is not None:
                connection, stream = found
                connection.incoming.tell_readable(stream)
        if seat.due_ns <= now_ns:
            endpoint.handle_timeout(now_ns)
        for _ in range(_MAX_TURNS):
            while departures := endpoint.transmit(now_ns):
                for packets, address, ecn in departures:
                    self._send(seat, packets, address, ecn)
            if app is None or not app(now_ns):
                break
        else:
            raise SimulationError(f"a program that never rests at {self.now_ns} ns")
        timeout = endpoint.poll_timeout()
        seat.due_ns = _NEVER if timeout is None else timeout
        seat.wake_ns = seat.due_ns - ahead_ns

    def _send(self, seat: _Seat, packets: list[bytes], address: Address, ecn: int) -> None:
        host, other = seat.host, self.right if seat.from_left else self.left
        dst_addr, dst_port = address
        if dst_addr == other.address and dst_port != other.carrier_port:
            return  # the NAT over there has another port by now, and knows no such one
        key = host.address, host.carrier_port, dst_addr, ecn
        head = self._heads.get(key)
        if head is None:
            head = self._heads[key] = _head(*key)
        before, behind = head
        from_left, now_ns, middlebox = seat.from_left, self.now_ns, self.middlebox
        for data in packets:
            length = (len(data) + _HEADER_BYTES).to_bytes(2, "big")
            packet = b"".join((before, length, behind, data))
            if self.tap is not None:
                self.tap(now_ns, from_left, packet)
            if middlebox is not None:
                passed = middlebox(from_left, packet)
                if passed is None:
                    continue
                packet = passed
            for arrival_ns, copy in seat.cable.offer(packet, now_ns):
                self._sent += 1
                heappush(self._under_way, (arrival_ns, self._sent, not from_left, copy))

    def _arrive(self, at_left: bool, packet: bytes) -> None:
        """Puts a packet before whom it is for, who has his turn now."""
        route = self._routes[at_left].get(packet[4:24]) or self._new_route(at_left, packet)
        if route is None:
            return
        seat, dst_addr, source = route
        if dst_addr == seat.host.address:
            seat.inbox.append((packet[_HEADER_BYTES:], source, packet[1] & 3))
            seat.wake_ns = 0

    def _new_route(self, at_left: bool, packet: bytes) -> _Route | None:
        """Where packets with this header go, None if there is nobody."""
        seat = self._seats.get((at_left, int.from_bytes(packet[22:24], "big")))
        if seat is None or len(packet) < _HEADER_BYTES + SHORT.size:
            return None
        header, _ = IPv4Header.parse(packet)
        found = seat, header.dst_addr, (header.src_addr, header.identification)
        self._routes[at_left][packet[4:24]] = found
        return found


def _head(src_addr: str, carrier_port: int, dst_addr: str, ecn: int) -> tuple[bytes, bytes]:
    """An IP header before and behind its length; the carrier's port is in `identification`.

    Who writes packets to a file computes the checksum; nobody in here looks at it.
    """
    header = IPv4Header(
        src_addr=src_addr,
        dst_addr=dst_addr,
        ecn=ecn,
        protocol=IP_PROTOCOL,
        identification=carrier_port,
        flags=DF,  # section 1.2
        total_length=_HEADER_BYTES,
        checksum=0,
    ).emit()
    return header[:2], header[4:]
