"""What variables a session has: the account's own, and those few that a client may bring.

A client sends no others, and a server takes no others: LD_PRELOAD and its like would run code
of the client's choice in programs that believe their surroundings.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Mapping

__all__ = ["brought", "of_session"]

_ALLOWED = re.compile(r"LANG|LC_[A-Z_]{1,32}|TZ|COLORTERM|NO_COLOR")
_VALUE = re.compile(r"[A-Za-z0-9_.,:@+/<> =-]{0,200}")
_TERM = re.compile(r"[A-Za-z0-9_.+-]{1,64}")
_MOST = 32
_PATH = "/usr/local/bin:/usr/bin:/bin"
_ROOTS_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def brought(variables: Mapping[str, object]) -> dict[str, str]:
    """Those of a client's variables that go along; the others are left out, as SSH does it.

    A zone (TZ) is a name or a rule, and no path of a file: those are read by whoever runs.
    """
    found = {}
    for name, value in variables.items():
        if not isinstance(value, str) or not _ALLOWED.fullmatch(name):
            continue
        path = name == "TZ" and (value.lstrip(":").startswith("/") or ".." in value)
        if _VALUE.fullmatch(value) and not path:
            found[name] = value
        if len(found) == _MOST:
            break
    return found


def of_session(
    account: pwd.struct_passwd, client: Mapping[str, object], term: str | None, peer: str
) -> dict[str, str]:
    """All that a session starts with.

    Args:
        account: whose it is.
        client: what the client brought.
        term: the kind of its terminal, None where there is none.
        peer: who came, as `RAWPROTO_PEER` tells it.
    """
    variables = {
        **brought(client),
        "HOME": account.pw_dir,
        "SHELL": account.pw_shell or "/bin/sh",
        "USER": account.pw_name,
        "LOGNAME": account.pw_name,
        "MAIL": f"/var/mail/{account.pw_name}",
        "PATH": _PATH if account.pw_uid else _ROOTS_PATH,
        "RAWPROTO_PEER": peer,
    }
    if term is not None:
        variables["TERM"] = term if _TERM.fullmatch(term) else "dumb"
    return variables
