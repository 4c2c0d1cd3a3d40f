"""Two hosts on this machine, packets laid out by hand between them, and what they look like.

`make demo` runs this. It needs root, or user namespaces; it sends nothing beyond the
two hosts, which are gone when it ends. What it shows, it does: the ping is the verb,
the datagram goes out through a raw socket, an ordinary socket of the kernel's answers it.
"""

from __future__ import annotations

import argparse
import re
import select
import shutil
import socket
import sys
import textwrap
from pathlib import Path

from rawproto.capture import RPT_KEY_LOG, CapturedPacket
from rawproto.capture.pcapng_writer import PcapngWriter
from rawproto.cli.demo_apps import show_apps
from rawproto.cli.demo_rpt import show_talk, talk
from rawproto.cli.render import Style, draw_in_ascii
from rawproto.errors import LinkError, UsageError
from rawproto.lab import LiveHost, become_root, chain, is_privileged, pair, up
from rawproto.lab.picture import draw, table
from rawproto.link.packet import Frame, PacketLink
from rawproto.link.raw import RawLink
from rawproto.machine import Datagram, Transmit
from rawproto.wire.dissect import Dissection, checksums, dissect
from rawproto.wire.icmp import ICMPDestinationUnreachable
from rawproto.wire.icmp_echo import ICMPv6Echo
from rawproto.wire.ipv4 import IPv4Header
from rawproto.wire.layer import Layer
from rawproto.wire.show import diagram, hexdump, summary
from rawproto.wire.udp import UDPHeader

__all__ = ["add_arguments", "run"]

PORT = 9999
OUR_PORT = 40000
QUESTION = b"Was this packet laid out by hand?"
ANSWER = b"The kernel took it for one of its own."
PATIENCE_S = 2.0
"""How long anything that crosses the lab may take; it takes microseconds."""
_BOX = re.compile(r"[-+~]{2,}[-+~ ]*|[|]|^[ 0-9]+$", re.M)
"""The lines of a diagram and its ruler."""
VERDICTS = {True: "checksum right", False: "checksum WRONG", None: "no checksum to judge"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describes the verb's command line to `parser`."""
    parser.add_argument(
        "-o",
        dest="file",
        metavar="FILE",
        default="demo.pcapng",
        help="where to save the packets (demo.pcapng)",
    )
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="auto: on a terminal, unless NO_COLOR is set",
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the demonstration: the exit code."""
    draw_in_ascii(sys.stdout)
    page = Page(Style(sys.stdout, arguments.color))
    capture = create(Path(arguments.file))
    privileged = is_privileged()
    become_root()
    topology = pair()
    page.title("Two hosts on this machine, and a cable between them")
    page.block(f"{draw(topology)}\n\n{table(topology)}")
    with up(topology) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        with h1.entered():
            tap = PacketLink(h1.interfaces[0].name)
        show_ping(page, h1, h2)
        show_exchange(page, h1, h2)
        frames = collect(tap)
        said = talk(h1, h2)
    save(frames + said.frames, capture, h1.interfaces[0].name, said.key_log)
    show_capture(page, frames, arguments.file)
    show_headers(page, frames)
    show_talk(page, said, arguments.file)
    show_apps(page)
    show_trace(page)
    show_what_next(page, arguments.file, privileged)
    return 0


class Page:
    """What is printed: titles, prose and blocks, as wide as the terminal is, within reason."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.narrow = sys.stdout.isatty()
        self.width = min(shutil.get_terminal_size().columns, 120)

    def title(self, text: str) -> None:
        """Opens a part."""
        rule = "─" * (self.width - len(text) - 4)
        print(f"\n{self.style(f'── {text}', 'bold', 'cyan')} {self.style(rule, 'cyan')}\n")

    def say(self, text: str) -> None:
        """Prose."""
        print(textwrap.fill(text, min(self.width, 88)))

    def block(self, text: str) -> None:
        """Lines as they are."""
        print(textwrap.indent(text, "  "))

    def command(self, words: str, why: str) -> None:
        """A command line, under what it is good for; a long one goes on on the next line."""
        self.block(self.style(f"# {why}", "dim"))
        if len(words) > self.width - 4:
            words = words.replace(" | ", " |\n    ")
            if "|" not in words:
                lines = textwrap.wrap(words, self.width - 8, break_on_hyphens=False)
                words = " \\\n    ".join(lines)
        self.block(f"{self.style('$', 'dim')} {self.style(words, 'bold')}")

    def packet(self, number: int, seconds: float, frame: Frame) -> None:
        """One packet on one line, as much as the terminal has room for."""
        self.line(number, seconds, frame, summary(dissect(frame.data)))

    def line(self, number: int, seconds: float, frame: Frame, line: str) -> None:
        """A packet's number, time and way, and words about it."""
        head = f"{number:4} {seconds:9.6f}"
        room = self.width - len(head) - 4
        if self.narrow and len(line) > room:
            line = f"{line[: room - 1]}…"
        way = self.style("→", "green") if frame.direction == "out" else self.style("←", "yellow")
        print(f"{self.style(head, 'dim')} {way} {line}")

    def diagram(self, what: Layer) -> None:
        """A header in boxes, its lines dimmed so that names and values stand out."""
        self.block(_BOX.sub(lambda found: self.style(found[0], "dim"), diagram(what)))


def show_ping(page: Page, h1: LiveHost, h2: LiveHost) -> None:
    """The verb itself, on h1, over both families at once."""
    page.title("ping, over both families at once")
    words = ["ping", "-n", "-c", "3", "-i", "0.2", h2.ipv4, h2.ipv6]
    page.command(f"rawproto {' '.join(words)}", "on h1")
    done = h1.run([sys.executable, "-m", "rawproto.cli.main", *words], timeout=30)
    for line in done.stdout.splitlines():
        page.block(textwrap.fill(line, page.width - 2, subsequent_indent="  "))
    if done.returncode:
        raise LinkError("ping", h2.ipv4, None, done.stderr.strip() or "no answer")


def show_trace(page: Page) -> None:
    """A longer way, with a slow link and a router that says nothing."""
    page.title("A path of five hops, traced")
    page.say(
        "Another lab: h1 and h2 with four routers between them. The third link takes 10 ms "
        "each way, and r2 forwards but never answers. All hops are probed at once, over one flow."
    )
    print()
    with up(chain(5).changed("3:delay=10ms").misbehaving("r2:silent")) as network:
        h1, h2 = network.host("h1"), network.host("h2")
        # Else the probes wait for neighbours to be looked for, across the slow link twice.
        h1.run([sys.executable, "-m", "rawproto.cli.main", "ping", "-c", "1", h2.ipv4], timeout=30)
        words = ["traceroute", "-q", "1", h2.ipv4]
        page.command(f"rawproto {' '.join(words)}", "on h1")
        done = h1.run([sys.executable, "-m", "rawproto.cli.main", *words], timeout=30)
        page.block(done.stdout.rstrip())
        if done.returncode:
            raise LinkError("trace to", h2.ipv4, None, done.stderr.strip() or "no answer")


def show_exchange(page: Page, h1: LiveHost, h2: LiveHost) -> None:
    """A datagram of ours to an ordinary socket on h2, and its answer back."""
    page.title("UDP by hand, and an ordinary socket at the other end")
    packet = (
        IPv4Header(src_addr=h1.ipv4, dst_addr=h2.ipv4, identification=1)
        / UDPHeader(src_port=OUR_PORT, dst_port=PORT)
        / QUESTION
    )
    page.say(
        f"h1 lays out an IPv4 header, a UDP header and {len(QUESTION)} bytes, and sends them "
        "through a raw socket. On h2 a UDP socket of the kernel waits."
    )
    print()
    with h2.entered():
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with h1.entered():
        link = RawLink(4, socket.IPPROTO_UDP)
    with peer, link:
        peer.settimeout(PATIENCE_S)
        peer.bind((h2.ipv4, PORT))
        link.send(Transmit(data=packet.emit(), dst_addr=h2.ipv4, token=0))
        heard, (addr, port) = peer.recvfrom(2048)
        page.block(f"h2 hears from {addr}:{port}   {page.style(heard.decode(), 'bold')}")
        peer.sendto(ANSWER, (addr, port))
        answer = _await_answer(link)
        page.block(f"h1 hears from {h2.ipv4}:{PORT}    {page.style(answer.decode(), 'bold')}")


def _await_answer(link: RawLink) -> bytes:
    """The payload of the first datagram to our port. Raises LinkError where none comes."""
    while select.select([link], [], [], PATIENCE_S)[0]:
        for arrival in link.receive():
            if isinstance(arrival, Datagram):
                header, payload = UDPHeader.parse(arrival.data)
                if header.dst_port == OUR_PORT:
                    return payload
    raise LinkError("receive", "", None, "no answer")


def collect(tap: PacketLink) -> list[Frame]:
    """Everything that `tap` saw, up to what h1's kernel says about an answer it did not expect."""
    frames: list[Frame] = []
    with tap:
        while select.select([tap], [], [], PATIENCE_S)[0]:
            frames += tap.receive_frames()
            if any(ICMPDestinationUnreachable in dissect(frame.data) for frame in frames):
                break
    return frames


def create(path: Path) -> PcapngWriter:
    """A capture to write, new also where one stands that another user wrote."""
    try:
        path.unlink(missing_ok=True)
        return PcapngWriter(path.open("wb"), owned=True)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def save(frames: list[Frame], writer: PcapngWriter, interface: str, key_log: bytes) -> None:
    """Writes what was captured and the keys to it, and closes the file."""
    with writer:
        writer.write_secrets(RPT_KEY_LOG, key_log)
        for frame in frames:
            writer.write(
                CapturedPacket(
                    time_ns=frame.real_ns,
                    data=frame.data,
                    original_length=frame.length,
                    interface=f"h1 {interface}",
                    direction=frame.direction,
                )
            )


def show_capture(page: Page, frames: list[Frame], file: str) -> None:
    """Every packet on a line."""
    page.title(f"{len(frames)} packets crossed the cable; {file} has them")
    for number, frame in enumerate(frames, 1):
        page.packet(number, (frame.real_ns - frames[0].real_ns) / 1e9, frame)
    print()
    page.say(
        "→ left h1, ← came to it. The kernels did their part unasked: they looked for neighbours "
        "and told of multicast groups; and at the end h1's complains of an answer to a port "
        "that none of its own sockets has."
    )


def show_headers(page: Page, frames: list[Frame]) -> None:
    """The datagram that h1 laid out, and its first echo request over IPv6, header by header."""
    found = [dissect(frame.data) for frame in frames]
    for kind in (UDPHeader, ICMPv6Echo):
        number = next(index for index, one in enumerate(found) if kind in one)
        _show_layers(page, number + 1, found[number])


def _show_layers(page: Page, number: int, found: Dissection) -> None:
    page.title(f"Packet {number}, header by header")
    verdicts = dict(checksums(found))
    for index, layer in enumerate(found.layers[1:], 1):
        verdict = VERDICTS[verdicts[index]] if index in verdicts else "no checksum of its own"
        print(f"{page.style(type(layer).__name__, 'bold')}  {page.style(verdict, 'dim')}")
        page.diagram(layer)
        print()
    if found.payload:
        print(page.style(f"{len(found.payload)} bytes of data", "bold"))
        page.block(hexdump(found.payload))


def show_what_next(page: Page, file: str, privileged: bool) -> None:
    """Commands to go on with, as they are typed where this was started."""
    page.title("The two hosts are gone. What next?")
    me = sys.argv[0]
    sudo = "" if privileged else "sudo "
    page.command(f"{me} lab run chain 5 -- {me} traceroute h2", "five hops instead of one")
    page.command(f"{sudo}{me} ping -c 3 --json 127.0.0.1", "records for a script")
    page.command(f"{me} ping --help", "all that ping can do")
    page.command(f"tcpdump -nr {file}", "a second opinion of the packets")
    print()
    page.say("README.md shows the library, docs/architecture.md is the way into the code.")
