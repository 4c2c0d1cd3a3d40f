"""What a connection tells its user."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ConnectionClosed",
    "ConnectionEstablished",
    "DatagramReadable",
    "Event",
    "Queue",
    "SendingStopped",
    "StreamOpened",
    "StreamReadable",
    "StreamReset",
    "StreamWritable",
    "StreamsAllowed",
]


@dataclass(slots=True)
class ConnectionEstablished:
    """The handshake is done; data may be sent.

    Attributes:
        peer_key: the peer's static public key, 32 bytes.
    """

    peer_key: bytes


@dataclass(slots=True)
class ConnectionClosed:
    """The end.

    Attributes:
        error: why, None if either side closed with code 0.
    """

    error: Exception | None


@dataclass(slots=True)
class StreamOpened:
    """The peer opened a stream."""

    stream_id: int


@dataclass(slots=True)
class StreamReadable:
    """There is data, or the end, to read where there was nothing."""

    stream_id: int


@dataclass(slots=True)
class StreamWritable:
    """A stream that was full takes data again."""

    stream_id: int


@dataclass(slots=True)
class StreamReset:
    """The peer gave up a stream it was sending.

    Attributes:
        code: the application's.
    """

    stream_id: int
    code: int


@dataclass(slots=True)
class SendingStopped:
    """The peer wants no more of a stream; what was not sent is gone.

    Attributes:
        code: the application's.
    """

    stream_id: int
    code: int


@dataclass(slots=True)
class StreamsAllowed:
    """The peer lets us open more streams than before."""


@dataclass(slots=True)
class DatagramReadable:
    """There are datagrams where there were none."""


Event = (
    ConnectionEstablished
    | ConnectionClosed
    | StreamOpened
    | StreamReadable
    | StreamWritable
    | StreamReset
    | SendingStopped
    | StreamsAllowed
    | DatagramReadable
)


class Queue(list[Event]):
    """Events that wait to be told, of which a peer decides how many they are.

    Those told stay until all are, so that nothing is moved for each. (An empty deque takes 700
    bytes of each connection.)
    """

    __slots__ = ("_told",)

    def __init__(self) -> None:
        super().__init__()
        self._told = 0

    def next(self) -> Event:
        """The next one; there must be one, as there is while this is true."""
        event = self[self._told]
        self._told += 1
        if self._told == len(self):
            self.clear()
            self._told = 0
        return event
