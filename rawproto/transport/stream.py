"""One stream, as both its halves stand: the record that `streams` keeps of each."""

from __future__ import annotations

from rawproto.transport.recvbuf import ReceiveBuffer
from rawproto.transport.sendbuf import SendBuffer
from rawproto.transport.window import Window

__all__ = ["Stream"]


class Stream:
    """One stream. A part that this side does not have is None.

    Attributes:
        stream_id: its ID.
        sending: what is still to be sent.
        receiving: what has come.
        send_limit: the peer takes data up to here.
        window: what this side takes.
        reset_code: with which this side gave up sending, None if it did not.
        reset_acked: and the peer knows.
        stop_code: with which this side wants the peer to stop, None if it does not.
        stop_due: the peer is asked to only if it sends more than the end.
        peer_reset: the peer gave up sending.
    """

    __slots__ = (
        "full",
        "peer_reset",
        "queued",
        "readable_told",
        "receiving",
        "reset_acked",
        "reset_code",
        "send_limit",
        "sending",
        "stop_code",
        "stop_due",
        "stream_id",
        "window",
    )

    def __init__(
        self,
        stream_id: int,
        sending: SendBuffer | None,
        receiving: ReceiveBuffer | None,
        send_limit: int,
        window: Window,
    ) -> None:
        self.stream_id = stream_id
        self.sending = sending
        self.receiving = receiving
        self.send_limit = send_limit
        self.window = window
        self.reset_code: int | None = None
        self.reset_acked = False
        self.stop_code: int | None = None
        self.stop_due = False
        self.peer_reset = False
        self.readable_told = False
        self.full = False
        self.queued = False

    def only(self, start: int, end: int) -> bool:
        """Whether what was sent and not acknowledged is from `start` to `end`, all that there is
        to send, and nobody waits until it has arrived."""
        sending = self.sending
        return (
            sending is not None
            and sending.base == start
            and sending.next == sending.end == end
            and not (
                self.full or sending.lost.starts or sending.ended or self.reset_code is not None
            )
        )

    @property
    def given_up(self) -> bool:
        """Whether this side has ended its part, and reads no more of the peer's."""
        sending, receiving = self.sending, self.receiving
        sent = sending is None or sending.ended or self.reset_code is not None
        return sent and (
            receiving is None or receiving.finished or self.peer_reset or self.stop_code is not None
        )

    @property
    def done(self) -> bool:
        """Whether both parts are, so that the stream can be forgotten."""
        sent = (
            self.sending is None
            or self.sending.done
            or (self.reset_code is not None and self.reset_acked)
        )
        return sent and (self.receiving is None or self.peer_reset or self.receiving.finished)
