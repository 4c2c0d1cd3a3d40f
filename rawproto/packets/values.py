"""One value as it is written: numbers, their names, flags, addresses, bytes, domain names.

::

    number     64   0x40   0b1000000   a name of the field's (udp, time_exceeded, AAAA)
    flags      SYN,ACK   SYN+ACK   0x12   SYN+0x100   of TCP tcpdump's letters too: S.   SA
    boolean    true false yes no on off 1 0
    addresses  10.0.0.1   fe80::1   02:00:00:00:00:01
    bytes      hex:0001   text:hello   0x0001   "hello"   random:8   file:NAME
    none       auto or none, where the field may be left to be computed

Names are compared by their letters and digits alone, so `time_exceeded`, `time-exceeded`
and `Time Exceeded` in quotes are one. Ranges (`1..5`, `10.0.0.1..10.0.0.9`,
`10.0.0.0/30`, which is all four) are sequences that hold two numbers, not their values.

It knows neither fields nor their layers: a `Scalar` says what is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, overload

from rawproto.errors import EmitError
from rawproto.packets.shapes import Scalar
from rawproto.wire.address import (
    pack_ipv4,
    pack_ipv6,
    pack_mac,
    unpack_ipv4,
    unpack_ipv6,
    unpack_mac,
)
from rawproto.wire.dns_name import split_name

__all__ = [
    "AddressSpan",
    "nearest",
    "parse_hex",
    "parse_value",
    "prefix",
    "random_value",
    "span",
    "spelled",
]

_BOOLEANS = dict.fromkeys(("true", "yes", "on", "1"), True) | dict.fromkeys(
    ("false", "no", "off", "0"), False
)
_NONE = ("auto", "none")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+")
_MAX_DIGITS = 400
"""More than any field takes; Python's own limit on digits would be told in its words."""


def parse_value(shape: Scalar, word: str) -> Any:
    """The value that a word says.

    Args:
        shape: what is wanted; of bytes only `0x...` has a word.
        word: as it was written.

    Raises:
        ValueError: it says no such value; its text says why, without the word.
    """
    if shape.optional and word.lower() in _NONE:
        return None
    match shape.kind:
        case "number":
            return _flags(shape, word) if shape.flags is not None else _number(shape, word)
        case "boolean":
            if word.lower() not in _BOOLEANS:
                raise ValueError("must be true or false")
            return _BOOLEANS[word.lower()]
        case "bytes":
            if re.fullmatch("0[xX][0-9a-fA-F]+", word):
                return parse_hex(word[2:])
            raise ValueError("bytes are written hex:00ff, text:word, file:NAME or random:COUNT")
        case "text":
            if shape.words and word not in shape.words:
                raise ValueError(f"must be {' or '.join(shape.words)}")
            return word
        case "domain":
            _wanted(split_name, word)
            return word
        case _:
            return _address(shape, word)


def _number(shape: Scalar, word: str) -> int:
    if _NUMBER.fullmatch(word):
        if len(word) > _MAX_DIGITS:
            raise ValueError("more digits than any field takes")
        value = int(word, 0) if word[:2].lower() in ("0x", "0b") else int(word)
    elif re.fullmatch("-[0-9]+", word):
        value = -1
    elif re.fullmatch("[0-9]+-[0-9]+", word):
        raise ValueError(f"a range is written {word.replace('-', '..')}")
    else:
        value = _named(shape.names, word)
    if shape.bits is not None and not 0 <= value < 1 << shape.bits:
        raise ValueError(f"must be 0 to {(1 << shape.bits) - 1}")
    if value < 0:
        raise ValueError("must not be negative")
    return value


def _named(names: Any, word: str) -> int:
    wanted = _letters(word)
    for number, name in names.items():
        if _letters(name) == wanted:
            return int(number)
    if not names:
        raise ValueError("must be a number")
    near = nearest(word, [spelled(name) for name in names.values()])
    raise ValueError(f"must be a number or a name{near}")


def _flags(shape: Scalar, word: str) -> int:
    assert shape.flags is not None
    masks = {_letters(name): mask for mask, name in shape.flags.items()}
    value = 0
    for part in re.split(r"[+|,]", word):
        if _NUMBER.fullmatch(part):
            value |= _number(shape, part)
        elif _letters(part) in masks and part:
            value |= masks[_letters(part)]
        elif part and set(part) <= shape.letters.keys():
            for letter in part:
                value |= shape.letters[letter]
        else:
            names = ", ".join(sorted(shape.flags.values()))
            raise ValueError(f"{part!r} is none of its flags: {names}")
    return value


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name.lower())


def spelled(name: str) -> str:
    """A name as one writes it without quotes."""
    return re.sub("[^a-zA-Z0-9.]+", "_", name).strip("_")


def parse_hex(text: str) -> bytes:
    """Digits to bytes; colons, hyphens and white space between them are passed over.

    Raises:
        ValueError: no hexadecimal, or half a byte.
    """
    digits = re.sub(r"[\s:-]", "", text)
    if not re.fullmatch("[0-9a-fA-F]*", digits):
        raise ValueError("hex: takes hexadecimal digits")
    if len(digits) % 2:
        raise ValueError("half a byte: an odd number of hexadecimal digits")
    return bytes.fromhex(digits)


# How an address of each kind is packed, and what unpacks it again, by its bytes.
_UNPACK: dict[int, Callable[[bytes], str]] = {4: unpack_ipv4, 16: unpack_ipv6, 6: unpack_mac}


def _packed(shape: Scalar, word: str) -> bytes:
    kind = shape.kind
    if kind == "arp":
        if "." in word:
            return pack_ipv4(word)
        if re.fullmatch("([0-9a-fA-F]{2}([:-](?!$)|$))+", word):
            return bytes.fromhex(re.sub("[:-]", "", word))
        raise ValueError("neither dotted IPv4 nor hexadecimal bytes with colons")
    if kind == "address":
        kind = "ipv6" if ":" in word else "ipv4"
    if kind == "mac":
        return pack_mac(word)
    if kind == "ipv6" and "%" in word:
        raise ValueError("a scope (%interface) is no part of a header")
    return pack_ipv6(word) if kind == "ipv6" else pack_ipv4(word)


def _address(shape: Scalar, word: str) -> str:
    packed: bytes = _wanted(lambda text: _packed(shape, text), word)
    # One text for each address, as parsers give it; ARP's of unusual lengths stay as they are.
    if shape.kind == "arp" and "." not in word:
        return packed.hex(":")
    return _UNPACK[len(packed)](packed)


def _wanted(read: Callable[[str], Any], word: str) -> Any:
    try:
        return read(word)
    except EmitError as error:
        raise ValueError(error.reason) from None


class AddressSpan(Sequence[str]):
    """Addresses one after the other, made when they are asked for."""

    def __init__(self, first: int, count: int, size: int, unpack: Callable[[bytes], str]) -> None:
        """
        Args:
            first: the first address as a number.
            count: how many.
            size: of each, in bytes.
            unpack: bytes to text.
        """
        self._first, self._count, self._size, self._unpack = first, count, size, unpack

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...
    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(self._count))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        return self._unpack((self._first + at).to_bytes(self._size, "big"))


def span(shape: Scalar, first: str, last: str, most: int) -> Sequence[Any]:
    """All values from one to another, both counted in.

    Args:
        shape: what is wanted, a number or an address.
        first: the lower end, as written.
        last: the upper end.
        most: how many there may be.

    Raises:
        ValueError: no range of that kind, a wrong end, or too many.
    """
    if shape.kind == "number" and shape.flags is None:
        low, high = _number(shape, first), _number(shape, last)
        _count_checked(low, high, most)
        return range(low, high + 1)
    if shape.kind not in ("ipv4", "ipv6", "address", "mac", "arp"):
        raise ValueError("only numbers and addresses have ranges; {a,b} lists other values")
    start, end = (_wanted(lambda text: _packed(shape, text), each) for each in (first, last))
    if len(start) != len(end):
        raise ValueError("a range from one kind of address to another")
    low, high = int.from_bytes(start, "big"), int.from_bytes(end, "big")
    _count_checked(low, high, most)
    unpack = _UNPACK.get(len(start), unpack_mac)
    if shape.kind == "arp" and "." not in first:
        unpack = unpack_mac
    return AddressSpan(low, high - low + 1, len(start), unpack)


def prefix(shape: Scalar, word: str, most: int) -> Sequence[str]:
    """All addresses of a prefix, the first and the last too: `10.0.0.0/30` is four.

    Args and Raises as of `span`.
    """
    text, _, length = word.partition("/")
    if shape.kind not in ("ipv4", "ipv6", "address", "arp"):
        raise ValueError("only IP addresses have prefixes")
    packed: bytes = _wanted(lambda each: _packed(shape, each), text)
    bits = 8 * len(packed)
    if len(packed) not in (4, 16):
        raise ValueError("only IP addresses have prefixes")
    if len(length) > 3 or int(length) > bits:
        raise ValueError(f"a prefix length must be 0 to {bits}")
    host = (1 << bits - int(length)) - 1
    low = int.from_bytes(packed, "big") & ~host
    _count_checked(low, low + host, most)
    return AddressSpan(low, host + 1, len(packed), _UNPACK[len(packed)])


def _count_checked(low: int, high: int, most: int) -> None:
    if high < low:
        raise ValueError("a range that ends before it begins")
    if high - low >= most:
        raise ValueError(f"{high - low + 1} values, more than the {most} packets that are made")


def random_value(shape: Scalar) -> Callable[[Any], Any]:
    """What draws a value of that shape from a `random.Random`.

    Raises:
        ValueError: chance has nothing to say here.
    """
    bits, kind = shape.bits, shape.kind
    if kind == "boolean":
        return lambda rng: bool(rng.getrandbits(1))
    if bits is None or kind not in ("number", "ipv4", "ipv6", "mac", "arp"):
        raise ValueError("random is for numbers and addresses of a header's fixed part")
    if kind == "number":
        return lambda rng: rng.getrandbits(bits)
    size = bits // 8
    unpack = _UNPACK[size]
    if size == 6:  # one host's own address, given by nobody: neither a group's nor a vendor's

        def draw(rng: Any) -> str:
            packed = rng.randbytes(6)
            return unpack(bytes((packed[0] & 0xFC | 2,)) + packed[1:])

        return draw
    return lambda rng: unpack(rng.randbytes(size))


def nearest(word: str, names: Iterable[str]) -> str:
    """`, perhaps NAME` for the name that was probably meant, "" where nothing is near.

    What the word begins, then a slip of the fingers (`tll` is `ttl`), then what has its
    letters in their order, is nearer than what merely looks alike: `seq` is
    `sequence_number`, `dport` is `dst_port`.
    """
    known = list(names)
    low = word.lower()
    found = [name for name in known if low and name.lower().startswith(low)]
    found += [name for name in known if len(low) > 2 and _is_slip(name.lower(), low)]
    found += [name for name in known if len(low) > 2 and low in name.lower()]
    found += [name for name in known if len(low) > 2 and _has_letters(name.lower(), low)]
    if not found:
        import difflib

        found = difflib.get_close_matches(low, known, n=1, cutoff=0.5)
        found = found or difflib.get_close_matches(word.upper(), known, n=1, cutoff=0.5)
    return f", perhaps {found[0]}" if found else ""


def _is_slip(name: str, word: str) -> bool:
    """Whether one letter is another's, or the same letters stand in another order."""
    if len(name) != len(word):
        return False
    return sorted(name) == sorted(word) or sum(map(str.__ne__, name, word)) == 1


def _has_letters(name: str, word: str) -> bool:
    """Whether the letters of `word` stand in `name` in their order, from the first on."""
    rest = iter(name)
    return name[:1] == word[:1] and all(letter in rest for letter in word)
