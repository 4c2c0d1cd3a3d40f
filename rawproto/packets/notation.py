"""The craft notation: packets as one writes them on a command line.

::

    ipv4 dst_addr=10.0.0.2 ttl=3 / udp dst_port=53 / hex:0001

    packet   = layer *( "/" layer )                 from the outermost in
    layer    = NAME *( FIELD "=" value ) / data     names and fields are the catalogue's
    data     = text:WORD / hex:DIGITS / file:NAME / random:COUNT / "quoted"
    value    = WORD / data                          see `values` for words
             / WORD ".." WORD / ADDRESS "/" BITS    a range: a packet for each
             / "{" value *( "," value ) "}"         likewise for each of these
             / "random"                             drawn anew for each packet
             / "[" packet "]"                       the bytes of a packet
             / "[" *( item "," ) "]"                a list: options, objects, records
    item     = NAME / NAME "=" value / [ NAME ] "(" argument *( "," argument ) ")" / value
    argument = FIELD "=" value / value              by name or in order

Several ranges in one expression make all their combinations, the last range fastest.
A field that is not given is what its class says, so that lengths, checksums and protocol
numbers compute themselves and one that is given goes out as it is.

The value after the `=` is read by what its field takes, so one character of lookahead
is all that the grammar needs. The notation opens no file and has no chance of its own
making: both are given to `craft`.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from rawproto.errors import EmitError
from rawproto.packets.catalogue import (
    LAYERS,
    REQUIRED,
    Field,
    Form,
    Items,
    LayerEntry,
    Row,
    Scalar,
    Shape,
    Struct,
    layer_entry,
)
from rawproto.packets.lexer import NotationError, Token, tokenize
from rawproto.packets.sweep import Chosen, Constant, Drawn, Node, built, choices, tuple_of
from rawproto.packets.values import (
    nearest,
    parse_hex,
    parse_value,
    prefix,
    random_value,
    span,
    spelled,
)
from rawproto.wire.dns_name import NameWriter
from rawproto.wire.layer import Packet

__all__ = ["MAX_DATA_BYTES", "MAX_PACKETS", "Expression", "NotationError", "craft"]

MAX_PACKETS = 1 << 20
"""How many packets one expression may stand for: as many addresses as a /12 has."""
MAX_DATA_BYTES = 65_535
"""How long one payload may be: no IP packet without a jumbo option carries more."""
_MAX_DEPTH = 16
"""How deep brackets nest."""
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
    rng: random.Random | None = None,
) -> Expression:
    """Reads an expression of the notation.

    Args:
        expression: `"ipv4 dst_addr=10.0.0.0/30 / icmp"`; see the module and docs/craft.md.
        read_file: reads what `file:NAME` names; None allows no such payload.
        rng: decides `random`; None takes a fresh one.

    Returns:
        What gives the packets; an expression without ranges gives one.

    Raises:
        NotationError: it says nothing that could be built; where, and what may be meant.
    """
    parser = _Parser(expression, read_file)
    layers = parser.whole()
    return Expression(expression, layers, parser.sweeps, rng or random.Random())


class _Parser:
    """Recursive descent over the tokens; every value is read by the shape of its field.

    Attributes:
        sweeps: the values of each range met so far; a `Chosen` node names one by index.
    """

    def __init__(self, text: str, read_file: Callable[[str], bytes] | None) -> None:
        self.sweeps: list[Sequence[Any]] = []
        self._tokens = tokenize(text)
        self._at = 0
        self._depth = 0
        self._read_file = read_file

    # --- tokens --------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> Token:
        return self._tokens[min(self._at + ahead, len(self._tokens) - 1)]

    def _next(self) -> Token:
        token = self._peek()
        self._at += 1
        return token

    def _is(self, mark: str, ahead: int = 0) -> bool:
        token = self._peek(ahead)
        return token.kind == "mark" and token.text == mark

    def _take(self, mark: str) -> bool:
        found = self._is(mark)
        self._at += found
        return found

    def _expect(self, mark: str, what: str) -> None:
        if not self._take(mark):
            raise self._unexpected(self._peek(), f"{mark} {what}")

    def _unexpected(self, token: Token, wanted: str) -> NotationError:
        if token.kind == "end":
            return NotationError(f"the expression ends where {wanted} is missing", token.position)
        shown = token.text + (":" if token.kind == "data" else "") or "a quoted text"
        return NotationError(f"{shown} where {wanted} is wanted", token.position)

    def _is_keyword(self) -> bool:
        return self._peek().kind == "word" and self._is("=", 1)

    # --- packets and layers ----------------------------------------------------------------------

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
        if token.text not in LAYERS:
            near = nearest(token.text, LAYERS) or (
                "; `rawproto layers` lists all, and data is written text:, hex:, file: or random:"
            )
            raise NotationError(f"unknown layer {token.text}{near}", token.position)
        return self._fields_of_layer(layer_entry(token.text), token)

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
                missing = "a / before the layer" if token.text in LAYERS else "= and a value"
                raise NotationError(f"{token.text} without {missing}", token.position)
            if token.text in seen:
                raise NotationError(f"{entry.name}.{token.text} is given twice", token.position)
            seen.add(token.text)
            if token.text == entry.selector:
                self._at = selected
            else:
                label = f"{entry.name}.{token.text}"
                given[token.text] = self._value(field.shape, label, top=True)
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
            elif token.text in LAYERS:
                which = "; layers are separated by /"
            else:
                which = nearest(token.text, form.fields)
                which = which or f"; it has {', '.join(form.fields)}"
            of = entry.name
            if entry.selector:
                of += f" of {entry.selector}={_number_of(entry, form)}"
            raise NotationError(f"{of} has no field {token.text}{which}", token.position)
        return forms[0].fields[token.text]

    @staticmethod
    def _check_required(form: Form, given: Mapping[str, Node], token: Token) -> None:
        for field in form.fields.values():
            if field.default is REQUIRED and field.name not in given:
                raise NotationError(f"{form.name} needs {field.name}", token.position)

    # --- values ----------------------------------------------------------------------------------

    def _value(self, shape: Shape, label: str, *, top: bool = False) -> Node:
        """One value. At the top, behind a layer's field, commas go on with a list or flags."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotationError(f"brackets nest deeper than {_MAX_DEPTH}", self._peek().position)
        if self._is("{"):
            node = self._alternatives(shape, label)
        elif isinstance(shape, Items):
            node = self._items(shape, label, top)
        elif isinstance(shape, Struct):
            node = self._struct(shape, label)
        elif isinstance(shape, Row):
            node = self._row(shape, label)
        else:
            node = self._scalar(shape, label, top)
        self._depth -= 1
        return node

    def _alternatives(self, shape: Shape, label: str) -> Node:
        """`{22,80,1000..1010}`: the ranges in it become part of one."""
        start = self._next()
        values: list[Any] = []
        while True:
            before = len(self.sweeps)
            node = self._value(shape, label)
            if isinstance(node, Constant):
                values.append(node.value)
            elif isinstance(node, Chosen) and len(self.sweeps) == before + 1:
                values += self.sweeps.pop()
            else:
                raise NotationError(f"{label}: nothing in braces may vary", start.position)
            if len(values) > MAX_PACKETS:
                raise self._too_many(len(values), start)
            if not self._take(","):
                break
        self._expect("}", "at the end of the alternatives")
        return self._swept(values, start)

    def _swept(self, values: Sequence[Any], token: Token) -> Node:
        self.sweeps.append(values)
        count = prod(map(len, self.sweeps))
        if count > MAX_PACKETS:
            raise self._too_many(count, token)
        return Chosen(len(self.sweeps) - 1)

    @staticmethod
    def _too_many(count: int, token: Token) -> NotationError:
        return NotationError(
            f"{count} packets, more than the {MAX_PACKETS} that one expression may make",
            token.position,
        )

    def _items(self, shape: Items, label: str, top: bool) -> Node:
        items: list[Node] = []
        if self._take("["):
            if self._take("]"):
                return Constant(())
            while True:
                items.append(self._value(shape.item, f"{label}[{len(items)}]"))
                if not self._take(","):
                    break
            self._expect("]", "at the end of the list")
            return tuple_of(items)
        items.append(self._value(shape.item, label))
        while top and self._take(","):
            items.append(self._value(shape.item, label))
        return tuple_of(items)

    def _struct(self, shape: Struct, label: str) -> Node:
        """An option, object or record, by name or, where there is one form only, without."""
        token = self._peek()
        given: dict[str, Node] = {}
        lone = next(iter(shape.forms.values())) if len(shape.forms) == 1 else None
        if lone is not None and not (token.text == lone.name and self._is("(", 1)):
            form = lone
            if self._take("("):
                given = self._arguments(form, label)
            else:
                field = self._first_field(form)
                given[field.name] = self._value(field.shape, label)
        else:
            self._at += 1
            form = self._named_form(shape, label, token)
            if self._take("("):
                given = self._arguments(form, form.name)
            elif self._take("="):
                field = self._first_field(form, token)
                given[field.name] = self._value(field.shape, form.name)
        self._check_required(form, given, token)
        try:
            node = built(form.make, given)
            if isinstance(node, Constant):
                _try_out(node.value)
        except EmitError as error:
            _, _, field_name = error.field.rpartition(".")
            which = f"{form.name}.{field_name}" if field_name in form.fields else form.name
            raise NotationError(f"{which}: {error.reason}", token.position) from None
        return node

    def _named_form(self, shape: Struct, label: str, token: Token) -> Form:
        if token.kind != "word":
            raise self._unexpected(token, f"a name for {label}")
        if token.text not in shape.forms:
            near = nearest(token.text, shape.forms)
            near = near or f"; known are {', '.join(shape.forms)}"
            raise NotationError(f"{label}: unknown {token.text}{near}", token.position)
        return shape.forms[token.text]

    def _first_field(self, form: Form, token: Token | None = None) -> Field:
        """The field that a value without a name is for: of a bracket the first list, if any."""
        fields = list(form.fields.values())
        if not fields:
            position = (token or self._peek()).position
            raise NotationError(f"{form.name} takes no value", position)
        lists = [field for field in fields if isinstance(field.shape, Items)]
        return lists[0] if lists and (self._is("[") or self._is("(")) else fields[0]

    def _arguments(self, form: Form, label: str) -> dict[str, Node]:
        """What stands in round brackets, the opening one taken: fields by name or in order."""
        given: dict[str, Node] = {}
        in_order = iter(form.fields.values())
        if self._take(")"):
            return given
        while True:
            token = self._peek()
            if self._is_keyword():
                if token.text not in form.fields:
                    near = nearest(token.text, form.fields)
                    near = near or f"; it has {', '.join(form.fields)}"
                    raise NotationError(
                        f"{form.name} has no field {token.text}{near}", token.position
                    )
                field: Field | None = form.fields[token.text]
                self._at += 2
            else:
                field = next(in_order, None)
            if field is None:
                raise NotationError(f"{form.name} has no more fields", token.position)
            if field.name in given:
                raise NotationError(f"{form.name}.{field.name} is given twice", token.position)
            given[field.name] = self._value(field.shape, f"{label}.{field.name}")
            if not self._take(","):
                break
        self._expect(")", f"or , in {form.name}")
        return given

    def _row(self, shape: Row, label: str) -> Node:
        self._expect("(", f"in {label}")
        cells: list[Node] = []
        for column in shape.columns:
            if cells:
                self._expect(",", f"in {label}")
            cells.append(self._value(column, label))
        self._expect(")", f"in {label}")
        return tuple_of(cells)

    def _scalar(self, shape: Scalar, label: str, top: bool) -> Node:
        if shape.kind == "bytes" and self._is("["):
            return self._nested()
        token = self._next()
        if token.kind == "data" and shape.kind == "bytes":
            return self._data(token)
        if token.kind == "string" and shape.kind == "bytes":
            return Constant(token.content)
        if token.kind == "string" and shape.kind == "text" and not shape.words:
            return Constant(token.content.decode("utf-8", "surrogateescape"))
        if token.kind == "string" or (token.kind == "data" and token.text == "text"):
            word = token.content.decode("utf-8", "surrogateescape")
        elif token.kind == "word":
            word = token.text
        else:
            raise self._unexpected(token, f"a value for {label}")
        try:
            if token.kind == "word":
                if word == "random" and shape.kind not in ("text", "domain"):
                    return Drawn(random_value(shape))
                if self._take(".."):
                    last = self._next()
                    if last.kind != "word":
                        raise self._unexpected(last, "the end of the range")
                    word += f"..{last.text}"
                    return self._swept(span(shape, token.text, last.text, MAX_PACKETS), token)
                if "/" in word:
                    return self._swept(prefix(shape, word, MAX_PACKETS), token)
                while top and shape.flags is not None and self._take(","):
                    word += f",{self._next().text}"
            return Constant(parse_value(shape, word))
        except ValueError as error:
            if isinstance(error, NotationError):
                raise
            shown = word if len(word) <= 80 else f"{word[:77]}..."
            reason = f"{label}={shown}: {error}"
            raise NotationError(reason, token.position) from None

    def _nested(self) -> Node:
        """`[ipv4 / udp]`: the bytes of a packet, such as one that an error quotes."""
        start = self._next()
        layers = tuple_of(self._packet())
        self._expect("]", "behind the packet")
        try:
            return built(lambda layers: Packet(layers).emit(), {"layers": layers})
        except EmitError as error:
            raise NotationError(f"in brackets: {error}", start.position) from None

    def _data(self, token: Token) -> Node:
        """`text:`, `hex:`, `file:` or `random:`."""
        content = token.content
        try:
            if token.text == "random":
                digits = content.decode("utf-8", "replace")
                if not digits.isascii() or not digits.isdigit() or len(digits) > 5:
                    raise ValueError(f"must be random:COUNT, 0 to {MAX_DATA_BYTES} bytes")
                count = int(digits)
                if count > MAX_DATA_BYTES:
                    raise ValueError(f"random: gives at most {MAX_DATA_BYTES} bytes")
                return Drawn(lambda rng: rng.randbytes(count))
            if token.text == "hex":
                content = parse_hex(content.decode("utf-8", "replace"))
            elif token.text == "file":
                if self._read_file is None:
                    raise ValueError("file: names files, and none may be read here")
                content = self._read_file(content.decode("utf-8", "surrogateescape"))
            if len(content) > MAX_DATA_BYTES:
                raise ValueError(f"{token.text}: gives at most {MAX_DATA_BYTES} bytes")
        except ValueError as error:
            raise NotationError(str(error), token.position) from None
        return Constant(content)


def _number_of(entry: LayerEntry, form: Form) -> str:
    """A number of the selector that picks a form, by its name if it has one."""
    default = form.fields[entry.selector].default
    if not isinstance(default, int):
        return "any other"
    name = entry.selector_names.get(default)
    return spelled(name) if name else str(default)


def _try_out(value: Any) -> None:
    """Raises EmitError where an option, object or record can't be put on the wire."""
    if hasattr(value, "emit"):
        value.emit()
    elif hasattr(value, "write"):
        try:
            value.write(NameWriter())
        except (struct.error, TypeError):
            raise EmitError(type(value).__name__, value, "a number does not fit its field") from (
                None
            )
