"""Standard input and output over one connection: bytes, messages or datagrams."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress

from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.stdio import read_input, read_lines, write_output
from rawproto.errors import ConnectionLostError, ProtocolError
from rawproto.transport.config import Config
from rawproto.transport.constants import Kind

__all__ = ["add_kind_options", "config_of", "exchange"]

_KEEP_ALIVE_NS = 10_000_000_000


def add_kind_options(parser: argparse.ArgumentParser) -> None:
    """What the connection carries; both sides must agree."""
    parser.add_argument("--messages", action="store_true", help="a line is a message")
    parser.add_argument("--datagrams", action="store_true", help="a line is a datagram")


def config_of(arguments: argparse.Namespace) -> Config:
    """The settings that the options ask for."""
    kind = Kind.STREAM
    if arguments.messages:
        kind = Kind.SEQPACKET
    elif arguments.datagrams:
        kind = Kind.DGRAM
    return Config(kind=kind, congestion=arguments.congestion, keep_alive_ns=_KEEP_ALIVE_NS)


async def exchange(connection: RPTConnection, arguments: argparse.Namespace) -> None:
    """Carries both ways until both sides have ended. Raises what ended the connection."""
    sending = asyncio.create_task(_send(connection))
    closed = asyncio.create_task(connection.wait_closed())
    try:
        await _receive(connection)
        # Who has ended its side and then closes wants no more of ours.
        await asyncio.wait({sending, closed}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await sending
        if connection.error is not None:
            raise connection.error
    finally:
        for task in (sending, closed):
            task.cancel()
            with suppress(asyncio.CancelledError, ConnectionLostError, ProtocolError):
                await task


async def _send(connection: RPTConnection) -> None:
    """Input to the peer; its end ends our side."""
    stream = connection.stream
    if connection.kind is Kind.STREAM:
        async for piece in read_input():
            await stream.send(piece)
    else:
        async for line in read_lines():
            if connection.kind is Kind.SEQPACKET:
                await stream.send_message(line)
            else:
                connection.send_datagram(line)
    await stream.send_eof()


async def _receive(connection: RPTConnection) -> None:
    """What the peer sends to output, until it ends its side."""
    stream = connection.stream
    if connection.kind is Kind.STREAM:
        async for piece in stream:
            await write_output(piece)
    elif connection.kind is Kind.SEQPACKET:
        while (message := await stream.receive_message()) is not None:
            await write_output(message + b"\n")
    else:
        await _receive_datagrams(connection)


async def _receive_datagrams(connection: RPTConnection) -> None:
    """Datagrams until the peer has ended stream 0, which both sides of a DGRAM session do."""
    ended = asyncio.create_task(connection.stream.receive())
    try:
        while True:
            coming = asyncio.create_task(connection.receive_datagram())
            await asyncio.wait({ended, coming}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done() and not coming.exception():
                await write_output(coming.result() + b"\n")
                continue
            coming.cancel()
            with suppress(asyncio.CancelledError, ConnectionLostError, ProtocolError):
                await coming
            while (datagram := connection.machine.datagrams.receive()) is not None:
                await write_output(datagram + b"\n")  # what came along with the end
            if connection.error is not None:
                raise connection.error
            return
    finally:
        ended.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await ended
