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

from rawproto.errors import RawprotoError
from rawproto.impair import Impairment, LinkModel
from rawproto.transport.connection import Address
from rawproto.transport.endpoint import Endpoint
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.rpt import IP_PROTOCOL, SHORT

__all__ = ["Host", "Network", "SimulationError"]

LEFT_ADDR, RIGHT_ADDR = "10.0.0.1", "10.0.0.2"
_HEADER_BYTES = 20
_MAX_TURNS = 10_000
START_NS = 1_000_000_000


class SimulationError(RawprotoError):
    """Something in the simulation runs in a circle."""


class Host:
    """One end of the cable.

    Attributes:
        address: its IP address; may be changed while it runs.
        carrier_port: the port that the carrier shows, as a NAT would; 0 for none.
        endpoints: RPT port -> endpoint.
        apps: called in each turn, with the time in ns; whether they did anything.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.carrier_port = 0
        self.endpoints: dict[int, Endpoint] = {}
        self.apps: list[Callable[[int], bool]] = []


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
    """

    def __init__(self, seed: int, forward: Impairment, backward: Impairment) -> None:
        self.now_ns = START_NS
        self.rng = random.Random(seed)
        self.left, self.right = Host(LEFT_ADDR), Host(RIGHT_ADDR)
        # What flips in an IP header is dropped by any host; the model flips what is behind.
        self.forward = LinkModel(replace(forward, corrupt_from=_HEADER_BYTES), self.rng)
        self.backward = LinkModel(replace(backward, corrupt_from=_HEADER_BYTES), self.rng)
        self.tap: Callable[[int, bool, bytes], None] | None = None
        self._sources: dict[bytes, Address] = {}

    def entropy(self, size: int) -> bytes:
        """Random bytes from the seed."""
        return self.rng.randbytes(size)

    def run(self, done: Callable[[], bool], limit_ns: int) -> bool:
        """Lets time pass until something is done.

        Args:
            done: asked whenever all that happens at a time has happened.
            limit_ns: for so long at most, in virtual ns.

        Returns:
            Whether it was done by then.

        Raises:
            SimulationError: something happens without end and without time.
        """
        end_ns = self.now_ns + limit_ns
        while True:
            self._settle()
            if done():
                return True
            times = [self.forward.poll_timeout(), self.backward.poll_timeout()]
            for host in (self.left, self.right):
                times += [endpoint.poll_timeout() for endpoint in host.endpoints.values()]
            following = min([time for time in times if time is not None], default=end_ns)
            if following >= end_ns:
                self.now_ns = end_ns
                return False
            self.now_ns = max(following, self.now_ns)

    def _settle(self) -> None:
        """All that happens now, until nothing more does."""
        sides = ((self.left, self.forward, True), (self.right, self.backward, False))
        for _ in range(_MAX_TURNS):
            busy = self._deliver(self.forward, self.right)
            busy |= self._deliver(self.backward, self.left)
            for host, cable, from_left in sides:
                for endpoint in host.endpoints.values():
                    busy |= self._turn(host, endpoint, cable, from_left)
                for app in host.apps:
                    busy |= app(self.now_ns)
            if not busy:
                return
        raise SimulationError(f"no end of turns at {self.now_ns} ns")

    def _turn(self, host: Host, endpoint: Endpoint, cable: LinkModel, from_left: bool) -> bool:
        now_ns = self.now_ns
        timeout = endpoint.poll_timeout()
        if timeout is None or timeout > now_ns:
            return False
        endpoint.handle_timeout(now_ns)
        busy = False
        while packets := endpoint.transmit(now_ns):
            busy = True
            for data, address in packets:
                self._send(host, data, address, cable, from_left)
        return busy

    def _send(
        self, host: Host, data: bytes, address: Address, cable: LinkModel, from_left: bool
    ) -> None:
        header = self._header(host, address[0])
        packet = b"%b%b%b%b" % (
            header[:2],
            (len(data) + _HEADER_BYTES).to_bytes(2, "big"),
            header[4:],
            data,
        )
        if self.tap is not None:
            self.tap(self.now_ns, from_left, packet)
        cable.enqueue(packet, self.now_ns)

    def _header(self, host: Host, dst_addr: str) -> bytes:
        """An IP header from a host; the port of its carrier travels in `identification`."""
        return IPv4Header(
            src_addr=host.address,
            dst_addr=dst_addr,
            protocol=IP_PROTOCOL,
            identification=host.carrier_port,
            total_length=_HEADER_BYTES,
            checksum=0,
        ).emit()

    def _deliver(self, cable: LinkModel, host: Host) -> bool:
        arrived = cable.poll(self.now_ns)
        for _, packet in arrived:
            header, data = IPv4Header.parse(packet)
            endpoint = host.endpoints.get(int.from_bytes(data[2:4], "big"))
            if header.dst_addr == host.address and endpoint and len(data) >= SHORT.size:
                source = header.src_addr, header.identification
                endpoint.receive([(data, source, header.ecn)], self.now_ns)
        return bool(arrived)
