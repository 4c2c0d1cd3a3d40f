"""`ip -batch` and `tc -batch`: many commands in one run, side by side on several hosts."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Sequence

from rawproto.errors import LinkError, UsageError
from rawproto.lab.namespaces import Keeper

__all__ = ["Batch", "find_ip", "find_program", "finish"]


def find_program(name: str) -> str | None:
    """Where a program is, also where only root's PATH leads; None if there is none."""
    # Debian keeps `ip` and `tc` in /usr/sbin.
    for directory in [*os.get_exec_path(), "/usr/sbin", "/sbin"]:
        path = os.path.abspath(os.path.join(directory, name))
        if os.access(path, os.X_OK):
            return path
    return None


def find_ip() -> str:
    """Where `ip` is. Raises UsageError if there is none."""
    path = find_program("ip")
    if path is None:
        raise UsageError("no `ip` on this machine: apt install iproute2")
    return path


class Batch:
    """One `PROGRAM -batch` in the calling thread's namespaces, reading from memory as from a file.

    Args:
        keeper: of the lab in which it runs.
        program: the path of `ip` or `tc`.
        name: what it configures, for the complaint.
        commands: one a line.
        arguments: what else makes a program read commands from its stdin.
    """

    def __init__(
        self,
        keeper: Keeper,
        program: str,
        name: str,
        commands: Iterable[str],
        arguments: Sequence[str] = ("-batch", "-"),
    ) -> None:
        self.program = program
        self.name = name
        self.commands = list(commands)
        with open(os.memfd_create("batch"), "w+") as script:
            script.writelines(f"{command}\n" for command in self.commands)
            script.seek(0)
            self.process = subprocess.Popen(
                [program, *arguments],
                stdin=script,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        keeper.adopt(self.process)

    def failure(self) -> LinkError | None:
        """Waits for its end, and says which command failed."""
        with self.process as process:
            _, complaint = process.communicate()
        if process.returncode == 0:
            return None
        # "RTNETLINK answers: File exists\nCommand failed -:3\n"
        reason = complaint.partition("\n")[0] or f"exit {process.returncode}"
        place = re.search(r"Command failed -:(\d+)", complaint)
        if place is not None:
            program = os.path.basename(self.program)
            reason += f" ({program} {self.commands[int(place[1]) - 1]})"
        return LinkError("configure", self.name, None, reason)


def finish(batches: Iterable[Batch]) -> None:
    """Waits for all of them. Raises LinkError with what the first to complain said."""
    failures = [batch.failure() for batch in batches]
    for failure in failures:
        if failure is not None:
            raise failure
