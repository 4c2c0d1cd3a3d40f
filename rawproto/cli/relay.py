"""Join two ends, whatever they are: RPT, TCP, UDP, Unix sockets, TLS, commands, stdio.

examples:
  rawproto relay tcp-listen:127.0.0.1:8080 rpt:10.0.0.2:4000     this host's way into the tunnel
  rawproto relay rpt-listen:4000 tcp:127.0.0.1:80                and its other end
  rawproto relay rpt-listen:4000 tcp:a:80,tcp:b:80               the least busy that is well
  rawproto relay udp-listen:53 rpt:10.0.0.2:53                   datagrams stay whole
  rawproto relay rpt-listen:4000 exec:'sh -c "date; cat"'        a command for each client
  rawproto relay stdio: tls:example.net:443                      as openssl s_client

ends: rpt, rpt+udp, tcp, udp, tls HOST:PORT; each with -listen: [HOST:]PORT; unix, unix-listen
PATH or @NAME; exec COMMAND; stdio. A listener serves many at once, each with its own other
end. The end of one way is passed on, and the other way goes on.

exit status: 0 ended well, 1 broken or refused, 2 usage or local error, 130 Ctrl-C
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from rawproto.apps.relay.ends import End, parse_end, parse_targets
from rawproto.cli.relaying import add_relaying_options, check_relaying, run_relay
from rawproto.errors import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `relay`."""
    parser.add_argument("source", metavar="FROM", help="where sessions come from")
    parser.add_argument("target", metavar="TO", help="where they go; several with commas between")
    add_relaying_options(parser)
    parser.add_argument(
        "-t",
        dest="linger",
        type=float,
        default=0.5,
        metavar="SECONDS",
        help="silence that ends a session when one way has ended and datagrams cannot say so "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "-T",
        dest="idle",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="silence after which a peer of udp-listen is forgotten (default: %(default)g)",
    )
    tls = parser.add_argument_group("TLS")
    tls.add_argument("--tls-cert", metavar="FILE", help="this side's certificate, PEM")
    tls.add_argument("--tls-key", metavar="FILE", help="its key, if not in the same file")
    tls.add_argument("--tls-ca", metavar="FILE", help="trust these, and not the system's")
    tls.add_argument("--tls-insecure", action="store_true", help="take any certificate")
    parser.add_argument(
        "--authorized",
        type=Path,
        metavar="FILE",
        help="admit only the RPT keys in it, a line each",
    )


def run(arguments: argparse.Namespace) -> int:
    """Relays until it is over."""
    source, targets = parse_end(arguments.source), parse_targets(arguments.target)
    _check(arguments, source, targets)
    return asyncio.run(run_relay(arguments, source, targets))


def _check(arguments: argparse.Namespace, source: End, targets: tuple[End, ...]) -> None:
    if source.kind == "stdio" and targets[0].kind == "stdio":
        raise UsageError("stdio: cannot be both ends")
    if source.listens and targets[0].kind == "stdio":
        raise UsageError("stdio: serves one session, and a listener has many; put it first")
    listeners = [end for end in (source, *targets) if end.listens]
    if any(end.kind == "tls" for end in listeners) and arguments.tls_cert is None:
        raise UsageError("tls-listen needs --tls-cert FILE")
    if arguments.authorized is not None and not any(end.is_rpt for end in listeners):
        raise UsageError("--authorized is for rpt-listen")
    check_relaying(arguments)
