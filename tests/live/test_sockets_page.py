"""The programs of docs/sockets.md print what the page says, between two hosts."""

from __future__ import annotations

import re
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto import lab

PAGE = (Path(__file__).parents[2] / "docs" / "sockets.md").read_text()
PROGRAMS = {
    name: (code, shown)
    for name, code, shown in re.findall(
        r"^```python\n# (\w+)\.py\n(.*?)^```\n\n```\n(.*?)^```\n", PAGE, re.M | re.S
    )
}
"""Of a name: the program, and the plain block right behind it, which is all that it prints."""
WAYS = ["epoll", "threading", "forking", "asyncio"]
PAIRS = ["stream", "seqpacket", "dgram", *WAYS]
PAIRS += [*[f"seqpacket_{way}" for way in WAYS], *[f"dgram_{way}" for way in WAYS], "ways"]
PYTHON = [sys.executable, "-u", "-W", "error", "-c"]
_SECONDS = 20


@pytest.fixture(scope="module")
def network() -> Iterator[lab.Network]:
    with lab.up(lab.pair()) as network:
        yield network


def test_page_has_a_server_and_a_client_of_each_pair() -> None:
    assert list(PROGRAMS) == [f"{pair}_{side}" for pair in PAIRS for side in ("server", "client")]
    assert len(PROGRAMS) == len(re.findall(r"^```python\n# \w+\.py", PAGE, re.M))


@pytest.mark.parametrize("pair", PAIRS)
def test_pair_prints_what_the_page_says(network: lab.Network, pair: str) -> None:
    h1, h2 = network.host("h1"), network.host("h2")
    (server_code, server_shown), (client_code, client_shown) = (
        PROGRAMS[f"{pair}_{side}"] for side in ("server", "client")
    )
    pipe = subprocess.PIPE
    with h2.popen([*PYTHON, server_code], stdout=pipe, stderr=pipe, text=True) as server:
        try:
            assert server.stdout is not None
            # Its first line says that it is ready.
            assert select.select([server.stdout], [], [], _SECONDS)[0], "it says nothing"
            first = server.stdout.readline()
            addresses = [h2.ipv4, h2.ipv6] if pair == "ways" else [h2.ipv4]
            client = h1.run([*PYTHON, client_code, *addresses], timeout=_SECONDS)
            assert (client.returncode, client.stdout, client.stderr) == (0, client_shown, "")
            rest, complaints = server.communicate(timeout=_SECONDS)
        finally:
            server.kill()
    assert (server.returncode, first + rest, complaints) == (0, server_shown, "")
