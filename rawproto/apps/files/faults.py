"""What can be wrong with a file, as it crosses the wire and as a user reads it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rawproto.apps.files.entries import is_inner
from rawproto.errors import RawprotoError
from rawproto.rpc import RPCError

__all__ = ["ERRORS", "FileError", "QuotaError", "ReadOnlyError", "VersionError"]
__all__ += ["as_file_errors", "fault_of", "file_error", "told"]

_WORDS = {
    errno.EXDEV: "it leads out of what is served",
    errno.ELOOP: "too many symbolic links",
    errno.EDQUOT: "the user's quota is used up",
}


# Of what went wrong in a pack, in one message, each letter taking six bytes there at most.
_TOLD_BYTES = 200_000


class FileError(RPCError):
    """A file that cannot be read, written or made; the message is `path: why`.

    Attributes:
        details: `{"errno": name}` where the kernel gave one.
    """

    code = "file"


class ReadOnlyError(RPCError):
    """The server takes nothing."""

    code = "read_only"


class QuotaError(RPCError):
    """There is no room left for as much."""

    code = "quota"


class VersionError(RPCError):
    """The other side speaks another version of this protocol."""

    code = "version"


ERRORS = (FileError, ReadOnlyError, QuotaError, VersionError)
"""What either side may answer with."""


def file_error(error: OSError, path: str) -> FileError:
    """The kernel's words on a path."""
    number = error.errno or 0
    words = _WORDS.get(number) or (error.strerror or str(error)).lower()
    return FileError(f"{path or '.'}: {words}", {"errno": errno.errorcode.get(number)})


def fault_of(error: OSError, path: str) -> FileError:
    """Likewise, about `path` unless the error names another."""
    named = error.filename if isinstance(error.filename, str | bytes) else None
    where = os.fsdecode(named) if named and not os.path.isabs(named) else path
    if is_inner(os.path.basename(where)):
        where = path  # nobody but us knows what it is called while it is made
    return file_error(error, where or path)


def told(faults: Iterable[FileError]) -> list[str]:
    """What went wrong in a pack, as far as one message has room for it: "" for each of the rest."""
    found: list[str] = []
    room = _TOLD_BYTES
    for fault in faults:
        words = str(fault)
        room -= 6 * len(words)
        found.append(words if room >= 0 else "")
    return found


@contextmanager
def as_file_errors(path: str) -> Iterator[None]:
    """Turns OSErrors within into `FileError`, as `fault_of`."""
    try:
        yield
    except RawprotoError:
        raise  # a lost connection is an OSError too
    except OSError as error:
        raise fault_of(error, path) from None
