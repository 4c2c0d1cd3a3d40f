"""No path leaves its root: not by dots, not by links, not by swapping while we look."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rawproto.apps.files.beneath import Root
from rawproto.errors import UsageError

REFUSED = "Errno"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """`root` with files and links, and `secret` beside it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outer").mkdir()
    root = tmp_path / "root"
    (root / "in" / "deep").mkdir(parents=True)
    (root / "file").write_text("file")
    (root / "in" / "deep" / "file").write_text("deep")
    (root / "inner").symlink_to("in/deep")
    (root / "out").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "around").symlink_to("..")
    (root / "loop").symlink_to("loop")
    (root / "in" / "up").symlink_to("../file")
    os.mkfifo(root / "pipe")
    return tmp_path


@pytest.fixture
def root(place: Path) -> Iterator[Root]:
    made = Root(str(place / "root"))
    yield made
    made.close()


def content(root: Root, path: str) -> str:
    fd = root.open_file(path)
    try:
        return os.read(fd, 100).decode()
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("file", "file"),
        ("in/deep/file", "deep"),
        ("inner/file", "deep"),
        ("in/up", "file"),
        ("in/../file", "file"),
        ("in/deep/../../file", "file"),
    ],
)
def test_what_is_beneath_is_found_also_by_links(root: Root, path: str, text: str) -> None:
    assert content(root, path) == text


OUT = ["../secret", "in/../../secret", "out", "absolute", "around/secret", "/etc/passwd", ".."]
OUT += ["\ud800", "in/up/../../../secret", "a\0b", "loop", "x" * 5000, "around/outer"]


@pytest.mark.parametrize("path", OUT)
def test_what_leads_out_is_refused_by_every_method(root: Root, place: Path, path: str) -> None:
    for act in (root.open_file, root.open_directory, lambda p: root.stat(p, follow=True)):
        with pytest.raises(OSError, match=REFUSED):
            act(path)
    if not path.startswith("/"):
        with pytest.raises(OSError, match=REFUSED):
            root.make_directories(f"{path}/new")
    with pytest.raises(OSError, match=REFUSED):
        root.remove(f"{path}/x")
    assert (place / "secret").read_text() == "secret"
    assert sorted(os.listdir(place)) == ["outer", "root", "secret"]


@pytest.mark.parametrize("path", ["pipe", "in"])
def test_what_is_no_regular_file_is_not_read(root: Root, path: str) -> None:
    with pytest.raises(OSError, match=REFUSED):
        root.open_file(path)


def test_device_is_not_even_opened(tmp_path: Path) -> None:
    root = Root("/dev")
    try:
        with pytest.raises(OSError, match=REFUSED):
            root.open_file("null")
    finally:
        root.close()


@pytest.mark.parametrize(
    ("path", "told"),
    [("file/x", "file"), ("file/x/y", "file"), ("in/deep/file/x", "in/deep/file")],
)
def test_file_in_the_place_of_a_directory_is_named(root: Root, path: str, told: str) -> None:
    with pytest.raises(NotADirectoryError) as caught, root.parent(path, make=True):
        pass
    assert caught.value.filename == told


def test_what_cannot_be_made_or_removed_is_named_as_it_was_asked_for(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, *words: object, dir_fd: int) -> None:
        raise PermissionError(errno.EACCES, "no", name)

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(PermissionError) as caught:
        root.make_directories("in/deep/more")
    assert caught.value.filename == "in"
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError) as caught:
        root.remove("in/deep", recursive=True)
    assert caught.value.filename == "in/deep/file"


def test_path_that_the_kernel_cannot_have_makes_none_of_its_directories(
    root: Root, place: Path
) -> None:
    with pytest.raises(OSError, match="too long"), root.parent("new/" * 1100 + "x", make=True):
        pass
    assert not (place / "root" / "new").exists()


def test_removing_a_link_leaves_what_it_points_to(root: Root, place: Path) -> None:
    assert root.remove("out") == 1
    assert root.remove("around") == 1
    assert root.remove("in", recursive=True) == 4
    assert (place / "secret").exists()
    assert (place / "root" / "file").exists()


def test_directory_with_something_in_it_wants_to_be_removed_as_such(root: Root) -> None:
    with pytest.raises(OSError, match="not empty"):
        root.remove("in")


@pytest.mark.parametrize("path", ["", ".", "in/..", "/"])
def test_root_itself_is_not_removed(root: Root, place: Path, path: str) -> None:
    with pytest.raises(OSError, match=REFUSED):
        root.remove(path, recursive=True)
    assert (place / "root" / "file").exists()


def test_swapping_a_directory_for_a_link_shows_nothing_outside(root: Root, place: Path) -> None:
    """Somebody exchanges a directory for a link that leads out, as fast as it goes."""
    inside, link = place / "root" / "swap", place / "root" / "link"
    inside.mkdir()
    (inside / "secret").write_text("harmless")
    link.symlink_to("..")
    stop = threading.Event()

    def swap() -> None:
        away = place / "root" / "away"
        while not stop.is_set():
            os.rename(inside, away)
            os.rename(link, inside)
            os.rename(inside, link)
            os.rename(away, inside)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for number in range(300_000):
            try:
                seen.add(content(root, "swap/secret"))
            except OSError as error:
                seen.add(error.errno)
            if number >= 3000 and "harmless" in seen:  # which a busy machine may be late with
                break
    finally:
        stop.set()
        swapping.join()
    assert "secret" not in seen
    assert "harmless" in seen


def test_what_is_no_directory_is_told_in_one_line(place: Path) -> None:
    with pytest.raises(UsageError, match="not a directory"):
        Root(str(place / "secret"))
    with pytest.raises(UsageError, match="no such file"):
        Root(str(place / "nowhere"))
