"""HTTP/1.1 and HTTP/2 over RPT for httpcore, by its network-backend interface.

    backend = RPTBackend(trust=...)
    async with httpcore.AsyncConnectionPool(network_backend=backend) as pool:
        response = await pool.request("GET", "http://10.0.0.2:4000/")

Host and port of the URL are those of the RPT listener. Needs the extra `rawproto[http]`; of
HTTP itself this module knows nothing.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore

from rawproto.drivers.rpt.transport_api import open_rpt_connection
from rawproto.errors import RawprotoError

__all__ = ["RPTBackend"]

_CLOSING_S = 1.0
"""How long a server may take to hear that its connection is closed."""


@contextmanager
def _told_as(timed_out: type[Exception], failed: type[Exception]) -> Iterator[None]:
    """Raises what fails within as httpcore's own errors.

    Their argument is what was raised; the pool of httpcore forgets what caused an error.
    """
    try:
        yield
    except TimeoutError as error:
        raise timed_out(error) from error
    except (OSError, RawprotoError) as error:
        raise failed(error) from error


class RPTBackend(httpcore.AsyncNetworkBackend):
    """Opens a connection of RPT where httpcore asks for one of TCP.

    Args:
        carrier: `"rpt"` or `"rpt+udp"`.
        options: of `create_rpt_connection`: keys, secrets, config.
    """

    def __init__(self, carrier: str = "rpt", **options: Any) -> None:
        self._carrier = carrier
        self._options = options

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connects. `local_address` and `socket_options` are TCP's, and not looked at.

        Raises:
            httpcore.ConnectTimeout, httpcore.ConnectError: it cannot.
        """
        shown = f"[{host}]" if ":" in host else host
        address = f"{self._carrier}://{shown}:{port}"
        with _told_as(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                return _Stream(*await open_rpt_connection(address, **self._options))

    async def sleep(self, seconds: float) -> None:
        """Waits between two attempts."""
        await asyncio.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection, as httpcore sees one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with _told_as(httpcore.ReadTimeout, httpcore.ReadError):
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        with _told_as(httpcore.WriteTimeout, httpcore.WriteError):
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()

    async def aclose(self) -> None:
        if self._writer.transport.get_write_buffer_size():
            self._writer.transport.abort()  # a request that was given up
        self._writer.close()
        try:
            async with asyncio.timeout(_CLOSING_S):
                await self._writer.wait_closed()
        except TimeoutError:  # all that was asked was answered, or is not wanted any more
            self._writer.transport.abort()
        except OSError:
            pass

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.AsyncNetworkStream:
        with _told_as(httpcore.ConnectTimeout, httpcore.ConnectError):
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "client_addr":
            return self._writer.get_extra_info("sockname")
        if info == "server_addr":
            return self._writer.get_extra_info("peername")
        if info == "is_readable":  # when nothing was asked: the server has gone
            return self._reader.at_eof() or self._writer.is_closing()
        return self._writer.get_extra_info(info)
