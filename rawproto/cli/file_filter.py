"""A filter expression for packets out of files, whatever mixture of link types they hold."""

from __future__ import annotations

from rawproto.capture import CapturedPacket
from rawproto.filter import interpreter
from rawproto.filter.instructions import Program

__all__ = ["FileFilter"]


class FileFilter:
    """Compiled for each link type that comes up; hosts and services by this system's names.

    Args:
        expression: in the language of docs/filter.md.

    Raises:
        FilterError: it is none, whatever the link type.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._programs: dict[int, Program] = {}
        self._program(1)

    def _program(self, link_type: int) -> Program:
        program = self._programs.get(link_type)
        if program is None:
            # The compiler is loaded by those who filter.
            from rawproto.cli.filter import SystemNames
            from rawproto.filter.compiler import compile_filter

            program = compile_filter(self.expression, link_type=link_type, names=SystemNames())
            self._programs[link_type] = program
        return program

    def __call__(self, packet: CapturedPacket) -> bool:
        """Whether a packet passes, as captured."""
        return self.judge(packet.data, packet.link_type, packet.original_length)

    def judge(self, data: bytes, link_type: int, original_length: int | None = None) -> bool:
        """Whether bytes pass.

        Args:
            data: from the link layer on.
            link_type: which that is.
            original_length: on the wire, for `len`, `greater` and `less`; None if all is there.

        Raises:
            FilterError: the expression makes no sense for this link type.
        """
        program = self._program(link_type)
        if original_length is None or original_length == len(data):
            return bool(interpreter.run(program, data))
        ancillary = interpreter.Ancillary(length=original_length)
        return bool(interpreter.run(program, data, ancillary))
