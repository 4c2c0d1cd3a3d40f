"""Connects as every verb does: trust, a word with the person in front, and how it ended."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rawproto.cli.rpt_options import Trust, capture_of, log_secrets, private_key, psk_of, trace
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.drivers.rpt.coroutines import connect
from rawproto.errors import (
    ConnectionLostError,
    HandshakeError,
    PeerMismatchError,
    ProtocolError,
    RefusedError,
    UnknownPeerError,
)
from rawproto.identity.keys import fingerprint
from rawproto.transport.config import Config
from rawproto.wire.words import printable

if TYPE_CHECKING:
    from rawproto.capture import Writer

__all__ = ["FAILURES", "complain", "connect_once", "dial", "farewell"]

_LOUD = """rawproto {verb}: THE KEY OF {address} HAS CHANGED: it shows {key} now.
Somebody may be in between. If the change is known to be right: rawproto keys forget {address}
"""


def dial(
    verb: str,
    arguments: argparse.Namespace,
    config: Config,
    use: Callable[[RPTConnection], Awaitable[None]],
    again: Callable[[ConnectionLostError | RefusedError], bool] = lambda error: False,
) -> int:
    """Connects to `arguments.address`, hands the connection to `use`, and ends it well.

    Args:
        verb: for what is said on stderr.
        arguments: with those of `add_client_options`.
        config: of the connection.
        use: does what the connection is for.
        again: whether to connect once more after it was lost, or nobody was there.

    Returns:
        The exit code: 0, or 1 for refused, lost, not trusted.
    """
    trust = Trust(arguments.address, accept_new=arguments.accept_new)
    try:
        while True:
            try:
                asyncio.run(_connect(arguments, config, trust, use))
                return 0
            except UnknownPeerError as error:
                # The attempt is over by now: a person may take as long as it needs.
                if not trust.ask(error.public_key):
                    raise
            except (ConnectionLostError, RefusedError) as error:
                if not again(error):
                    raise
    except FAILURES as error:
        if arguments.debug:
            raise
        complain(verb, trust.name, error)
        return 1


FAILURES = (ConnectionLostError, HandshakeError, ProtocolError, RefusedError)
"""What a connection ends with when it is neither our fault nor a local error."""


def complain(verb: str, address: str, error: Exception) -> None:
    """Says what is wrong with a connection, loudly where the peer's key has changed."""
    if isinstance(error, PeerMismatchError):
        key = fingerprint(error.public_key)
        sys.stderr.write(_LOUD.format(verb=verb, address=address, key=key))
    else:
        sys.stderr.write(f"rawproto {verb}: {address}: {printable(str(error))}\n")


async def _connect(
    arguments: argparse.Namespace,
    config: Config,
    trust: Trust,
    use: Callable[[RPTConnection], Awaitable[None]],
) -> None:
    with farewell(), capture_of(arguments) as capture:
        await connect_once(arguments, config, trust, capture, use)


@contextmanager
def farewell() -> Iterator[None]:
    """What ends this process ends the block first, so that the other side hears of it at once.

    ssh, too, ends its ProxyCommand by SIGHUP.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    came: list[signal.Signals] = []

    def end(number: signal.Signals) -> None:
        came.append(number)
        task.cancel()

    numbers = (signal.SIGTERM, signal.SIGHUP)
    heard = [each for each in numbers if signal.getsignal(each) is signal.SIG_DFL]  # not by nohup
    for number in heard:
        loop.add_signal_handler(number, end, number)
    try:
        yield
    finally:
        for number in heard:
            loop.remove_signal_handler(number)
        if came:
            os.kill(os.getpid(), came[0])


async def connect_once(
    arguments: argparse.Namespace,
    config: Config,
    trust: Trust,
    capture: Writer | None,
    use: Callable[[RPTConnection], Awaitable[None]],
) -> None:
    """One connection to `arguments.address`, from beginning to end.

    Args:
        arguments: with those of `add_client_options`.
        config: of the connection.
        trust: whose key is taken for whose.
        capture: where its packets are written, None for nowhere.
        use: does what it is for.

    Raises:
        One of `FAILURES`.
    """
    attempt = connect(
        arguments.address,
        static=private_key(arguments),
        peer_key=trust.peer_key,
        trust=trust.judge,
        psk=psk_of(arguments),
        config=config,
        family=arguments.family,
        capture=capture,
    )
    async with attempt as connection:
        log_secrets(arguments, connection, capture)
        trace(arguments, connection)
        await use(connection)
