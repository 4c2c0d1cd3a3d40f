"""The office of refusing unheld ports (`office`), in an event loop."""

from __future__ import annotations

import asyncio
from typing import Literal

from rawproto.drivers.rpt.office import LOOK_S, Office
from rawproto.errors import LinkError, PrivilegeError

__all__ = ["Responder"]


class Responder:
    """A candidacy in the running event loop.

    Args:
        family: 4 or 6.

    Raises:
        PrivilegeError: raw sockets are not allowed.
    """

    def __init__(self, family: Literal[4, 6]) -> None:
        self._loop = asyncio.get_running_loop()
        self._office = Office(family)
        self._look: asyncio.TimerHandle | None = None
        self._stand()

    def _stand_again(self) -> None:
        try:
            self._stand()
        except PrivilegeError:
            pass  # the rights were given up meanwhile
        except LinkError:  # no descriptor just now
            self._look = self._loop.call_later(LOOK_S, self._stand_again)

    def _stand(self) -> None:
        if not self._office.stand():
            self._look = self._loop.call_later(LOOK_S, self._stand_again)
            return
        for descriptor in self._office.filenos():
            self._loop.add_reader(descriptor, self._office.answer)

    def close(self) -> None:
        """Leaves the office, and gives every descriptor back."""
        if self._look is not None:
            self._look.cancel()
        for descriptor in self._office.filenos():
            self._loop.remove_reader(descriptor)
        self._office.close()
