"""What a user's attendant cannot open, as the client hears it."""

from __future__ import annotations

from typing import Any

import pytest

from rawproto.apps.proxy.faults import RefusedTargetError, TargetError, UnresolvedError
from rawproto.apps.shell.client import login
from rawproto.rpc import RPCPeer
from tests.apps.shell.sessions import ME, PRIVATE, met


@pytest.mark.parametrize(
    ("params", "fault"),
    [
        ({"host": "nowhere.invalid", "port": 80}, UnresolvedError),
        ({"host": "127.0.0.1", "port": 1}, RefusedTargetError),
        ({"path": "/no/such/socket"}, RefusedTargetError),
    ],
)
def test_target_that_cannot_be_had_is_told_apart(
    params: dict[str, Any], fault: type[TargetError], address: str
) -> None:
    async def client(peer: RPCPeer) -> None:
        await login(peer, PRIVATE, ME)
        with pytest.raises(fault):
            await peer.call("open", params, timeout_s=20.0)

    met(address, client)
