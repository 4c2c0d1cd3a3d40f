"""Members of a room in one process: `python chat_crowd.py ADDR PORT MEMBERS PER_SECOND SECONDS`.

Each has a key, a name and a connection of its own; ten of them speak in turn. A text is the time
of the machine's clock when it was said: whoever hears it knows how long it took. Told as a
line of JSON, behind one that says that all are there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from report import quantile
from rpt_crowd import Crowd, crowd

from rawproto.apps.chat.service import ERRORS
from rawproto.rpc import RPCPeer
from rawproto.transport.attempt import Credentials

SPEAKERS = 10
PATIENCE_S = 30.0


class Room:
    """What all members heard."""

    def __init__(self, members: int, texts: int) -> None:
        self.delays: list[int] = []
        self.wanted = members * texts
        self.all_heard = asyncio.Event()
        self.peers: list[RPCPeer] = []

    async def member(self, made: Crowd, number: int, entered: asyncio.Event) -> None:
        key = os.urandom(32)
        credentials = Credentials(static=key, peer_key=None, psk=b"", trust=lambda key: None)
        connection = await made.connect(credentials)
        peer = RPCPeer(connection, errors=ERRORS)
        self.peers.append(peer)
        params = {"room": "bench", "nick": f"member {number}", "history": 0}
        async with peer.open("join", params, timeout_s=3600) as call:
            await call.end()
            async for event in call:
                if event["kind"] == "here":
                    entered.set()
                elif event["kind"] == "message":
                    self.delays.append(time.monotonic_ns() - int(event["text"]))
                    if len(self.delays) == self.wanted:
                        self.all_heard.set()

    async def speak(self, texts: int, per_second: float) -> None:
        begun = time.monotonic()
        saying = set()
        for number in range(texts):
            await asyncio.sleep(begun + number / per_second - time.monotonic())
            params = {"room": "bench", "text": str(time.monotonic_ns()), "id": str(number)}
            peer = self.peers[number % SPEAKERS]
            task = asyncio.create_task(peer.call("say", params))
            saying.add(task)
            task.add_done_callback(saying.discard)
        await asyncio.gather(*saying)


async def run(
    addr: str, port: int, members: int, per_second: float, seconds: float
) -> dict[str, object]:
    texts = round(per_second * seconds)
    room = Room(members, texts)
    async with crowd(addr, port) as made:
        begun = time.monotonic()
        entered = [asyncio.Event() for _ in range(members)]
        tasks = [
            asyncio.create_task(room.member(made, number, each))
            for number, each in enumerate(entered)
        ]
        everybody = asyncio.gather(*[each.wait() for each in entered])
        await asyncio.wait({everybody, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                await task  # which says why it is not there any more
        print(json.dumps({"members": members, "seconds": time.monotonic() - begun}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        await room.speak(texts, per_second)
        try:
            await asyncio.wait_for(room.all_heard.wait(), PATIENCE_S)
        except TimeoutError:
            sys.stderr.write("not everybody heard everything\n")
        print(json.dumps({"heard": len(room.delays)}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "heard": len(room.delays),
        "wanted": room.wanted,
        "p50_ms": quantile(room.delays, 0.5) / 1e6,
        "p99_ms": quantile(room.delays, 0.99) / 1e6,
        "most_ms": max(room.delays) / 1e6,
    }


if __name__ == "__main__":
    addr, port, members, per_second, seconds = sys.argv[1:]
    told = run(addr, int(port), int(members), float(per_second), float(seconds))
    print(json.dumps(asyncio.run(told)))
