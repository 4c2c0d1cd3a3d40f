"""The process that emulates the links of a lab for which the kernel has nothing.

An emulated link is two veth pairs, with this process between them::

    h1 eth0 ===== 3a | namespace _links | 3b ===== eth0 r1
                      \\__ this process __/

One process serves all such links of a lab, in both directions. It is started in the
lab's namespace `_links`, so it dies with the lab; and it is asked and told through a
datagram socket in there, whose name is abstract, so that who may enter may speak.

A request is a JSON object, and so is the answer; `{"error": ...}` is one too.

    {"do": "set", "link": 3, "ports": ["3a", "3b"], "mtu": 1500,
     "impairments": {"delay": "20ms", "seed": "7"}, "restart": false}
    {"do": "report", "link": 3, "clear": false}

`set` makes a link known, or changes it while it runs: what is under way keeps its
time. `restart` begins its chances anew, so that packets meet the same fate as at first.
A seed that is not given is drawn, and told, so that a run can be repeated.

It is started as `python -I -S -c CODE DIRECTORY ADDRESS` and says `ready` on stdout.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from rawproto.errors import RawprotoError
from rawproto.impair.model import LinkModel, LinkStatistics
from rawproto.lab.impairments import DIRECTIONS, check, impairment, link_model
from rawproto.lab.pump import Lane, Lateness, Pump
from rawproto.lab.syscalls import set_process_name, set_timer_slack
from rawproto.link.trunk import Trunk

__all__ = ["Emulator", "main"]

MAX_MESSAGE_BYTES = 65536


class EmulatedLink:
    """Two lanes, and what they do to frames.

    Args:
        number: the link's.
        interfaces: those that face its first and its second end.
        impairments: as in `LinkSpec`.

    Attributes:
        lanes: forward and backward.

    Raises:
        UsageError: the impairments contradict themselves.
    """

    def __init__(
        self, number: int, interfaces: Sequence[str], impairments: Mapping[str, str]
    ) -> None:
        self.number = number
        self.seed = _seed(impairments)
        self.lateness = Lateness()
        self.lanes = [
            Lane(target, self._model(impairments, direction), self.lateness)
            for direction, target in zip(DIRECTIONS, reversed(interfaces), strict=True)
        ]

    def _model(self, impairments: Mapping[str, str], direction: str) -> LinkModel:
        return link_model(impairments, seed=self.seed, link=self.number, direction=direction)

    def change(self, impairments: Mapping[str, str], *, restart: bool) -> None:
        """What is offered from now on meets these impairments. Raises as the constructor."""
        check(impairments)
        if restart:
            self.seed = _seed(impairments)
        for lane, direction in zip(self.lanes, DIRECTIONS, strict=True):
            if restart:
                lane.model = self._model(impairments, direction)
            else:
                lane.model.configure(impairment(impairments, direction))

    def report(self, *, clear: bool) -> dict[str, Any]:
        """All that was counted since the link was made, or since it was last cleared."""
        late = self.lateness
        told = {
            "seed": self.seed,
            **{
                direction: _counts(lane.model.statistics)
                | {"upkeep": lane.upkeep, "refused": lane.refused}
                for direction, lane in zip(DIRECTIONS, self.lanes, strict=True)
            },
            "lateness": {
                "packets": late.count,
                "p50_ms": late.quantile_ns(0.5) / 1e6,
                "p99_ms": late.quantile_ns(0.99) / 1e6,
                "max_ms": late.max_ns / 1e6,
            },
        }
        if clear:
            self.lateness = Lateness()
            for lane in self.lanes:
                lane.lateness = self.lateness
                lane.model.statistics = LinkStatistics()
                lane.upkeep = lane.refused = 0
        return told


class Emulator:
    """The links of one lab, and the socket through which they are told what to be.

    Args:
        address: the socket's name, without the NUL that makes it abstract.

    Raises:
        PrivilegeError, LinkError: packets can't be received and sent here.
        OSError: the name is taken.
    """

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(f"\0{address}")
        self._trunk = Trunk()
        self._pump = Pump(self._trunk)
        self._links: dict[int, EmulatedLink] = {}

    def run(self) -> None:
        """Pumps for good. Should that fail, whoever asks from then on is told why."""
        try:
            self._pump.run(self._socket, lambda: self._serve(self._answer))
        except Exception as error:
            failure = f"the emulator has failed: {type(error).__name__}: {error}"
            self._socket.setblocking(True)
            while True:
                self._serve(lambda request: {"error": failure})

    def _serve(self, answer: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        data, sender = self._socket.recvfrom(MAX_MESSAGE_BYTES)
        try:
            reply = answer(json.loads(data))
        except RawprotoError as error:
            reply = {"error": str(error)}
        except (ValueError, KeyError, TypeError, OSError) as error:
            reply = {"error": repr(error)}
        with suppress(OSError):  # whoever asked has gone
            self._socket.sendto(json.dumps(reply).encode(), sender)

    def _answer(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        number = int(request["link"])
        link = self._links.get(number)
        if request["do"] == "set":
            impairments = request["impairments"]
            if link is None:
                self._add(number, request["ports"], impairments)
            else:
                link.change(impairments, restart=bool(request["restart"]))
            self._make_room(int(request["mtu"]))
            return {}
        if request["do"] == "report" and link is not None:
            lost = self._pump.overrun + self._trunk.dropped
            return link.report(clear=bool(request["clear"])) | {"overrun": lost}
        return {"error": f"link {number} is not emulated"}

    def _add(self, number: int, ports: Sequence[str], impairments: Mapping[str, str]) -> None:
        link = EmulatedLink(number, ports, impairments)
        for port, lane in zip(ports, link.lanes, strict=True):
            self._pump.lanes[socket.if_nametoindex(port)] = lane
        self._links[number] = link

    def _make_room(self, mtu: int) -> None:
        """Takes in packets of that size. What has come in and was not looked at yet is lost."""
        if mtu > self._trunk.mtu:
            wider = Trunk(mtu=mtu)  # the slots of a ring have one size for good
            self._pump.overrun += self._trunk.dropped
            self._trunk.close()
            self._trunk = self._pump.trunk = wider


def main() -> None:
    """The process's whole life. `sys.argv`: "-c", DIRECTORY, ADDRESS."""
    set_process_name("rawproto-links")
    set_timer_slack(1)
    _come_first()
    emulator = Emulator(sys.argv[2])
    print("ready", flush=True)
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, sys.stdout.fileno())
    # Nothing here makes cycles, and a look at a hundred thousand frames would take long.
    gc.disable()
    emulator.run()


def _come_first() -> None:
    """A frame that is due can't wait for whoever computes; we take the processor for moments only.

    Root of a user namespace may not ask for that: there the emulator is late when the
    machine is busy, and says so.
    """
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))


def _seed(impairments: Mapping[str, str]) -> int:
    if "seed" in impairments:
        return int(impairments["seed"])
    return int.from_bytes(os.urandom(4), "big")


def _counts(statistics: LinkStatistics) -> dict[str, int]:
    """All but what a model here never counts: the MTU is the interfaces', the heap is ours."""
    counts = asdict(statistics)
    del counts["too_big"], counts["overflowed"]
    return counts
