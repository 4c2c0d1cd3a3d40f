"""A directory that no path leaves: each is resolved by the kernel, beneath it, or not at all.

`openat2(2)` with RESOLVE_BENEATH refuses `..` above the root, absolute names and symbolic links
that lead out, at any component, also where something is swapped meanwhile. What is then done
goes by the descriptor that was opened, never by the name again.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from rawproto.errors import UsageError

__all__ = ["MOST_PATH_BYTES", "Parents", "Root"]

_OPENAT2 = 437
_HOW = struct.Struct("QQQ")  # flags, mode, resolve
_NO_MAGICLINKS, _BENEATH = 0x02, 0x08
_TRIES = 32
MOST_PATH_BYTES = 4095
"""PATH_MAX, without the zero at its end."""
_MOST_DEPTH = 256

_libc = ctypes.CDLL(None, use_errno=True)


def _openat2(directory: int, path: str, flags: int) -> int:
    how = ctypes.create_string_buffer(
        _HOW.pack(flags | os.O_CLOEXEC, 0, _NO_MAGICLINKS | _BENEATH), _HOW.size
    )
    name = _encoded(path)
    for _ in range(_TRIES):
        opened = _libc.syscall(_OPENAT2, directory, name, how, _HOW.size)
        if opened >= 0:
            return int(opened)
        if ctypes.get_errno() != errno.EAGAIN:  # something was renamed while it looked
            break
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)


def _encoded(path: str) -> bytes:
    """A path as the kernel has it. Raises OSError: it has none of that kind."""
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:
        name = b"\0"
    if b"\0" in name:
        raise OSError(errno.EINVAL, "no name", path)
    if len(name) > MOST_PATH_BYTES:  # before the first of its directories is made
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    return name


@contextmanager
def _naming(path: str) -> Iterator[None]:
    """Has errors within name a path, and not what a call by descriptor was given of it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = path, None
        raise


class Root:
    """A directory, and what is beneath it. Paths are relative; "" is the directory itself.

    Every method raises OSError, with the path as its file name; EXDEV says that it leads out.

    Args:
        path: of the directory.

    Raises:
        UsageError: it is none, or this kernel (before 5.6) cannot confine paths.
    """

    def __init__(self, path: str) -> None:
        try:
            self._fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            os.close(_openat2(self._fd, ".", os.O_PATH))
        except OSError as error:
            raise UsageError(f"{path}: {(error.strerror or '').lower()}") from None

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)

    def below(self, path: str) -> Root:
        """A directory beneath as a root of its own."""
        root = object.__new__(Root)
        root._fd = _openat2(self._fd, path or ".", os.O_PATH | os.O_DIRECTORY)
        return root

    def open_path(self, path: str, *, follow: bool = True) -> int:
        """Whatever is there, only to look at it."""
        flags = os.O_PATH if follow else os.O_PATH | os.O_NOFOLLOW
        return _openat2(self._fd, path or ".", flags)

    def open_file(self, path: str) -> int:
        """A regular file, for reading; a device or a pipe is not even opened."""
        fd = self.open_path(path, follow=True)
        try:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode):
                number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
                raise OSError(number, "no regular file", path)
            return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
        except OSError as error:
            error.filename = path
            raise
        finally:
            os.close(fd)

    def open_directory(self, path: str) -> int:
        """A directory, for reading its names."""
        return _openat2(self._fd, path or ".", os.O_RDONLY | os.O_DIRECTORY)

    @contextmanager
    def parent(self, path: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The directory that a path is in, and its name there; for the calls with `dir_fd`.

        Args:
            path: of something, there or not.
            make: make missing directories above it.
        """
        parents = Parents(self, make=make)
        try:
            yield parents.of(path)
        finally:
            parents.close()

    def open_above(self, path: str, *, make: bool = False) -> int:
        """A directory, for the calls with `dir_fd`."""
        try:
            return _openat2(self._fd, path or ".", os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            if not make:
                raise
            self.make_directories(path)  # or names the one that is none
            return _openat2(self._fd, path, os.O_PATH | os.O_DIRECTORY)

    def stat(self, path: str, *, follow: bool = False) -> os.stat_result:
        """What a path is; of a symbolic link, by default, what the link is."""
        fd = self.open_path(path, follow=follow)
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def read_link(self, path: str) -> str:
        """Where a symbolic link points to, in its own words."""
        with self.parent(path) as (fd, name), _naming(path):
            return os.readlink(name, dir_fd=fd)

    def make_directories(self, path: str) -> None:
        """A directory, and those above it, where they are not there yet."""
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if len(parts) > _MOST_DEPTH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        for count in range(len(parts)):
            above = "/".join(parts[: count + 1])
            with self.parent(above) as (fd, name), suppress(FileExistsError), _naming(above):
                os.mkdir(name, 0o755, dir_fd=fd)
        if parts:
            os.close(_openat2(self._fd, path, os.O_PATH | os.O_DIRECTORY))  # or it is none

    def remove(self, path: str, *, recursive: bool = False) -> int:
        """Removes what a path names, links themselves: how many things."""
        with self.parent(path) as (fd, name):
            return _remove(fd, name, path, recursive, 0)


class Parents:
    """The directories that things are in, each opened once for those of it in a row.

    Args:
        root: beneath which.
        make: make missing ones.
    """

    def __init__(self, root: Root, *, make: bool = False) -> None:
        self._root = root
        self._make = make
        self._path: str | None = None
        self._fd = -1

    def close(self) -> None:
        """Gives the descriptor back."""
        if self._path is not None:
            self._path = None
            os.close(self._fd)

    def of(self, path: str) -> tuple[int, str]:
        """As `Root.parent`; the descriptor is good until this is called again."""
        _encoded(path)
        above, _, name = path.rstrip("/").rpartition("/")
        if name in ("", ".", ".."):
            raise OSError(errno.EINVAL, "no name", path)
        if above != self._path:
            self.close()
            self._fd = self._root.open_above(above, make=self._make)
            self._path = above
        return self._fd, name

    def open_path(self, path: str) -> int:
        """As `Root.open_path`; a link itself."""
        directory, name = self.of(path)
        return os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)


def _remove(directory: int, name: str, path: str, recursive: bool, depth: int) -> int:
    with _naming(path):
        mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(name, dir_fd=directory)
            return 1
    removed = 0
    if recursive:
        if depth >= _MOST_DEPTH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        with _naming(path):
            fd = os.open(name, flags, dir_fd=directory)
        try:
            for each in os.listdir(fd):
                removed += _remove(fd, each, f"{path}/{each}", recursive, depth + 1)
        finally:
            os.close(fd)
    with _naming(path):
        os.rmdir(name, dir_fd=directory)
    return removed + 1
