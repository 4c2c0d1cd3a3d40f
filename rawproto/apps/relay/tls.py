"""TLS over any channel: OpenSSL between two buffers, so that one side may end before the other.

asyncio's own TLS transport cannot half-close; TLS 1.3 can (RFC 8446 section 6.1): each side
says close_notify for itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rawproto.apps.relay.channels import Channel
from rawproto.errors import UsageError

__all__ = ["TLSChannel", "client_context", "server_context"]

_PIECE_BYTES = 1 << 16


class TLSChannel:
    """A channel within another. Call `handshake` first.

    Args:
        under: what carries it.
        context: of OpenSSL.
        server: whether this side is the server.
        hostname: what a client wants to reach, None for a server.
    """

    def __init__(
        self, under: Channel, context: ssl.SSLContext, *, server: bool, hostname: str | None
    ) -> None:
        self.name = under.name.replace("tcp:", "tls:", 1)
        self.gone = under.gone
        self._under = under
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server, hostname)
        self._writing = asyncio.Lock()

    async def handshake(self) -> None:
        """Agrees on keys. Raises ssl.SSLError, OSError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._feed():
                    raise ConnectionResetError("the peer left within the TLS handshake") from None
                continue
            except ssl.SSLError:
                await self._flush()  # the alert tells the peer why
                raise
            await self._flush()
            return

    async def _feed(self) -> bool:
        data = await self._under.receive()
        if data is None:
            self._in.write_eof()
            return False
        self._in.write(data)
        return True

    async def _flush(self) -> None:
        async with self._writing:
            while data := self._out.read():
                await self._under.send(data)

    async def receive(self) -> bytes | None:
        while True:
            try:
                data = self._tls.read(_PIECE_BYTES)
            except ssl.SSLWantReadError:
                await self._flush()  # a key update is to be answered
                await self._feed()
                continue
            except ssl.SSLZeroReturnError:
                return None
            return data or None

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def send_eof(self) -> bool:
        with suppress(ssl.SSLError):
            self._tls.unwrap()  # says close_notify, and wants the other side's, which may take long
        with suppress(OSError):
            await self._flush()
        return True

    async def close(self) -> None:
        await self._under.close()

    def abort(self) -> None:
        self._under.abort()


def client_context(
    ca: str | None, certificate: str | None, key: str | None, *, insecure: bool
) -> ssl.SSLContext:
    """For connecting.

    Args:
        ca: a file of certificates to trust instead of the system's.
        certificate: this side's own, for servers that ask, None for none.
        key: its private key, None if it stands in the same file.
        insecure: take any certificate.

    Raises:
        UsageError: a file cannot be read.
    """
    context = _context(ssl.Purpose.SERVER_AUTH, ca)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        _load(context, certificate, key)
    return context


def server_context(ca: str | None, certificate: str, key: str | None) -> ssl.SSLContext:
    """For listening; with `ca`, only clients with a certificate of theirs get in.

    Raises:
        UsageError: a file cannot be read.
    """
    context = _context(ssl.Purpose.CLIENT_AUTH, ca)
    _load(context, certificate, key)
    if ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(purpose: ssl.Purpose, ca: str | None) -> ssl.SSLContext:
    with _read(ca):
        return ssl.create_default_context(purpose, cafile=ca)


def _load(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    with _read(certificate, key):
        context.load_cert_chain(certificate, key)


@contextmanager
def _read(*files: str | None) -> Iterator[None]:
    """Says which file it was that cannot be read, or has not what is wanted of it."""
    named = [file for file in files if file is not None]
    try:
        for file in named:
            open(file, "rb").close()
        yield
    except ssl.SSLError as error:
        why = (error.reason or "no certificate, or no key, in PEM").replace("_", " ").lower()
        raise UsageError(f"{', '.join(named)}: {why}") from None
    except OSError as error:
        raise UsageError(f"{error.filename}: {(error.strerror or str(error)).lower()}") from None
