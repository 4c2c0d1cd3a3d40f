"""The least that a sealed and acknowledged transfer costs in Python: bench_rpt's yardstick.

    bare_peer.py serve ADDR            bare_peer.py run ADDR SECONDS

One raw socket of protocol 253 on each side. The sender packs a header of 18 bytes, seals
1,431 bytes of data behind 15 of a frame's head, sends, and takes in an acknowledgement for
every 16 packets, up to 512 packets ahead. The receiver opens each, copies the data out and
acknowledges. There are no losses to mend (who loses an acknowledgement's packet, ends),
no pace, no streams, no timers: what RPT costs above this is what these cost.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER = struct.Struct("!BBHHQI")
FRAME = struct.Struct("!BIQH")
DATA_BYTES = 1431
EVERY, WINDOW = 16, 512
LAST = 0xFFFFFFFF
KEY, IV = bytes(32), 0x0123456789AB
PROTOCOL = 253


def open_socket(addr: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL)
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
    sock.settimeout(10)
    sock.bind((addr, 0))
    return sock


def seal(aead: AESGCM, number: int, frames: bytes) -> bytes:
    header = HEADER.pack(0, EVERY, 4000, 50_000, 1, number)
    return header + aead.encrypt((IV ^ number).to_bytes(12, "big"), frames, header)


def unseal(aead: AESGCM, packet: bytes) -> tuple[int, bytes]:
    """(number, frames) of an IPv4 packet that came."""
    header = packet[20:38]
    number = HEADER.unpack(header)[5]
    return number, aead.decrypt((IV ^ number).to_bytes(12, "big"), packet[38:], header)


def serve(addr: str) -> None:
    sock, aead = open_socket(addr), AESGCM(KEY)
    print("listening", flush=True)
    size = packets = 0
    start_ns = cpu_ns = 0
    receive, unpack, decrypt = sock.recvfrom, HEADER.unpack, aead.decrypt
    while True:
        packet, source = receive(2048)
        if not start_ns:
            start_ns, cpu_ns = time.monotonic_ns(), time.process_time_ns()
        header = packet[20:38]  # `unseal`, without a call
        number = unpack(header)[5]
        frames = decrypt((IV ^ number).to_bytes(12, "big"), packet[38:], header)
        if number == LAST:
            break
        _, _, _, length = FRAME.unpack_from(frames)
        size += len(frames[15 : 15 + length])
        packets += 1
        if packets % EVERY == 0:
            sock.sendto(seal(aead, packets, FRAME.pack(2, 0, number, 0)), source)
    cpu_ns = time.process_time_ns() - cpu_ns
    seconds = (time.monotonic_ns() - start_ns) / 1e9
    report = {"bytes": size, "seconds": seconds, "us": cpu_ns / 1e3 / packets}
    sock.sendto(seal(aead, LAST, json.dumps(report).encode()), source)


def run(addr: str, seconds: float) -> None:
    sock, aead = open_socket(""), AESGCM(KEY)
    data = bytes(1 << 20)
    number = acked = 0
    target = (addr, 0)
    cpu_ns, end = time.process_time_ns(), time.monotonic() + seconds
    pack, encrypt, send, head = HEADER.pack, aead.encrypt, sock.sendto, FRAME.pack
    while time.monotonic() < end:
        for at in range(0, EVERY * DATA_BYTES, DATA_BYTES):  # `seal`, without a call
            header = pack(0, EVERY, 4000, 50_000, 1, number)
            frames = head(1, 0, number, DATA_BYTES) + data[at : at + DATA_BYTES]
            send(header + encrypt((IV ^ number).to_bytes(12, "big"), frames, header), target)
            number += 1
        while number - acked >= WINDOW:
            _, frames = unseal(aead, sock.recv(2048))
            acked = FRAME.unpack_from(frames)[2] + 1
    while acked < number:
        acked = FRAME.unpack_from(unseal(aead, sock.recv(2048))[1])[2] + 1
    cpu_ns = time.process_time_ns() - cpu_ns
    sock.sendto(seal(aead, LAST, b"the end"), target)
    _, text = unseal(aead, sock.recv(2048))
    report = json.loads(text)
    figures = {
        "goodput_bps": report["bytes"] * 8 / report["seconds"],
        "sender_us": cpu_ns / 1e3 / number,
        "receiver_us": report["us"],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        run(sys.argv[2], float(sys.argv[3]))
