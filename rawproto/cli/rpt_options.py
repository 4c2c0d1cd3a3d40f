"""What every verb that speaks RPT takes: keys, trust, key log, capture, congestion."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rawproto.drivers.rpt.address import parse_address
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import RawprotoError, UnknownPeerError, UsageError
from rawproto.identity.keys import (
    PublicKey,
    config_directory,
    fingerprint,
    load_identity,
    load_psk,
    new_identity,
    state_directory,
)
from rawproto.identity.known import AuthorizedKeys, KnownPeers
from rawproto.transport.config import Config
from rawproto.transport.congestion import CONTROLLERS
from rawproto.transport.key_log import key_log_lines

if TYPE_CHECKING:
    from rawproto.capture import Writer

__all__ = ["Trust", "add_client_options", "add_options", "add_server_options", "default_identity"]


def add_options(parser: argparse.ArgumentParser) -> None:
    """For both sides."""
    group = parser.add_argument_group("RPT")
    group.add_argument("--identity", type=Path, metavar="FILE", help="the private key to use")
    group.add_argument("--psk", type=Path, metavar="FILE", help="a secret of 32 bytes both know")
    group.add_argument(
        "--congestion",
        choices=sorted(CONTROLLERS),
        default=Config().congestion,
        help="the congestion controller (default: %(default)s)",
    )
    group.add_argument("--keylog", type=Path, metavar="FILE", help="append secrets for decoding")
    group.add_argument(
        "--pcap",
        type=Path,
        metavar="FILE",
        help="write every packet; a .pcapng has the secrets beside them",
    )
    group.add_argument(
        "--qlog", type=Path, metavar="DIR", help="write a trace of each connection, for qvis"
    )


def add_client_options(parser: argparse.ArgumentParser) -> None:
    """For who connects."""
    add_options(parser)
    parser.add_argument(
        "--accept-new", action="store_true", help="trust and remember the key of a new peer"
    )


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """For who listens."""
    add_options(parser)
    parser.add_argument(
        "--authorized", type=Path, metavar="FILE", help="admit only the keys in it, a line each"
    )


def default_identity() -> Path:
    """Where one's own key is, unless said otherwise."""
    return config_directory() / "identity"


def private_key(arguments: argparse.Namespace) -> bytes:
    """One's own key: that of --identity, else the default one, which is made if it is missing."""
    if arguments.identity is not None:
        return load_identity(arguments.identity).private
    path = default_identity()
    if not path.exists():
        name = f"{os.environ.get('USER', 'rawproto')}@{os.uname().nodename}"
        with suppress(UsageError):  # another process made one meanwhile
            identity = new_identity(path, name)
            sys.stderr.write(f"new key in {path}: {fingerprint(identity.public.data)}\n")
    return load_identity(path).private


def psk_of(arguments: argparse.Namespace) -> bytes:
    """The shared secret, b"" for none."""
    return load_psk(arguments.psk) if arguments.psk is not None else b""


def authorize_of(arguments: argparse.Namespace) -> Callable[[bytes], bool]:
    """Whom a listener admits."""
    if arguments.authorized is None:
        return lambda key: True
    return AuthorizedKeys(arguments.authorized).admits


def capture_of(arguments: argparse.Namespace) -> AbstractContextManager[Writer | None]:
    """The capture that --pcap asks for, None for none."""
    if arguments.pcap is None:
        return nullcontext()
    if arguments.pcap.suffix.lower() == ".pcapng":
        arguments.pcap.touch(0o600)  # who can read it can read what was sealed
    from rawproto.capture import open_writer

    return open_writer(arguments.pcap)


def log_secrets(
    arguments: argparse.Namespace, connection: RPTConnection, capture: Writer | None
) -> None:
    """Notes a connection's secrets in the key log and in the capture, if there are such."""
    machine = connection.machine
    ours, theirs = machine.secrets
    to_server, to_client = (ours, theirs) if machine.client else (theirs, ours)
    lines = key_log_lines(machine.log_cid, to_server, to_client)
    if capture is not None:
        from rawproto.drivers.rpt.tap import write_secrets

        write_secrets(capture, lines)
    path = arguments.keylog or os.environ.get("RAWPROTO_KEYLOGFILE")
    if path:
        with open(path, "a", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(lines)


def trace(arguments: argparse.Namespace, connection: RPTConnection) -> None:
    """Begins a connection's qlog, if there is to be one: CID_client.sqlog or CID_server.sqlog."""
    if arguments.qlog is None:
        return
    from rawproto.transport.qlog import QlogTracer

    machine = connection.machine
    side = "client" if machine.client else "server"
    arguments.qlog.mkdir(parents=True, exist_ok=True)
    file = (arguments.qlog / f"{machine.log_cid:016x}_{side}.sqlog").open("w")
    earlier = machine.history.packets
    start_ns = earlier[0].now_ns if earlier else time.monotonic_ns()
    machine.trace(
        QlogTracer(file.write, client=machine.client, cid=machine.log_cid, now_ns=start_ns)
    )
    connection.when_over(file.close)


class Trust:
    """Whose key is taken for whose: pinned ones, new ones if that is allowed, or a person's word.

    Args:
        address: as typed.
        accept_new: take the key of a peer that is not known yet.
    """

    def __init__(self, address: str, *, accept_new: bool) -> None:
        self.name = str(parse_address(address))
        self._accept_new = accept_new
        self._known = KnownPeers(state_directory() / "known_peers")
        self.peer_key = self._known.key_of(self.name)

    def judge(self, key: bytes) -> RawprotoError | None:
        """For `connect`: why a key on first contact is not taken, None if it is."""
        if self._accept_new:
            self._known.trust(self.name, PublicKey(key))
            self.peer_key = key
            sys.stderr.write(f"{self.name} is new: {fingerprint(key)}, remembered\n")
            return None
        command = f"rawproto keys trust {self.name} '{PublicKey(key)}'"
        words = f"the peer is not known: its key is {fingerprint(key)}; to trust it: {command}"
        return UnknownPeerError(words, key)

    def ask(self, key: bytes) -> bool:
        """Asks on the terminal; remembers a yes. Without a terminal the answer is no."""
        question = f"{self.name} is not known. Its key is {fingerprint(key)}\nTrust it? [y/N] "
        try:
            # Twice: Python reads and writes one file object only where it can seek.
            with open("/dev/tty", "w") as screen, open("/dev/tty") as keyboard:
                screen.write(question)
                screen.flush()
                answer = keyboard.readline()
        except OSError:
            return False
        if answer.strip().lower() not in ("y", "yes"):
            return False
        self._known.trust(self.name, PublicKey(key))
        self.peer_key = key
        return True


def check_combination(*, messages: bool, datagrams: bool) -> None:
    """Raises UsageError where two kinds are asked for."""
    if messages and datagrams:
        raise UsageError("--messages and --datagrams exclude each other")
