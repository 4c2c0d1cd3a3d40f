"""What is said to packets that belong to nobody, without keeping anything (specification 12.7)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from rawproto.errors import WireError
from rawproto.transport.budget import Budget
from rawproto.transport.constants import MIN_INIT_BYTES, ResetCode
from rawproto.transport.paths import Address
from rawproto.wire.rpt import RPTInit, RPTLong, RPTReset, RPTRetry, RPTVersion, parse_rpt

__all__ = ["Answers", "is_unicast", "refusal", "returned"]

# RESET and VERSION. A budget that a flood of INITs could use up would keep honest clients
# from their RETRY, so RETRY's is its own, and above what a listener can be made to answer.
_REFUSALS_PER_SECOND = 1000
_RETRIES_PER_SECOND = 50_000
_MAX_PENDING = 4096
_REFUSAL_BYTES = len(RPTReset().emit())  # the largest of them


class Answers:
    """What an endpoint says without a connection.

    Attributes:
        waiting: what has not left yet, as an endpoint's departures.
    """

    def __init__(self) -> None:
        self.waiting: deque[tuple[list[bytes], Address, int]] = deque()
        self._refusals = Budget(_REFUSALS_PER_SECOND)
        self._retries = Budget(_RETRIES_PER_SECOND)

    def refuse(
        self, packet: RPTLong, code: ResetCode, address: Address, size: int, now_ns: int
    ) -> None:
        """RESET, under the conditions of `put`."""
        self.put(lambda: RPTReset(**returned(packet), code=code), address, size, now_ns)

    def put(
        self, answer: Callable[[], RPTReset | RPTVersion], address: Address, size: int, now_ns: int
    ) -> None:
        """Answers `size` bytes: with no more than that, unicast only, and not too often.

        The answer is made once it is known to leave: a flood costs no more than what is refused.
        """
        if size >= _REFUSAL_BYTES and is_unicast(address[0]) and self._refusals.take(now_ns):
            self.push(answer().emit(), address)

    def retry(self, packet: RPTRetry, address: Address, now_ns: int) -> None:
        """Answers an INIT with a demand for a proof, likewise."""
        if is_unicast(address[0]) and self._retries.take(now_ns):
            self.push(packet.emit(), address)

    def push(self, data: bytes, address: Address) -> None:
        """Has a packet leave, unless thousands wait."""
        if len(self.waiting) < _MAX_PENDING:
            self.waiting.append(([data], address, 0))


def refusal(data: bytes, addr: str) -> tuple[int, bytes] | None:
    """For whoever refuses ports that nobody holds (section 12.7).

    Args:
        data: a packet that came.
        addr: from where.

    Returns:
        The port that it is for and the RESET that refuses it; None if it is no INIT.
    """
    try:
        packet, behind = parse_rpt(data)
    except WireError:
        return None
    if not isinstance(packet, RPTInit) or behind or len(data) < MIN_INIT_BYTES:
        return None
    if not RPTLong.verify(data) or not is_unicast(addr):
        return None
    return packet.dst_port, RPTReset(**returned(packet), code=ResetCode.PORT).emit()


def is_unicast(addr: str) -> bool:
    """Of an address as the kernel writes it: a flood of INITs asks this for each."""
    if ":" in addr:
        return not addr.startswith("ff") and addr.partition("%")[0] != "::"
    return 0 < int(addr.partition(".")[0]) < 224  # what is above is multicast or reserved


def returned(packet: RPTLong) -> dict[str, Any]:
    """What an answer repeats of a packet, exchanged (section 2.2.5)."""
    return {
        "suite": packet.suite,
        "dst_port": packet.src_port,
        "src_port": packet.dst_port,
        "dst_cid": packet.src_cid,
        "src_cid": packet.dst_cid,
    }
