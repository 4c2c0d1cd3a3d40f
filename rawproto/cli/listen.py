"""Accept encrypted connections over RPT and join them to standard input and output.

examples:
  rawproto listen rpt://0.0.0.0:4000                 the first client, until both have ended
  rawproto listen rpt://0.0.0.0:4000 > file          take a file
  rawproto listen --keep --messages rpt://[::]:4000  many clients, each line with its sender

exit status: 0 ended well, 1 the connection was lost, 2 usage or local error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import suppress

from rawproto.cli.audience import Audience
from rawproto.cli.rpt_options import add_server_options, check_combination
from rawproto.cli.rpt_serve import listening
from rawproto.cli.rpt_session import add_kind_options, config_of, exchange
from rawproto.drivers.rpt.address import host_and_port
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.stdio import read_lines, write_output
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.identity.keys import fingerprint
from rawproto.transport.constants import Kind
from rawproto.wire.words import printable

__all__ = ["add_arguments", "run"]

_MOST_LINE_BYTES = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `listen`."""
    parser.add_argument("address", help="rpt://ADDR:PORT or rpt+udp://ADDR:PORT; port 0: any")
    add_kind_options(parser)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="serve many clients, tag each line with its sender, and send input to all",
    )
    add_server_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Listens, carries, and says how it ended."""
    check_combination(messages=arguments.messages, datagrams=arguments.datagrams)
    try:
        asyncio.run(_listen(arguments))
    except (ConnectionLostError, ProtocolError) as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"rawproto listen: {printable(str(error))}\n")
        return 1
    return 0


async def _listen(arguments: argparse.Namespace) -> None:
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    audience = Audience()
    served = False

    async def use(connection: RPTConnection) -> None:
        nonlocal served
        name = host_and_port(*connection.peer_address)
        sys.stderr.write(f"connected {name} {fingerprint(connection.peer_key)}\n")
        if arguments.keep:
            hearer = audience.join(connection)
            try:
                with suppress(ConnectionLostError, ProtocolError):
                    await _tag(connection, name)
                    await hearer.finish()
                    await connection.stream.send_eof()
            finally:
                hearer.leave()
                how = f": {printable(str(connection.error))}" if connection.error else ""
                how = ": it reads too slowly" if hearer.too_slow else how
                sys.stderr.write(f"ended {name}{how}\n")
        elif served:
            connection.abort(256, "busy with another client")
        else:
            served = True
            await _once(connection, arguments, first)

    async with listening(arguments, config_of(arguments), use):
        if arguments.keep:
            async for line in read_lines():
                await audience.hear(line)
            await asyncio.Event().wait()
        await first


async def _once(
    connection: RPTConnection, arguments: argparse.Namespace, done: asyncio.Future[None]
) -> None:
    """The one client: its end is ours."""
    try:
        await exchange(connection, arguments)
        await connection.close()
    except Exception as error:
        if not done.done():
            done.set_exception(error)
        return
    if not done.done():
        done.set_result(None)


async def _tag(connection: RPTConnection, name: str) -> None:
    """Each line that a client sends, behind its name."""
    tag = name.encode() + b" "
    if connection.kind is Kind.SEQPACKET:
        while (message := await connection.receive_message()) is not None:
            await write_output(tag + message + b"\n")
        return
    if connection.kind is Kind.DGRAM:
        while True:
            await write_output(tag + await connection.receive_datagram() + b"\n")
    rest = bytearray()
    async for piece in connection.stream:
        rest += piece
        lines = rest.split(b"\n")
        rest = bytearray(lines.pop())
        for line in lines:
            await write_output(tag + line + b"\n")
        if len(rest) > _MOST_LINE_BYTES:
            await write_output(tag + rest + b"\n")
            rest.clear()
    if rest:
        await write_output(tag + rest + b"\n")
