"""An ASGI application that tells what it was asked, for servers that are to be compared."""

from __future__ import annotations

import hashlib
import json
from typing import Any

PAGE = b"""<!DOCTYPE html><title>page</title><p id="fetched">no</p><p id="said">no</p>
<script>
fetch("asked?a=b", {method: "POST", body: "x".repeat(100000)})
  .then(answer => answer.json())
  .then(told => document.getElementById("fetched").textContent = told.method + told.size);
const socket = new WebSocket("ws://" + location.host + "/echo");
socket.onopen = () => socket.send("words");
// A browser that only dumps its page waits for requests, and for no socket.
async function wait() {
  while (document.getElementById("said").textContent == "no") await fetch("empty");
}
wait();
socket.onmessage = event => document.getElementById("said").textContent = event.data + "!";
</script>
"""


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Echoes websockets' messages; of requests tells method, target, headers and body."""
    if scope["type"] == "lifespan":
        raise RuntimeError("none")
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            said = {name: message[name] for name in ("text", "bytes") if message.get(name)}
            await send({"type": "websocket.send", **said})
        return
    path = scope["path"]

    async def answer(body: bytes, kind: bytes = b"application/json", status: int = 200) -> None:
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    if path == "/fails":
        raise RuntimeError("as it was asked")
    if path == "/early":
        await answer(b"early")
    elif path == "/empty":
        await answer(b"", status=204)
    elif path == "/page":
        await answer(PAGE, b"text/html")
    elif path == "/large":
        await answer(bytes(range(256)) * 4000)
    elif path in ("/chunks", "/fails/halfway"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one", b"two" * 1000):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if path == "/fails/halfway":
            raise RuntimeError("as it was asked")
        await send({"type": "http.response.body", "body": b""})
    else:
        await answer(await _told(scope, receive))


async def _told(scope: dict[str, Any], receive: Any) -> bytes:
    size, seen, ended = 0, hashlib.sha256(), "whole"
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            ended = "left"
            break
        size += len(message.get("body", b""))
        seen.update(message.get("body", b""))
        if not message.get("more_body"):
            break
    return json.dumps(
        {
            "method": scope["method"],
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode("latin-1"),
            "query": scope["query_string"].decode("latin-1"),
            "version": scope["http_version"],
            "headers": [[k.decode("latin-1"), v.decode("latin-1")] for k, v in scope["headers"]],
            "size": size,
            "sha256": seen.hexdigest(),
            "ended": ended,
        }
    ).encode()


async def unable(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Cannot start."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
