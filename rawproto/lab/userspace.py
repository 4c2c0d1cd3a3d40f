"""The process of our own routers: packets between packet sockets and `forwarding`.

One process for each router, all of them forked from one that has opened their sockets,
so that Python starts once. The kernel keeps the addresses, answers for them, and routes
what the router itself sends; only forwarding is switched off there::

    eth0 ==> packet socket --.                      .--> packet socket ==> eth1
                              `---> Forwarder -----+
                                                    `--> raw socket ==> the kernel

A link has two ends, so the Ethernet header by each interface is always the same, and
nothing has to be resolved.

It is started as `python -I -S -c CODE DIRECTORY`, reads from stdin what it is to be, and
says `ready` on stdout, or what went wrong. It dies with the lab.
"""

from __future__ import annotations

import errno
import os
import pickle
import select
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from rawproto.errors import LinkError
from rawproto.lab.forwarding import ITSELF, Departure, Forwarder
from rawproto.lab.keeper import NETNS
from rawproto.lab.router_config import RouterConfig
from rawproto.lab.syscalls import CLONE_NEWNET, set_process_name, setns
from rawproto.link.interfaces import interface
from rawproto.link.netlink import NetlinkSocket
from rawproto.link.packet import ETH_P_IP, ETH_P_IPV6, Frame, PacketLink
from rawproto.link.raw import RawLink
from rawproto.machine import Transmit
from rawproto.wire.address import unpack_ipv4, unpack_ipv6

__all__ = ["UserspaceRouter", "main"]

ETHERNET_BYTES = 14
ETHERTYPES = {4: ETH_P_IP.to_bytes(2, "big"), 6: ETH_P_IPV6.to_bytes(2, "big")}
TO_US = 0
RECEIVES_NONE = 255

BATCH = 64
"""Frames taken from one interface before the others have their turn."""

NICENESS = -20
"""Packets can't wait for whoever computes."""

RTMGRP_LINK = 1
NOTICE_S = 0.001
"""How long to collect notices of one change: there are several."""


class UserspaceRouter:
    """One router and its sockets, in the calling thread's network namespace.

    Args:
        config: what it goes by.

    Raises:
        PrivilegeError, LinkError: an interface is missing, or sockets are refused.
    """

    def __init__(self, config: RouterConfig) -> None:
        self.host = config.host
        self._forwarder = Forwarder(config)
        self._notices = NetlinkSocket(RTMGRP_LINK)
        self._links: dict[int, PacketLink] = {}
        self._poll = select.poll()
        self._look_at_interfaces()
        self._raw = {
            version: RawLink(4 if version == 4 else 6, RECEIVES_NONE, timestamps=False)
            for version in (4, 6)
            if any(port.address(version) for port in config.ports)
        }

    def run(self) -> None:
        """Forwards for good."""
        self._poll.register(self._notices, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in self._poll.poll()}
            for port, link in self._links.items():
                if link.fileno() in ready:
                    self._take(port, link)
            if self._notices.fileno() in ready:
                for _ in self._notices.notices(NOTICE_S):
                    pass  # whatever they say, only what is true by now counts
                self._look_at_interfaces()

    def _look_at_interfaces(self) -> None:
        """Follows what has become of the interfaces: another MTU, or made anew."""
        ports = self._forwarder.ports
        for number, port in enumerate(ports):
            try:
                device = interface(port.name)
                if device.index != port.if_index:
                    link = PacketLink(port.name, timestamps=False, ignore_outgoing=True)
                    self._replace(number, link)
            except LinkError:
                if not port.if_index:
                    raise
                continue  # gone, and perhaps to come again
            ports[number] = replace(port, if_index=device.index, mtu=device.mtu)

    def _replace(self, port: int, link: PacketLink) -> None:
        old = self._links.get(port)
        if old is not None:
            self._poll.unregister(old)
            old.close()
        self._links[port] = link
        self._poll.register(link, select.POLLIN)

    def _take(self, port: int, link: PacketLink) -> None:
        try:
            frames = link.receive_frames(BATCH)
        except LinkError:  # the interface is down
            return
        self._pass_on(port, frames)

    def _pass_on(self, port: int, frames: Iterable[Frame]) -> None:
        for frame in frames:
            if frame.packet_type != TO_US or frame.ethertype not in (ETH_P_IP, ETH_P_IPV6):
                continue
            packet = frame.data[ETHERNET_BYTES:]
            try:
                self._send_all(self._forwarder.handle(packet, port))
            except LinkError as error:
                # What the kernel refuses is lost, as on any router; but for a packet that no
                # longer fits there is something to say.
                if error.errno == errno.EMSGSIZE:
                    self._look_at_interfaces()
                    with suppress(LinkError):
                        self._send_all(self._forwarder.handle(packet, port))

    def _send_all(self, departures: Iterable[Departure]) -> None:
        for port, packet in departures:
            self._send(port, packet)

    def _send(self, port: int, packet: bytes) -> None:
        version = packet[0] >> 4
        if port == ITSELF:
            target = unpack_ipv4(packet[16:20]) if version == 4 else unpack_ipv6(packet[24:40])
            self._raw[version].send(Transmit(data=packet, dst_addr=target, token=0))
        else:
            header = self._forwarder.ports[port].mac_addresses + ETHERTYPES[version]
            self._links[port].send_frame(header + packet)


def main() -> None:
    """The process's whole life. `sys.argv`: "-c", DIRECTORY."""
    configs: list[RouterConfig] = pickle.load(sys.stdin.buffer)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are forked
    with suppress(PermissionError):  # root of a user namespace may not
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    routers = []
    try:
        for config in configs:
            _enter(config.host)
            routers.append(UserspaceRouter(config))
    except OSError as error:
        print(f"{config.host}: {error}", flush=True)
        return
    *others, last = routers
    mine = next((router for router in others if os.fork() == 0), last)
    if mine is last:
        print("ready", flush=True)
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    set_process_name(f"rawproto-{mine.host}")
    _enter(mine.host)
    mine.run()


def _enter(host: str) -> None:
    namespace = os.open(f"{NETNS}/{host}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(namespace, CLONE_NEWNET)
    finally:
        os.close(namespace)
