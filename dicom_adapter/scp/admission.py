"""How many connections may wait and how many associations there may be at once, and whose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from dicom_adapter.config.dicom_blocks import Scp

_UNPROVEN_S = 5.0
_RESERVED = 4  # one in so many


class Admitted(Protocol):
    """Who has a place."""

    address: str
    has_spoken: bool

    def end(self, why: str) -> None:
        """Make it give the place up."""


class Admission:
    """Gives places to associations, so that nobody takes those of others.

    Parameters
    ----------
    config
        Returns the settings as they are now: how many there may be, from one address, and whose addresses
        are known; a quarter of all is for these.

    Notes
    -----
    Who has not said anything for 5 s since it came in gives its place to one who finds none otherwise.
    """

    def __init__(self, config: Callable[[], Scp]) -> None:
        self._config = config
        self._lock = threading.Lock()
        self._inside: dict[Admitted, float] = {}  # and since when, the oldest first

    def enter(self, newcomer: Admitted) -> bool:
        """Return whether there is a place, and take it."""
        config = self._config()
        with self._lock:
            rivals = self._rivals(config, newcomer.address)
            late = time.monotonic() - _UNPROVEN_S
            silent = (each for each in rivals or () if not each.has_spoken and self._inside[each] < late)
            victim = next(silent, None)
            if rivals is not None and victim is None:
                return False
            if victim is not None:
                del self._inside[victim]
            self._inside[newcomer] = time.monotonic()
        if victim is not None:
            victim.end("others needed its place, and it had said nothing yet")
        return True

    def leave(self, newcomer: Admitted) -> None:
        """Give a place back, if it was not taken away."""
        with self._lock:
            self._inside.pop(newcomer, None)

    def _rivals(self, config: Scp, address: str) -> list[Admitted] | None:
        """Return who has the places that a newcomer would need; None if there is one left."""
        here = [each for each in self._inside if each.address == address]
        if len(here) >= config.from_one_address:
            return here
        strangers = [each for each in self._inside if not is_known(config, each.address)]
        if len(self._inside) >= config.max_associations:
            return strangers if strangers or not is_known(config, address) else list(self._inside)
        if not is_known(config, address) and len(strangers) >= config.max_associations - reserved(config):
            return strangers
        return None


def is_known(config: Scp, address: str) -> bool:
    """Return whether an address is that of a source."""
    return any(each.host_ip == address for each in config.sources)


def reserved(config: Scp) -> int:
    """Return how many associations are for addresses that are known."""
    known = any(each.host_ip for each in config.sources)
    return config.max_associations // _RESERVED if known else 0
