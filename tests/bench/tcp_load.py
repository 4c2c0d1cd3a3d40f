"""What bench_relay sends through relays: TCP, from one process to another.

    tcp_load.py serve                     prints `listening PORT`; counts what comes, or echoes
    tcp_load.py bulk PORT SECONDS         bytes, as fast as they go: what arrived, in bit/s
    tcp_load.py visits PORT SECONDS       connections that send a byte and read it again: a second

All on 127.0.0.1, by threads that block: cheaper than any relay in between.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from threading import Thread

AT_ONCE = 8
PIECE = bytes(1 << 18)


def answer(listener: socket.socket) -> None:
    buffer = bytearray(1 << 18)
    while True:
        client, _ = listener.accept()
        with client:
            kind = client.recv(1)
            if kind == b"E":
                client.sendall(kind)
                continue
            size = 0
            while got := client.recv_into(buffer):
                size += got
            client.sendall(b"%d" % size)


def serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    for _ in range(AT_ONCE):
        Thread(target=answer, args=(listener,), daemon=True).start()
    print("listening", listener.getsockname()[1], flush=True)
    sys.stdin.read()


def bulk(port: int, seconds: float) -> float:
    with socket.create_connection(("127.0.0.1", port)) as client:
        begun = time.monotonic()
        client.sendall(b"B")
        while time.monotonic() < begun + seconds:
            client.sendall(PIECE)
        client.shutdown(socket.SHUT_WR)
        arrived = int(client.recv(100))
        return arrived * 8 / (time.monotonic() - begun)


def visits(port: int, seconds: float) -> float:
    begun = time.monotonic()
    counts = [0] * AT_ONCE

    def visit(number: int) -> None:
        while time.monotonic() < begun + seconds:
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"E")
                assert client.recv(1) == b"E"
            counts[number] += 1

    threads = [Thread(target=visit, args=(number,)) for number in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.monotonic() - begun)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        figure = {"bulk": bulk, "visits": visits}[sys.argv[1]]
        print(json.dumps({"figure": figure(int(sys.argv[2]), float(sys.argv[3]))}))
