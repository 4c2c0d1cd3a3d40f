"""Show RPT in Wireshark and tshark: the header fields that are in the clear.

examples:
  rawproto dissector install                    among one's own Wireshark plugins
  rawproto dissector install --directory DIR    elsewhere
  rawproto dissector show                       the file itself
  tshark -X lua_script:<(rawproto dissector show) -r trace.pcapng

Packets of protocol 253 are shown as RPT, and UDP conversations in which a handshake has the
right CRC. Fields are named as in `rawproto decode --json`: rpt.dst_cid, rpt.packet_number.
What is sealed stays so: `rawproto decode --keylog FILE` opens it.

exit code: 0, 2 the file cannot be written
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rawproto.errors import UsageError

__all__ = ["add_arguments", "lua", "run"]

_NAME = "rawproto-rpt.lua"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the verb's command line to `parser`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    install = actions.add_parser("install", help="write the dissector where Wireshark looks for it")
    install.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        help="where to (~/.local/lib/wireshark/plugins, one's own plugins)",
    )
    actions.add_parser("show", help="print the dissector")


def run(arguments: argparse.Namespace) -> int:
    """Installs or prints the dissector: the exit code."""
    if arguments.action == "show":
        sys.stdout.write(lua())
        return 0
    directory = arguments.directory or Path.home() / ".local/lib/wireshark/plugins"
    path = directory / _NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path.write_text(lua(), encoding="ascii")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from None
    print(f"{path}: Wireshark and tshark load it when they start")
    return 0


def lua() -> str:
    """The dissector's text, out of the package."""
    from importlib.resources import files

    return files("rawproto.cli").joinpath("rpt.lua").read_text(encoding="ascii")
