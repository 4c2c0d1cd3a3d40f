"""rtnetlink requests and answers, packed by hand (read RFC 3549 and netlink(7), rtnetlink(7)).

::

     0                   1                   2                   3
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
    +---------------------------------------------------------------+
    |                            length                             |
    +-------------------------------+-------------------------------+
    |             type              |             flags             |
    +-------------------------------+-------------------------------+
    |                            sequence                           |
    +---------------------------------------------------------------+
    |                          port (sender)                        |
    +---------------------------------------------------------------+
    |  a fixed header by type, then attributes, each padded to 32   |
    |  bits: length (16), type (16), value ...                      |

All in the host's byte order but for addresses. It knows neither routes nor
interfaces: what a type means is the caller's business.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Self

__all__ = ["NetlinkSocket", "emit_attribute", "parse_attributes"]

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_INT = struct.Struct("=i")
_TYPE_MASK = 0x3FFF  # without the flags "nested" and "network byte order"


def emit_attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + bytes(-len(value) % 4)


def parse_attributes(data: bytes) -> dict[int, bytes]:
    """The attributes by type; of equal types the last, and nothing behind a broken one."""
    attributes = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not 4 <= length <= len(data) - at:
            break
        attributes[kind & _TYPE_MASK] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return attributes


class NetlinkSocket:
    """A socket to the kernel's routing tables, in the network namespace of its birth.

    Args:
        groups: bit mask of RTMGRP_* to listen to.
    """

    def __init__(self, groups: int = 0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self._sequence = 0
        try:
            self._socket.bind((0, groups))
            self._socket.settimeout(2)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Readable while there are notices."""
        return self._socket.fileno()

    def request(self, kind: int, body: bytes, flags: int = 0) -> list[tuple[int, bytes]]:
        """Asks the kernel: its answers, (type, body).

        Args:
            kind: RTM_*.
            body: the fixed header and attributes.
            flags: NLM_F_DUMP for all there is, NLM_F_ACK where there is no other answer.

        Raises:
            OSError: the kernel's errno, TimeoutError where it did not answer.
        """
        self._sequence += 1
        header = _HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[tuple[int, bytes]] = []
        while True:
            for answer, sequence, payload in self._messages():
                if sequence != self._sequence:
                    continue  # a notice to a group, or the answer to a request given up
                if answer == _NLMSG_ERROR:
                    number = -int(_INT.unpack_from(payload)[0])
                    if number:
                        raise OSError(number, os.strerror(number))
                    return answers
                if answer == _NLMSG_DONE:
                    return answers
                answers.append((answer, payload))
            if answers and not flags & NLM_F_DUMP:
                return answers

    def notices(self, seconds: float) -> Iterator[tuple[int, bytes]]:
        """What the groups tell, (type, body), for so many seconds at most."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                messages = list(self._messages())
            except TimeoutError:
                return
            for kind, _, payload in messages:
                yield kind, payload

    def _messages(self) -> Iterator[tuple[int, int, bytes]]:
        """The messages of one read: (type, sequence, body)."""
        try:
            data = self._socket.recv(1 << 18)
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                return  # notices were lost; whoever waits for one has a time-out
            raise
        at = 0
        while at + 16 <= len(data):
            length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
            if not 16 <= length <= len(data) - at:
                return
            yield kind, sequence, data[at + 16 : at + length]
            at += length + 3 & ~3
