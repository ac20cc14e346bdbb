"""TLS handshakes: each in a thread of its own, few at once, and few begun a second."""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

from dicom_adapter.dimse import pdus
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.scp import pdu_stream
from dicom_adapter.scp.pdu_stream import Incoming, Pace
from dicom_adapter.scp.pending import (
    ListenerCallbacks,
    PendingConnection,
    RequestAnswer,
    WaitingConnections,
    check_head,
    started,
)
from stages.errors import StageError

logger = logging.getLogger(__name__)

_HANDSHAKES, _BRIEF_S = 32, 0.1


class TlsHandshakes:
    """The handshakes that run; a request that comes after one is answered in its thread.

    Parameters
    ----------
    callbacks
        What the listener does with connections.
    answer
        Takes a connection, its address and a whole request, see `ListenerCallbacks.judge`.
    is_pending
        Returns whether a connection has not been given up meanwhile.
    forget
        Called with a connection that is handed on or closed.
    cut
        Called with a connection that makes room for another one.
    """

    def __init__(
        self,
        callbacks: ListenerCallbacks,
        *,
        answer: Callable[[socket.socket, str, bytes], RequestAnswer],
        is_pending: Callable[[PendingConnection], bool],
        forget: Callable[[PendingConnection], None],
        cut: Callable[[PendingConnection], None],
    ) -> None:
        self._callbacks, self._answer, self._is_pending = callbacks, answer, is_pending
        self._forget, self._cut = forget, cut
        self._running = WaitingConnections()

    def may_begin(self, pending: PendingConnection) -> bool:
        """Return whether one more handshake may begin: threads are few, and few are begun a second."""
        if len(self._running) < _HANDSHAKES:
            return True
        victim = self._running.next_to_evict(pending.address, is_known=pending.is_known)
        if victim is None or (victim.address == pending.address and pending.since - victim.since < _BRIEF_S):
            return False
        self._callbacks.turned_away(victim.address, "displaced", "others wanted to connect")
        self._cut(victim)
        return True

    def begin(self, pending: PendingConnection) -> bool:
        """Secure a connection in a thread of its own; return whether one could be started."""
        self._running.add(pending)
        return started(self._secure, pending)

    def forget(self, pending: PendingConnection) -> None:
        """Forget a connection that is over, or secured."""
        self._running.remove(pending)

    def _secure(self, pending: PendingConnection) -> None:
        """Secure a connection, read the request, and serve it; all in a thread of its own."""
        request = self._request_of(pending)
        answer = self._answer(pending.connection, pending.address, request) if request else b""
        if not isinstance(answer, bytes):
            self._forget(pending)
            answer.serve(request)
            return
        if answer:
            with contextlib.suppress(OSError):
                pdu_stream.write(pending.connection, answer, pdu_stream.LINGER_S)
            pdu_stream.linger_close(pending.connection)
        pending.connection.close()
        self._forget(pending)

    def _request_of(self, pending: PendingConnection) -> bytes:
        """Return the request for an association that comes over TLS; nothing if none does."""
        try:
            return self._handshake(pending)
        except (ProtocolError, StageError, EOFError, OSError, ValueError) as error:
            if self._is_pending(pending):
                self._callbacks.turned_away(
                    pending.address, _ending_of(error), f"it was not secured: {error}"
                )
        except Exception:  # a border: what a library raises on a handshake ends this one alone
            logger.exception("a connection from %s could not be secured", pending.address)
        return b""

    def _handshake(self, pending: PendingConnection) -> bytes:
        context = self._callbacks.secure()
        pending.connection.settimeout(pending.left_s())
        pending.connection = connection = context.wrap_socket(
            pending.connection, server_side=True, do_handshake_on_connect=False
        )
        connection.do_handshake()
        found = Incoming(connection, Pace(idle_s=pending.left_s())).pdu(pdus.LARGEST_PDU)
        if found is None:
            raise EOFError("the peer has hung up")
        check_head(found[2] or bytes((found[0],)))
        return found[2]


def _ending_of(error: Exception) -> str:
    if isinstance(error, ProtocolError):
        return "broken"
    if isinstance(error, TimeoutError):
        return "slow"
    return "unsecured" if isinstance(error, (ssl.SSLError, StageError, ValueError)) else "lost"
