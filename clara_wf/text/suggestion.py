"""What somebody may have meant who typed a name that is not there."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(wanted: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name that is closest, or "" if none is close.

    Parameters
    ----------
    wanted, known
        The name that was asked for and the names that there are.
    """
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(wanted.lower(), by_lower, n=1)
    begun = [name for name in by_lower if wanted and name.startswith(wanted.lower())]
    found = close or (begun if len(begun) == 1 else [])
    return f" (did you mean {by_lower[found[0]]!r}?)" if found else ""
