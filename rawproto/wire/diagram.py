"""Headers drawn as the RFCs draw them: 32 bits a row, with the values in the boxes.

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +-------------------------------+-------------------------------+
    |           src_port            |           dst_port            |
    |             40000             |              53               |
    +-------------------------------+-------------------------------+

A header is a run of cells, each some bits long: its `layout` first, then what is of
no fixed length (options, addresses, data). The cells are laid over rows of 32 bits, and a
line is drawn wherever two neighbouring bits belong to different cells, so a field
may begin and end anywhere. Each bit is two characters wide. A cell of many rows is
folded, with `~` where rows are left out.

It knows no colours, and of protocols only that ARP's addresses have no fixed size and
that IPv4 and TCP pad their options.
"""

from __future__ import annotations

import textwrap
from itertools import groupby

from rawproto.wire.arp import ARPMessage
from rawproto.wire.layer import Layer
from rawproto.wire.words import (
    FIRM,
    field_names,
    hex_texts,
    kebab,
    option_parts,
    parts_text,
    value_texts,
)

__all__ = ["diagram"]

_RULER = (
    " 0                   1                   2                   3  ",
    " 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1",
)
_MOST_ROWS = 4
"""Full rows of one cell before it is folded: an IPv6 address is just not."""
_MOST_BYTES = 32
"""Bytes that the picture of plain data shows."""
_MOST_ITEMS = 24
"""Options or records that are drawn: a hostile packet may hold thousands."""


class _Cell:
    """One box: how many bits, and the texts for it, the best first of those that may not fit.

    What cannot be measured (a record of DNS, whose names may be compressed) is loose: it
    is given one folded row.
    """

    __slots__ = ("bits", "loose", "names", "values")

    def __init__(self, bits: int | None, names: list[str], values: list[str]) -> None:
        self.loose = bits is None
        self.bits = 32 if bits is None else bits
        self.names = names
        self.values = values

    def lines(self, width: int) -> list[str]:
        return _fit(self.names, width) + _fit(self.values, width)


class _Row:
    """32 bits: to which cell each belongs (None behind the end), and the text in them."""

    __slots__ = ("bits", "folded", "texts")

    def __init__(self, bits: list[int | None]) -> None:
        self.bits = bits
        self.folded = False
        self.texts: dict[int, list[str]] = {}

    @property
    def full(self) -> bool:
        return len(set(self.bits)) == 1


def diagram(what: Layer | bytes) -> str:
    """A header or data as an RFC draws it, values included; lines of at most 65 characters.

    Args:
        what: a layer, built or parsed (None fields are shown as `auto`), or plain bytes,
            of which the first 32 are shown.

    Raises:
        EmitError: an option holds what does not fit the wire.
    """
    cells = _byte_cells(what) if isinstance(what, bytes) else _layer_cells(what)
    cells = [cell for cell in cells if cell.bits]
    rows = _fold(_rows(cells))
    for index, cell in enumerate(cells):
        _place(index, cell, [row for row in rows if index in row.bits])
    lines = list(_RULER)
    above: list[int | None] = [None] * 32
    for row in rows:
        lines.append(_border(above, row.bits))
        lines += _text_lines(row)
        above = row.bits
    lines.append(_border(above, [None] * 32))
    return "\n".join(line.rstrip().replace(FIRM, " ") for line in lines)


def _rows(cells: list[_Cell]) -> list[_Row]:
    bits: list[int | None] = []
    for index, cell in enumerate(cells):
        bits += [index] * cell.bits
    bits += [None] * (-len(bits) % 32)
    return [_Row(bits[at : at + 32]) for at in range(0, len(bits), 32)]


def _fold(rows: list[_Row]) -> list[_Row]:
    """Three rows in place of each run of many that one cell fills, the middle one folded."""
    kept: list[_Row] = []
    for _, run in groupby(rows, key=lambda row: row.bits[0] if row.full else id(row)):
        same = list(run)
        if len(same) > _MOST_ROWS:
            same = same[:3]
            same[1].folded = True
        kept += same
    return kept


def _place(index: int, cell: _Cell, rows: list[_Row]) -> None:
    """Writes a cell's text into its full rows, or into its widest piece if it has none."""
    full = [row for row in rows if row.full]
    if not full:
        widest = max(rows, key=lambda row: row.bits.count(index))
        widest.texts[index] = cell.lines(2 * widest.bits.count(index) - 1)
        return
    lines = cell.lines(63)
    each = -(-len(lines) // len(full))
    skipped = (len(full) - -(-len(lines) // each)) // 2
    for row in full[skipped:]:
        row.texts[index] = lines[:each]
        row.folded = row.folded or cell.loose
        lines = lines[each:]


def _text_lines(row: _Row) -> list[str]:
    edge = "~" if row.folded else "|"
    lines = []
    for number in range(max(map(len, row.texts.values()), default=0) or 1):
        line = ""
        for index, run in groupby(row.bits):
            if index is None:
                break
            width = 2 * len(list(run)) - 1
            texts = row.texts.get(index, [])
            text = texts[number] if number < len(texts) else ""
            line += edge + (" " * ((width - len(text)) // 2) + text).ljust(width)
        lines.append(line + edge)
    return lines


def _border(above: list[int | None], below: list[int | None]) -> str:
    """The line between two rows, drawn where the cells over and under it differ."""
    dashes = [a != b for a, b in zip(above, below, strict=True)]
    line = ""
    for at in range(33):
        left = dashes[at - 1] if at else False
        right = dashes[at] if at < 32 else False
        over = _edge(above, at)
        under = _edge(below, at)
        if at in (0, 32):
            line += "+" if over or under else " "
        elif over or under:
            line += "+" if left or right else "|"
        else:
            line += "-" if left else " "
        if at < 32:
            line += "-" if right else " "
    return line


def _edge(bits: list[int | None], at: int) -> bool:
    """Whether a vertical line stands before bit `at`, the ends of the row counted in."""
    left = bits[at - 1] if at else None
    right = bits[at] if at < 32 else None
    return left != right


def _fit(texts: list[str], width: int) -> list[str]:
    """The first text that fits on one line, else the last on as many as it takes."""
    number, _, word = texts[0].partition(" ")
    if len(texts[0]) > width and word and number in texts:
        # A number with its name: the name goes below it if it can stand there.
        lines = textwrap.wrap(word, width, break_long_words=False)
        return [number, *lines] if max(map(len, lines)) <= width else [number]
    for text in texts:
        if len(text) <= width:
            return [text] if text else []
    # Names break behind underscores; a box of one bit has its name on end.
    text = texts[-1] if " " in texts[-1] else texts[-1].replace("_", "_ ")
    lines = textwrap.wrap(text, width, break_on_hyphens=False)
    return [line.replace("_ ", "_") for line in lines]


def _layer_cells(layer: Layer) -> list[_Cell]:
    cells = []
    for name, bits in layer.layout:
        value = getattr(layer, name)
        if isinstance(layer, ARPMessage) and name.endswith("_addr"):
            bits = 32 if "." in value else 8 * ((len(value) + 1) // 3)
        cells.append(_Cell(bits, [name], value_texts(layer, name, value)))
    if layer.behind:
        return cells + [_behind_cell(layer, name, bits) for name, bits in layer.behind]
    drawn = {name for name, _ in layer.layout}
    for name in field_names(layer):
        if name not in drawn:
            cells += _variable_cells(layer, name, getattr(layer, name))
    return cells


def _behind_cell(layer: Layer, name: str, bits: int) -> _Cell:
    value = getattr(layer, name)
    if bits:
        return _Cell(bits, [name], value_texts(layer, name, value))
    data = bytes(value)
    return _Cell(8 * len(data), [f"{name}, {len(data)} bytes", name], hex_texts(data))


def _variable_cells(layer: Layer, name: str, value: object) -> list[_Cell]:
    """Cells for what has no fixed place; nothing for what takes none (a VLAN tag's own TPID)."""
    if isinstance(value, Layer):
        return _layer_cells(value)
    if isinstance(value, bytes):
        return [_Cell(8 * len(value), [f"{name}, {len(value)} bytes", name], hex_texts(value))]
    if not isinstance(value, tuple):
        return []
    cells = [_item_cell(f"{name}[{index}]", item) for index, item in enumerate(value)]
    if len(cells) > _MOST_ITEMS:
        rest = cells[_MOST_ITEMS:]
        bits = None if any(cell.loose for cell in rest) else sum(cell.bits for cell in rest)
        cells[_MOST_ITEMS:] = [_Cell(bits, [f"{name}, {len(rest)} more"], [""])]
    if name == "options" and layer.layer in ("ipv4", "tcp"):
        cells.append(_Cell(-sum(cell.bits for cell in cells) % 32, ["padding"], [""]))
    return cells


def _item_cell(name: str, item: object) -> _Cell:
    """One option, address, object or record of a tuple; `name` is its place there."""
    if isinstance(item, str):
        return _Cell(128 if ":" in item else 32, [name], [item])
    kind, _ = option_parts(item)
    title = kebab(type(item).__name__)
    names = [f"{name}, {title}"] if kind is None else [f"option {kind}, {title}", title]
    emit = getattr(item, "emit", None)
    return _Cell(8 * len(emit()) if emit else None, names, [parts_text(item)])


def _byte_cells(data: bytes) -> list[_Cell]:
    cells = [
        _Cell(8, [f"{byte:02x}"], [chr(byte) if 0x20 < byte < 0x7F else ""])
        for byte in data[:_MOST_BYTES]
    ]
    if len(data) > _MOST_BYTES:
        more = len(data) - _MOST_BYTES
        cells.append(_Cell(32 * (_MOST_ROWS + 1), [f"{more} more bytes"], [""]))
    return cells
