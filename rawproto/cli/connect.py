"""Connect standard input and output to a listener, encrypted, over RPT.

examples:
  rawproto connect rpt://10.0.0.2:4000               type, or pipe, and read the answers
  rawproto connect rpt://10.0.0.2:4000 < file        send a file; input's end ends our side only
  rawproto connect --messages rpt+udp://host:4000    a line is a message
  rawproto connect -z rpt://10.0.0.2:4000            is it there?

exit status: 0 ended well, 1 refused, lost or not trusted, 2 usage or local error,
130 Ctrl-C
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

from rawproto.cli.rpt_dial import dial
from rawproto.cli.rpt_options import add_client_options, check_combination
from rawproto.cli.rpt_session import add_kind_options, config_of, exchange
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import UsageError

__all__ = ["add_arguments", "run"]

_MOST_WAIT_S = 86_400


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `connect`."""
    parser.add_argument("address", help="rpt://HOST:PORT or rpt+udp://HOST:PORT")
    add_kind_options(parser)
    parser.add_argument("-z", dest="probe", action="store_true", help="only see if it answers")
    parser.add_argument(
        "-w", dest="wait", type=float, metavar="SECONDS", help="how long to wait for a connection"
    )
    parser.add_argument("-4", dest="family", action="store_const", const=4, help="IPv4 only")
    parser.add_argument("-6", dest="family", action="store_const", const=6, help="IPv6 only")
    add_client_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Connects, carries, and says how it ended."""
    check_combination(messages=arguments.messages, datagrams=arguments.datagrams)

    async def use(connection: RPTConnection) -> None:
        if arguments.probe:
            address, port = connection.peer_address
            sys.stderr.write(f"{address} {port} answers\n")
            await connection.stream.send_eof()
        else:
            await exchange(connection, arguments)

    config = config_of(arguments)
    if arguments.wait is not None:
        if not 0 < arguments.wait <= _MOST_WAIT_S:
            raise UsageError(
                f"-w: {arguments.wait:g} seconds; more than 0, and no more than {_MOST_WAIT_S}"
            )
        config = replace(config, handshake_timeout_ns=int(arguments.wait * 1e9))
    return dial("connect", arguments, config, use)
