"""A relay's own standard input and output."""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

RELAY = (sys.executable, "-m", "rawproto.cli.main", "relay", "--grace", "0.1", "stdio:")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_relay_whose_output_nobody_reads_ends_when_it_is_told_to(number: signal.Signals) -> None:
    """It waited for the thread that wrote: neither Ctrl-C nor SIGTERM ended it."""
    process = subprocess.Popen(
        [*RELAY, "exec:yes"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=4096
    )
    try:
        assert process.stdout is not None
        fill(process.stdout.fileno(), 4096)
        process.send_signal(number)
        assert process.wait(20) == {signal.SIGTERM: 0, signal.SIGINT: 130}[number]
    finally:
        process.kill()
        process.communicate()


def test_output_that_does_not_block_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader, "rb") as output:
        with open(writer, "wb") as theirs:
            process = subprocess.Popen(
                [*RELAY, "exec:seq 100000"], stdin=subprocess.DEVNULL, stdout=theirs
            )
        fill(reader, 65_536)
        said = output.read()
    assert process.wait(20) == 0
    assert said.split() == [b"%d" % number for number in range(1, 100_001)]


def fill(pipe: int, size: int) -> None:
    """Returns once there are so many bytes in it."""
    deadline = time.monotonic() + 20
    while struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0] < size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
