"""What a shell server answers with instead of a result; docs/shell.md lists the codes."""

from __future__ import annotations

from typing import ClassVar

from rawproto.apps.proxy.faults import ERRORS as TARGET_ERRORS
from rawproto.rpc import RPCError

__all__ = ["BROKEN", "ERRORS", "LoginError", "NoShellError", "VersionError"]

BROKEN = 261
"""The code of an error where the other side breaks the rules of docs/shell.md."""


class LoginError(RPCError):
    """No login. To the client it never says why, or strangers could ask who has an account."""

    code: ClassVar[str] = "login"


class NoShellError(RPCError):
    """The session cannot start."""

    code: ClassVar[str] = "no_shell"


class VersionError(RPCError):
    """The other side speaks another version of this protocol."""

    code: ClassVar[str] = "version"


ERRORS = (LoginError, NoShellError, VersionError, *TARGET_ERRORS)
