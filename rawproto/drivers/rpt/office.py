"""Refuses connections to RPT ports that nobody holds (docs/transport-spec.md section 12.7).

Where any process uses RPT on bare IP, the kernel believes that somebody answers for all of
protocol 253. So one process of each network namespace, whichever has the office, answers
INITs to unheld ports with RESET(PORT); the others look every second whether it is vacant.
Who looks, and who waits for the packets, is not known here.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Literal

from rawproto.link.rpt_carrier import RawCarrier
from rawproto.link.rpt_ports import Lease, hold_responder, is_held
from rawproto.transport.refusals import refusal

__all__ = ["LOOK_S", "Office"]

LOOK_S = 1.0
"""How often who has not got the office looks whether it is vacant."""
_BATCH = 64
_MOST_PER_SECOND = 1000
"""So many INITs are looked at; ports that are held are left alone for as long."""
_MOST_SPARED = 64


class Office:
    """This process's candidacy, for whoever pumps it.

    Args:
        family: 4 or 6.
    """

    def __init__(self, family: Literal[4, 6]) -> None:
        self._family: Literal[4, 6] = family
        self._office: Lease | None = None
        self._carrier: RawCarrier | None = None
        self._second, self._left = 0.0, 0
        self._held: set[int] = set()

    def stand(self) -> bool:
        """Takes the office if it is vacant: whether this process has it now.

        Raises:
            PrivilegeError: raw sockets are not allowed.
        """
        if self._office is None:
            self._office = hold_responder(self._family)
            if self._office is None:
                return False
            try:
                self._carrier = RawCarrier(self._family, refuses=True)
            except BaseException:
                self.close()
                raise
        return True

    def filenos(self) -> list[int]:
        """What becomes readable when there is something to answer; nothing without the office."""
        return self._carrier.filenos() if self._carrier is not None else []

    def answer(self) -> None:
        """Refuses what has come for ports that nobody holds."""
        carrier = self._carrier
        if carrier is None:
            return
        carrier.errors()
        now = time.monotonic()
        if now - self._second >= 1:
            self._second, self._left = now, _MOST_PER_SECOND
            self._spare(set())
        held = set(self._held)
        for data, address, _ in carrier.receive(_BATCH):
            if not self._left or int.from_bytes(data[2:4], "big") in held:
                continue
            self._left -= 1
            refused = refusal(data, address[0])
            if refused is None:
                continue
            port, reset = refused
            if is_held(self._family, port):
                held.add(port)
            else:
                with suppress(OSError):
                    carrier.send(reset, address)
        if len(held) <= _MOST_SPARED:
            self._spare(held)

    def _spare(self, held: set[int]) -> None:
        """Leaves ports alone that are held: INITs for them come here too, and may be a flood."""
        if held != self._held and self._carrier is not None:
            self._carrier.spare(held)
            self._held = held

    def close(self) -> None:
        """Leaves the office, and gives every descriptor back."""
        if self._carrier is not None:
            self._carrier.close()
            self._carrier = None
        if self._office is not None:
            self._office.close()
            self._office = None
