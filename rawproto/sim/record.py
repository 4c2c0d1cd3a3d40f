"""What happened in a simulation, for other tools: pcapng for Wireshark, qlog for qvis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from rawproto.capture import RPT_KEY_LOG, CapturedPacket, Interface
from rawproto.capture.pcapng_writer import PcapngWriter
from rawproto.sim.flow import Flow
from rawproto.sim.network import Network
from rawproto.transport.key_log import key_log_lines
from rawproto.transport.qlog import QlogTracer
from rawproto.wire.ipv4 import IPv4Header

__all__ = ["record_packets", "trace_connections"]

_IPV4 = 228
_HOSTS = ("left", "right")


def record_packets(network: Network, flows: list[Flow], file: BinaryIO) -> PcapngWriter:
    """Writes each packet as its host sends it, and the keys before what they open.

    Args:
        network: whose `tap` this takes.
        flows: those whose keys go into the file.
        file: opened for binary writing; it stays open. Flush the writer when all is over.
    """
    interfaces = [Interface(link_type=_IPV4, name=name) for name in _HOSTS]
    writer = PcapngWriter(file, interfaces)
    waiting = list(flows)

    def tap(now_ns: int, from_left: bool, packet: bytes) -> None:
        for flow in [flow for flow in waiting if flow.client.secrets[0]]:
            waiting.remove(flow)
            lines = key_log_lines(flow.client.log_cid, *flow.client.secrets)
            writer.write_secrets(RPT_KEY_LOG, lines.encode())
        header, payload = IPv4Header.parse(packet)
        data = replace(header, checksum=None).emit(payload)
        side = 0 if from_left else 1
        writer.write(
            CapturedPacket(
                time_ns=now_ns, data=data, link_type=_IPV4, interface=side, direction="out"
            )
        )

    network.tap = tap
    return writer


def trace_connections(flows: list[Flow], directory: Path) -> Callable[[], None]:
    """Writes a qlog file for each side of each flow, CID_client.sqlog and CID_server.sqlog.

    Args:
        flows: not begun yet.
        directory: where to; it must be there.

    Returns:
        What closes the files.

    Raises:
        OSError: a file cannot be written.
    """
    files = []
    for flow in flows:
        cid = flow.client.log_cid
        for client in (True, False):
            side = "client" if client else "server"
            file = (directory / f"{cid:016x}_{side}.sqlog").open("w")
            files.append(file)
            tracer = QlogTracer(file.write, client=client, cid=cid, now_ns=flow.start_ns)
            if client:
                flow.client.trace(tracer)
            else:
                flow.server_tracer = tracer

    def close() -> None:
        for file in files:
            file.close()

    return close
