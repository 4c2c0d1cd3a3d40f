"""Make, show and trust the keys by which RPT peers know each other.

examples:
  rawproto keys new                         make this user's key
  rawproto keys show                        print the line that others authorize
  rawproto keys trust rpt://10.0.0.2:4000 'rpt-x25519 AAAA...'
  rawproto keys authorize 'rpt-x25519 AAAA... alice' --file authorized
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from rawproto.cli.rpt_options import default_identity
from rawproto.drivers.rpt.address import parse_address
from rawproto.errors import UsageError
from rawproto.identity.keys import (
    config_directory,
    fingerprint,
    load_identity,
    new_identity,
    parse_public_key,
    state_directory,
)
from rawproto.identity.known import KnownPeers, authorize

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verbs of `keys`."""
    verbs = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    new = verbs.add_parser("new", help="make a key")
    new.add_argument("--comment", default="", help="what it is called (default: user@host)")
    show = verbs.add_parser("show", help="print the public key, as an authorized file holds it")
    show.add_argument("--fingerprint", action="store_true", help="print what people compare")
    for each in (new, show):
        each.add_argument("--identity", type=Path, metavar="FILE", default=None, help="its file")
    verbs.add_parser("list", help="print the peers that are known")
    trust = verbs.add_parser("trust", help="pin a peer's key to its address")
    trust.add_argument("address", help="such as rpt://10.0.0.2:4000")
    trust.add_argument("key", help="its line: 'rpt-x25519 AAAA...'")
    forget = verbs.add_parser("forget", help="unpin an address")
    forget.add_argument("address")
    authorize = verbs.add_parser("authorize", help="admit a key to listeners")
    authorize.add_argument("key", help="its line: 'rpt-x25519 AAAA... name'")
    authorize.add_argument(
        "--file", type=Path, default=None, help="the authorized file (default: in the config)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Does what is asked."""
    known = KnownPeers(state_directory() / "known_peers")
    what = arguments.what
    if what in ("new", "show"):
        path = arguments.identity or default_identity()
        if what == "new":
            name = arguments.comment or f"{os.environ.get('USER', 'root')}@{os.uname().nodename}"
            identity = new_identity(path, name)
            sys.stderr.write(f"{path}: {fingerprint(identity.public.data)}\n")
        elif not path.exists():
            raise UsageError(f"{path}: there is no key yet; make one with: rawproto keys new")
        else:
            identity = load_identity(path)
        if what == "show" and arguments.fingerprint:
            print(fingerprint(identity.public.data))
        else:
            print(identity.public)
    elif what == "list":
        for address, key in known.all().items():
            print(address, fingerprint(key.data), key.comment, sep="  ")
    elif what == "trust":
        key = parse_public_key(arguments.key)
        known.trust(str(parse_address(arguments.address)), key)
    elif what == "forget":
        address = str(parse_address(arguments.address))
        if not known.forget(address):
            raise UsageError(f"{address} is not known")
    else:
        path = arguments.file or config_directory() / "authorized"
        authorize(path, parse_public_key(arguments.key))
    return 0
