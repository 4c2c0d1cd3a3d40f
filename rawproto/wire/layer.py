"""What all layers share, and how they stack: `IPv4Header(...) / UDPHeader(...) / b".."`.

A layer is a plain value class: a dataclass with slots and keyword-only fields,
an explicit `parse` and an explicit `emit`. This module adds what a stack needs
and a lone header does not: which number names the layer inside, and which
addresses a checksum covers. It knows no format.

Fields that can be computed (`checksum`, `total_length`, ...) are `int | None`:
None computes when emitting, an int goes out as it is, so that malformed packets
can be made on purpose. `parse` fills in what it found; `Layer.recomputed`
gives a copy in which they are None again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self, TypeVar

from rawproto.errors import EmitError

__all__ = ["Layer", "Packet"]


class Layer:
    """The base of every header and message: class-level facts, and `/`.

    Class attributes:
        layer: its name, that of its module (`"ipv4"`).
        ether_protocol: the EtherType that announces it, if one does.
        ip_protocol: the IP protocol (next header) number that announces it, if one does.
        computed: names of the fields for which None means "compute".
        layout: the fixed part, in order: (field, bits). Draws diagrams, words range errors.
        behind: what diagrams draw behind it, in order: (field, bits), 0 bits for all that the
            field holds. Empty: the other fields as they come.
        value_names: field -> {number: name} for enumerations.
        flag_names: field -> {bit mask: name} for sets of flags.
    """

    __slots__ = ()

    layer: ClassVar[str] = ""
    ether_protocol: ClassVar[int | None] = None
    ip_protocol: ClassVar[int | None] = None
    computed: ClassVar[tuple[str, ...]] = ()
    layout: ClassVar[tuple[tuple[str, int], ...]] = ()
    behind: ClassVar[tuple[tuple[str, int], ...]] = ()
    value_names: ClassVar[Mapping[str, Mapping[int, str]]] = {}
    flag_names: ClassVar[Mapping[str, Mapping[int, str]]] = {}

    @classmethod
    def parse(cls, data: bytes) -> tuple[Self, bytes]:
        """Reads one layer off the front: (layer, payload). Raises only WireError."""
        raise NotImplementedError

    def emit(self, payload: bytes = b"") -> bytes:
        """The layer's bytes, with `payload` behind them. Raises EmitError."""
        raise NotImplementedError

    def emit_within(
        self, payload: bytes, inner: Layer | None, src_addr: str | None, dst_addr: str | None
    ) -> bytes:
        """As `emit`, told what stands around it in a stack.

        Args:
            payload: everything inside, emitted.
            inner: the layer that `payload` begins with, None for plain bytes.
            src_addr: of the nearest IP header outside, None without one.
            dst_addr: likewise; behind a routing header the final destination.
        """
        return self.emit(payload)

    def addresses_within(
        self, src_addr: str | None, dst_addr: str | None
    ) -> tuple[str | None, str | None]:
        """The IP addresses that hold for the layers inside this one; IP headers answer theirs."""
        return src_addr, dst_addr

    def recomputed(self) -> Self:
        """A copy whose computable fields are None, to be computed when emitted."""
        return dataclasses.replace(self, **dict.fromkeys(self.computed))  # type: ignore[type-var]

    def emit_error(self) -> EmitError:
        """The EmitError that names the field which does not fit its place in `layout`."""
        for name, bits in self.layout:
            value = getattr(self, name, None)
            field = f"{type(self).__name__}.{name}"
            if name.endswith("_addr") or isinstance(value, bytes):
                continue
            if value is not None and not isinstance(value, int):
                return EmitError(field, value, "must be a whole number")
            if value is not None and not 0 <= value < 1 << bits:
                return EmitError(field, value, f"must be 0 to {(1 << bits) - 1}")
        return EmitError(type(self).__name__, self, "does not fit its layout")

    def __truediv__(self, other: Layer | Packet | bytes) -> Packet:
        if isinstance(other, Layer | bytes):
            return Packet((self, other))
        if isinstance(other, Packet):
            return Packet((self, *other.layers))
        return NotImplemented


L = TypeVar("L", bound=Layer)


class Packet:
    """A stack of layers, outermost first; plain bytes may stand anywhere but mostly last.

    Emitting fills what only neighbours can tell: protocol numbers and EtherTypes
    left None, lengths, and checksums over a pseudo-header.
    """

    __slots__ = ("layers",)

    def __init__(self, layers: tuple[Layer | bytes, ...]) -> None:
        self.layers = layers

    def emit(self) -> bytes:
        """The whole packet's bytes.

        Raises:
            EmitError: a field does not fit, or a checksum lacks its addresses.
        """
        addresses: tuple[str | None, str | None] = (None, None)
        around = []
        for layer in self.layers:
            around.append(addresses)
            if isinstance(layer, Layer):
                addresses = layer.addresses_within(*addresses)
        payload = b""
        inner: Layer | None = None
        for layer in self.layers[::-1]:
            src_addr, dst_addr = around.pop()
            if isinstance(layer, Layer):
                payload = layer.emit_within(payload, inner, src_addr, dst_addr)
                inner = layer
            else:
                payload = bytes(layer) + payload
                inner = None
        return payload

    def __bytes__(self) -> bytes:
        return self.emit()

    def __truediv__(self, other: Layer | Packet | bytes) -> Packet:
        if isinstance(other, Packet):
            return Packet(self.layers + other.layers)
        if isinstance(other, Layer | bytes):
            return Packet((*self.layers, other))
        return NotImplemented

    def __rtruediv__(self, other: bytes) -> Packet:
        return Packet((other, *self.layers)) if isinstance(other, bytes) else NotImplemented

    def __iter__(self) -> Iterator[Layer | bytes]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __contains__(self, kind: type[Layer]) -> bool:
        return any(isinstance(layer, kind) for layer in self.layers)

    def __getitem__(self, kind: type[L]) -> L:
        """The outermost layer of class `kind`. Raises KeyError."""
        for layer in self.layers:
            if isinstance(layer, kind):
                return layer
        raise KeyError(kind.__name__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Packet) and self.layers == other.layers

    def __hash__(self) -> int:
        return hash(self.emit())

    def __repr__(self) -> str:
        return " / ".join(repr(layer) for layer in self.layers)
