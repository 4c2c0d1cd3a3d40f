"""Refuses connections to RPT ports that nobody holds (docs/transport-spec.md section 12.7).

Where any process uses RPT on bare IP, the kernel believes that somebody answers for all of
protocol 253. So one process of each network namespace, whichever has the office, answers
INITs to unheld ports with RESET(PORT); the others look every second whether it is vacant.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Literal

from rawproto.link.rpt_carrier import RawCarrier
from rawproto.link.rpt_ports import Lease, hold_responder, is_held
from rawproto.transport.endpoint import refusal

__all__ = ["Responder"]

_LOOK_S = 1.0
_BATCH = 64
_MOST_PER_SECOND = 1000


class Responder:
    """This process's candidacy for the office, in the running event loop.

    Args:
        family: 4 or 6.

    Raises:
        PrivilegeError: raw sockets are not allowed.
    """

    def __init__(self, family: Literal[4, 6]) -> None:
        self._family: Literal[4, 6] = family
        self._loop = asyncio.get_running_loop()
        self._office: Lease | None = None
        self._carrier: RawCarrier | None = None
        self._look: asyncio.TimerHandle | None = None
        self._second, self._answered = 0.0, 0
        self._stand()

    def _stand(self) -> None:
        """Takes the office if it is vacant, else looks again later."""
        self._office = hold_responder(self._family)
        if self._office is None:
            self._look = self._loop.call_later(_LOOK_S, self._stand)
            return
        try:
            self._carrier = RawCarrier(self._family, refuses=True)
        except BaseException:
            self._office.close()
            raise
        for descriptor in self._carrier.filenos():
            self._loop.add_reader(descriptor, self._answer)

    def _answer(self) -> None:
        carrier = self._carrier
        if carrier is None:
            return
        carrier.errors()
        now = time.monotonic()
        if now - self._second >= 1:
            self._second, self._answered = now, 0
        for data, address, _ in carrier.receive(_BATCH):
            refused = refusal(data, address[0])
            if refused is None or self._answered >= _MOST_PER_SECOND:
                continue
            port, reset = refused
            if not is_held(self._family, port):
                self._answered += 1
                with suppress(OSError):
                    carrier.send(reset, address)

    def close(self) -> None:
        """Leaves the office, and gives every descriptor back."""
        if self._look is not None:
            self._look.cancel()
        if self._carrier is not None:
            for descriptor in self._carrier.filenos():
                self._loop.remove_reader(descriptor)
            self._carrier.close()
            self._carrier = None
        if self._office is not None:
            self._office.close()
            self._office = None
