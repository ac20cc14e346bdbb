"""Connections that have not asked for an association yet: many, cheap, and none for long.

One thread listens and waits for all of them at once, so that who says nothing, little, or the same again and
again takes no thread and no place of others. A request that has come whole is judged here; who may come in
is handed on, and who may not hears why. When there are too many, the oldest of the address that has the most
makes room; those of known addresses only for each other.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import resource
import selectors
import socket
import time

from dicom_adapter.dimse import pdus
from dicom_adapter.dimse.pdus import ProtocolError
from dicom_adapter.scp import pdu_stream
from dicom_adapter.scp.handshakes import TlsHandshakes
from dicom_adapter.scp.pending import (
    ListenerCallbacks,
    PendingConnection,
    RequestAnswer,
    WaitingConnections,
    check_head,
    started,
)
from dicom_adapter.scp.sockets import listening_socket, plain_address, reset
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.failures import traceback_of
from dicom_adapter.supervision.supervisor import Supervisor
from dicom_adapter.supervision.worker import Worker, heartbeat

logger = logging.getLogger(__name__)

_BATCH = 128
_LOOK_S = 0.2
_BREATH_S = 0.01  # between batches of a flood
_CATCH_UP_S = 5.0


_SHARE = 4  # so much of the file descriptors that a process may have is for who waits
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Listens, until it is closed.

    Parameters
    ----------
    host, port
        Where.
    callbacks
        What is asked of others.

    Raises
    ------
    OSError
        If the address cannot be used.
    """

    def __init__(self, host: str, port: int, callbacks: ListenerCallbacks) -> None:
        self._callbacks = callbacks
        self._listening = listening_socket(host, port)
        self._share = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._pending = WaitingConnections()
        self._handshakes = TlsHandshakes(
            callbacks,
            answer=self._answer_to,
            is_pending=self._pending.__contains__,
            forget=self._forget,
            cut=self._hang_up,
        )
        self._catch_up_at = 0.0
        self._is_closed = False
        self._is_listening = False
        self._worker: Worker | None = None
        self._is_paused = False

    def start(self, supervisor: Supervisor) -> None:
        """Begin to take connections, in a thread that a supervisor watches."""
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._worker = supervisor.worker("listening", self._run)
        self._worker.start()

    def close(self, seconds: float) -> None:
        """Take no more, and hang up on those who wait.

        Parameters
        ----------
        seconds
            Longest time to wait for the thread.
        """
        if self._worker is not None:
            self._worker.stop()  # before the round ends: what it closes must not be closed in another one
        self._is_closed = True
        if self._worker is not None:
            self._worker.stop()  # first, else it would begin anew when it has ended
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")
        if self._worker is not None:
            self._worker.join(Deadline(seconds))

    @property
    def waiting(self) -> int:
        """How many connections wait."""
        return len(self._pending)

    def _run(self) -> None:
        while not self._is_closed:
            heartbeat()
            self._is_paused = self._turn(self._is_paused)
        self._end()

    def _turn(self, is_paused: bool) -> bool:
        """Serve whoever is there; return whether so many came that the next ones shall wait a little."""
        self._listen(not is_paused)
        pause = _BREATH_S if is_paused else _LOOK_S if self._pending else _CATCH_UP_S
        is_crowded = False
        for key, _ in self._selector.select(pause):
            if isinstance(key.data, PendingConnection):
                self._read_safely(key.data)
            elif key.fileobj is self._listening:
                is_crowded = self._accept()
        self._look_at_the_clock()
        return is_crowded

    def _listen(self, wanted: bool) -> None:
        if wanted and not self._is_listening:
            self._selector.register(self._listening, selectors.EVENT_READ)
        elif self._is_listening and not wanted:
            self._selector.unregister(self._listening)
        self._is_listening = wanted

    def _end(self) -> None:
        self._selector.close()
        pending = [each.connection for each in self._pending]
        for each in (self._listening, self._woken, self._waker, *pending):
            with contextlib.suppress(OSError):
                each.close()
        spare, self._spare = self._spare, -1
        if spare >= 0:  # closed twice it could be somebody else's
            os.close(spare)

    # Coming in

    def _accept(self) -> bool:
        """Take those who have connected; return whether it was more than there is room for."""
        is_crowded = False
        for _ in range(_BATCH):
            try:
                connection, address = self._listening.accept()
            except BlockingIOError:
                return is_crowded
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    self._without_descriptors(error)
                    return True
                continue  # it has gone before it was taken
            is_crowded |= self._welcome(connection, plain_address(str(address[0])))
        return True

    def _without_descriptors(self, error: OSError) -> None:
        """Free one, so that who waits longest in the kernel's queue is hung up on rather than kept."""
        self._callbacks.turned_away("unknown", "no room", f"no connection can be taken: {error.strerror}")
        if self._evict_one(is_known=True, address=""):
            return
        os.close(self._spare)
        with contextlib.suppress(OSError):
            self._listening.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def _welcome(self, connection: socket.socket, address: str) -> bool:
        is_known, is_crowded = self._callbacks.is_known(address), False
        if len(self._pending) >= min(self._callbacks.most(), self._share):
            is_crowded = True
            if not self._evict_one(is_known=is_known, address=address):
                reset(connection)
                self._callbacks.turned_away(address, "no room", "more connections than may wait")
                return True
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.monotonic() + self._callbacks.patience_s()
        pending = PendingConnection(connection=connection, address=address, is_known=is_known, until=until)
        self._pending.add(pending)
        self._selector.register(connection, selectors.EVENT_READ, pending)
        return is_crowded

    def _evict_one(self, *, is_known: bool, address: str) -> bool:
        """Hang up on the one who must make room for a newcomer; return whether there is one."""
        victim = self._pending.next_to_evict(address, is_known=is_known)
        if victim is None:
            return False
        if not victim.is_leaving:
            self._callbacks.turned_away(victim.address, "displaced", "others wanted to connect")
        self._hang_up(victim)
        return True

    # What they say

    def _read_safely(self, pending: PendingConnection) -> None:
        try:
            self._read(pending)
        except Exception as error:  # a border: the other connections go on
            logger.error("a connection could not be served", exc_info=traceback_of(error))
            self._turn_away(pending, "broken", "an error of the adapter itself")

    def _read(self, pending: PendingConnection) -> None:
        if pending not in self._pending:
            return
        if pending.is_leaving:
            self._hear_out(pending)
            return
        if pending.request or not self._is_securing(pending):
            self._read_request(pending)

    def _is_securing(self, pending: PendingConnection) -> bool:
        """Return whether a connection is one to be secured, which a thread begins to do."""
        if not self._callbacks.is_secured():
            return False
        if not self._handshakes.may_begin(pending):
            self._turn_away(pending, "displaced", "others wanted to connect")
            return True
        self._selector.unregister(pending.connection)
        pending.is_securing = True
        if not self._handshakes.begin(pending):
            self._turn_away(pending, "no room", "no thread could be started")
        return True

    def _read_request(self, pending: PendingConnection) -> None:
        try:
            piece = pending.connection.recv(min(pending.wanted(), 1 << 16))
        except BlockingIOError:
            return
        except OSError as error:
            self._turn_away(pending, "lost", f"the connection is lost: {error.strerror}")
            return
        if not piece:
            is_probe = not pending.request
            self._turn_away(pending, "no request" if is_probe else "lost", "the peer has hung up")
            return
        pending.request += piece
        if pending.request[0] == pdus.ABORT:
            self._turn_away(pending, "aborted", "before it asked for anything")
            return
        try:
            check_head(pending.request)
        except ProtocolError as error:
            self._say_goodbye(pending, pdus.abort(pdus.BY_PROVIDER, error.reason))
            self._callbacks.turned_away(pending.address, "broken", str(error))
            return
        if len(pending.request) >= 6 and not pending.wanted():
            self._judge(pending)

    def _judge(self, pending: PendingConnection) -> None:
        answer = self._answer_to(pending.connection, pending.address, bytes(pending.request))
        if isinstance(answer, bytes):
            self._say_goodbye(pending, answer)
            return
        self._selector.unregister(pending.connection)
        if started(answer.serve, bytes(pending.request)):
            self._forget(pending)
        else:
            answer.cancel()
            self._turn_away(pending, "no room", "no thread could be started")

    def _answer_to(self, connection: socket.socket, address: str, request: bytes) -> RequestAnswer:
        try:
            return self._callbacks.judge(connection, address, request)
        except ProtocolError as error:
            self._callbacks.turned_away(address, "broken", str(error))
            return pdus.abort(pdus.BY_PROVIDER, error.reason)
        except Exception:  # a border: whatever one asks for, the others wait for no dead thread
            logger.exception("a request for an association from %s could not be judged", address)
            return pdus.abort(pdus.BY_PROVIDER, pdus.NO_REASON)

    # Going out

    def _say_goodbye(self, pending: PendingConnection, pdu: bytes) -> None:
        """Send the reason, and keep the connection until the peer has read it."""
        pending.is_leaving = True
        self._pending.is_leaving(pending)
        pending.until = time.monotonic() + pdu_stream.LINGER_S
        try:
            pending.connection.send(pdu)
            pending.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(pending)

    def _hear_out(self, pending: PendingConnection) -> None:
        try:
            heard = len(pending.connection.recv(1 << 16))
        except BlockingIOError:
            return
        except OSError:
            heard = 0
        pending.heard += heard
        if not heard or pending.heard > pdu_stream.LINGER_BYTES:
            self._drop(pending)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if now >= self._catch_up_at:
            self._catch_up_at = now + _CATCH_UP_S
            self._callbacks.catch_up()
        late = [each for each in self._pending if each.until <= now and not each.is_securing]
        for pending in late:
            if pending.is_leaving or not pending.request:
                if not pending.is_leaving:
                    self._callbacks.turned_away(pending.address, "silent", "it asked for nothing")
                self._drop(pending)
            else:
                self._callbacks.turned_away(pending.address, "slow", "its request did not come whole in time")
                self._say_goodbye(pending, pdus.abort(pdus.BY_PROVIDER, pdus.NO_REASON))

    def _turn_away(self, pending: PendingConnection, ending: str, why: str) -> None:
        self._callbacks.turned_away(pending.address, ending, why)
        self._drop(pending)

    def _drop(self, pending: PendingConnection) -> None:
        self._forget(pending)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(pending.connection)
        pending.connection.close()

    def _hang_up(self, pending: PendingConnection) -> None:
        if not pending.is_securing:
            self._drop(pending)
            return
        self._forget(pending)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(pending.connection, socket.SHUT_RDWR)  # its thread closes it

    def _forget(self, pending: PendingConnection) -> None:
        self._pending.remove(pending)
        self._handshakes.forget(pending)
