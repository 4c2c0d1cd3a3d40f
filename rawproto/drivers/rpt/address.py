"""RPT's addresses as people write them: `rpt://host:port` and `rpt+udp://host:port`."""

from __future__ import annotations

import re
from typing import NamedTuple

from rawproto.errors import UsageError

__all__ = ["RPTAddress", "host_and_port", "parse_address"]

_FORM = re.compile(r"(?:(rpt|rpt\+udp)://)?(?:\[([^\]]+)\]|([^:/\[\]]*)):(\d{1,5})/?")


class RPTAddress(NamedTuple):
    """Where to connect or to listen.

    Attributes:
        carrier: `"rpt"` for bare IP, `"rpt+udp"`.
        host: a name or an address, "" for all of this host's.
        port: 0 to 65535.
    """

    carrier: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.carrier}://{host_and_port(self.host, self.port)}"


def host_and_port(host: str, port: int) -> str:
    """Both as people write them: an IPv6 address in brackets (RFC 3986, 3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> RPTAddress:
    """Reads an address; without a scheme it is `rpt://`. IPv6 stands in brackets.

    Raises:
        UsageError: it is none.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"{text}: not an RPT address with its port, such as rpt://10.0.0.2:4000")
    if int(found[4]) > 0xFFFF:
        raise UsageError(f"{text}: a port is 0 to 65535")
    return RPTAddress(found[1] or "rpt", found[2] or found[3] or "", int(found[4]))
