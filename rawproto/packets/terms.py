"""Values of the craft notation, read by the shape of the field that they are for.

::

    value    = WORD / data                          see `values` for words
             / WORD ".." WORD / ADDRESS "/" BITS    a range: a packet for each
             / "{" value *( "," value ) "}"         likewise for each of these
             / "random"                             drawn anew for each packet
             / "[" packet "]"                       the bytes of a packet
             / "[" *( item "," ) "]"                a list: options, objects, records
    item     = NAME / NAME "=" value / [ NAME ] "(" argument *( "," argument ) ")" / value
    argument = FIELD "=" value / value              by name or in order
    data     = text:WORD / hex:DIGITS / file:NAME / random:COUNT / "quoted"

Since the shape says what may come, two tokens of lookahead are all that the grammar
needs. What is constant is built at once, so that what can't be put on the wire is told
with its place in the expression.

It knows no layers: what stands in a `[ packet ]` is for its subclass in `notation`.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any, Literal

from rawproto.errors import EmitError
from rawproto.packets.lexer import NotationError, Token, tokenize
from rawproto.packets.shapes import REQUIRED, Field, Form, Items, Row, Scalar, Shape, Struct
from rawproto.packets.sweep import Chosen, Constant, Drawn, Node, built, tuple_of
from rawproto.packets.values import nearest, parse_hex, parse_value, prefix, random_value, span
from rawproto.wire.dns_name import NameWriter
from rawproto.wire.layer import Packet

__all__ = ["MAX_DATA_BYTES", "MAX_PACKETS", "Family", "TermParser"]

MAX_PACKETS = 1 << 20
"""How many packets one expression may stand for: as many addresses as a /12 has."""
MAX_DATA_BYTES = 65_535
"""How long one payload may be: no IP packet without a jumbo option carries more."""
_MAX_DEPTH = 16
"""How deep brackets nest."""

Family = Literal[4, 6] | None
_FAMILIES: dict[str, Family] = {"ipv4": 4, "ipv6": 6, "address": None, "arp": 4}
_HOST_NAME = re.compile(r"(?=[^:]*[a-zA-Z])[\w.-]{1,253}", re.ASCII)
"""What may be the name of a host: no address that was mistyped has a letter and no colon."""


class TermParser:
    """Recursive descent over the tokens of an expression.

    Attributes:
        sweeps: the values of each range met so far; a `Chosen` node names one by index.
    """

    def __init__(
        self,
        text: str,
        read_file: Callable[[str], bytes] | None,
        resolve: Callable[[str, Family], str] | None,
    ) -> None:
        self.sweeps: list[Sequence[Any]] = []
        self._tokens = tokenize(text)
        self._at = 0
        self._depth = 0
        self._read_file = read_file
        self._resolve = resolve

    def _packet(self) -> list[Node]:
        """A stack of layers, the outermost first."""
        raise NotImplementedError

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
            is_host = shape.kind in _FAMILIES and shape.bits != 48  # ARP's: neither is hardware
            if self._resolve and is_host and _HOST_NAME.fullmatch(word):
                return Constant(self._address_of(self._resolve, shape, word, token))
            shown = word if len(word) <= 80 else f"{word[:77]}..."
            reason = f"{label}={shown}: {error}"
            raise NotationError(reason, token.position) from None

    @staticmethod
    def _address_of(
        resolve: Callable[[str, Family], str], shape: Scalar, name: str, token: Token
    ) -> Any:
        try:
            return parse_value(shape, resolve(name, _FAMILIES[shape.kind]))
        except ValueError as error:
            raise NotationError(str(error), token.position) from None

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

    @staticmethod
    def _check_required(form: Form, given: Mapping[str, Node], token: Token) -> None:
        for field in form.fields.values():
            if field.default is REQUIRED and field.name not in given:
                raise NotationError(f"{form.name} needs {field.name}", token.position)


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
