"""Connect standard input and output to a listener, encrypted, over RPT.

examples:
  rawproto connect rpt://10.0.0.2:4000               type, or pipe, and read the answers
  rawproto connect rpt://10.0.0.2:4000 < file        send a file; input's end ends our side only
  rawproto connect --messages rpt+udp://host:4000    a line is a message
  rawproto connect -z rpt://10.0.0.2:4000            is it there?

exit status: 0 ended well, 1 refused, lost or not trusted, 2 usage or local error
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from rawproto.cli.rpt_options import (
    Trust,
    add_client_options,
    check_combination,
    log_secrets,
    private_key,
    psk_of,
)
from rawproto.cli.rpt_session import add_kind_options, config_of, exchange
from rawproto.drivers.rpt import connect
from rawproto.errors import (
    ConnectionLostError,
    HandshakeError,
    PeerMismatchError,
    ProtocolError,
    RefusedError,
    UnknownPeerError,
)
from rawproto.identity.keys import fingerprint

__all__ = ["add_arguments", "run"]

_LOUD = """rawproto connect: THE KEY OF {address} HAS CHANGED: it shows {key} now.
Somebody may be in between. If the change is known to be right: rawproto keys forget {address}
"""


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
    trust = Trust(arguments.address, accept_new=arguments.accept_new)
    try:
        try:
            asyncio.run(_connect(arguments, trust))
        except UnknownPeerError as error:
            # The attempt is over by now: a person may take as long as it needs.
            if not trust.ask(error.public_key):
                raise
            asyncio.run(_connect(arguments, trust))
    except PeerMismatchError as error:
        if arguments.debug:
            raise
        sys.stderr.write(_LOUD.format(address=trust.name, key=fingerprint(error.public_key)))
        return 1
    except (ConnectionLostError, HandshakeError, ProtocolError, RefusedError) as error:
        if arguments.debug:
            raise
        sys.stderr.write(f"rawproto connect: {arguments.address}: {error}\n")
        return 1
    return 0


async def _connect(arguments: argparse.Namespace, trust: Trust) -> None:
    attempt = connect(
        arguments.address,
        static=private_key(arguments),
        peer_key=trust.peer_key,
        trust=trust.judge,
        psk=psk_of(arguments),
        config=config_of(arguments),
        family=arguments.family,
    )
    async with attempt as connection:
        log_secrets(arguments, connection)
        if arguments.probe:
            address, port = connection.peer_address
            sys.stderr.write(f"{address} {port} answers\n")
            return
        await exchange(connection, arguments)
