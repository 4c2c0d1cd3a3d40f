"""Runs a ping in virtual time and writes its report, as the verb does."""

from __future__ import annotations

import io
from typing import Any

from rawproto.cli.ping_json import JSONReport
from rawproto.cli.ping_text import TextReport
from rawproto.probe.ping import Ping
from tests.probe.virtual import VirtualNetwork


def report_of(
    network: VirtualNetwork,
    kind: type[JSONReport] | type[TextReport],
    *,
    dropped: int = 0,
    **options: Any,
) -> str:
    """What is written from the first line to the summary."""
    stream = io.StringIO()
    assert isinstance(network.machine, Ping)
    report = kind(stream, network.machine, **options)
    report.begin()
    for event in network.run():
        report.tell(event)
    report.end(dropped)
    return stream.getvalue()
