"""A pure model of a link: what becomes of a packet that is offered to it, and when.

The fault link, the simulator and the lab's emulator share it: whatever they do
to a packet, they do it alike. `config` says what a link is like, `model` is one
direction of such a link. No I/O, no clock, and chance comes from a seeded
`random.Random` alone.
"""

from rawproto.impair.config import GilbertElliott, Impairment
from rawproto.impair.model import LinkModel, LinkStatistics

__all__ = ["GilbertElliott", "Impairment", "LinkModel", "LinkStatistics"]
