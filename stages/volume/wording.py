"""Words that are the same in every log, table, page, picture and document: the notice, and a volume in ml."""

from __future__ import annotations

NOTICE = "Research only, not a medical device; made by software, not verified by a physician"
"""What a result is and is not; one line of ASCII, so that it can stand in any font and any character set."""


def volume_text(ml: float) -> str:
    """Return a volume as it is read: one decimal, or two significant digits below 1 ml.

    What is there is never written as 0.

    Parameters
    ----------
    ml
        The volume, ml.
    """
    if ml >= 1 or ml == 0:
        return f"{ml:.1f} ml"
    rounded = f"{float(f'{ml:.2g}'):.12f}".rstrip("0")
    return f"{rounded}0 ml" if rounded.endswith(".") else f"{rounded} ml"
