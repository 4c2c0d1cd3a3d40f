"""When a packet was seen, in the five forms that tcpdump has for it."""

from __future__ import annotations

import time

__all__ = ["Clock"]

_SECOND_NS = 1_000_000_000


class Clock:
    """Writes the times of one file's packets, in order.

    Whole seconds are remembered, because asking for the local time costs as much as all
    else. A second beyond what calendars know is written as a number.
    """

    def __init__(self, form: int) -> None:
        """
        Args:
            form: how many `-t`: 0 local time of day, 1 nothing, 2 seconds since 1970, 3 since the
                packet before, 4 local date and time, 5 since the first packet.
        """
        self._form = form
        self._layout = "%Y-%m-%d %H:%M:%S" if form == 4 else "%H:%M:%S"
        self._second = -1
        self._text = ""
        self._reference_ns: int | None = None

    def stamp(self, time_ns: int, digits: int) -> str:
        """The time with a space behind it, or "".

        Args:
            time_ns: since the epoch.
            digits: of the fraction, as fine as the file is: 6 or 9.
        """
        form = self._form
        if form == 1:
            return ""
        if form in (3, 5):
            return self._since_reference(time_ns, digits)
        second, rest_ns = divmod(time_ns, _SECOND_NS)
        if second != self._second:
            self._second = second
            self._text = str(second) if form == 2 else self._calendar(second)
        return f"{self._text}.{f'{rest_ns:09d}'[:digits]} "

    def _calendar(self, second: int) -> str:
        try:
            return time.strftime(self._layout, time.localtime(second))
        except (OverflowError, ValueError, OSError):
            return str(second)

    def _since_reference(self, time_ns: int, digits: int) -> str:
        before = time_ns if self._reference_ns is None else self._reference_ns
        if self._form == 3 or self._reference_ns is None:
            self._reference_ns = time_ns
        gap_ns = time_ns - before
        sign = "-" if gap_ns < 0 else " "
        second, rest_ns = divmod(abs(gap_ns), _SECOND_NS)
        clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        return f"{sign}{clock}.{f'{rest_ns:09d}'[:digits]} "
