"""Flows that share a link, watched: goodput, losses, RTT, queue, fairness.

Every 10 virtual ms the queue and each flow's RTT are sampled. Fairness is Jain's index
(Jain, Chiu and Hawe, 1984) of what the flows received while all of them ran::

    J = (x1 + ... + xn)^2 / (n (x1^2 + ... + xn^2))        1 all alike, 1/n one has all
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rawproto.impair import Impairment
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.config import Config

__all__ = ["Experiment", "FlowResult", "Result", "jain"]

_SAMPLE_NS = 10_000_000
_FIRST_PORT = 4000


def jain(shares: Sequence[float]) -> float:
    """Jain's index of fairness, 1/n to 1; 1 where nobody got anything."""
    squares = len(shares) * sum([share * share for share in shares])
    return sum(shares) ** 2 / squares if squares else 1.0


@dataclass(slots=True, kw_only=True)
class FlowResult:
    """What became of one flow; times in ns, sizes in bytes.

    Attributes:
        port: the listener's.
        congestion: the name of its controller.
        received: bytes that arrived, in order.
        goodput_bps: bits of them a second, from the start to the last.
        packets_sent: data packets of the client's.
        packets_lost: those that it thought lost.
        packets_spurious: those of them that came after all.
        retransmitted: parts of the stream that were sent again.
        min_rtt: the least; 0 if there was no sample.
        mean_rtt: of the samples.
        max_rtt: the highest of the samples.
        established_ns: how long `connect` took, None if it never was done.
        mtu: the size of its packets in the end, in bytes of RPT.
        error: what went wrong; "" for nothing.
    """

    port: int
    congestion: str
    received: int
    goodput_bps: float
    packets_sent: int
    packets_lost: int
    packets_spurious: int
    retransmitted: int
    min_rtt: int
    mean_rtt: int
    max_rtt: int
    established_ns: int | None
    mtu: int
    error: str


@dataclass(slots=True, kw_only=True)
class Result:
    """What became of all.

    Attributes:
        flows: one by one.
        duration_ns: until the last flow had ended.
        goodput_bps: of all together, until the last byte.
        fairness: Jain's index.
        queue_mean: packets that waited before the bottleneck, in the mean.
        queue_max: at most.
        queue_drops: those that found it full.
        link_lost: those that the links lost otherwise.
        turns: what it cost to simulate.
    """

    flows: list[FlowResult]
    duration_ns: int
    goodput_bps: float
    fairness: float
    queue_mean: float
    queue_max: int
    queue_drops: int
    link_lost: int
    turns: int


class Experiment:
    """Flows over one cable, all from left to right and from the same moment on.

    Args:
        seed: of all chance.
        forward: the way of the data.
        backward: the way of the ACKs.
        flows: how many.
        size: bytes for each to send; None: for `duration_ns`.
        duration_ns: how long they send, where no size is given.
        mtu: of the hosts' interfaces, in bytes of IP.
        configs: of both sides of each; with fewer than flows, they take turns.
        pinned: clients know the listeners' keys (IK).
        psk: a secret of 32 bytes that both know, b"" for none.

    Attributes:
        network: where it happens.
        flows: the flows.
    """

    def __init__(
        self,
        seed: int,
        forward: Impairment,
        backward: Impairment,
        *,
        flows: int = 1,
        size: int | None,
        duration_ns: int = 0,
        mtu: int = 1500,
        configs: Sequence[Config] = (Config(),),
        pinned: bool = False,
        psk: bytes = b"",
    ) -> None:
        self.network = Network(seed, forward, backward)
        self.flows = [
            Flow(
                self.network,
                size,
                duration_ns=duration_ns,
                port=_FIRST_PORT + number,
                mtu=mtu,
                config=configs[number % len(configs)],
                pinned=pinned,
                psk=psk,
            )
            for number in range(flows)
        ]
        self._queue: list[int] = []
        self._rtts: list[list[int]] = [[] for _ in self.flows]
        self._shares: list[int] | None = None

    def run(self, limit_ns: int, look: Callable[[int], None] = lambda now_ns: None) -> Result:
        """Runs until all flows have ended, or for so long at most.

        Args:
            limit_ns: in virtual ns.
            look: called every 10 virtual ms with the time since the start, in ns.
        """
        network, running = self.network, list(self.flows)
        start_ns = network.now_ns

        def ended() -> bool:  # asked for each packet, so it looks at one flow
            while running and running[-1].ended:
                running.pop()
            return not running

        def sample() -> None:
            self._sample()
            look(network.now_ns - start_ns)

        network.run(ended, limit_ns, sample, _SAMPLE_NS)
        sample()
        return self._result(start_ns)

    def _sample(self) -> None:
        self._queue.append(self.network.forward.queued(self.network.now_ns)[0])
        for flow, rtts in zip(self.flows, self._rtts, strict=True):
            rtt = flow.client.sender.recovery.rtt
            if rtt.sampled and flow.done_ns is None:
                rtts.append(rtt.latest_rtt)
        if self._shares is None and any(flow.done_ns for flow in self.flows):
            self._shares = [flow.received for flow in self.flows]

    def _result(self, start_ns: int) -> Result:
        network = self.network
        shares = self._shares or [flow.received for flow in self.flows]
        last_ns = max([flow.done_ns or network.now_ns for flow in self.flows])
        received = sum([flow.received for flow in self.flows])
        links = network.forward.statistics, network.backward.statistics
        return Result(
            flows=[
                _flow_result(flow, rtts) for flow, rtts in zip(self.flows, self._rtts, strict=True)
            ],
            duration_ns=network.now_ns - start_ns,
            goodput_bps=received * 8e9 / max(last_ns - start_ns, 1),
            fairness=jain(shares),
            queue_mean=sum(self._queue) / max(len(self._queue), 1),
            queue_max=max(self._queue, default=0),
            queue_drops=links[0].queue_full + links[1].queue_full,
            link_lost=sum([each.lost + each.lost_in_burst + each.too_big for each in links]),
            turns=network.turns,
        )


def _flow_result(flow: Flow, rtts: list[int]) -> FlowResult:
    sender = flow.client.sender
    recovery = sender.recovery
    errors = [str(error) for error in flow.errors.values() if error is not None]
    if not errors and not flow.done:
        errors = ["not done in time" if not flow.ended else "ended before everything had arrived"]
    established = flow.established_ns
    return FlowResult(
        port=flow.right.port,
        congestion=flow.congestion,
        received=flow.received,
        goodput_bps=flow.goodput_bps,
        packets_sent=sender.packets,
        packets_lost=recovery.lost_packets,
        packets_spurious=recovery.spurious_packets,
        retransmitted=flow.client.outgoing.resent,
        min_rtt=recovery.rtt.min_rtt,
        mean_rtt=sum(rtts) // max(len(rtts), 1),
        max_rtt=max(rtts, default=0),
        established_ns=None if established is None else established - flow.start_ns,
        mtu=sender.mtu.size,
        error=errors[0] if errors else "",
    )
