"""Events that come in floods: the first of each kind are logged one by one, the others are summed up."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

_EACH, _ALL = 10, 30
_REFILL_S = 6.0
_MOST_KEYS = 1024
_SUM_UP_S = 60.0


@dataclass(frozen=True, kw_only=True)
class ThrottledEvents:
    """What was not logged one by one.

    Attributes
    ----------
    kind
        What happened.
    count
        How many there were.
    addresses
        From how many addresses; beyond a thousand they are not told apart.
    most
        The address that most of them came from.
    seconds
        Since the first of them.
    """

    kind: str
    count: int
    addresses: int
    most: str
    seconds: float


@dataclass
class _Bucket:
    left: float
    at: float

    def take(self, size: int, now: float) -> bool:
        self.left = min(size, self.left + (now - self.at) / _REFILL_S * size / _EACH)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class _Counted:
    since: float
    by_address: Counter[str] = field(default_factory=Counter)


class EventThrottle:
    """Decides whether an event may be logged: ten of a kind at once from one address, and ten a minute.

    Parameters
    ----------
    clock
        Returns the time, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._each: dict[tuple[str, str], _Bucket] = {}
        self._all: dict[str, _Bucket] = {}
        self._held: dict[str, _Counted] = {}

    def allows(self, kind: str, address: str) -> bool:
        """Return whether an event may be logged; it is counted if not.

        Parameters
        ----------
        kind
            One of a few.
        address
            Who caused it.
        """
        now = self._clock()
        with self._lock:
            if self._bucket(kind, address, now).take(_EACH, now) and self._total(kind, now).take(_ALL, now):
                return True
            held = self._held.setdefault(kind, _Counted(now))
            is_room = address in held.by_address or len(held.by_address) < _MOST_KEYS
            held.by_address[address if is_room else "others"] += 1
            return False

    def summaries(self, *, all_of_it: bool = False) -> list[ThrottledEvents]:
        """Return what has been held back for a minute, and forget it.

        Parameters
        ----------
        all_of_it
            Also what has not been for so long.
        """
        now = self._clock()
        with self._lock:
            due = [kind for kind, held in self._held.items() if all_of_it or now - held.since >= _SUM_UP_S]
            return [_summed_up(kind, self._held.pop(kind), now) for kind in due]

    def _bucket(self, kind: str, address: str, now: float) -> _Bucket:
        key = (kind, address)
        if key not in self._each and len(self._each) >= _MOST_KEYS:
            del self._each[next(iter(self._each))]
        return self._each.setdefault(key, _Bucket(_EACH, now))

    def _total(self, kind: str, now: float) -> _Bucket:
        return self._all.setdefault(kind, _Bucket(_ALL, now))


def _summed_up(kind: str, held: _Counted, now: float) -> ThrottledEvents:
    (most, _), *_ = held.by_address.most_common(1)
    return ThrottledEvents(
        kind=kind,
        count=held.by_address.total(),
        addresses=len(held.by_address),
        most=most,
        seconds=now - held.since,
    )
