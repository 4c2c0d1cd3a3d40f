"""Keys of RPT peers: X25519, their text forms, and the file of one's own.

::

    rpt-x25519 mDdUYJgu3Xe...= alice@laptop      a public key, one line: what others get
    SHA256:Fp3Yc8...                             its fingerprint, as SSH shows one

The private key's file holds that line's twin, `rpt-x25519-private`, readable by its owner
alone. No password protects it; a disk's encryption is the place for that.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from rawproto.errors import UsageError

__all__ = [
    "Identity",
    "PublicKey",
    "config_directory",
    "fingerprint",
    "load_identity",
    "load_psk",
    "new_identity",
    "parse_public_key",
    "state_directory",
    "write_private",
]

_PUBLIC, _PRIVATE = "rpt-x25519", "rpt-x25519-private"
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key with what its owner calls it.

    Attributes:
        data: 32 bytes.
        comment: "" for none.
    """

    data: bytes
    comment: str = ""

    def __str__(self) -> str:
        """The line that an authorized file holds."""
        return f"{_PUBLIC} {base64.b64encode(self.data).decode()} {self.comment}".rstrip()


@dataclass(frozen=True, slots=True)
class Identity:
    """A key of one's own.

    Attributes:
        private: 32 bytes.
        comment: "" for none.
    """

    private: bytes
    comment: str = ""

    @property
    def public(self) -> PublicKey:
        """The half that others may have."""
        key = X25519PrivateKey.from_private_bytes(self.private).public_key()
        return PublicKey(key.public_bytes_raw(), self.comment)


def fingerprint(key: bytes) -> str:
    """A public key for people to compare: `SHA256:...`, without padding."""
    digest = hashlib.sha256(key).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def config_directory() -> Path:
    """Where keys and authorized files are (XDG_CONFIG_HOME)."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(base) / "rawproto"


def state_directory() -> Path:
    """Where known peers are (XDG_STATE_HOME)."""
    base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return Path(base) / "rawproto"


def _parse(line: str, kind: str) -> tuple[bytes, str]:
    words = line.split(None, 2)
    if len(words) < 2 or words[0] != kind:
        raise UsageError(f"not a line such as `{kind} AAAA... name`: {line.strip()[:60]!r}")
    try:
        data = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        data = b""
    if len(data) != KEY_BYTES:
        raise UsageError(f"{words[1][:50]!r} is no key of {KEY_BYTES} bytes")
    comment = words[2].strip() if len(words) > 2 else ""
    return data, comment if comment.isprintable() else ""


def parse_public_key(line: str) -> PublicKey:
    """Reads a line as `str(PublicKey)` writes it. Raises UsageError."""
    return PublicKey(*_parse(line, _PUBLIC))


def new_identity(path: Path, comment: str) -> Identity:
    """Makes a key and its file, which must not exist yet.

    Raises:
        UsageError: it does.
        OSError: it cannot be written.
    """
    identity = Identity(os.urandom(KEY_BYTES), comment)
    line = f"{_PRIVATE} {base64.b64encode(identity.private).decode()} {comment}".rstrip()
    try:
        write_private(path, line + "\n", replace=False)
    except FileExistsError:
        raise UsageError(f"{path} exists; it is not overwritten") from None
    return identity


def load_identity(path: Path) -> Identity:
    """Reads one's own key.

    Raises:
        UsageError: it is none, or others may read it.
        OSError: it cannot be read.
    """
    _check_mode(path)
    try:
        return Identity(*_parse(path.read_text(errors="replace"), _PRIVATE))
    except UsageError:  # what there is may be most of a key, and is not repeated
        raise UsageError(f"{path}: not a line such as `{_PRIVATE} AAAA... name`") from None


def load_psk(path: Path) -> bytes:
    """Reads a shared secret: 32 bytes as 64 hexadecimal digits or as base64.

    Raises:
        UsageError: it is none, or others may read it.
        OSError: it cannot be read.
    """
    _check_mode(path)
    text = path.read_text(errors="replace").strip()
    for decode in (bytes.fromhex, lambda each: base64.b64decode(each, validate=True)):
        with suppress(ValueError):
            data = decode(text)
            if len(data) == KEY_BYTES:
                return data
    raise UsageError(f"{path}: not 32 bytes in hexadecimal or base64")


def _check_mode(path: Path) -> None:
    status = path.stat()
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode)):
        raise UsageError(f"{path}: no file")  # and no advice on a device's permissions
    mode = stat.S_IMODE(status.st_mode)
    if mode & 0o077:
        raise UsageError(f"{path} can be read by others (mode {mode:04o}): chmod 600 {path}")


def _make_alike(descriptor: int, other: os.stat_result) -> None:
    with suppress(PermissionError):  # only root gives files away
        os.fchown(descriptor, other.st_uid, other.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(other.st_mode))


def write_private(path: Path, text: str, *, replace: bool = True) -> None:
    """Writes a file in one go, mode 0600; its directory is made, mode 0700.

    One that is replaced keeps its owner and mode, and its place where a link points to it: whoever
    could read it still can.

    Raises:
        FileExistsError: it is there, and not to be replaced.
    """
    if replace:
        path = Path(os.path.realpath(path))
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", errors="surrogateescape") as file:
            file.write(text)
            if replace and path.exists():
                _make_alike(descriptor, path.stat())
        if replace:
            os.replace(temporary, path)
            return
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links, as on vfat: the name is taken, and then filled in one go
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
