"""What bench_http asks by HTTP, over plain TCP, by threads that block.

    http_load.py requests HOST PORT SECONDS     a small file again and again, 8 connections kept
    http_load.py visits HOST PORT SECONDS       the same, each with a connection of its own
    http_load.py download HOST PORT SECONDS     a large file for so long: what came, in bit/s

Answers are counted by their Content-Length alone: cheaper than any server in between.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from collections.abc import Callable
from threading import Thread

AT_ONCE = 8
SMALL = b"GET /small HTTP/1.1\r\nHost: h\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)\r\n")

Place = tuple[str, int]


def ask(client: socket.socket, buffer: bytearray) -> None:
    """One request; reads the whole answer."""
    client.sendall(SMALL)
    got = client.recv_into(buffer)
    while (end := buffer.find(b"\r\n\r\n", 0, got)) < 0:
        got += client.recv_into(memoryview(buffer)[got:])
    found = _LENGTH.search(buffer, 0, end + 2)
    assert found is not None
    assert buffer.startswith(b"HTTP/1.1 200")
    left = end + 4 + int(found[1]) - got
    while left:
        left -= client.recv_into(buffer, left)


def counted(once: Callable[[], Callable[[], None]], seconds: float) -> float:
    """How often a second threads get done what `once` prepares for each of them."""
    counts = [0] * AT_ONCE
    begun = time.monotonic()

    def work(number: int) -> None:
        act = once()
        while time.monotonic() < begun + seconds:
            act()
            counts[number] += 1

    threads = [Thread(target=work, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


def requests(place: Place, seconds: float) -> float:
    def once() -> Callable[[], None]:
        client, buffer = socket.create_connection(place), bytearray(1 << 16)
        return lambda: ask(client, buffer)

    return counted(once, seconds)


def visits(place: Place, seconds: float) -> float:
    def once() -> Callable[[], None]:
        buffer = bytearray(1 << 16)

        def visit() -> None:
            with socket.create_connection(place) as client:
                ask(client, buffer)

        return visit

    return counted(once, seconds)


def download(place: Place, seconds: float) -> float:
    buffer = bytearray(1 << 20)
    with socket.create_connection(place) as client:
        client.sendall(LARGE)
        assert client.recv_into(buffer)  # it has begun
        begun, size = time.monotonic(), 0
        while time.monotonic() < begun + seconds and (got := client.recv_into(buffer)):
            size += got
        return size * 8 / (time.monotonic() - begun)


if __name__ == "__main__":
    act = {"requests": requests, "visits": visits, "download": download}[sys.argv[1]]
    print(json.dumps({"figure": act((sys.argv[2], int(sys.argv[3])), float(sys.argv[4]))}))
