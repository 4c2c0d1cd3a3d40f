"""The streams of one side, without a connection around them."""

from __future__ import annotations

from typing import Any

from rawproto.transport.config import Config
from rawproto.transport.control import Control
from rawproto.transport.incoming import Incoming
from rawproto.transport.outgoing import Outgoing
from rawproto.transport.parameters import Parameters
from rawproto.transport.streams import Streams


class Side:
    """Streams and what goes through them; events and control frames can be looked at."""

    def __init__(self, config: Config, *, client: bool, **peer: int) -> None:
        self.events: list[Any] = []
        self.control = Control()
        emit = self.events.append
        self.streams = Streams(config, client=client, control=self.control, emit=emit)
        self.outgoing = Outgoing(config, self.streams, self.control, emit)
        self.incoming = Incoming(config, self.streams, self.control, emit)
        parameters = Parameters(connection_id=1, reset_token=bytes(16), **peer)
        self.streams.start(parameters)
        self.outgoing.data_limit = parameters.max_data
