"""How many connections may wait and how many associations there may be at once, and whose."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import Generic, Protocol, TypeVar

from dicom_adapter.config.blocks import Scp

_UNPROVEN_S = 5.0
_RESERVED = 4  # one in so many


class Guest(Protocol):
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
        self._inside: dict[Guest, float] = {}  # and since when, the oldest first

    def enter(self, guest: Guest) -> bool:
        """Return whether there is a place, and take it."""
        config = self._config()
        with self._lock:
            rivals = self._rivals(config, guest.address)
            late = time.monotonic() - _UNPROVEN_S
            silent = (each for each in rivals or () if not each.has_spoken and self._inside[each] < late)
            victim = next(silent, None)
            if rivals is not None and victim is None:
                return False
            if victim is not None:
                del self._inside[victim]
            self._inside[guest] = time.monotonic()
        if victim is not None:
            victim.end("others needed its place, and it had said nothing yet")
        return True

    def leave(self, guest: Guest) -> None:
        """Give a place back, if it was not taken away."""
        with self._lock:
            self._inside.pop(guest, None)

    def _rivals(self, config: Scp, address: str) -> list[Guest] | None:
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


class Waiting(Protocol):
    """Who waits to come in."""

    address: str
    is_known: bool


_Waiting = TypeVar("_Waiting", bound=Waiting)


class Crowd(Generic[_Waiting]):
    """Who waits, the oldest first, and who of them makes room for others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[_Waiting, None] = {}
        self._by_address: dict[bool, dict[str, dict[_Waiting, None]]] = {True: {}, False: {}}
        self._leaving: dict[_Waiting, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, each: _Waiting) -> bool:
        return each in self._all

    def __iter__(self) -> Iterator[_Waiting]:
        with self._lock:
            return iter(list(self._all))

    def add(self, each: _Waiting) -> None:
        """Let somebody wait."""
        with self._lock:
            self._all[each] = None
            self._by_address[each.is_known].setdefault(each.address, {})[each] = None

    def is_leaving(self, each: _Waiting) -> None:
        """Note who has been told to go, and makes room before all others."""
        with self._lock:
            self._leaving[each] = None

    def remove(self, each: _Waiting) -> bool:
        """Forget somebody; return whether that one was there."""
        with self._lock:
            if each not in self._all:
                return False
            del self._all[each]
            self._leaving.pop(each, None)
            crowds = self._by_address[each.is_known]
            del crowds[each.address][each]
            if not crowds[each.address]:
                del crowds[each.address]
            return True

    def who_makes_room(self, address: str, *, is_known: bool) -> _Waiting | None:
        """Return the oldest of the address that has the most; one that is known only for a known one.

        Parameters
        ----------
        address, is_known
            Of the newcomer, who counts as one of its address.
        """
        with self._lock:
            if self._leaving:
                return next(iter(self._leaving))
            crowds = self._by_address[False] or (self._by_address[True] if is_known else {})
            if not crowds:
                return None
            most = max(crowds, key=lambda each: len(crowds[each]) + (each == address))
            return next(iter(crowds[most]))


def is_known(config: Scp, address: str) -> bool:
    """Return whether an address is that of a source."""
    return any(each.host_ip == address for each in config.sources)


def reserved(config: Scp) -> int:
    """Return how many associations are for addresses that are known."""
    known = any(each.host_ip for each in config.sources)
    return config.max_associations // _RESERVED if known else 0


def plain_address(address: str) -> str:
    """Return an IP address in its usual form; an IPv4 one that came over an IPv6 socket as such."""
    found = ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return str(mapped or found)
