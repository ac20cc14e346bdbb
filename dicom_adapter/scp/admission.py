"""Who may open an association, and how many there may be at once, and whose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from dicom_adapter.config.dicom_blocks import Scp
from dicom_adapter.scp.negotiation import (
    BY_USER,
    CALLED_UNKNOWN,
    CALLING_UNKNOWN,
    PERMANENT,
    Rejection,
)

_UNPROVEN_S = 5.0
_RESERVED = 4  # one in so many


class Admitted(Protocol):
    """Who has a place."""

    address: str
    has_spoken: bool

    def end(self, why: str) -> None:
        """Make it give the place up.

        Parameters
        ----------
        why
            The reason, a sentence.
        """


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
        """Return whether there is a place, and take it.

        Parameters
        ----------
        newcomer
            Who wants a place.
        """
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
        """Release a place, if it was not taken away.

        Parameters
        ----------
        newcomer
            Who wants a place.
        """
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
    """Return whether an address is that of a source.

    Parameters
    ----------
    config, address
        The listening side's configuration and the peer's IP address.
    """
    return any(each.host_ip == address for each in config.sources)


def reserved(config: Scp) -> int:
    """Return how many associations are for addresses that are known.

    Parameters
    ----------
    config
        The listening side's configuration.
    """
    known = any(each.host_ip for each in config.sources)
    return config.max_associations // _RESERVED if known else 0


def who_may_not(config: Scp, called: str, caller: str, address: str) -> Rejection | None:
    """Return why somebody may not call; None: may.

    Parameters
    ----------
    config
        The listening side's configuration.
    called, caller
        AE titles; "" for a blank one.
    address
        Where the call comes from.
    """
    if called not in {each.ae_title for each in config.ae_titles}:
        return _unknown(CALLED_UNKNOWN, "called AE title not recognised")
    if not caller:
        return _unknown(CALLING_UNKNOWN, "calling AE title is blank, and there is no blank-calling-as")
    if not config.reject_unknown_sources:
        return None
    known = [each for each in config.sources if each.ae_title == caller]
    if not known:
        return _unknown(CALLING_UNKNOWN, "calling AE title not recognised")
    if any(each.host_ip in ("", address) for each in known):
        return None
    return _unknown(CALLING_UNKNOWN, "calling AE title comes from another host")


def _unknown(reason: int, words: str) -> Rejection:
    return Rejection(result=PERMANENT, source=BY_USER, reason=reason, words=words)
