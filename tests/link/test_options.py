"""A filter on a socket that was in use before: what stands in its queue, and errors that wait."""

from __future__ import annotations

import select
import socket

from rawproto.link.options import attach_filter

# ret #-1
ACCEPT = bytes.fromhex("06000000ffffffff")


def test_filter_takes_hold_though_icmp_has_told_of_a_packet_that_nobody_took() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as theirs,
    ):
        for each in (ours, theirs):
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        address = theirs.getsockname()
        ours.connect(address)
        theirs.close()
        ours.send(b"nobody takes this")
        assert select.select([ours], [], [], 10)[0], "the error waits"
        attach_filter(ours, ACCEPT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
            again.bind(address)
            again.sendto(b"heard", ours.getsockname())
            assert select.select([ours], [], [], 10)[0]
            assert ours.recv(100) == b"heard"
