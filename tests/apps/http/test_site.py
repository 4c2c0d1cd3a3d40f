"""A directory, served: what each request gets, and what nobody gets."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.apps.http import site as site_module
from rawproto.apps.http.listing import MOST_NAMES
from rawproto.apps.http.site import Site
from tests.apps.http.asgi import ask, asked

BODY = bytes(range(256)) * 3000
MODIFIED = 1_700_000_000
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER = "Tue, 14 Nov 2023 22:13:19 GMT"


@pytest.fixture
def top(tmp_path: Path) -> Path:
    top = tmp_path / "top"
    (top / "sub" / "deep").mkdir(parents=True)
    (top / "with").mkdir()
    (top / "with" / "index.html").write_text("<p>index")
    (top / "file.txt").write_bytes(BODY)
    os.utime(top / "file.txt", (MODIFIED, MODIFIED))
    (top / "sub" / "a.html").write_text("<p>a")
    (tmp_path / "secret").write_text("secret")
    return top


@pytest.fixture
def site(top: Path) -> Iterator[Site]:
    root = Root(str(top))
    before = set(os.listdir("/proc/self/fd"))
    yield Site(root)
    assert set(os.listdir("/proc/self/fd")) == before, "a file stayed open"
    root.close()


def test_file_comes_whole_with_its_type_length_and_validators(site: Site) -> None:
    answered = ask(site, "/file.txt")
    assert (answered.status, answered.body) == (200, BODY)
    assert answered.headers["content-type"].startswith("text/plain")
    assert answered.headers["content-length"] == str(len(BODY))
    assert answered.headers["last-modified"] == DATE
    assert answered.headers["etag"].startswith('"')
    assert answered.headers["accept-ranges"] == "bytes"


def test_head_tells_the_same_and_sends_nothing(site: Site) -> None:
    answered = ask(site, "/file.txt", method="HEAD")
    assert (answered.status, answered.body) == (200, b"")
    assert answered.headers == ask(site, "/file.txt").headers


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=10-19", 10, 19),
        ("bytes=767990-", 767990, 767999),
        ("bytes=-5", 767995, 767999),
        ("bytes=5-999999999", 5, 767999),
    ],
)
def test_range_is_that_part(asked: str, first: int, last: int, site: Site) -> None:
    answered = ask(site, "/file.txt", {"Range": asked})
    assert (answered.status, answered.body) == (206, BODY[first : last + 1])
    assert answered.headers["content-range"] == f"bytes {first}-{last}/{len(BODY)}"
    assert answered.headers["content-length"] == str(last - first + 1)


def test_several_ranges_come_as_parts(site: Site) -> None:
    answered = ask(site, "/file.txt", {"Range": "bytes=0-1,10-11"})
    assert answered.status == 206
    assert answered.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert answered.headers["content-length"] == str(len(answered.body))
    assert b"bytes 0-1/768000\r\n\r\n\x00\x01\r\n" in answered.body
    assert b"bytes 10-11/768000\r\n\r\n\x0a\x0b\r\n" in answered.body


@pytest.mark.parametrize(
    "asked", ["bytes=0-1,768000-", "bytes=900000-, 0-1 ,768000-768001", f"bytes={'9' * 5000}-,0-1"]
)
def test_ranges_behind_the_end_do_not_spoil_one_that_is_not(asked: str, site: Site) -> None:
    """RFC 9110 section 14.2: such a set SHOULD be answered with 206."""
    answered = ask(site, "/file.txt", {"Range": asked})
    assert (answered.status, answered.body) == (206, BODY[:2])


@pytest.mark.parametrize("asked", ["lines=1-2", "Bytes2=0-1", "nonsense"])
def test_range_of_what_is_no_byte_is_none(asked: str, site: Site) -> None:
    """RFC 9110 section 14.2: a range unit that is not understood MUST be ignored."""
    answered = ask(site, "/file.txt", {"Range": asked})
    assert (answered.status, answered.body) == (200, BODY)


def test_range_is_for_get_alone(site: Site) -> None:
    """RFC 9110 section 14.2 again: it MUST be ignored where no method has a use for it."""
    answered = ask(site, "/file.txt", {"Range": "bytes=0-1"}, method="HEAD")
    assert answered.status == 200
    assert answered.headers["content-length"] == str(len(BODY))


def test_range_behind_the_end_is_told_with_the_size(site: Site) -> None:
    answered = ask(site, "/file.txt", {"Range": "bytes=768000-"})
    assert answered.status == 416
    assert answered.headers["content-range"] == "bytes */768000"


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ({"If-None-Match": "ETAG"}, 304),
        ({"If-None-Match": 'W/"x", W/ETAG'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-None-Match": '"other"', "If-Modified-Since": DATE}, 200),
        ({"If-Modified-Since": DATE}, 304),
        ({"If-Modified-Since": EARLIER}, 200),
        ({"If-Modified-Since": "nonsense"}, 200),
        ({"If-Modified-Since": "Tue, 14 Nov 2023 22:13:20"}, 200),
        ({"If-Modified-Since": "Tue, 99 Nov 99999 22:13:20 GMT"}, 200),
        ({"If-Match": "ETAG"}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": "W/ETAG"}, 412),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": "ETAG", "If-Unmodified-Since": EARLIER}, 200),
        ({"If-Unmodified-Since": DATE}, 200),
        ({"If-Unmodified-Since": EARLIER}, 412),
        ({"If-Match": "ETAG", "If-None-Match": "ETAG"}, 304),
        ({"Range": "bytes=0-0", "If-Range": "ETAG"}, 206),
        ({"Range": "bytes=0-0", "If-Range": DATE}, 206),
        ({"Range": "bytes=0-0", "If-Range": '"other"'}, 200),
        ({"Range": "bytes=0-0", "If-None-Match": "ETAG"}, 304),
    ],
)
def test_conditions_decide(conditions: dict[str, str], status: int, site: Site) -> None:
    etag = ask(site, "/file.txt", method="HEAD").headers["etag"]
    asked = {name: value.replace("ETAG", etag) for name, value in conditions.items()}
    answered = ask(site, "/file.txt", asked)
    assert answered.status == status
    if status in (304, 412):
        assert answered.body == b""
        assert answered.headers["etag"] == etag


def test_directory_has_its_index_or_a_page_of_names(site: Site) -> None:
    assert ask(site, "/with/").body == b"<p>index"
    page = ask(site, "/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    text = page.body.decode()
    links = ('href="./sub/"', 'href="./with/"', 'href="./file.txt"')
    assert sorted(links, key=text.index) == list(links)
    assert "768,000" in text
    assert "../" not in text
    assert 'href="../"' in ask(site, "/sub/").body.decode()


def test_directory_without_its_slash_is_elsewhere_whatever_the_host(site: Site) -> None:
    answered = ask(site, "/sub?a=b")
    assert (answered.status, answered.headers["location"]) == (307, "./sub/?a=b")
    assert ask(site, "//sub/deep").headers["location"] == "./deep/"


def test_names_cannot_break_out_of_the_page(top: Path, site: Site) -> None:
    hostile = [
        '"><script>alert(1)<',
        "javascript:alert(2)",
        "a&b",
        "%2e%2e",
        "\udcff\udcfe",
        "a\nb",
    ]
    for name in hostile:
        (top / "sub" / name).write_bytes(name.encode("utf-8", "surrogateescape"))
    text = ask(site, "/sub/").body.decode()
    assert "<script>alert" not in text
    links = [part.partition('"')[0] for part in text.split('href="')[1:]]
    assert all(link == "../" or link.startswith("./") for link in links)
    # And each link leads to what it names.
    bodies = [
        ask(site, f"/sub/{link[2:]}").body for link in links if link not in ("../", "./deep/")
    ]
    assert {name.encode("utf-8", "surrogateescape") for name in hostile} < set(bodies)


def test_names_command_no_terminal_and_turn_no_line(top: Path, site: Site) -> None:
    """curl shows a page as it is."""
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 a"
    for name in ("a\x1b[31m", "b\x9b31m", "c\u202egnp.exe", "d\ne", "f\u2028g", persian):
        (top / "sub" / "deep" / name).touch()
    text = ask(site, "/sub/deep/").body.decode()
    assert not set("\x1b\x9b\u202e\u2028") & set(text)
    for name in (r"a\x1b[31m", r"b\x9b31m", r"c\u202egnp.exe", r"d\ne", r"f\u2028g", persian):
        assert f">{name}</a>" in text
    (top / "\x1b[31m").mkdir()
    assert "\x1b" not in ask(site, "/%1b%5b31m/").body.decode()


def test_files_wait_for_no_pages(top: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that 300 asked for at once kept everybody waiting for 50 s."""
    go = threading.Event()
    made = 0

    def slow_page(*words: object) -> str:
        nonlocal made
        made += 1
        assert go.wait(10)
        return "page"

    monkeypatch.setattr(site_module, "page", slow_page)

    async def run() -> None:
        pages = [asyncio.ensure_future(asked(site, "/sub/")) for _ in range(100)]
        try:
            for _ in range(20):
                assert (await asyncio.wait_for(asked(site, "/sub/a.html"), 5)).body == b"<p>a"
            assert made == 1
        finally:
            go.set()
        assert {each.body for each in await asyncio.gather(*pages)} == {b"page"}

    asyncio.run(run())


def test_no_page_is_made_for_who_has_left(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site_module, "page", lambda *words: pytest.fail("it was made"))
    messages = [{"type": "http.request"}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, str]:
        return messages.pop(0)

    async def send(message: object) -> None:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "raw_path": b"/sub/", "headers": []}
    asyncio.run(site(scope, receive, send))


def test_page_of_very_many_names_is_cut(top: Path, site: Site) -> None:
    for number in range(MOST_NAMES + 1):
        os.link(top / "file.txt", top / "sub" / "deep" / f"{number}")
    text = ask(site, "/sub/deep/").body.decode()
    assert text.count("<tr>") == MOST_NAMES + 1
    assert "Only 10000 names" in text


@pytest.mark.parametrize(
    "target",
    [
        "/../secret",
        "/sub/../../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/sub/..%2f..%2fsecret",
        "//../secret",
        "/..%5csecret",
        "/./../secret",
        "/link",
        "/up/secret",
        "/absolute",
        "/sub/chain",
        "/%00",
        "/file.txt%00.html",
        "/file.txt/",
        "/" + "a" * 300,
        "/" + "a/" * 3000,
        "/device",
        "/pipe",
        "/loop",
        "/nothing",
        b"/\xff",
        "*",
        "http://elsewhere/file.txt",
    ],
)
def test_nothing_outside_and_nothing_special_is_there(target: str, top: Path, site: Site) -> None:
    (top / "link").symlink_to("../secret")
    (top / "up").symlink_to("..")
    (top / "absolute").symlink_to(top / "file.txt")
    (top / "sub" / "chain").symlink_to("../link")
    (top / "device").symlink_to("/dev/zero")
    (top / "loop").symlink_to("loop")
    os.mkfifo(top / "pipe")
    answered = ask(site, target)
    assert answered.status == 404
    assert b"secret" not in answered.body
    assert b"absolute" not in ask(site, "/").body


def test_link_that_stays_inside_is_followed(top: Path, site: Site) -> None:
    (top / "inside").symlink_to("sub/a.html")
    assert ask(site, "/inside").body == b"<p>a"


def test_file_that_may_not_be_read_is_forbidden(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Root, path: str) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(Root, "open_file", denied)
    assert ask(site, "/file.txt").status == 403


def test_too_many_open_files_are_no_missing_file(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Root, path: str) -> int:
        raise OSError(24, "Too many open files", path)

    monkeypatch.setattr(Root, "open_file", full)
    assert ask(site, "/file.txt").status == 503


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_site_is_for_reading(method: str, site: Site) -> None:
    answered = ask(site, "/file.txt", method=method)
    assert (answered.status, answered.headers["allow"]) == (405, "GET, HEAD")


def test_file_that_grows_meanwhile_is_sent_as_long_as_it_was(top: Path, site: Site) -> None:
    def grow() -> None:
        with (top / "file.txt").open("ab") as file:
            file.write(bytes(1_000_000))

    answered = ask(site, "/file.txt", during=grow)
    assert answered.body == BODY


def test_file_that_is_replaced_meanwhile_is_sent_as_it_was(top: Path, site: Site) -> None:
    def replace() -> None:
        (top / "new").write_bytes(b"new")
        os.replace(top / "new", top / "file.txt")

    assert ask(site, "/file.txt", during=replace).body == BODY
    assert ask(site, "/file.txt").body == b"new"


@pytest.mark.parametrize(
    ("modified_s", "year"), [(2**62, "9999"), (-(2**62), "0001"), (10**13, "9999")]
)
def test_file_of_a_year_that_no_date_has_is_served_and_shown(
    modified_s: int, year: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a file system takes any time; one file must not keep a page from all."""
    fstat = os.fstat

    def dated(fd: int) -> os.stat_result:
        found = fstat(fd)
        return os.stat_result([*found[:7], modified_s, modified_s, modified_s])

    monkeypatch.setattr(os, "fstat", dated)
    answered = ask(site, "/sub/a.html")
    assert (answered.status, answered.body) == (200, b"<p>a")
    assert year in answered.headers["last-modified"]
    assert ask(site, "/sub/a.html", {"If-None-Match": answered.headers["etag"]}).status == 304
    assert 'href="./a.html"' in ask(site, "/sub/").body.decode()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("a.js", "text/javascript; charset=utf-8"),
        ("a.png", "image/png"),
        ("a.tar.gz", "application/gzip"),
        ("a.unknown-thing", "application/octet-stream"),
        ("none", "application/octet-stream"),
    ],
)
def test_type_follows_from_the_name(name: str, kind: str, top: Path, site: Site) -> None:
    (top / name).write_bytes(b"x")
    assert ask(site, f"/{name}").headers["content-type"] == kind
