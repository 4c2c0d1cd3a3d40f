"""`decode --stats` as tables of plain columns, the busiest rows first.

Columns are padded and not ruled, so that `awk` reads them as well as eyes do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from rawproto.cli.render import Style
from rawproto.packets.conversations import Conversation, end_words
from rawproto.packets.pings import Ping
from rawproto.packets.retransmissions import TCPConduct
from rawproto.packets.statistics import ProtocolNode, Statistics, endpoints

__all__ = ["conversation_table", "tell_text"]


def tell_text(statistics: Statistics, stream: TextIO, style: Style, top: int) -> None:
    """Writes every table that has rows.

    Args:
        statistics: counted to the end.
        stream: where to.
        style: whether to colour.
        top: rows of a table at most.
    """
    first, last = statistics.first_ns, statistics.last_ns
    seconds = 0.0 if first is None or last is None else (last - first) / 1e9
    stream.write(
        f"{statistics.packets} packets, {statistics.bytes} bytes "
        f"({statistics.captured_bytes} captured), {seconds:.6f} s; "
        f"{statistics.fragments} fragments, {statistics.damaged} damaged or cut short\n"
    )

    def tell(title: str, table: str, rows: int) -> None:
        stream.write(f"\n{style(title, 'bold')}\n{table}")
        if rows > top:
            stream.write(f"... and {rows - top} more; --top {rows} or --json shows them\n")

    if statistics.packets:
        nodes = list(_nodes(statistics.protocols, 0))
        rows = [[f"{'  ' * depth}{name}", node.packets, node.bytes] for depth, name, node in nodes]
        header = ["protocol", "packets", "bytes"]
        tell("protocols", _table(header, rows[:top], style), len(rows))
    for name, conversations in statistics.tables.items():
        everything = sorted(conversations.all, key=lambda each: sum(each.bytes), reverse=True)
        if not everything:
            continue
        shown = conversation_table(everything[:top], style, since_ns=statistics.first_ns)
        tell(f"{name} conversations", shown, len(everything))
        ends = endpoints(everything)
        header = ["endpoint", "sent", "bytes", "received", "bytes"]
        rows = [
            [
                end_words(end.addr, end.port),
                end.packets[0],
                end.bytes[0],
                end.packets[1],
                end.bytes[1],
            ]
            for end in ends[:top]
        ]
        tell(f"{name} endpoints", _table(header, rows, style), len(ends))
    if statistics.conduct:
        header = ["tcp", "handshake", "segments >", "again", "early", "unseen"]
        header += ["< segments", "again", "early", "unseen", "resets"]
        ranked = sorted(enumerate(statistics.conduct), key=_retransmissions, reverse=True)
        rows = [_conduct_row(number, conduct) for number, conduct in ranked[:top]]
        tell("tcp segments sent again", _table(header, rows, style), len(ranked))
    pings = statistics.pings.all
    if pings:
        header = ["ping", "id", "requests", "replies", "again", "min ms", "mean", "max", "mdev"]
        rows = [_ping_row(ping) for ping in pings[:top]]
        tell("pings", _table(header, rows, style), len(pings))


def conversation_table(
    conversations: Sequence[Conversation], style: Style, *, since_ns: int | None = None
) -> str:
    """Conversations as a table.

    Args:
        conversations: in the order of the rows.
        style: whether to colour.
        since_ns: from when the beginnings count; None from the earliest of them.
    """
    if since_ns is None:
        since_ns = min((each.first_ns for each in conversations), default=0)
    header = ["conversation", "from", "to", "packets >", "bytes", "< packets", "bytes"]
    header += ["begins s", "lasts s"]
    rows = [
        [
            each.name,
            *each.ends,
            each.packets[0],
            each.bytes[0],
            each.packets[1],
            each.bytes[1],
            f"{(each.first_ns - since_ns) / 1e9:.6f}",
            f"{(each.last_ns - each.first_ns) / 1e9:.6f}",
        ]
        for each in conversations
    ]
    return _table(header, rows, style, left=3)


def _table(
    header: Sequence[str], rows: Sequence[Sequence[object]], style: Style, *, left: int = 1
) -> str:
    """Rows under a header, in columns; the first `left` stand left, numbers right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    return "".join(f"{each}\n" for each in (style(line(header), "dim"), *map(line, cells)))


def _nodes(node: ProtocolNode, depth: int) -> Iterator[tuple[int, str, ProtocolNode]]:
    for name, inside in sorted(node.inside.items(), key=lambda item: -item[1].packets):
        yield depth, name, inside
        yield from _nodes(inside, depth + 1)


def _retransmissions(numbered: tuple[int, TCPConduct]) -> int:
    return sum(side.retransmissions for side in numbered[1].sides)


def _conduct_row(number: int, conduct: TCPConduct) -> list[object]:
    rtt = conduct.handshake_rtt_ns
    row: list[object] = [f"tcp:{number}", "-" if rtt is None else f"{rtt / 1e6:.3f} ms"]
    for side in conduct.sides:
        row += [side.segments, side.retransmissions, side.out_of_order, side.unseen]
    return [*row, conduct.resets]


def _ping_row(ping: Ping) -> list[object]:
    times = (ping.min_ns, ping.mean_ns, ping.max_ns, ping.deviation_ns)
    return [
        f"{ping.src_addr} > {ping.dst_addr}",
        ping.identifier,
        ping.requests,
        ping.replies,
        ping.duplicates,
        *(f"{each / 1e6:.3f}" if ping.replies else "-" for each in times),
    ]
