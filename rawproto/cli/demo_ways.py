"""The demonstration's ways in and out over RPT: a page through gateway and proxy, and a shell.

Every program is the verb, a process on its host; what fetches is the curl of this machine.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING

from rawproto.cli.demo_rpt import await_listening, running
from rawproto.errors import LinkError
from rawproto.lab import LiveHost

if TYPE_CHECKING:
    from rawproto.cli.demo import Page

__all__ = ["COMMAND", "LETTER", "PRIVATE", "show_ways"]

LETTER = "A page of h2, though no port of its TCP is open to h1."
PRIVATE = "A server of h2's own loopback, which nobody outside can reach."
COMMAND = "whoami; ip -br -4 address show"
_SITE, _INSIDE = 8080, 8000
_SOCKS = "127.0.0.1:1080"


def show_ways(page: Page, h1: LiveHost, h2: LiveHost, directory: str) -> None:
    """In a lab that stands; what this machine lacks for it is said, and left out."""
    lacking = "" if shutil.which("curl") else "curl is not installed"
    if importlib.util.find_spec("uvicorn") is None:
        lacking = "pip install 'rawproto[http]'"
    page.title("A page, by curl, through RPT")
    if lacking:
        page.say(f"Left out: {lacking}.")
    else:
        _show_gateway(page, h1, h2, directory)
        _show_proxy(page, h1, h2, directory)
    page.title("And a shell")
    _show_shell(page, h1, h2, directory)


def _show_gateway(page: Page, h1: LiveHost, h2: LiveHost, directory: str) -> None:
    page.say("h2 has a site on RPT alone. At h1 a gateway gives it to any browser.")
    print()
    site = Path(directory, "site")
    site.mkdir()
    (site / "letter.txt").write_text(f"{LETTER}\n")
    address = f"rpt://{h2.ipv4}:4002"
    near = f"127.0.0.1:{_SITE}"
    with ExitStack() as stack:
        _serve(stack, page, h2, directory, ("http", "serve", "site", "--listen", address))
        _serve(
            stack,
            page,
            h1,
            directory,
            ("http", "gateway", "--accept-new", "--listen", near, address),
        )
        _fetch(page, h1, f"http://{near}/letter.txt")


def _show_proxy(page: Page, h1: LiveHost, h2: LiveHost, directory: str) -> None:
    print()
    page.say("The other way round, an exit at h2 reaches what h2 reaches, as far as it is allowed.")
    print()
    inside = Path(directory, "inside")
    inside.mkdir()
    (inside / "page.txt").write_text(f"{PRIVATE}\n")
    address, target = f"rpt://{h2.ipv4}:4003", f"127.0.0.1:{_INSIDE}"
    allowed = Path(directory, "allowed")
    allowed.write_text(_key(h1, directory))
    with ExitStack() as stack:
        stack.enter_context(_ordinary_server(h2, inside))
        exits = ("proxy", "exit", "--listen", address, "--allow", target, "--authorized", "allowed")
        _serve(stack, page, h2, directory, exits)
        _serve(
            stack,
            page,
            h1,
            directory,
            ("proxy", "entry", "--accept-new", "--socks", _SOCKS, address),
        )
        _fetch(page, h1, "--socks5-hostname", _SOCKS, f"http://{target}/page.txt")


def _show_shell(page: Page, h1: LiveHost, h2: LiveHost, directory: str) -> None:
    address = f"rpt://{h2.ipv4}:4022"
    users = Path(directory, "users")
    users.write_text(f"root {_key(h1, directory)}")
    users.chmod(0o600)
    with ExitStack() as stack:
        words = ("shell", "serve", "--listen", address, "--authorized", "users", "--allow-root")
        _serve(stack, page, h2, directory, words)
        to = f"root@{address}"
        page.command(f"rawproto shell {to} '{COMMAND}'", "on h1")
        client = stack.enter_context(
            running(h1, directory, "shell", "--accept-new", "-n", to, COMMAND)
        )
        said, complaint = client.communicate()
        if client.returncode:
            raise LinkError("run a command at", address, None, complaint.strip() or "it failed")
        page.block(said.rstrip())


@contextmanager
def _ordinary_server(host: LiveHost, directory: Path) -> Iterator[None]:
    words = ["-u", "-m", "http.server", "--bind", "127.0.0.1", str(_INSIDE)]
    server = host.popen(
        [sys.executable, *words], cwd=directory, stdout=PIPE, stderr=DEVNULL, text=True
    )
    try:
        assert server.stdout is not None
        if not server.stdout.readline():
            raise LinkError("listen on", f"127.0.0.1:{_INSIDE}", None, "it ended")
        yield
    finally:
        server.kill()
        server.communicate()


def _key(host: LiveHost, directory: str) -> str:
    """The line of a host's public key, which is made where there is none yet."""
    for words in (("keys", "new"), ("keys", "show")):
        with running(host, directory, *words) as made:
            line, _ = made.communicate()
    return line


def _serve(
    stack: ExitStack, page: Page, host: LiveHost, directory: str, words: tuple[str, ...]
) -> None:
    page.command(f"rawproto {' '.join(words)}", f"on {host.name}")
    server = stack.enter_context(running(host, directory, *words))
    await_listening(server, words[-1])


def _fetch(page: Page, host: LiveHost, *words: str) -> None:
    page.command(f"curl {' '.join(words)}", f"on {host.name}")
    fetched = host.run(["curl", "-sS", "--max-time", "10", *words], check=False)
    if fetched.returncode:
        raise LinkError("fetch", words[-1], None, fetched.stderr.strip())
    page.block(fetched.stdout.rstrip())
