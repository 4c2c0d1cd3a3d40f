"""What bench_http compares `rawproto http serve` with: the same uvicorn and site, over TCP.

http_peer.py DIR HOST PORT      prints `listening PORT` once it is
"""

from __future__ import annotations

import asyncio
import sys

import uvicorn

from rawproto.apps.files.beneath import Root
from rawproto.apps.http.site import Site


async def serve(top: str, host: str, port: int) -> None:
    config = uvicorn.Config(
        Site(Root(top)), host, port, lifespan="off", access_log=False, log_level="warning",
        proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print("listening", port, flush=True)
    await serving


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
