"""`rawproto http serve`: what is served, and the log's line for each request."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import re
import sys
import traceback
from importlib.util import find_spec
from typing import Any

from uvicorn.importer import ImportFromStringError, import_from_string

from rawproto.apps.files.beneath import Root
from rawproto.apps.http.service import Exchange, HTTPService
from rawproto.apps.http.site import Site
from rawproto.cli.serving import Log, allow_files, serve_sessions
from rawproto.drivers.rpt.address import host_and_port
from rawproto.drivers.rpt.connection import RPTConnection
from rawproto.errors import UsageError
from rawproto.identity.keys import fingerprint
from rawproto.transport.config import Config
from rawproto.wire.words import printable

__all__ = ["run"]

_SECOND = 1_000_000_000
_APP = re.compile(r"[\w.]+:[\w.]+")


def run(arguments: argparse.Namespace) -> int:
    """Serves until it is told to end."""
    if not 1 <= arguments.keep_alive <= 86400:
        raise UsageError("--keep-alive must be 1 to 86400 seconds")
    if arguments.parser == "httptools" and find_spec("httptools") is None:
        raise UsageError("--http httptools needs it: pip install httptools")
    log = Log(arguments.log)
    # Set up before the processes part; uvicorn and asyncio tell of what fails through it. With
    # --log none too, where Python would write each line by itself.
    logging.basicConfig(handlers=[_Told(log, whole=arguments.debug)], level=logging.WARNING)
    allow_files()

    def tell(exchange: Exchange) -> None:
        _tell(log, exchange)

    app = _app(arguments.site)
    try:
        service = HTTPService(
            app,
            parser=arguments.parser,
            keep_alive_s=arguments.keep_alive,
            lifespan=not os.path.isdir(arguments.site),
            grace_s=arguments.grace,
            tell=None if arguments.log == "none" else tell,
        )
    except (Exception, SystemExit) as error:  # whatever a function that makes one does
        raise _unusable(arguments.site, error) from error

    async def use(connection: RPTConnection, name: str) -> None:
        await service.carry(connection)

    config = Config(
        congestion=arguments.congestion,
        keep_alive_ns=10 * _SECOND,
        # As long as TCP would, for a slow reader of what a closed connection still has to send.
        linger_ns=120 * _SECOND,
        max_streams=1,  # nobody would ever read another than stream 0
    )
    asyncio.run(serve_sessions(arguments, config, use, life=service))
    return 0


def _app(text: str) -> Any:
    """What is to be served: a directory if there is one of that name, else an application."""
    if os.path.isdir(text) or not _APP.fullmatch(text):
        return Site(Root(text))
    sys.path.insert(0, os.getcwd())
    try:
        app = import_from_string(text)
    except ImportFromStringError as error:
        raise UsageError(f"{text}: {str(error)[:1].lower()}{str(error)[1:].rstrip('.')}") from error
    except (Exception, SystemExit) as error:  # whatever a module does when it is imported
        raise _unusable(text, error) from error
    if not callable(app):
        raise UsageError(f"{text}: no application: {type(app).__name__} cannot be called")
    return app


def _unusable(text: str, error: BaseException) -> UsageError:
    return UsageError(f"{text}: {printable(f'{type(error).__name__}: {error}')}")


class _Told(logging.Handler):
    """Puts into the log what libraries and applications say: a line each, or all of it."""

    def __init__(self, log: Log, *, whole: bool) -> None:
        super().__init__()
        self._log = log
        self._whole = whole

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._tell(record)
        except Exception:  # an application's own, in what it wanted to say
            self.handleError(record)

    def _tell(self, record: logging.LogRecord) -> None:
        lines = record.getMessage().strip().splitlines() or [""]
        words = lines[0] if len(lines) == 1 else f"{lines[0]} ... {lines[-1]}"
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            words += f": {type(error).__name__}: {error}"
        self._log.write("notice", words, {"level": record.levelname.lower(), "words": words})
        if self._whole:
            sys.stderr.write("".join(f"{line}\n" for line in lines[1:]))
            if error is not None:
                traceback.print_exception(error)


def _tell(log: Log, exchange: Exchange) -> None:
    peer = host_and_port(exchange.peer_addr, exchange.peer_port)
    key = fingerprint(exchange.peer_key)
    words = f'{peer} {key} "{exchange.method} {exchange.target}" {exchange.status or "-"}'
    log.write(
        "request",
        f"{words} {exchange.body_bytes} bytes {exchange.duration_s:.3f} s",
        {
            "peer": peer,
            "key": key,
            "method": exchange.method,
            "target": exchange.target,
            "status": exchange.status or None,
            "body_bytes": exchange.body_bytes,
            "duration_s": round(exchange.duration_s, 6),
        },
    )
