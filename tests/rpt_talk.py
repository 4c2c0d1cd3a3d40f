"""Two hosts of the simulator talk over RPT, once through all that matters to who looks on.

Everything comes from the seed. Beside the packets stands what their senders meant: the
frames, as they were just before they were sealed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from rawproto.capture import RPT_KEY_LOG, CapturedPacket, open_writer
from rawproto.impair import Impairment
from rawproto.sim.network import RIGHT_ADDR, Network
from rawproto.transport.attempt import Credentials
from rawproto.transport.config import Config
from rawproto.transport.connection import Connection, State
from rawproto.transport.endpoint import Endpoint
from rawproto.transport.halfopen import Listener
from rawproto.transport.protection import Keys, Sealer
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.ipv6 import IPv6Header
from rawproto.wire.layer import Packet
from rawproto.wire.udp import UDPHeader

__all__ = ["CARRIERS", "Sent", "Talk", "carried", "save", "talk"]

QUESTION = b"Can anybody read this?"
ANSWER = b"Only who has the keys."
DATAGRAM = b"Not worth repeating."
LATER = b"And under the next keys?"
CLIENT_PORT, SERVER_PORT = 50_000, 4000
CARRIERS = ("rpt4", "rpt6", "udp")
_MS = 1_000_000
_CABLE = Impairment(rate_bps=100_000_000, delay_ns=5 * _MS, queue_packets=50)
_CEILING = 1480


@dataclass
class Sent:
    """One packet.

    Attributes:
        time_ns: virtual.
        from_client: who sent it.
        data: the RPT packet.
        meant: its frames before they were sealed, b"" in a long packet.
    """

    time_ns: int
    from_client: bool
    data: bytes
    meant: bytes


@dataclass
class Talk:
    """What was said.

    Attributes:
        packets: in the order in which they were sent.
        key_log: of the connection.
    """

    packets: list[Sent] = field(default_factory=list)
    key_log: str = ""


def talk(seed: int = 1, *, cipher: str = "AESGCM", key_changes: int = 1) -> Talk:
    """Question and answer on stream 0, a datagram, new keys, more on stream 0, and the end."""
    said = Talk()
    network = Network(seed, _CABLE, _CABLE)
    config = Config(cipher=cipher)
    meant: dict[bytes, bytes] = {}

    def tap(now_ns: int, from_left: bool, packet: bytes) -> None:
        data = IPv4Header.parse(packet)[1]
        said.packets.append(Sent(now_ns, from_left, data, meant.get(data, b"")))

    class Overheard:
        """A cipher that tells what it is given."""

        def __init__(self, aead: Any) -> None:
            self._aead = aead

        def encrypt(self, nonce: bytes, frames: bytes, header: bytes) -> bytes:
            sealed: bytes = self._aead.encrypt(nonce, frames, header)
            meant[header + sealed] = bytes(frames)
            return sealed

    take = Sealer._take

    def overheard_take(self: Sealer, keys: Keys, first: int) -> None:
        take(self, keys, first)
        self.aead = Overheard(self.aead)

    network.tap = tap
    with patch.object(Sealer, "_take", overheard_take):
        client = _run(network, config, key_changes)
    to_server, to_client = client.secrets
    said.key_log = (
        f"RPT_CLIENT_SECRET {client.log_cid:016x} {to_server.hex()}\n"
        f"RPT_SERVER_SECRET {client.log_cid:016x} {to_client.hex()}\n"
    )
    return said


def _run(network: Network, config: Config, key_changes: int) -> Connection:
    """The conversation: the client's connection, when all is over."""
    listener = Listener(network.entropy(32), config)
    right = Endpoint(
        SERVER_PORT, config, entropy=network.entropy, ceiling=_CEILING, listener=listener
    )
    left = Endpoint(CLIENT_PORT, config, entropy=network.entropy, ceiling=_CEILING)
    network.right.endpoints[SERVER_PORT] = right
    network.left.endpoints[CLIENT_PORT] = left
    credentials = Credentials(static=network.entropy(32))
    client = left.connect((RIGHT_ADDR, 0), SERVER_PORT, credentials, network.now_ns)
    accepted: list[Connection] = []

    def until(done: Callable[[], bool]) -> None:
        assert network.run(done, 10_000 * _MS), "the talk got stuck"

    def is_accepted() -> bool:
        if (found := right.accept()) is not None:
            accepted.append(found)
        return bool(accepted)

    def heard(connection: Connection, words: bytes) -> Callable[[], bool]:
        got = bytearray()

        def done() -> bool:
            got.extend(connection.read(0, 1 << 16, network.now_ns))
            return bytes(got) == words

        return done

    def quiet() -> None:
        network.run(lambda: False, 200 * _MS)

    until(lambda: client.state is State.ESTABLISHED)
    client.write(0, QUESTION)
    left.touch(client)
    until(is_accepted)
    (server,) = accepted
    until(heard(server, QUESTION))
    server.write(0, ANSWER)
    right.touch(server)
    until(heard(client, ANSWER))
    assert client.send_datagram(DATAGRAM)
    left.touch(client)
    quiet()
    for turn in range(key_changes):
        assert client.change_keys(network.now_ns)
        client.write(0, LATER)
        left.touch(client)
        until(heard(server, LATER))
        quiet()
        server.write(0, b"%d" % turn)
        right.touch(server)
        until(heard(client, b"%d" % turn))
        quiet()
    client.finish(0)
    left.touch(client)
    quiet()
    client.close(network.now_ns)
    left.touch(client)
    network.run(lambda: False, 2000 * _MS)
    return client


def carried(sent: Sent, carrier: str) -> Packet:
    """A packet of the talk as a carrier has it."""
    hosts = ("192.0.2.1", "192.0.2.2") if sent.from_client else ("192.0.2.2", "192.0.2.1")
    if carrier == "rpt6":
        src, dst = (f"2001:db8::{host[-1]}" for host in hosts)
        return IPv6Header(src_addr=src, dst_addr=dst, next_header=253) / sent.data
    if carrier == "rpt4":
        return IPv4Header(src_addr=hosts[0], dst_addr=hosts[1], protocol=253) / sent.data
    ports = (CLIENT_PORT, SERVER_PORT) if sent.from_client else (SERVER_PORT, CLIENT_PORT)
    header = IPv4Header(src_addr=hosts[0], dst_addr=hosts[1])
    return header / UDPHeader(src_port=ports[0], dst_port=ports[1]) / sent.data


def save(
    directory: Path, said: Talk, carrier: str, *, keys: str = "", name: str = "talk.pcapng"
) -> Path:
    """A capture of the talk, with keys in it if there are any."""
    path = directory / name
    with open_writer(path) as writer:
        if keys:
            writer.write_secrets(RPT_KEY_LOG, keys.encode())
        for sent in said.packets:
            data = carried(sent, carrier).emit()
            writer.write(CapturedPacket(time_ns=sent.time_ns, data=data, link_type=101))
    return path
