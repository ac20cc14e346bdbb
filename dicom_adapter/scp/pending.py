"""Connections that have not asked for an association yet, and who of them goes when there are too many."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from dicom_adapter.dimse import pdus
from dicom_adapter.dimse.pdus import ProtocolError

logger = logging.getLogger(__name__)


class RequestHandler(Protocol):
    """Who has been let in."""

    def serve(self, pdu: bytes) -> None:
        """Answer a request for an association and serve it; called in a thread of its own.

        Parameters
        ----------
        pdu
            The request.
        """

    def cancel(self) -> None:
        """Forget it, since no thread could be started."""


RequestAnswer: TypeAlias = bytes | RequestHandler
"""What is said to who may not come in, or who serves who may."""


@dataclass(frozen=True, kw_only=True)
class ListenerCallbacks:
    """What a listener asks of others.

    Attributes
    ----------
    is_secured
        Returns whether connections are to be secured.
    secure
        Returns what with; called by a thread that may wait.
    is_known
        Returns whether an address is that of a source.
    judge
        Takes a connection, its address and a whole request.
    turned_away
        Told of each connection that ended without a request: address, how, and in words why.
    catch_up
        Called every few seconds.
    most
        Returns how many may wait.
    patience_s
        Returns how long each may take to secure itself and to ask, seconds.
    """

    is_secured: Callable[[], bool]
    secure: Callable[[], ssl.SSLContext]
    is_known: Callable[[str], bool]
    judge: Callable[[socket.socket, str, bytes], RequestAnswer]
    turned_away: Callable[[str, str, str], None]
    catch_up: Callable[[], None]
    most: Callable[[], int]
    patience_s: Callable[[], float]


@dataclass(eq=False, kw_only=True)
class PendingConnection:
    """A connection that has not asked for an association yet.

    Attributes
    ----------
    connection
        The socket.
    address
        The peer's IP address.
    is_known
        Whether the address is that of a source.
    until
        When it has to have asked, by the monotonic clock.
    request
        What has come of its request.
    is_leaving
        Whether it was told to go.
    is_securing
        Whether its handshake runs.
    heard
        Bytes that came after it was told to go.
    since
        When it came, by the monotonic clock.
    """

    connection: socket.socket
    address: str
    is_known: bool
    until: float
    request: bytearray = field(default_factory=bytearray)
    is_leaving: bool = False
    is_securing: bool = False
    heard: int = 0
    since: float = field(default_factory=time.monotonic)

    def left_s(self) -> float:
        """Return how much time is left, seconds, never nothing."""
        return max(0.01, self.until - time.monotonic())

    def wanted(self) -> int:
        """Return how many bytes of the request are still to come."""
        if len(self.request) < 6:
            return 6 - len(self.request)
        return 6 + int.from_bytes(self.request[2:6], "big") - len(self.request)


class WaitingConnections:
    """Who waits, the oldest first, and who of them makes room for others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._all: dict[PendingConnection, None] = {}
        self._by_address: dict[bool, dict[str, dict[PendingConnection, None]]] = {True: {}, False: {}}
        self._leaving: dict[PendingConnection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, each: PendingConnection) -> bool:
        return each in self._all

    def __iter__(self) -> Iterator[PendingConnection]:
        with self._lock:
            return iter(list(self._all))

    def add(self, each: PendingConnection) -> None:
        """Add a connection that waits.

        Parameters
        ----------
        each
            The connection.
        """
        with self._lock:
            self._all[each] = None
            self._by_address[each.is_known].setdefault(each.address, {})[each] = None

    def is_leaving(self, each: PendingConnection) -> None:
        """Note who has been told to go, and makes room before all others.

        Parameters
        ----------
        each
            The connection.
        """
        with self._lock:
            self._leaving[each] = None

    def remove(self, each: PendingConnection) -> bool:
        """Forget somebody; return whether that one was there.

        Parameters
        ----------
        each
            The connection.
        """
        with self._lock:
            if each not in self._all:
                return False
            del self._all[each]
            self._leaving.pop(each, None)
            by_address = self._by_address[each.is_known]
            del by_address[each.address][each]
            if not by_address[each.address]:
                del by_address[each.address]
            return True

    def next_to_evict(self, address: str, *, is_known: bool) -> PendingConnection | None:
        """Return the oldest of the address that has the most; one that is known only for a known one.

        Parameters
        ----------
        address, is_known
            Of the newcomer, who counts as one of its address.
        """
        with self._lock:
            if self._leaving:
                return next(iter(self._leaving))
            by_address = self._by_address[False] or (self._by_address[True] if is_known else {})
            if not by_address:
                return None
            most = max(by_address, key=lambda each: len(by_address[each]) + (each == address))
            return next(iter(by_address[most]))


def check_head(request: bytes | bytearray) -> None:
    """Refuse what is no request for an association, or a larger one than any.

    Parameters
    ----------
    request
        What has come of it.
    """
    if request and request[0] != pdus.ASSOCIATE_RQ:
        is_known = request[0] in range(0x01, 0x08)
        reason = pdus.UNEXPECTED_PDU if is_known else pdus.UNRECOGNISED_PDU
        raise ProtocolError(f"PDU type {request[0]:#04x} before an association", reason)
    if len(request) >= 6 and int.from_bytes(request[2:6], "big") > pdus.LARGEST_PDU:
        raise ProtocolError("a request for an association that is too long", pdus.INVALID_PARAMETER)


def started(target: Callable[..., None], *arguments: object) -> bool:
    """Return whether a thread could be started.

    Parameters
    ----------
    target, arguments
        What the thread does and what that takes.
    """
    try:
        threading.Thread(target=target, args=arguments, name="association", daemon=True).start()
    except RuntimeError as error:
        logger.error("no thread can be started: %s", error)
        return False
    return True
