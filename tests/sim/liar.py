"""A peer that lies: it holds a client's keys and seals whatever it likes."""

from __future__ import annotations

from rawproto.errors import RawprotoError
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.connection import Connection
from rawproto.transport.recovery import Recovery
from rawproto.wire.rpt_frames import Frame, emit_frames

MS = 1_000_000
SECOND = 1_000_000_000


def forge(connection: Connection, frames: list[Frame], now_ns: int) -> bytes:
    """A packet of `connection`'s that says `frames`, sealed with its keys."""
    recovery: Recovery = connection.sender.recovery
    burst = recovery.burst(now_ns, True)
    return connection.sender._seal(emit_frames(frames), burst, 1, None, 0, 0, None, eliciting=True)


def lie(flow: Flow, network: Network, frames: list[Frame]) -> RawprotoError | Exception | None:
    """Has the client send `frames`: the error with which the listener ended, None if it did not."""
    assert flow.server is not None
    packet = forge(flow.client, frames, network.now_ns)
    flow.right.receive([(packet, (network.left.address, 0), 0)], network.now_ns)
    network.run(lambda: "listener" in flow.errors, 100 * MS)
    return flow.errors.get("listener")
