"""How the links of a lab are made, changed while they run, and asked.

Three ways, and `made` says which a link goes:

- `veth`: a pair of interfaces, a perfect wire;
- `netem`: the same, with the kernel's netem at both ends;
- `emulator`: two pairs with our own process between them (see emulator.py).

netem is taken where the kernel has it and it can do what is asked for; `by=emulator` and
`by=netem` insist. A link that runs without the emulator and comes to need it is made anew.
"""

from __future__ import annotations

import errno
import json
import socket
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rawproto.errors import LinkError, UsageError
from rawproto.lab import build, netem
from rawproto.lab.batch import find_program
from rawproto.lab.commands import EMULATOR_NAMESPACE, ends_of, port_names
from rawproto.lab.namespaces import Keeper, in_thread, python_command
from rawproto.lab.topology import Interface, LinkSpec, Topology

__all__ = ["LinkReport", "LiveLink", "begin_emulator", "change_link", "choose", "start_links"]

ADDRESS = "rawproto-links"
ANSWER_TIMEOUT_S = 5.0
MAX_MESSAGE_BYTES = 65536
ETHERNET_MTU = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """What a link has done so far.

    Attributes:
        made: `"veth"`, `"netem"` or `"emulator"`.
        seed: what its chances follow from, given or drawn; None where it has none.
        forward: counts of the packets from its first end to its second. The emulator has
            those of `impair.LinkStatistics` and `upkeep` (frames that keep the link
            itself running, spared chance and queue), `refused` (an interface was down).
        backward: the other way.
        lateness: how long after they were due the emulator sent packets: `packets`,
            `p50_ms`, `p99_ms`, `max_ms`; {} without emulator.
        overrun: how many packets the emulator has lost since it was started, on all links
            of the lab, because it did not come to them in time.
    """

    made: str
    seed: int | None = None
    forward: Mapping[str, int] = field(default_factory=dict)
    backward: Mapping[str, int] = field(default_factory=dict)
    lateness: Mapping[str, float] = field(default_factory=dict)
    overrun: int = 0


class LiveLink:
    """One link of a running lab.

    Attributes:
        number: from 1.
        spec: what it is like now.
        ends: its two interfaces.
    """

    def __init__(self, topology: Topology, number: int, keeper: Keeper) -> None:
        self.number = number
        self.spec: LinkSpec = topology.links[number - 1]
        self.ends: tuple[Interface, Interface] = ends_of(topology)[number - 1]
        self._keeper = keeper

    @property
    def made(self) -> str:
        """`"veth"`, `"netem"` or `"emulator"`. Raises LinkError if the lab is down."""
        if self.number in _emulated(self._keeper):
            return "emulator"
        return "netem" if self.spec.impairments else "veth"

    def report(self, *, clear: bool = False) -> LinkReport:
        """What it has done since it was made.

        Args:
            clear: whether to begin a new count (with the emulator only).

        Raises:
            LinkError: the lab is down, or its emulator has failed.
        """
        made = self.made
        if made == "emulator":
            request = {"do": "report", "link": self.number, "clear": clear}
            return LinkReport(made=made, **_ask(self._keeper, request))
        if made == "netem":
            shown = [_shown_qdisc(self._keeper, end) for end in self.ends]
            return LinkReport(made=made, forward=shown[0], backward=shown[1])
        return LinkReport(made=made)


def choose(topology: Topology) -> dict[int, str]:
    """How each link is to be made, by number.

    Raises:
        UsageError: a link insists on netem, which is not there or can't do that.
    """
    return {number: _way(number, link) for number, link in enumerate(topology.links, 1)}


def _way(number: int, link: LinkSpec) -> str:
    by = link.impairments.get("by")
    if not link.impairments or by == "emulator":
        return by or "veth"
    refusal = netem.refusal(link.impairments)
    if refusal is None and not netem.available():
        refusal = "this kernel has no netem, or this machine no `tc`"
    if refusal is not None and by == "netem":
        raise UsageError(f"link {number}: by=netem: {refusal}")
    return "emulator" if refusal else "netem"


def begin_emulator(keeper: Keeper) -> subprocess.Popen[bytes]:
    """Starts the emulator of a lab; it is ready when its stdout says so.

    Raises:
        LinkError: the lab is down.
    """
    return keeper.popen(
        EMULATOR_NAMESPACE,
        python_command("emulator", ADDRESS),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,  # Ctrl-C at our terminal is not for the lab
    )


def start_links(
    topology: Topology,
    made: Mapping[int, str],
    keeper: Keeper,
    emulator: subprocess.Popen[bytes] | None,
) -> None:
    """Has the interfaces of a new lab do what its links are to do.

    Args:
        topology: the lab.
        made: as `choose` has said.
        keeper: what holds it.
        emulator: as begun, None where no link needs it.

    Raises:
        LinkError: the emulator died, or `tc` refused something.
    """
    if emulator is not None:
        _await_emulator(emulator)
        for number, way in made.items():
            if way == "emulator":
                _ask(keeper, _wish(topology, number, restart=True))
    _set_netem(topology, [number for number, way in made.items() if way == "netem"], keeper)


def change_link(
    topology: Topology, number: int, keeper: Keeper, ip: str, *, before: LiveLink, restart: bool
) -> None:
    """Makes a link of a running lab what it is in `topology`.

    Args:
        topology: the lab as it is to be.
        number: which link.
        keeper: what holds the lab.
        ip: where that program is.
        before: the link as it was.
        restart: whether its chances begin anew.

    Raises:
        UsageError: it insists on netem, which is not there or can't do that.
        LinkError: the lab is down, or something in it refused.
    """
    made, wanted = before.made, _way(number, topology.links[number - 1])
    remade = made != "emulator" and wanted == "emulator"
    if topology.links[number - 1].mtu != before.spec.mtu:
        in_thread(lambda: build.set_mtu(topology, number, keeper, ip))
    if made == "emulator":
        _ask(keeper, _wish(topology, number, restart=restart))
    elif remade:
        _ensure_emulator(keeper)
        in_thread(lambda: build.remake_link(topology, number, keeper, ip))
        _ask(keeper, _wish(topology, number, restart=True))
        in_thread(lambda: build.await_links(before.ends, topology, keeper))
    elif "netem" in (made, wanted):
        _set_netem(topology, [number], keeper)


# --- the emulator and netem, from outside ---------------------------------------------------------


def _wish(topology: Topology, number: int, *, restart: bool) -> dict[str, Any]:
    link = topology.links[number - 1]
    return {
        "do": "set",
        "link": number,
        "ports": port_names(number),
        "mtu": link.mtu or ETHERNET_MTU,
        "impairments": dict(link.impairments),
        "restart": restart,
    }


def _await_emulator(emulator: subprocess.Popen[bytes]) -> None:
    assert emulator.stdout is not None
    with emulator.stdout:
        if not emulator.stdout.readline():
            raise LinkError("start emulator", "", None, f"exit {emulator.wait()}")


def _ensure_emulator(keeper: Keeper) -> None:
    """Starts the emulator in a lab that has none. Raises LinkError if it had one, now dead."""
    try:
        _dial(keeper).close()
    except ConnectionRefusedError:
        if _emulated(keeper):
            raise _dead() from None
        _await_emulator(begin_emulator(keeper))


def _dead() -> LinkError:
    return LinkError("ask emulator", "", errno.ECONNREFUSED, "it has died")


def _dial(keeper: Keeper) -> socket.socket:
    """A socket to the emulator. Raises ConnectionRefusedError if there is none."""
    with keeper.entered(EMULATOR_NAMESPACE):
        dialled = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        dialled.settimeout(ANSWER_TIMEOUT_S)
        dialled.bind("")  # to any name, for the answer
        dialled.connect(f"\0{ADDRESS}")
    except OSError:
        dialled.close()
        raise
    return dialled


def _ask(keeper: Keeper, request: Mapping[str, Any]) -> dict[str, Any]:
    """One request to the emulator, and its answer."""
    try:
        with _dial(keeper) as dialled:
            dialled.send(json.dumps(request).encode())
            answer: dict[str, Any] = json.loads(dialled.recv(MAX_MESSAGE_BYTES))
    except ConnectionRefusedError:
        raise _dead() from None
    except TimeoutError:
        raise LinkError("ask emulator", "", errno.ETIMEDOUT, "it does not answer") from None
    if "error" in answer:
        raise LinkError("ask emulator", f"link {request['link']}", None, answer["error"])
    return answer


def _emulated(keeper: Keeper) -> set[int]:
    """The links that the emulator's interfaces are for."""
    with keeper.entered(EMULATOR_NAMESPACE):
        names = [name for _, name in socket.if_nameindex()]
    return {int(name[:-1]) for name in names if name[:-1].isdigit()}


def _set_netem(topology: Topology, numbers: Sequence[int], keeper: Keeper) -> None:
    if numbers:
        tc = find_program("tc")
        assert tc is not None  # or netem would not have been found available
        in_thread(lambda: build.set_netem(topology, numbers, keeper, tc))


def _shown_qdisc(keeper: Keeper, end: Interface) -> dict[str, int]:
    words = [find_program("tc") or "tc", "-s", "-j", "qdisc", "show", "dev", end.name]
    process = keeper.popen(end.host, words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with process:
        shown, _ = process.communicate()
    return netem.counters(shown.decode())
