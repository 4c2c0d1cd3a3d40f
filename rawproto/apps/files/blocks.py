"""A file as blocks, each with its hash, and the hash of them all.

::

    leaf   BLAKE2b-256, personal "rawproto leaf", of a block of 128 KiB; the last may be shorter
    root   BLAKE2b-256, personal "rawproto root", of the size (u64) and all leaves

Whoever knows the leaves of what it holds goes on behind the last block that is the same, and
needs to read none of those before. The tree has two levels: the leaves of 10 GB are 2.5 MB.
"""

from __future__ import annotations

import hashlib
import os
import struct

__all__ = [
    "BLOCK_BYTES",
    "LEAF_BYTES",
    "block_count",
    "leaf",
    "read_block",
    "root_of",
    "zeros_leaf",
]

BLOCK_BYTES = 1 << 17
LEAF_BYTES = 32

_SIZE = struct.Struct("!Q")


def leaf(block: bytes | memoryview) -> bytes:
    """A block's hash."""
    return hashlib.blake2b(block, digest_size=LEAF_BYTES, person=b"rawproto leaf").digest()


def root_of(size: int, leaves: bytes | bytearray) -> bytes:
    """The hash of a file: its size in bytes, and the leaves of its blocks one behind the other."""
    whole = hashlib.blake2b(_SIZE.pack(size), digest_size=LEAF_BYTES, person=b"rawproto root")
    whole.update(leaves)
    return whole.digest()


def block_count(size: int) -> int:
    """How many blocks a file of so many bytes has."""
    return -(-size // BLOCK_BYTES)


ZEROS = bytes(BLOCK_BYTES)
_ZEROS_LEAF = leaf(ZEROS)


def zeros_leaf(size: int) -> bytes:
    """The hash of a block of zeros."""
    return _ZEROS_LEAF if size == BLOCK_BYTES else leaf(ZEROS[:size])


def read_block(fd: int, index: int, size: int) -> bytes:
    """A block of a file of so many bytes; shorter if the file has become so. Raises OSError."""
    start = index * BLOCK_BYTES
    return os.pread(fd, min(BLOCK_BYTES, size - start), start)
