"""Standard input and output as others have left them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from rawproto.drivers.stdio import read_input, write_output

DATA = os.urandom(1 << 20)


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """One whose ends do not block: whoever shares a pipe or a terminal may have made it so."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    with os.fdopen(reader, "rb", 0) as input_, os.fdopen(writer, "wb", 0) as output:
        yield input_, output


def test_input_that_does_not_block_is_read_to_its_end(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe

    async def write() -> None:
        await asyncio.sleep(0.1)
        await write_output(DATA, writer.fileno())
        writer.close()

    async def read() -> bytes:
        writing = asyncio.create_task(write())
        seen = b"".join([piece async for piece in read_input(reader.fileno())])
        await writing
        return seen

    assert asyncio.run(read()) == DATA


@pytest.mark.timeout(10)
def test_output_that_nobody_reads_holds_up_no_end(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    """Nor any other: the thread that writes it is waited for by nobody."""
    reader, writer = pipe
    for end in pipe:
        os.set_blocking(end.fileno(), True)

    async def write() -> None:
        writing = asyncio.create_task(write_output(DATA, writer.fileno()))
        with open(os.devnull, "wb") as other:
            await write_output(DATA, other.fileno())
        writing.cancel()

    asyncio.run(write())
    left = len(DATA)
    while left:  # before the descriptor is another's
        left -= len(reader.read(left))


def test_output_that_does_not_block_waits_for_its_reader(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    reader, writer = pipe
    seen = bytearray()

    def read() -> None:
        time.sleep(0.1)  # until it is full
        while len(seen) < len(DATA):
            seen.extend(reader.read(1 << 16) or b"")

    reading = threading.Thread(target=read)
    reading.start()
    asyncio.run(write_output(DATA, writer.fileno()))
    reading.join()
    assert seen == DATA
