"""What virtual time costs: ten minutes of one RPT flow at 10 Mbit/s, in CPU time.

A packet in the simulator is sealed, carried, opened, compared and acknowledged. How much of
that is not the cipher is told as a ratio, which a busy machine changes little: the CPU of a
simulated packet beside that of sealing and opening one of its size, round by round.
"""

from __future__ import annotations

import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from report import at_most, conclude, interleave, machine, measure_cpu_ns, median_ratio, options

from rawproto.impair import Impairment
from rawproto.sim.experiment import Experiment

SECOND = 1_000_000_000
RATE_BPS, DELAY_NS, QUEUE_PACKETS = 10_000_000, 20_000_000, 50
WANTED_SECONDS = 30
WANTED_RATIO = 50
SEALED_BYTES = 1446


def simulate(seconds: float, seed: int) -> tuple[float, int]:
    """One flow for so long in virtual time: (CPU in ns, its packets)."""
    forward = Impairment(rate_bps=RATE_BPS, delay_ns=DELAY_NS, queue_packets=QUEUE_PACKETS)
    backward = Impairment(delay_ns=DELAY_NS)
    span_ns = int(seconds * SECOND)
    before = time.process_time_ns()
    experiment = Experiment(seed, forward, backward, size=None, duration_ns=span_ns)
    result = experiment.run(span_ns + 60 * SECOND)
    (flow,) = result.flows
    if flow.error:
        raise SystemExit(f"bench_rpt_sim: {flow.error}")
    return time.process_time_ns() - before, flow.packets_sent


def seal_and_open() -> float:
    """CPU in ns of sealing and opening the frames of a full packet."""
    aead, nonce, header = AESGCM(bytes(32)), bytes(12), bytes(18)
    frames = bytes(SEALED_BYTES)
    return measure_cpu_ns(
        lambda: aead.decrypt(nonce, aead.encrypt(nonce, frames, header), header), 20_000
    )


def main() -> int:
    arguments = options(__doc__ or "").parse_args()
    rounds = 2 if arguments.quick else 10
    span = 10.0 if arguments.quick else 60.0
    print(machine(), flush=True)
    costs: list[float] = []

    def flow() -> float:
        cpu_ns, packets = simulate(span, len(costs) + 1)
        costs.append(cpu_ns)
        return cpu_ns / packets

    times = interleave({"a simulated packet": flow, "sealing and opening": seal_and_open}, rounds)
    simulated, sealed = times.values()
    per_ten_minutes = sum(costs) / SECOND * 600 / (rounds * span)
    criteria = [
        at_most("ten virtual minutes at 10 Mbit/s, CPU", per_ten_minutes, WANTED_SECONDS, " s"),
        at_most(
            "a simulated packet / sealing and opening it, CPU",
            median_ratio(simulated, sealed),
            WANTED_RATIO,
        ),
    ]
    return conclude(criteria, strict=arguments.strict)


if __name__ == "__main__":
    sys.exit(main())
