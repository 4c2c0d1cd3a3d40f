"""`rawproto lab`: real hosts on one machine, from the command line.

    rawproto lab run chain 3 -- ping -c1 h2     build, run on h1, clean up
    rawproto lab up chain 3                     build, and leave it up
    rawproto lab exec r1 tcpdump -n             ... meanwhile, on any host
    rawproto lab link 2:delay=20ms,loss=1%      change a link while it runs
    rawproto lab down

This only turns words into calls of `rawproto.lab`; the answers go to stdout, complaints
to stderr. `run` and `exec` exit as the command does: 127 if there is no such command,
126 if it can't be started, 128 + n if signal n ended it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import indent
from types import FrameType
from typing import Any, NoReturn

from rawproto.cli.lab_link import describe, link_table, settings, show
from rawproto.cli.render import draw_in_ascii
from rawproto.errors import UsageError
from rawproto.lab.links import choose
from rawproto.lab.namespaces import become_root
from rawproto.lab.network import LiveHost, Network, up
from rawproto.lab.picture import draw, table
from rawproto.lab.spec import topology_of
from rawproto.lab.state import Entry, Registry, attach, hold
from rawproto.lab.topology import Router, Topology

__all__ = ["add_arguments", "run"]

EXIT_USAGE = 2
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127
EXIT_SIGNAL = 128

TOPOLOGIES = """\
topologies:
  pair         h1 -- h2
  chain N      h1 -- r1 -- ... -- r(N-1) -- h2: N hops
  diamond N    h1 -- r1 -- N routers side by side -- r2 -- h2: N equal-cost paths
  star N       h1 ... hN around r1
  FILE.toml    hosts, links and routes of your own (docs/lab.md)

links (--link, repeatable):
  3:delay=20ms,loss=1%     link 3, both ways; all:... for every link
  rate=10mbit queue=50 delay= jitter= loss= burst=4 duplicate= reorder= hold= corrupt=
  mtu=1400 seed=7 by=emulator; forward.loss=5% for one direction only

routers (--router, repeatable):
  r4:silent,mtu=1200       r4 misbehaves; all:... for every router
  silent icmp-rate=1/s answer-from=ADDR drop-ptb mtu=1200 loop balance=flow|packet
  nat[=addresses|plain] mpls=100/200 interface-info userspace

`chain 12` and `chain:12` are the same. Link i is 10.99.i.0/24 and fd99:i::/64, with
.1 and ::1 at the end nearer h1. Every host's name resolves on every other.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that can leave all that stands behind the first `--` alone, as a command.

    argparse itself would share those words out among the positional arguments.
    """

    takes_command = False

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = list(sys.argv[1:] if args is None else args)
        if not self.takes_command:
            return super().parse_known_args(words, namespace)
        separated = "--" in words
        end = words.index("--") if separated else len(words)
        parsed, unknown = super().parse_known_args(words[:end], namespace)
        parsed.command = words[end + 1 :]
        # Without a `--` nobody can tell which words were meant to be the command.
        if not separated or (not parsed.command and not unknown):
            self.error("no command: give one behind `--`, as in `pair -- ping -c1 h2`")
        return parsed, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the verb's command line to `parser`."""
    parser.description = "Real hosts, routers and links on this machine."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = TOPOLOGIES
    actions = parser.add_subparsers(
        dest="action", required=True, metavar="ACTION", parser_class=_Parser
    )

    def action(name: str, what: str) -> _Parser:
        made: _Parser = actions.add_parser(
            name,
            help=what,
            description=what[0].upper() + what[1:] + ".",
            epilog=TOPOLOGIES if name in ("up", "run", "link") else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        return made

    def impaired(made: _Parser) -> None:
        made.add_argument(
            "--link",
            action="append",
            default=[],
            metavar="LINK:WHAT",
            help="what a link does to packets; see below",
        )
        made.add_argument(
            "--router",
            action="append",
            default=[],
            metavar="ROUTER:WHAT",
            help="how a router misbehaves; see below",
        )

    def lab_name(made: _Parser) -> None:
        made.add_argument("--name", metavar="LAB", help="which lab, where several are up")

    made = action("up", "build a lab and leave it up")
    made.add_argument("topology", nargs="+", metavar="TOPOLOGY", help="as `chain 3`; see below")
    impaired(made)
    made.add_argument("--name", metavar="LAB", help="its name (otherwise the topology's)")
    made.add_argument("--json", action="store_true", help="describe it as JSON")

    made = action("run", "build a lab, run a command on its first host, and clean up")
    made.takes_command = True
    made.usage = (
        "%(prog)s [-h] TOPOLOGY [N] [--link LINK:WHAT] [--router ROUTER:WHAT] -- COMMAND ..."
    )
    made.add_argument("topology", nargs="+", metavar="TOPOLOGY", help="as `chain 3`; see below")
    impaired(made)

    made = action("exec", "run a command on a host of a lab that is up")
    lab_name(made)
    made.add_argument("host", metavar="HOST")
    made.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND ...")

    made = action("shell", "open a shell on a host of a lab that is up")
    lab_name(made)
    made.add_argument("host", nargs="?", metavar="HOST", help="the first host if not given")

    made = action("link", "show the links of a lab that is up, or change them while they run")
    lab_name(made)
    made.add_argument("--json", action="store_true", help="one JSON object a link")
    made.add_argument(
        "links",
        nargs="*",
        metavar="LINK[:WHAT]",
        help="`3` shows link 3 and what it has counted, `3:delay=40ms` changes it, "
        "`all:perfect` makes all as if nothing had been said of them",
    )

    made = action("down", "take a lab down, and all that runs in it")
    which = made.add_mutually_exclusive_group()
    which.add_argument("lab", nargs="?", metavar="LAB", help="which lab, where several are up")
    which.add_argument("--name", metavar="LAB", help=argparse.SUPPRESS)
    which.add_argument("--all", action="store_true", help="all labs, and what is left of dead ones")

    made = action("list", "show the labs that are up")
    made.add_argument("--json", action="store_true", help="one JSON object a lab")


def run(args: argparse.Namespace) -> int:
    """Does what the command line says.

    Returns:
        The exit code.

    Raises:
        RawprotoError: in one line, why not.
    """
    actions = {
        "up": _up,
        "run": _run,
        "exec": _exec,
        "shell": _shell,
        "link": _link,
        "down": _down,
        "list": _list,
    }
    return actions[args.action](args)


def _topology(args: argparse.Namespace) -> Topology:
    """What `up` and `run` are to build."""
    return topology_of(args.topology).changed(*args.link).misbehaving(*args.router)


def _up(args: argparse.Namespace) -> int:
    started_ns = time.monotonic_ns()
    topology = _topology(args)
    registry = Registry()
    if args.name is not None:
        registry.check_free(args.name)  # before the work; `add` asks again
    become_root()
    with up(topology) as network:
        name = registry.add(args.name, network)
        # Only now that the file tells where it is may the lab outlive this process.
        network.keeper.release()
    took_ms = (time.monotonic_ns() - started_ns) / 1e6
    if args.json:
        print(json.dumps(_description(name, network.keeper.pid, topology)))
    else:
        alone = sum(entry.alive for entry in registry.entries()) == 1
        draw_in_ascii(sys.stdout)
        print(_picture(name, topology, took_ms, alone, choose(topology)))
    return 0


def _run(args: argparse.Namespace) -> int:
    topology = _topology(args)
    become_root()
    with up(topology) as network:
        return _command(network, _first_host(network), args.command)


def _exec(args: argparse.Namespace) -> int:
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    if not command:
        raise UsageError("exec: no command")
    network = attach(Registry().choose(args.name))
    return _command(network, network.host(args.host), command)


def _shell(args: argparse.Namespace) -> int:
    network = attach(Registry().choose(args.name))
    host = network.host(args.host) if args.host else _first_host(network)
    return _command(network, host, [os.environ.get("SHELL") or "/bin/sh"])


def _link(args: argparse.Namespace) -> int:
    registry = Registry()
    with registry.locked():  # two who change at once would each undo what the other wrote
        entry = registry.choose(args.name)
        network = attach(entry)
        for text in args.links:
            if ":" in text:
                try:
                    network.change(text)
                finally:
                    registry.update(entry, network)
    numbers = dict.fromkeys(
        number for text in args.links for number in _numbers(text.partition(":")[0], network)
    )
    links = [
        network.link(number) for number in numbers or range(1, len(network.topology.links) + 1)
    ]
    if args.json:
        for link in links:
            print(json.dumps(describe(entry.name, link)))
    elif numbers:
        print("\n\n".join(map(show, links)))
    else:
        print(link_table(links))
    return 0


def _numbers(which: str, network: Network) -> Sequence[int]:
    if which == "all":
        return range(1, len(network.topology.links) + 1)
    if not re.fullmatch("[0-9]{1,6}", which):
        raise UsageError(f"link {which!r} is neither a number nor `all`")
    return [int(which)]


def _down(args: argparse.Namespace) -> int:
    registry = Registry()
    if args.all:
        for entry in registry.entries():
            _take_down(registry, entry)
        return 0
    name = args.lab or args.name
    named = registry.find(name) if name else None
    _take_down(registry, named or registry.choose(name))
    return 0


def _take_down(registry: Registry, entry: Entry) -> None:
    if entry.alive:
        hold(entry).stop()
        print(f"lab {entry.name} is down")
    else:
        print(f"lab {entry.name} was dead; forgotten")
    registry.forget(entry.name)


def _list(args: argparse.Namespace) -> int:
    entries = Registry().entries()
    if not entries:
        print("no lab is up; `rawproto lab up pair` starts one", file=sys.stderr)
    for entry in entries:
        if args.json:
            print(json.dumps(_description(entry.name, entry.pid, entry.topology, entry.alive)))
            continue
        size = ""
        if entry.topology is not None:
            hosts, links = len(entry.topology.hosts), len(entry.topology.links)
            size = f"{hosts} hosts, {links} link{'s' if links != 1 else ''}"
        state = f"up, kept by process {entry.pid}"
        if not entry.alive:
            state = f"dead; `rawproto lab down {entry.name}` forgets it"
        print(f"{entry.name:16}  {size:22}  {state}")
    return 0


def _first_host(network: Network) -> LiveHost:
    """h1, or in a lab without one the first of all."""
    return network.hosts.get("h1") or next(iter(network.hosts.values()))


def _command(network: Network, host: LiveHost, command: Sequence[str]) -> int:
    """Runs a command on a host, in the foreground. Returns its exit code as a shell would."""
    environment = dict(os.environ)
    # rawproto itself is to be found also where it was called by its path, and `ip` by anyone.
    places = [
        environment.get("PATH", os.defpath),
        os.path.dirname(sys.executable),
        "/usr/sbin",
        "/sbin",
    ]
    environment["PATH"] = os.pathsep.join(places)
    if (target := network.hosts.get("h2")) is not None:
        for address in reversed(target.addresses):  # the first of each family stays
            environment["RAWPROTO_H2_V6" if ":" in address else "RAWPROTO_H2"] = address
    try:
        process = host.popen(command, env=environment)
    except OSError as error:
        if not isinstance(error, FileNotFoundError | PermissionError):
            raise
        print(f"rawproto lab: {command[0]}: {error.strerror}", file=sys.stderr)
        missing = isinstance(error, FileNotFoundError)
        return EXIT_NOT_FOUND if missing else EXIT_NOT_EXECUTABLE
    with _signals_passed_on(process):
        code = process.wait()
    return code if code >= 0 else EXIT_SIGNAL - code


@contextmanager
def _signals_passed_on(process: subprocess.Popen[Any]) -> Iterator[None]:
    """While the command runs, signals are its affair.

    What the terminal sends (Ctrl-C, Ctrl-\\) reaches the command without us; what is
    sent to us alone is passed on.
    """

    def pass_on(number: int, frame: FrameType | None) -> None:
        process.send_signal(number)

    def leave(number: int, frame: FrameType | None) -> None:
        pass

    handlers = {
        signal.SIGINT: leave,
        signal.SIGQUIT: leave,
        signal.SIGTERM: pass_on,
        signal.SIGHUP: pass_on,
    }
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _description(
    name: str, pid: int, topology: Topology | None, alive: bool = True
) -> dict[str, Any]:
    """A lab as `--json` tells it."""
    hosts = []
    if topology is not None:
        interfaces = topology.interfaces()
        hosts = [
            {
                "name": host.name,
                "router": host.forwards,
                "behaviour": host.behaviour.words() if isinstance(host, Router) else {},
                "interfaces": [
                    {
                        "name": interface.name,
                        "link": interface.link,
                        "peer": interface.peer,
                        "ipv4": interface.ipv4,
                        "ipv6": interface.ipv6,
                    }
                    for interface in interfaces[host.name]
                ],
            }
            for host in topology.hosts
        ]
    return {
        "type": "lab",
        "schema": 1,
        "name": name,
        "topology": topology.name if topology is not None else None,
        "alive": alive,
        "pid": pid,
        "hosts": hosts,
    }


def _picture(
    name: str, topology: Topology, took_ms: float, alone: bool, made: Mapping[int, str]
) -> str:
    """What `up` says: the lab as a picture and a table, and what to try next."""
    import shutil  # here alone, for `run` is to start fast

    drawing = draw(topology, shutil.get_terminal_size().columns - 2)
    impaired = [
        f"link {number}: {settings(link.impairments, None)} (by {made[number]})"
        for number, link in enumerate(topology.links, 1)
        if link.impairments
    ]
    misbehaving = [
        f"{host.name}: {host.behaviour} "
        f"(by {'our own router' if host.behaviour.needs_userspace else 'the kernel'})"
        for host in topology.hosts
        if isinstance(host, Router) and host.behaviour
    ]
    blocks = [
        drawing or "",
        table(topology) if topology.links else "",
        "\n".join(impaired),
        "\n".join(misbehaving),
    ]
    names = [host.name for host in topology.hosts]
    first = "h1" if "h1" in names else names[0]
    other = "h2" if "h2" in names else names[-1]
    middle = next((host.name for host in topology.hosts if host.forwards), other)
    lab = "" if alone else f" --name {name}"
    hints = [
        f"exec{lab} {first} rawproto ping -c 3 {other}",
        f"exec{lab} {first} ip route",
        f"shell{lab} {middle}",
        f"down {name}",
    ]
    return "\n\n".join(
        [
            f"lab {name} is up ({took_ms:.0f} ms)",
            *(indent(block, "  ") for block in blocks if block),
            "try next:\n" + "\n".join(f"  {_own_name()} lab {hint}" for hint in hints),
        ]
    )


def _own_name() -> str:
    """How to call this program from here: by its bare name only where PATH finds it."""
    import shutil

    called = sys.argv[0]
    by_path = os.path.basename(called) == "rawproto" and "/" in called
    return called if by_path and shutil.which("rawproto") is None else "rawproto"
