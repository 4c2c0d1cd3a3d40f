"""Clients that come to a port, as far as connections to be accepted (specification 3.4 and 12).

::

    INIT --------------------> `Listener`: message 2, a proof of the address, or a refusal
    message 3, or under IK
    a short packet ----------> a connection: accepted, or told that its key is not authorized
    a short packet of nobody's > RESET with a token

What it takes to get in is `halfopen`'s. Connections that stand, and who sends what when, are
the endpoint's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rawproto.transport.connection import Connection
from rawproto.transport.constants import CloseCode, ResetCode
from rawproto.transport.halfopen import Event, HalfOpen, Listener
from rawproto.transport.paths import Address
from rawproto.transport.refusals import Answers
from rawproto.wire.rpt import SHORT, RPTHandshake, RPTInit, RPTReset

__all__ = ["Reception"]


class Reception:
    """Where clients come to.

    Args:
        meet: makes the connection of a handshake, by now.
        keep: the endpoint has the connection from now on.
        token_of: the reset token of a connection ID.

    Attributes:
        listener: who lets clients in; None: nobody does.
        accepted: the connections that clients made.
        answers: what is said without a connection.
    """

    def __init__(
        self,
        meet: Callable[[HalfOpen, int], Connection],
        keep: Callable[[Connection], None],
        token_of: Callable[[int], bytes],
    ) -> None:
        self._meet, self._keep, self._token_of = meet, keep, token_of
        self.listener: Listener | None = None
        self.accepted: deque[Connection] = deque()
        self.answers = Answers()

    def half_open(self, cid: int) -> HalfOpen | None:
        """The handshake under way with this connection ID of ours."""
        return self.listener.by_cid.get(cid) if self.listener is not None else None

    def on_init(self, packet: RPTInit, data: bytes, address: Address, now_ns: int) -> None:
        """An INIT came."""
        listener, answers = self.listener, self.answers
        if listener is None:
            answers.refuse(packet, ResetCode.PORT, address, len(data), now_ns)
            return
        answer = listener.on_init(packet, data, address, now_ns)
        if isinstance(answer, ResetCode):
            answers.refuse(packet, answer, address, len(data), now_ns)
        elif isinstance(answer, bytes):
            answers.push(answer, address)
        elif answer is not None:
            answers.retry(answer, address, now_ns)

    def on_handshake(
        self, packet: RPTHandshake, data: bytes, address: Address, now_ns: int
    ) -> None:
        """Message 3, perhaps."""
        half_open = self.half_open(packet.dst_cid)
        if half_open is None or half_open.client_cid != packet.src_cid:
            return
        if half_open.handshake.agreement is not None:
            return
        if not half_open.read(packet):
            self.answers.refuse(packet, ResetCode.KEY, address, len(data), now_ns)
            return
        half_open.history.note(now_ns, data, sent=False)
        held = half_open.held
        connection = self._establish(half_open, now_ns)
        if address != half_open.address:  # whoever saw it pass may have sent it on
            connection.paths.claim(address, len(data), now_ns, connection.sender.recovery.rtt.pto)
        self._admit(half_open, Event.MESSAGE_3, connection, now_ns)
        for each in held:
            connection.handle_short(each, address, 0, now_ns)

    def on_short(self, data: bytes, address: Address, ecn: int, now_ns: int) -> None:
        """A short packet of a handshake that is half-open, or of nobody's."""
        _, _, dst_port, src_port, cid, _ = SHORT.unpack_from(data)
        half_open = self.half_open(cid)
        if half_open is None:
            self.answers.put(
                lambda: RPTReset(
                    dst_port=src_port,
                    src_port=dst_port,
                    dst_cid=0,
                    src_cid=cid,
                    code=ResetCode.UNKNOWN,
                    token=self._token_of(cid),
                ),
                address,
                len(data),
                now_ns,
            )
            return
        if half_open.handshake.agreement is None:
            half_open.hold(data)
            return
        if not half_open.opens(data):
            return
        connection = self._establish(half_open, now_ns)
        if connection.handle_short(data, address, ecn, now_ns):
            self._admit(half_open, Event.SHORT, connection, now_ns)

    def _establish(self, half_open: HalfOpen, now_ns: int) -> Connection:
        agreement = half_open.handshake.agreement
        assert agreement is not None
        connection = self._meet(half_open, now_ns)
        connection.log_cid = half_open.client_cid
        connection.history = half_open.history
        connection.begin(agreement, now_ns)
        return connection

    def _admit(
        self, half_open: HalfOpen, event: Event, connection: Connection, now_ns: int
    ) -> None:
        listener = self.listener
        assert listener is not None
        listener.forget(half_open, event)
        self._keep(connection)
        if listener.authorize(connection.peer_key):
            self.accepted.append(connection)
            connection.on_confirmed()
        else:
            connection.abort(CloseCode.NOT_AUTHORIZED, "this key is not authorized", now_ns)
