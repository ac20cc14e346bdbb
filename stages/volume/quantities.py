"""How a measured quantity is written for people, the same in logs, tables, pages and pictures."""

from __future__ import annotations


def volume_text(ml: float) -> str:
    """Return a volume, ml, as it is read: one decimal, or two significant digits below 1 ml.

    What is there is never written as 0.
    """
    if ml >= 1 or ml == 0:
        return f"{ml:.1f} ml"
    rounded = f"{float(f'{ml:.2g}'):.12f}".rstrip("0")
    return f"{rounded}0 ml" if rounded.endswith(".") else f"{rounded} ml"
