"""A session's connection over a minute without a network, in virtual time."""

from __future__ import annotations

import argparse

import pytest

from rawproto.cli.shell_serve import add_outage_option, config_of
from rawproto.errors import ConnectionLostError
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection
from rawproto.transport.lifecycle import State
from tests.transport.pair import Pair

CAME_BACK_S = 5
"""What was typed meanwhile is sent again within so long: a probe's wait has grown no further."""


def settings(*words: str) -> Config:
    parser = argparse.ArgumentParser()
    add_outage_option(parser)
    parser.set_defaults(congestion="bbr")
    return config_of(parser.parse_args(words))


def cut_off(pair: Pair, seconds: float) -> tuple[Connection, Connection]:
    """Who typed something while nothing came through for so long, and who was to get it."""
    connection = pair.connect()
    pair.run(1)
    (accepted,) = pair.accepted
    pair.change = lambda from_client, data: None
    pair.run(1)
    connection.write(0, b"typed meanwhile")
    pair.client.touch(connection)
    pair.run(seconds - 1)
    pair.change = lambda from_client, data: data
    return connection, accepted


@pytest.mark.parametrize("seconds", [60, 150])
def test_session_goes_on_after_minutes_without_a_network(seconds: float) -> None:
    pair = Pair(config=settings())
    connection, accepted = cut_off(pair, seconds)
    pair.run(CAME_BACK_S)
    assert connection.state is accepted.state is State.ESTABLISHED
    assert accepted.read(0, 100, pair.now_ns) == b"typed meanwhile"


def test_session_is_given_up_when_the_outage_was_longer_than_allowed() -> None:
    pair = Pair(config=settings("--outage", "30"))
    connection, accepted = cut_off(pair, 60)
    for each in (connection, accepted):
        assert isinstance(pair.error_of(each), ConnectionLostError)
