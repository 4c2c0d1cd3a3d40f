"""Asks an ASGI application without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answered", "ask", "asked"]


@dataclass
class Answered:
    """What it sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


def ask(
    app: Any,
    target: str | bytes = "/",
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    during: Any = lambda: None,
) -> Answered:
    """One request; `during` is called once the answer's header is there."""
    return asyncio.run(asked(app, target, headers, method, during))


async def asked(
    app: Any,
    target: str | bytes = "/",
    headers: Mapping[str, str] | None = None,
    method: str = "GET",
    during: Any = lambda: None,
) -> Answered:
    """The same in a loop that runs."""
    raw = target.encode() if isinstance(target, str) else target
    path, _, query = raw.partition(b"?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "method": method,
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "headers": [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()],
    }
    answered = Answered()
    over = False

    async def send(message: dict[str, Any]) -> None:
        nonlocal over
        assert not over, "sent after the end"
        if message["type"] == "http.response.start":
            answered.status = message["status"]
            answered.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            during()
        else:
            answered.body += message.get("body", b"")
            over = not message.get("more_body", False)

    never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def receive() -> Any:
        return await never

    await asyncio.wait_for(app(scope, receive, send), 10)
    assert over
    return answered
