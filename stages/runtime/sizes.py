"""Sizes of memory and disks as people write and read them."""

from __future__ import annotations

import math
import re

MIB = 2**20
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
_LARGEST = 2**62
_UNITS = ("", "K", "M", "G", "T")


def bytes_of(text: str) -> int | None:
    """Return the bytes of a size; None if it is none.

    Parameters
    ----------
    text
        Such as ``4G``, ``512 MiB``, ``1.5g`` or ``1000000``; units are powers of 1024. What is larger than
        2**62 counts as that.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    return int(min(float(found[1]) * 1024 ** _UNITS.index(found[2].upper()), _LARGEST))


def in_words(size: int) -> str:
    """Return a size for a person.

    Parameters
    ----------
    size
        Bytes.
    """
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{math.ceil(size / MIB)} MiB"
