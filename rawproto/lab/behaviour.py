"""How a router misbehaves, as people write it: `r4:silent` or `r3:nat=plain,mpls=100/200`.

    silent              sends no ICMP errors
    icmp-rate=1/s       sends so many ICMP errors at most (s, m or h), of both families together
    answer-from=ADDR    its ICMP errors have that source; ADDR/ADDR for one of each family
    drop-ptb            neither sends Packet Too Big (fragmentation needed) nor lets it pass
    mtu=1200            takes no larger packets, both ways; IPv6 at least 1280
    loop                sends what lies beyond it back towards the first host
    balance=flow        equal paths by addresses and the first four bytes behind the IP header:
                        ports, or ICMP's type, code and checksum
    balance=packet      equal paths in turn, packet by packet
    nat                 rewrites what comes in by eth0 to its address on the other side; what
                        an ICMP error quotes is put right again
    nat=addresses       ... but for the checksums in the quote
    nat=plain           ... not at all
    mpls=100/200        its ICMP errors carry this label stack (RFC 4950)
    interface-info      its ICMP errors name the interface the packet came in by (RFC 5837)
    userspace           forwards by our own router, not the kernel's

The last five are beyond the kernel: there our own router forwards, and does all that is
said of it. Nothing here touches the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from rawproto.errors import EmitError, UsageError
from rawproto.wire.address import family_of, pack_address

__all__ = ["ALL", "PROPER", "Behaviour", "Rate", "check_word", "parse_spec"]

ALL = "all"
"""The name that means every router."""

MAX_LABEL = (1 << 20) - 1
MAX_LABELS = 16
"""More than any router pushes, and few enough for the smallest error to carry."""

MIN_MTU = 68
"""RFC 791: what every IPv4 module must be able to forward."""


class Rate(NamedTuple):
    """So many in a second, a minute or an hour."""

    number: int
    unit: str

    def __str__(self) -> str:
        return f"{self.number}/{self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What one router does that it should not; see the module's docstring for each.

    Attributes:
        silent: no ICMP errors.
        icmp_rate: so many of them; None for any number.
        answer_from: their source, at most one address of each family.
        drop_ptb: Packet Too Big ends here.
        mtu: of all that it forwards, in bytes; None for the links' own.
        loop: what lies beyond goes back.
        balance: `"flow"` or `"packet"`; None leaves it to the kernel: by flow, but ICMP
            by its addresses only.
        nat: `"full"`, `"addresses"` or `"plain"`: what of a quote is put right; None for no NAT.
        mpls: labels in its errors, outermost first.
        interface_info: whether its errors name the incoming interface.
        userspace: whether our own router is to forward, though the kernel could.
    """

    silent: bool = False
    icmp_rate: Rate | None = None
    answer_from: tuple[str, ...] = ()
    drop_ptb: bool = False
    mtu: int | None = None
    loop: bool = False
    balance: str | None = None
    nat: str | None = None
    mpls: tuple[int, ...] = ()
    interface_info: bool = False
    userspace: bool = False

    @classmethod
    def of(cls, words: Mapping[str, str]) -> Behaviour:
        """Reads words and their values, `{"silent": "", "icmp-rate": "1/s"}`.

        Raises:
            UsageError: an unknown word, with the nearest one, or a value that makes no sense.
        """
        return cls(**{_field(word): _read(word, text) for word, text in words.items()})

    def words(self) -> dict[str, str]:
        """What `of` reads back as an equal behaviour."""
        found = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value != field.default:
                found[field.name.replace("_", "-")] = _write(value)
        return found

    @property
    def needs_userspace(self) -> bool:
        """Whether our own router forwards, and not the kernel's."""
        return bool(
            self.userspace or self.mpls or self.interface_info or self.nat in ("addresses", "plain")
        )

    def __str__(self) -> str:
        """As on a command line."""
        return ",".join(word + (text and f"={text}") for word, text in self.words().items())

    def __bool__(self) -> bool:
        """False for a router that does as it should."""
        return self != PROPER


PROPER = Behaviour()
"""A router that does as it should."""


def parse_spec(text: str) -> tuple[str, dict[str, str]]:
    """Reads `r4:silent,icmp-rate=1/s` or `all:interface-info`: (router or "all", words).

    Raises:
        UsageError: what is wrong, beginning with the text.
    """
    name, colon, rest = text.partition(":")
    if not (name and colon and rest):
        raise UsageError(f"{text!r} is not of the form r4:silent,icmp-rate=1/s or all:silent")
    words: dict[str, str] = {}
    for piece in rest.split(","):
        word, equals, value = piece.partition("=")
        if word in words:
            raise UsageError(f"{text}: {word} is there twice")
        if equals and not value:
            raise UsageError(f"{text}: {piece} has no value")
        words[word] = value
    try:
        Behaviour.of(words)
    except UsageError as error:
        raise UsageError(f"{text}: {error}") from None
    return name, words


class Kind(NamedTuple):
    """What stands behind a word.

    Attributes:
        wants: what to ask for where something else was given.
        read: the value of a text; raises ValueError.
    """

    wants: str
    read: Callable[[str], Any]


def _flag(text: str) -> bool:
    if text:
        raise ValueError
    return True


def _choice(*choices: str, default: str = "") -> Callable[[str], str]:
    def read(text: str) -> str:
        return choices[choices.index(text or default)]

    return read


def _rate(text: str) -> Rate:
    found = re.fullmatch("([1-9][0-9]{0,5})/([smh])", text)
    if found is None:
        raise ValueError
    return Rate(int(found[1]), found[2])


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,7}", text) or not least <= int(text) <= most:
            raise ValueError
        return int(text)

    return read


def _labels(text: str) -> tuple[int, ...]:
    labels = text.split("/")
    if len(labels) > MAX_LABELS:
        raise ValueError
    return tuple(map(_number(0, MAX_LABEL), labels))


def _addresses(text: str) -> tuple[str, ...]:
    addresses = tuple(text.split("/"))
    for address in addresses:
        pack_address(address)
    if len({family_of(address) for address in addresses}) != len(addresses):
        raise ValueError
    return addresses


NOTHING = Kind("takes no value", _flag)
KINDS = {
    "silent": NOTHING,
    "icmp-rate": Kind("wants a rate, as 1/s, 30/m or 100/h", _rate),
    "answer-from": Kind("wants an address, or ADDR/ADDR for one of each family", _addresses),
    "drop-ptb": NOTHING,
    "mtu": Kind(f"wants bytes, {MIN_MTU} to 65535", _number(MIN_MTU, 65535)),
    "loop": NOTHING,
    "balance": Kind("wants flow or packet", _choice("flow", "packet")),
    "nat": Kind(
        "takes addresses, plain or nothing", _choice("full", "addresses", "plain", default="full")
    ),
    "mpls": Kind(f"wants labels, as 100/200: at most {MAX_LABELS}, 0 to {MAX_LABEL}", _labels),
    "interface-info": NOTHING,
    "userspace": NOTHING,
}


def _field(word: str) -> str:
    return word.replace("-", "_")


def check_word(word: str) -> None:
    """Raises UsageError for an unknown word, with the nearest one."""
    if word not in KINDS:
        from difflib import get_close_matches  # slow to load, for those alone who mistype

        near = get_close_matches(word, KINDS, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(KINDS)}"
        raise UsageError(f"unknown word {word!r} ({hint})")


def _read(word: str, text: str) -> Any:
    check_word(word)
    kind = KINDS[word]
    try:
        return kind.read(text)
    except (ValueError, EmitError):
        raise UsageError(
            f"{word}={text}: {kind.wants}" if text else f"{word}: {kind.wants}"
        ) from None


def _write(value: Any) -> str:
    if value is True or value == "full":
        return ""
    return "/".join(map(str, value)) if type(value) is tuple else str(value)
