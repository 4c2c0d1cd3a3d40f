"""Names to addresses before a measurement, and back beside it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from rawproto.drivers.names import NameFinder, is_address, resolve
from rawproto.errors import UsageError

PATIENCE_S = 5


@pytest.mark.parametrize(
    ("name", "family", "address"),
    [
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", 4, "10.0.0.1"),
        ("127.1", None, "127.0.0.1"),
        ("FD00::0:1", None, "fd00::1"),
        ("fd00::1", 6, "fd00::1"),
        ("fe80::1%lo", None, "fe80::1%lo"),
        ("fe80::1%1", 6, "fe80::1%1"),
    ],
)
def test_an_address_is_itself_in_its_shortest_form(
    name: str, family: int | None, address: str
) -> None:
    assert resolve(name, family) == address


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("fd00::1", 4),
        ("10.0.0.1", 6),
        ("fe80::1%nosuch0", None),
        ("a" * 70, None),
        ("a..b", None),
        ("\udcff", None),
    ],
)
def test_what_has_no_address_is_named_in_one_line(name: str, family: int | None) -> None:
    with pytest.raises(UsageError) as raised:
        resolve(name, family)
    assert str(raised.value).startswith(f"{name}: ")
    assert "\n" not in str(raised.value)


def test_the_resolver_decides_which_of_many_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def getaddrinfo(*question: object) -> list[tuple[object, ...]]:
        asked.append(question[:3])
        return [
            (socket.AF_INET6, 2, 17, "", ("fd00::2", 0, 0, 0)),
            (socket.AF_INET, 2, 17, "", ("10.0.0.2", 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert resolve("h2") == "fd00::2"
    resolve("h2", 4)
    assert asked == [("h2", None, socket.AF_UNSPEC), ("h2", None, socket.AF_INET)]


def test_what_the_name_server_does_not_know_is_in_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def getaddrinfo(*question: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(UsageError, match=r"^h9: Name or service not known$"):
        resolve("h9")


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("10.0.0.1", True),
        ("fd00::1", True),
        ("fe80::1%eth0", True),
        ("::", True),
        ("h2", False),
        ("127.1", False),
        ("10.0.0.256", False),
        ("fd00:::1", False),
        ("", False),
        ("eth0", False),
    ],
)
def test_addresses_are_told_from_names(text: str, is_one: bool) -> None:
    assert is_address(text) is is_one


class NameServer:
    """Stands in for `getnameinfo`; answers wait while `slow` is set."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.asked: list[str] = []
        self.answers = threading.Event()
        self.answers.set()
        self.answered = threading.Semaphore(0)

    def __call__(self, address: tuple[str, int], flags: int) -> tuple[str, str]:
        assert flags == socket.NI_NAMEREQD
        assert self.answers.wait(PATIENCE_S)
        self.asked.append(address[0])
        try:
            return self.names[address[0]], "0"
        except KeyError:
            raise socket.gaierror(socket.EAI_NONAME, "unknown") from None
        finally:
            self.answered.release()


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[dict[str, str]], NameServer]]:
    servers: list[NameServer] = []

    def install(names: dict[str, str]) -> NameServer:
        servers.append(NameServer(names))
        monkeypatch.setattr(socket, "getnameinfo", servers[-1])
        return servers[-1]

    yield install
    for server in servers:
        server.answers.set()


def test_a_name_is_found_and_each_address_asked_about_once(serve) -> None:
    server = serve({"10.0.0.2": "h2.example"})
    finder = NameFinder()
    for _ in range(3):
        assert finder.name_of("10.0.0.2", PATIENCE_S) == "h2.example"
        assert finder.name_of("10.0.0.3", PATIENCE_S) is None
    assert server.asked == ["10.0.0.2", "10.0.0.3"]


def test_who_does_not_want_to_wait_gets_what_is_known(serve) -> None:
    server = serve({"10.0.0.2": "h2.example", "10.0.0.9": "h9"})
    server.answers.clear()
    finder = NameFinder()
    assert finder.name_of("10.0.0.2") is None
    assert not finder.is_settled("10.0.0.2")
    server.answers.set()
    assert finder.name_of("10.0.0.9", PATIENCE_S) == "h9"
    assert finder.name_of("10.0.0.3") is None
    finder.await_all(PATIENCE_S)
    assert finder.name_of("10.0.0.2") == "h2.example"
    assert finder.is_settled("10.0.0.3"), "it has no name, and that is known"


def test_an_address_that_was_asked_for_before_can_be_waited_for_too(serve) -> None:
    server = serve({"10.0.0.2": "h2.example"})
    server.answers.clear()
    finder = NameFinder()
    assert finder.name_of("10.0.0.2") is None
    threading.Timer(0.01, server.answers.set).start()
    assert finder.name_of("10.0.0.2", PATIENCE_S) == "h2.example"


def test_who_wants_to_be_told_is_told_of_names_and_of_their_absence(serve) -> None:
    serve({"10.0.0.2": "h2.example"})
    told = threading.Semaphore(0)
    finder = NameFinder(told.release)
    finder.name_of("10.0.0.2")
    finder.name_of("10.0.0.3")
    for _ in range(2):
        assert told.acquire(timeout=PATIENCE_S)


def test_a_name_server_that_does_not_answer_holds_up_no_exit(serve) -> None:
    server = serve({})
    server.answers.clear()
    before = set(threading.enumerate())
    NameFinder().name_of("10.0.0.2")
    (worker,) = set(threading.enumerate()) - before
    assert worker.daemon
    server.answers.set()


def test_hostile_replies_fill_no_memory(serve) -> None:
    server = serve({})
    server.answers.clear()
    finder = NameFinder()
    for number in range(6000):
        assert finder.name_of(f"10.0.{number >> 8}.{number & 255}") is None
    server.answers.set()
    for _ in range(4096):
        assert server.answered.acquire(timeout=PATIENCE_S)
    assert not server.answered.acquire(timeout=0)
    assert len(server.asked) == 4096


def test_no_thread_is_started_before_there_is_something_to_ask() -> None:
    before = threading.enumerate()
    NameFinder()
    assert threading.enumerate() == before
