"""The craft notation: packets as one writes them on a command line.

::

    ipv4 dst_addr=10.0.0.2 ttl=3 / udp dst_port=53 / hex:0001

    packet   = layer *( "/" layer )                 from the outermost in
    layer    = NAME *( FIELD "=" value ) / data     names and fields are the catalogue's
    data     = text:WORD / hex:DIGITS / file:NAME / random:COUNT / "quoted"
    value    = as `terms` has it: words, ranges, {alternatives}, [lists], [a packet]

Several ranges in one expression make all their combinations, the last range fastest.
A field that is not given is what its class says, so that lengths, checksums and protocol
numbers compute themselves and one that is given goes out as it is.

The notation opens no file, looks up no name and has no chance of its own making: what
does is given to `craft`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

from rawproto.packets.catalogue import LAYERS, LayerEntry, layer_entry
from rawproto.packets.lexer import NotationError, Token
from rawproto.packets.shapes import Field, Form, Scalar
from rawproto.packets.sweep import Chosen, Constant, Node, built, choices
from rawproto.packets.synonyms import elsewhere, layer_name
from rawproto.packets.terms import MAX_DATA_BYTES, MAX_PACKETS, Family, TermParser
from rawproto.packets.values import nearest, spelled
from rawproto.wire.layer import Packet

__all__ = ["MAX_DATA_BYTES", "MAX_PACKETS", "Expression", "NotationError", "craft"]

_EXAMPLE = "ipv4 dst_addr=10.0.0.2 / udp dst_port=53 / hex:0001"


class Expression:
    """What an expression stands for: one packet or many, made as they are asked for.

    Iterate for the packets; each iteration makes them again, with other random values.

    Attributes:
        text: the expression.
    """

    def __init__(
        self,
        text: str,
        layers: Sequence[Node],
        sweeps: Sequence[Sequence[Any]],
        rng: random.Random,
    ) -> None:
        self.text = text
        self._layers = layers
        self._sweeps = sweeps
        self._rng = rng

    def __len__(self) -> int:
        return prod(map(len, self._sweeps))

    def __iter__(self) -> Iterator[Packet]:
        for chosen in choices(self._sweeps):
            yield Packet(tuple([layer.make(chosen, self._rng) for layer in self._layers]))

    def __repr__(self) -> str:
        return f"<Expression {self.text!r}, {len(self)} packets>"


def craft(
    expression: str,
    *,
    read_file: Callable[[str], bytes] | None = None,
    resolve: Callable[[str, Family], str] | None = None,
    rng: random.Random | None = None,
) -> Expression:
    """Reads an expression of the notation.

    Args:
        expression: `"ipv4 dst_addr=10.0.0.0/30 / icmp"`; see the module and docs/craft.md.
        read_file: reads what `file:NAME` names; None allows no such payload.
        resolve: gives the address of a host by its name and family (4, 6 or None for either);
            None allows addresses only.
        rng: decides `random`; None takes a fresh one.

    Returns:
        What gives the packets; an expression without ranges gives one.

    Raises:
        NotationError: it says nothing that could be built; where, and what may be meant.
    """
    parser = _Parser(expression, read_file, resolve)
    layers = parser.whole()
    return Expression(expression, layers, parser.sweeps, rng or random.Random())


class _Parser(TermParser):
    """Adds layers to values: which names there are, and which form a selector picks."""

    def whole(self) -> list[Node]:
        """The whole expression."""
        if self._peek().kind == "end":
            raise NotationError(f"nothing to build; write for example '{_EXAMPLE}'", 0)
        layers = self._packet()
        if self._peek().kind != "end":
            raise self._unexpected(self._peek(), "a field or a / before the next layer")
        return layers

    def _packet(self) -> list[Node]:
        layers = [self._layer()]
        while self._take("/"):
            layers.append(self._layer())
        return layers

    def _layer(self) -> Node:
        token = self._next()
        if token.kind == "data":
            return self._data(token)
        if token.kind == "string":
            return Constant(token.content)
        if token.kind != "word":
            raise self._unexpected(token, "a layer or a payload")
        name = layer_name(token.text)
        if name not in LAYERS:
            near = nearest(token.text, LAYERS) or (
                "; `rawproto layers` lists all, and data is written text:, hex:, file: or random:"
            )
            raise NotationError(f"unknown layer {token.text}{near}", token.position)
        return self._fields_of_layer(layer_entry(name), token)

    def _fields_of_layer(self, entry: LayerEntry, name: Token) -> Node:
        given: dict[str, Node] = {}
        forms: Sequence[Form] = entry.forms[:1]
        selected = -1
        if entry.selector:
            node, forms, selected = self._selector(entry)
            if node is not None:
                given[entry.selector] = node
        seen: set[str] = set()
        while self._peek().kind == "word":
            token = self._next()
            field = self._field(entry, forms, token)
            if not self._take("="):
                missing = (
                    "a / before the layer" if layer_name(token.text) in LAYERS else "= and a value"
                )
                raise NotationError(f"{token.text} without {missing}", token.position)
            if token.text in seen:
                raise NotationError(f"{entry.name}.{token.text} is given twice", token.position)
            seen.add(token.text)
            if token.text == entry.selector:
                self._at = selected
            else:
                label = f"{entry.name}.{token.text}"
                given[token.text] = self._value(field.shape, label, top=True)
            if self._is(","):
                raise NotationError(
                    f"{entry.name}.{token.text}: several values are alternatives in braces, "
                    "{1,2}, and fields have white space between them",
                    self._peek().position,
                )
        for form in forms:
            self._check_required(form, given, name)
        make: Callable[..., Any] = forms[0].make
        if len(forms) > 1:

            def make(**values: Any) -> Any:
                return entry.form_for(values[entry.selector]).make(**values)

        return built(make, given)

    def _selector(self, entry: LayerEntry) -> tuple[Node | None, tuple[Form, ...], int]:
        """Reads ahead for the field that picks the form: (its value, the forms, where it ends)."""
        start, depth = self._at, 0
        while self._peek().kind != "end":
            token = self._peek()
            depth += (token.text in "[({") - (token.text in "])}") if token.kind == "mark" else 0
            if depth < 0 or (depth == 0 and self._is("/")):
                break
            if depth == 0 and token.text == entry.selector and self._is_keyword():
                self._at += 2
                shape = entry.forms[0].fields[entry.selector].shape
                assert isinstance(shape, Scalar)
                shape = Scalar(kind="number", bits=shape.bits, names=entry.selector_names)
                node = self._value(shape, f"{entry.name}.{entry.selector}", top=True)
                numbers: Sequence[int] = range(1 << (shape.bits or 8))
                if isinstance(node, Constant):
                    numbers = (node.value,)
                elif isinstance(node, Chosen):
                    numbers = self.sweeps[node.number]
                forms = {entry.form_for(number).make: entry.form_for(number) for number in numbers}
                end, self._at = self._at, start
                return node, tuple(forms.values()), end
            self._at += 1
        self._at = start
        return None, (entry.forms[0],), -1

    def _field(self, entry: LayerEntry, forms: Sequence[Form], token: Token) -> Field:
        """The field that a word names, which all forms that are in question must have."""
        for form in forms:
            if token.text in form.fields:
                continue
            others = [each for each in entry.forms if token.text in each.fields]
            if others:
                which = f"; that of {entry.selector}={_number_of(entry, others[0])} has"
            elif layer_name(token.text) in LAYERS:
                which = "; layers are separated by /"
            else:
                which = elsewhere(entry.name, token.text) or nearest(token.text, form.fields)
                which = which or f"; it has {', '.join(form.fields)}"
            of = entry.name
            if entry.selector:
                of += f" of {entry.selector}={_number_of(entry, form)}"
            raise NotationError(f"{of} has no field {token.text}{which}", token.position)
        return forms[0].fields[token.text]


def _number_of(entry: LayerEntry, form: Form) -> str:
    """A number of the selector that picks a form, by its name if it has one."""
    default = form.fields[entry.selector].default
    if not isinstance(default, int):
        return "any other"
    name = entry.selector_names.get(default)
    return spelled(name) if name else str(default)
