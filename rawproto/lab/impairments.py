"""What a link does to packets, as people write it: `delay=20ms,loss=1%`.

    rate=10mbit     bits a second: bit, kbit, mbit, gbit; every byte of a frame counts
    queue=50        how many packets wait for the sender, or queue=64KB (B, KB, KiB, MB, MiB)
    delay=20ms      from end to end: s, ms, us, ns
    jitter=5ms      the delay varies evenly by so much, up and down; packets keep their order
    loss=1%         packets lost, each by itself
    burst=4         with loss: they are lost in runs of so many in the mean (Gilbert-Elliott)
    duplicate=1%    packets that arrive twice
    reorder=1%      packets held back, so that later ones overtake them ...
    hold=5ms        ... for so long (10 ms)
    corrupt=1%      packets with one bit flipped, behind the Ethernet header

Each is for both directions, unless `forward.` (from the first end of the link to the
second, so in a chain away from h1) or `backward.` stands before it: `forward.loss=5%`.
For the link as a whole there are

    mtu=1400        of the interfaces at both ends; packets that do not fit are answered
    seed=7          the n-th packet of a direction meets the same fate every time
    by=emulator     how it is done: by our own emulator, or by the kernel's netem

What is written stays text, so that it can be shown, stored and changed as it was
written; `impairment` says what it means. Nothing here touches the machine.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rawproto.errors import UsageError
from rawproto.impair.config import GilbertElliott, Impairment
from rawproto.impair.model import LinkModel

__all__ = ["DIRECTIONS", "KEYS", "Change", "check", "impairment", "link_model", "parse_change"]

DIRECTIONS = ("forward", "backward")

PERFECT = "perfect"
"""The word that takes everything away: `3:perfect`."""

ETHERNET_HEADER_BYTES = 14
UNLIMITED_PACKETS = 1 << 31

QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([a-z%]*)")


class Kind(NamedTuple):
    """A kind of quantity.

    Attributes:
        wants: what to ask for where none was given.
        units: how much each is, in lower case; a 0 needs none.
        least: the smallest that makes sense.
        most: the largest.
    """

    wants: str
    units: Mapping[str, float]
    least: float = 0
    most: float = 1e18


RATE = Kind(
    "bits a second, as 10mbit (bit, kbit, mbit, gbit)",
    {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9},
    least=1,
)
QUEUE = Kind(
    "packets, as 50, or bytes, as 64KB (B, KB, KiB, MB, MiB)",
    {"": 1, "b": 1, "kb": 10**3, "kib": 1 << 10, "mb": 10**6, "mib": 1 << 20},
)
TIME = Kind(
    "a time, as 20ms (s, ms, us, ns)", {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}, most=10**12
)
SHARE = Kind("a share in per cent, as 1%", {"%": 0.01}, most=1)
BURST = Kind("packets, 1 or more in the mean", {"": 1}, least=1)
NUMBER = Kind("a whole number", {"": 1})

EITHER_WAY = {
    "rate": RATE,
    "queue": QUEUE,
    "delay": TIME,
    "jitter": TIME,
    "loss": SHARE,
    "burst": BURST,
    "duplicate": SHARE,
    "reorder": SHARE,
    "hold": TIME,
    "corrupt": SHARE,
}
WHOLE_LINK = {"mtu": NUMBER, "seed": NUMBER}
WAYS = ("emulator", "netem")
KEYS = (*EITHER_WAY, "seed", "by")
"""All but the MTU, which a link has anyway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is to become of one link or of all.

    Attributes:
        link: which, from 1; None for all.
        settings: what is said of it, `{"delay": "20ms", "forward.loss": "1%"}`.
        perfect: whether all that was said before is forgotten.
    """

    link: int | None
    settings: Mapping[str, str]
    perfect: bool = False

    def applied(self, settings: Mapping[str, str]) -> dict[str, str]:
        """What holds afterwards, if `settings` held before."""
        kept = {} if self.perfect else dict(settings)
        for key in self.settings:
            for direction in DIRECTIONS:  # what is said of both replaces what was said of one
                kept.pop(f"{direction}.{key}", None)
        return kept | dict(self.settings)


def parse_change(text: str) -> Change:
    """Reads `3:delay=20ms,loss=1%` or `all:delay=20ms`.

    Raises:
        UsageError: what is wrong, beginning with the text.
    """
    which, colon, words = text.partition(":")
    if not re.fullmatch("all|[0-9]{1,6}", which) or not colon:
        raise UsageError(f"{text!r} is not of the form 3:delay=20ms,loss=1% or all:delay=20ms")
    settings: dict[str, str] = {}
    perfect = False
    for word in words.split(","):
        key, equals, value = word.partition("=")
        if word == PERFECT:
            perfect = True
        elif not equals or not value:
            raise UsageError(f"{text}: {word!r} is not of the form delay=20ms")
        elif key in settings:
            raise UsageError(f"{text}: {key} is there twice")
        else:
            settings[key] = value
    try:
        for key, value in settings.items():
            _check_setting(key, value)
    except UsageError as error:
        raise UsageError(f"{text}: {error}") from None
    return Change(link=None if which == "all" else int(which), settings=settings, perfect=perfect)


def check(settings: Mapping[str, str]) -> None:
    """Raises UsageError if a key or a value is none, or if they don't go together."""
    for key, value in settings.items():
        _check_setting(key, value)
    for direction in DIRECTIONS:
        impairment(settings, direction)


def impairment(settings: Mapping[str, str], direction: str) -> Impairment:
    """What the settings say of one direction.

    Args:
        settings: as in `Change`; those for the link as a whole are passed over.
        direction: `"forward"` or `"backward"`.

    Raises:
        UsageError: what is wrong with them.
    """
    texts = {key: settings.get(f"{direction}.{key}") or settings.get(key) for key in EITHER_WAY}
    said = {key: _quantity(key, text, EITHER_WAY[key]) for key, text in texts.items() if text}
    for key, other, why in (
        ("queue", "rate", "nothing ever waits"),
        ("burst", "loss", "there are no bursts of it"),
        ("hold", "reorder", "nothing is held back"),
    ):
        if key in said and other not in said:
            raise UsageError(f"{key}: without a {other} {why}")
    if said.get("jitter", 0) > said.get("delay", 0):
        raise UsageError("jitter: more than the delay, packets would arrive before they are sent")

    found = Impairment(corrupt_from=ETHERNET_HEADER_BYTES)
    for key in ("loss", "duplicate", "reorder", "corrupt"):
        setattr(found, key, said.get(key, 0.0))
    for key, field in (
        ("rate", "rate_bps"),
        ("delay", "delay_ns"),
        ("jitter", "jitter_ns"),
        ("hold", "reorder_delay_ns"),
        ("queue", "queue_packets"),
    ):
        if key in said:
            setattr(found, field, round(said[key]))
    if "queue" in said and not str(texts["queue"]).isdigit():
        found.queue_bytes, found.queue_packets = found.queue_packets, UNLIMITED_PACKETS
    if "burst" in said:
        found.burst_loss = GilbertElliott.of_mean(loss=found.loss, burst=said["burst"])
        found.loss = 0.0
    found.check()
    return found


def link_model(settings: Mapping[str, str], *, seed: int, link: int, direction: str) -> LinkModel:
    """The pure model of one direction of a link: what the emulator runs, for tests to ask.

    Its chances follow from the seed, the number of the link and the direction alone.

    Raises:
        UsageError: what is wrong with the settings.
    """
    chance = random.Random(f"{seed} {link} {direction}")
    return LinkModel(impairment(settings, direction), chance)


def _check_setting(key: str, text: str) -> None:
    direction, dot, name = key.rpartition(".")
    if name in (*WHOLE_LINK, "by") and dot:
        raise UsageError(f"{key}: {name} is the same both ways")
    if name == "by":
        if text not in WAYS:
            raise UsageError(f"by={text}: wants {' or '.join(WAYS)}")
        return
    kind = (EITHER_WAY | WHOLE_LINK).get(name)
    if kind is None or (dot and direction not in DIRECTIONS):
        known = ", ".join((*EITHER_WAY, *WHOLE_LINK, "by"))
        raise UsageError(f"unknown key {key!r} (known are {known})")
    _quantity(key, text, kind)


def _quantity(key: str, text: str, kind: Kind) -> float:
    """A value in the smallest unit of its kind: bits a second, bytes, packets, ns, 1."""
    found = QUANTITY.fullmatch(text.lower())
    if found is not None and (found[2] in kind.units or text == "0"):
        value = float(found[1]) * kind.units.get(found[2], 0)
        # There is no half a packet, but in the mean.
        if kind.least <= value <= kind.most and ("." not in text or found[2] or kind is BURST):
            return value
    raise UsageError(f"{key}={text}: wants {kind.wants}")
