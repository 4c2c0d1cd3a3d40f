"""Packet filters: programs for the kernel's classic BPF machine, and that machine itself.

`instructions` is the instruction set and what the kernel checks, `assembler` the
text of programs, `interpreter` the machine, `programs` the filters we attach.
"""
