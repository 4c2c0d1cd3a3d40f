"""What bench_relay and bench_proxy send through what they measure: TCP, between two processes.

    tcp_load.py serve                     prints `listening PORT`; counts what comes, or echoes
    tcp_load.py bulk PORT SECONDS         bytes, as fast as they go: what arrived, in bit/s
    tcp_load.py download PORT SECONDS     the same from there
    tcp_load.py visits PORT SECONDS       connections that send a byte and read it again: a second

All on 127.0.0.1, by threads that block: cheaper than any relay in between. With a third word, the
port of a SOCKS5 proxy, they go through that, to `localhost`.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from contextlib import suppress
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
            if kind == b"D":
                with suppress(OSError):
                    while True:
                        client.sendall(PIECE)
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


def connected(port: int, socks: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", socks or port))
    if socks:
        client.sendall(b"\5\1\0" + b"\5\1\0\3\x09localhost" + port.to_bytes(2, "big"))
        answer = b""
        while len(answer) < 12:
            piece = client.recv(12 - len(answer))
            answer += piece or sys.exit("the proxy left")
        assert answer[:6] == b"\5\0\5\0\0\1", answer
    return client


def download(port: int, seconds: float, socks: int) -> float:
    buffer, size = bytearray(1 << 18), 0
    with connected(port, socks) as client:
        begun = time.monotonic()
        client.sendall(b"D")
        while time.monotonic() < begun + seconds:
            size += client.recv_into(buffer)
        return size * 8 / (time.monotonic() - begun)


def bulk(port: int, seconds: float, socks: int) -> float:
    with connected(port, socks) as client:
        begun = time.monotonic()
        client.sendall(b"B")
        while time.monotonic() < begun + seconds:
            client.sendall(PIECE)
        client.shutdown(socket.SHUT_WR)
        arrived = int(client.recv(100))
        return arrived * 8 / (time.monotonic() - begun)


def visits(port: int, seconds: float, socks: int) -> float:
    begun = time.monotonic()
    counts = [0] * AT_ONCE

    def visit(number: int) -> None:
        while time.monotonic() < begun + seconds:
            with connected(port, socks) as client:
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
        figure = {"bulk": bulk, "download": download, "visits": visits}[sys.argv[1]]
        socks = int(sys.argv[4]) if len(sys.argv) > 4 else 0
        print(json.dumps({"figure": figure(int(sys.argv[2]), float(sys.argv[3]), socks)}))
