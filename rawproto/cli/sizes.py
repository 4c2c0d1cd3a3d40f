"""Sizes as the command line has them."""

from __future__ import annotations

import argparse
import re

__all__ = ["size_of"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def size_of(text: str) -> int:
    """A number of bytes: `1500`, `100k`, `1M`, `2.5G`, in powers of ten."""
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)([kmgt]?)", text.lower(), re.ASCII)
    size = int(float(found[1]) * _UNITS[found[2]]) if found else 0
    if size < 1:
        raise argparse.ArgumentTypeError(f"{text}: no size, such as 1500, 100k, 1M or 2.5G")
    return size
