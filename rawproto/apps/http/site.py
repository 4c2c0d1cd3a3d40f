"""A directory as an ASGI application: files whole or in ranges, on conditions, pages of names.

Read RFC 9110 sections 13 (conditions) and 14 (ranges) first. The kernel resolves each path
beneath the directory (`files.beneath`); what leads out is not there. starlette's `FileResponse`
sends the file that was opened then, whatever is under its name by now.
"""

from __future__ import annotations

import asyncio
import errno
import mimetypes
import os
import re
import stat
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from starlette.datastructures import Headers
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.types import Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from rawproto.apps.files.beneath import Root
from rawproto.apps.http.listing import modified_s, page

__all__ = ["Site"]

_INDEX = "index.html"
_PIECE_BYTES = 1 << 18
_BUSY = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_FORBIDDEN = (errno.EACCES, errno.EPERM)
_BYTES = re.compile(r"\s*bytes\s*=", re.IGNORECASE)
_MOST_DIGITS = 20
_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


class Site:
    """The application. It reads, and changes nothing.

    Args:
        root: the directory.
    """

    def __init__(self, root: Root) -> None:
        self._root = root
        self._paging = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
            return
        response = await self._answer(scope, receive)
        if response is not None:
            await response(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response | None:
        """The answer, None to who has left."""
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Method Not Allowed", 405, {"allow": "GET, HEAD"})
        path = os.fsdecode(unquote_to_bytes(scope["raw_path"]))
        try:
            found = await asyncio.to_thread(self._look_up, path, scope)
            if found is not None:
                return found
            # A long one takes a tenth of a second: one at a time, and files go ahead of them.
            async with self._paging:
                if await _has_left(receive):
                    return None
                text = await asyncio.to_thread(page, self._root, path.lstrip("/"), path)
            return HTMLResponse(text)
        except OSError as error:
            if error.errno in _BUSY:
                return PlainTextResponse("Service Unavailable", 503)
            if error.errno in _FORBIDDEN:
                return PlainTextResponse("Forbidden", 403)
            return PlainTextResponse("Not Found", 404)

    def _look_up(self, path: str, scope: Scope) -> Response | None:
        """The answer, None for a page of names."""
        name = path.lstrip("/")
        if not stat.S_ISDIR(self._root.stat(name, follow=True).st_mode):
            return self._file(name, scope)
        if not path.endswith("/"):
            # Relative, so that it is right whatever host and port the client sees.
            query = b"?" + scope["query_string"] if scope["query_string"] else b""
            last = "./" + quote(os.fsencode(name.rpartition("/")[2])) + "/"
            return Response(status_code=307, headers={"location": last + query.decode("latin-1")})
        try:
            return self._file(name + _INDEX, scope)
        except (FileNotFoundError, IsADirectoryError):
            return None

    def _file(self, name: str, scope: Scope) -> Response:
        response = _OpenFile(self._root.open_file(name), _media_type(name))
        status = _judge(Headers(scope=scope), response.headers)
        if status == 200:
            return response
        response.close()
        kept = {each: response.headers[each] for each in ("etag", "last-modified")}
        return Response(status_code=status, headers=kept)


async def _has_left(receive: Receive) -> bool:
    """Whether who asked is gone, as far as is known now."""
    try:
        async with asyncio.timeout(0):
            while (await receive())["type"] != "http.disconnect":
                pass  # a body, which nobody reads
    except TimeoutError:
        return False
    return True


class _OpenFile(FileResponse):
    """A file that is open, and is closed when it was sent."""

    chunk_size = _PIECE_BYTES

    def __init__(self, fd: int, media_type: str) -> None:
        self._fd = fd
        found = os.fstat(fd)
        fields = [*found[:8], int(modified_s(found)), found.st_ctime]
        dated = found if modified_s(found) == found.st_mtime else os.stat_result(fields)
        super().__init__(f"/proc/self/fd/{fd}", media_type=media_type, stat_result=dated)

    def close(self) -> None:
        os.close(self._fd)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # What starlette does not do of RFC 9110 section 14.2.
        headers = [each for each in scope["headers"] if each[0] != b"range"]
        asked = Headers(scope=scope).get("range", "")
        if scope["method"] == "GET" and _BYTES.match(asked):
            size = int(self.headers["content-length"])
            headers.append((b"range", _reachable(asked, size).encode("latin-1")))
        scope = {**scope, "headers": headers}
        try:
            await super().__call__(scope, receive, _no_more_than_promised(send))
        finally:
            self.close()


def _reachable(ranges: str, size: int) -> str:
    """The ranges of a header without those behind the end, if there are others."""
    within = [each for each in ranges.partition("=")[2].split(",") if not _is_behind(each, size)]
    return f"bytes={','.join(within)}" if within else ranges


def _is_behind(each: str, size: int) -> bool:
    first = each.partition("-")[0].strip()
    return first.isdecimal() and (len(first) > _MOST_DIGITS or int(first) >= size)


def _no_more_than_promised(send: Send) -> Send:
    """Cuts a body at its Content-Length: a log file grows while it is sent."""
    left = 0
    over = False

    async def cut(message: Message) -> None:
        nonlocal left, over
        if over:
            return
        if message["type"] == "http.response.start":
            left = int(dict(message["headers"])[b"content-length"])
        else:
            body = message.get("body", b"")[:left]
            left -= len(body)
            over = not (left and message.get("more_body"))
            message = {**message, "body": body, "more_body": not over}
        await send(message)

    return cut


def _media_type(name: str) -> str:
    found, encoding = mimetypes.guess_type(name)
    if encoding is not None:  # of a file that is packed, and stays so
        return _COMPRESSED.get(encoding, "application/octet-stream")
    return found or "application/octet-stream"


def _judge(asked: Mapping[str, str], ours: Mapping[str, str]) -> int:
    """200, 304 or 412, by the conditions of a GET or HEAD, in RFC 9110 section 13.2.2's order."""
    etag, modified = ours["etag"], ours["last-modified"]
    if "if-match" in asked:
        if not _matches(asked["if-match"], etag, weakly=False):
            return 412
    elif _is_after(modified, asked.get("if-unmodified-since")) is True:
        return 412
    if "if-none-match" in asked:
        return 304 if _matches(asked["if-none-match"], etag, weakly=True) else 200
    return 304 if _is_after(modified, asked.get("if-modified-since")) is False else 200


def _matches(tags: str, etag: str, *, weakly: bool) -> bool:
    found = [tag.strip() for tag in tags.split(",")]
    if weakly:
        found = [tag.removeprefix("W/") for tag in found]
    return found == ["*"] or etag in found


def _is_after(modified: str, date: str | None) -> bool | None:
    """Whether a file was changed after a date, None where that is none."""
    if date is None:
        return None
    try:
        given: Any = parsedate_to_datetime(date)
        return bool(parsedate_to_datetime(modified) > given)
    except (ValueError, TypeError, OverflowError):  # TypeError: it has no time zone
        return None
