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
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from dicom_adapter.scp import wire
from dicom_adapter.scp.admission import Crowd, plain_address
from dicom_adapter.scp.wire import Incoming, Pace, ProtocolError
from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.supervisor import Supervisor, Worker, sign_of_life, traceback_of
from stages.errors import StageError

logger = logging.getLogger(__name__)

_BATCH = 128
_LOOK_S = 0.2
_BREATH_S = 0.01  # between batches of a flood
_CATCH_UP_S = 5.0
_HANDSHAKES, _BRIEF_S = 32, 0.1
_BACKLOG = 1024
_SHARE = 4  # so much of the file descriptors that a process may have is for who waits
_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_RESET = struct.pack("ii", 1, 0)


class Served(Protocol):
    """Who has been let in."""

    def serve(self, pdu: bytes) -> None:
        """Answer a request for an association and serve it; called in a thread of its own."""

    def cancel(self) -> None:
        """Forget it, since no thread could be started."""


Verdict: TypeAlias = bytes | Served
"""What is said to who may not come in, or who serves who may."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """What the lobby asks of others.

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
    judge: Callable[[socket.socket, str, bytes], Verdict]
    turned_away: Callable[[str, str, str], None]
    catch_up: Callable[[], None]
    most: Callable[[], int]
    patience_s: Callable[[], float]


@dataclass(eq=False, kw_only=True)
class _Guest:
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


class Lobby:
    """Listens, until it is closed.

    Parameters
    ----------
    host, port
        Where.
    door
        What is asked of others.

    Raises
    ------
    OSError
        If the address cannot be used.
    """

    def __init__(self, host: str, port: int, door: Door) -> None:
        self._door = door
        self._listening = _listening(host, port)
        self._share = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE)
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])
        self._selector = selectors.DefaultSelector()
        self._waker, self._woken = socket.socketpair()
        self._spare = os.open(os.devnull, os.O_RDONLY)
        self._guests: Crowd[_Guest] = Crowd()
        self._securing: Crowd[_Guest] = Crowd()
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
        return len(self._guests)

    def _run(self) -> None:
        while not self._is_closed:
            sign_of_life()
            self._is_paused = self._turn(self._is_paused)
        self._end()

    def _turn(self, is_paused: bool) -> bool:
        """Serve whoever is there; return whether so many came that the next ones shall wait a little."""
        self._listen(not is_paused)
        pause = _BREATH_S if is_paused else _LOOK_S if self._guests else _CATCH_UP_S
        is_crowded = False
        for key, _ in self._selector.select(pause):
            if isinstance(key.data, _Guest):
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
        guests = [each.connection for each in self._guests]
        for each in (self._listening, self._woken, self._waker, *guests):
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
        self._door.turned_away("unknown", "no room", f"no connection can be taken: {error.strerror}")
        if self._make_room(is_known=True, address=""):
            return
        os.close(self._spare)
        with contextlib.suppress(OSError):
            self._listening.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def _welcome(self, connection: socket.socket, address: str) -> bool:
        is_known, is_crowded = self._door.is_known(address), False
        if len(self._guests) >= min(self._door.most(), self._share):
            is_crowded = True
            if not self._make_room(is_known=is_known, address=address):
                _reset(connection)
                self._door.turned_away(address, "no room", "more connections than may wait")
                return True
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        until = time.monotonic() + self._door.patience_s()
        guest = _Guest(connection=connection, address=address, is_known=is_known, until=until)
        self._guests.add(guest)
        self._selector.register(connection, selectors.EVENT_READ, guest)
        return is_crowded

    def _make_room(self, *, is_known: bool, address: str) -> bool:
        """Hang up on the one who must make room for a newcomer; return whether there is one."""
        victim = self._guests.who_makes_room(address, is_known=is_known)
        if victim is None:
            return False
        if not victim.is_leaving:
            self._door.turned_away(victim.address, "displaced", "others wanted to connect")
        self._hang_up(victim)
        return True

    # What they say

    def _read_safely(self, guest: _Guest) -> None:
        try:
            self._read(guest)
        except Exception as error:  # a border: the other connections go on
            logger.error("a connection could not be served", exc_info=traceback_of(error))
            self._turn_away(guest, "broken", "an error of the adapter itself")

    def _read(self, guest: _Guest) -> None:
        if guest not in self._guests:
            return
        if guest.is_leaving:
            self._hear_out(guest)
            return
        if guest.request or not self._is_securing(guest):
            self._read_request(guest)

    def _is_securing(self, guest: _Guest) -> bool:
        """Return whether a connection is one to be secured, which a thread begins to do."""
        if not self._door.is_secured():
            return False
        if not self._may_secure(guest):
            self._turn_away(guest, "displaced", "others wanted to connect")
            return True
        self._selector.unregister(guest.connection)
        guest.is_securing = True
        self._securing.add(guest)
        if not _started(self._secure, guest):
            self._turn_away(guest, "no room", "no thread could be started")
        return True

    def _read_request(self, guest: _Guest) -> None:
        try:
            piece = guest.connection.recv(min(guest.wanted(), 1 << 16))
        except BlockingIOError:
            return
        except OSError as error:
            self._turn_away(guest, "lost", f"the connection is lost: {error.strerror}")
            return
        if not piece:
            is_probe = not guest.request
            self._turn_away(guest, "no request" if is_probe else "lost", "the peer has hung up")
            return
        guest.request += piece
        if guest.request[0] == wire.ABORT:
            self._turn_away(guest, "aborted", "before it asked for anything")
            return
        try:
            _check_head(guest.request)
        except ProtocolError as error:
            self._say_goodbye(guest, wire.abort(wire.BY_PROVIDER, error.reason))
            self._door.turned_away(guest.address, "broken", str(error))
            return
        if len(guest.request) >= 6 and not guest.wanted():
            self._judge(guest)

    def _judge(self, guest: _Guest) -> None:
        verdict = self._verdict(guest.connection, guest.address, bytes(guest.request))
        if isinstance(verdict, bytes):
            self._say_goodbye(guest, verdict)
            return
        self._selector.unregister(guest.connection)
        if _started(verdict.serve, bytes(guest.request)):
            self._forget(guest)
        else:
            verdict.cancel()
            self._turn_away(guest, "no room", "no thread could be started")

    def _verdict(self, connection: socket.socket, address: str, request: bytes) -> Verdict:
        try:
            return self._door.judge(connection, address, request)
        except ProtocolError as error:
            self._door.turned_away(address, "broken", str(error))
            return wire.abort(wire.BY_PROVIDER, error.reason)
        except Exception:  # a border: whatever one asks for, the others wait for no dead thread
            logger.exception("a request for an association from %s could not be judged", address)
            return wire.abort(wire.BY_PROVIDER, wire.NO_REASON)

    # Securing

    def _may_secure(self, guest: _Guest) -> bool:
        """Return whether one more handshake may begin: threads are few, and few are begun a second."""
        if len(self._securing) < _HANDSHAKES:
            return True
        victim = self._securing.who_makes_room(guest.address, is_known=guest.is_known)
        if victim is None or (victim.address == guest.address and guest.since - victim.since < _BRIEF_S):
            return False
        self._door.turned_away(victim.address, "displaced", "others wanted to connect")
        self._hang_up(victim)
        return True

    def _secure(self, guest: _Guest) -> None:
        """Secure a connection, read the request, and serve it; all in a thread of its own."""
        request = self._request_of(guest)
        verdict = self._verdict(guest.connection, guest.address, request) if request else b""
        if not isinstance(verdict, bytes):
            self._forget(guest)
            verdict.serve(request)
            return
        if verdict:
            with contextlib.suppress(OSError):
                wire.write(guest.connection, verdict, wire.PARTING_S)
            wire.part(guest.connection)
        guest.connection.close()
        self._forget(guest)

    def _request_of(self, guest: _Guest) -> bytes:
        """Return the request for an association that comes over TLS; nothing if none does."""
        try:
            return self._handshake(guest)
        except (ProtocolError, StageError, EOFError, OSError, ValueError) as error:
            if guest in self._guests:
                self._door.turned_away(guest.address, _ending_of(error), f"it was not secured: {error}")
        except Exception:  # a border: what a library raises on a handshake ends this one alone
            logger.exception("a connection from %s could not be secured", guest.address)
        return b""

    def _handshake(self, guest: _Guest) -> bytes:
        context = self._door.secure()
        guest.connection.settimeout(guest.left_s())
        guest.connection = connection = context.wrap_socket(
            guest.connection, server_side=True, do_handshake_on_connect=False
        )
        connection.do_handshake()
        found = Incoming(connection, Pace(idle_s=guest.left_s())).pdu(wire.LARGEST_PDU)
        if found is None:
            raise EOFError("the peer has hung up")
        _check_head(found[2] or bytes((found[0],)))
        return found[2]

    # Going out

    def _say_goodbye(self, guest: _Guest, pdu: bytes) -> None:
        """Say why, and keep the connection until the peer has heard it."""
        guest.is_leaving = True
        self._guests.is_leaving(guest)
        guest.until = time.monotonic() + wire.PARTING_S
        try:
            guest.connection.send(pdu)
            guest.connection.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(guest)

    def _hear_out(self, guest: _Guest) -> None:
        try:
            heard = len(guest.connection.recv(1 << 16))
        except BlockingIOError:
            return
        except OSError:
            heard = 0
        guest.heard += heard
        if not heard or guest.heard > wire.PARTING_BYTES:
            self._drop(guest)

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if now >= self._catch_up_at:
            self._catch_up_at = now + _CATCH_UP_S
            self._door.catch_up()
        late = [each for each in self._guests if each.until <= now and not each.is_securing]
        for guest in late:
            if guest.is_leaving or not guest.request:
                if not guest.is_leaving:
                    self._door.turned_away(guest.address, "silent", "it asked for nothing")
                self._drop(guest)
            else:
                self._door.turned_away(guest.address, "slow", "its request did not come whole in time")
                self._say_goodbye(guest, wire.abort(wire.BY_PROVIDER, wire.NO_REASON))

    def _turn_away(self, guest: _Guest, ending: str, why: str) -> None:
        self._door.turned_away(guest.address, ending, why)
        self._drop(guest)

    def _drop(self, guest: _Guest) -> None:
        self._forget(guest)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(guest.connection)
        guest.connection.close()

    def _hang_up(self, guest: _Guest) -> None:
        if not guest.is_securing:
            self._drop(guest)
            return
        self._forget(guest)
        with contextlib.suppress(OSError):
            socket.socket.shutdown(guest.connection, socket.SHUT_RDWR)  # its thread closes it

    def _forget(self, guest: _Guest) -> None:
        self._guests.remove(guest)
        self._securing.remove(guest)


def _listening(host: str, port: int) -> socket.socket:
    if ":" not in host:
        return socket.create_server((host, port), backlog=_BACKLOG)
    both = socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=both)


def _started(target: Callable[..., None], *arguments: object) -> bool:
    """Return whether a thread could be started."""
    try:
        threading.Thread(target=target, args=arguments, name="association", daemon=True).start()
    except RuntimeError as error:
        logger.error("no thread can be started: %s", error)
        return False
    return True


def _check_head(request: bytes | bytearray) -> None:
    """Refuse what is no request for an association, or a larger one than any."""
    if request and request[0] != wire.ASSOCIATE_RQ:
        is_known = request[0] in range(0x01, 0x08)
        reason = wire.UNEXPECTED_PDU if is_known else wire.UNRECOGNISED_PDU
        raise ProtocolError(f"PDU type {request[0]:#04x} before an association", reason)
    if len(request) >= 6 and int.from_bytes(request[2:6], "big") > wire.LARGEST_PDU:
        raise ProtocolError("a request for an association that is too long", wire.INVALID_PARAMETER)


def _ending_of(error: Exception) -> str:
    if isinstance(error, ProtocolError):
        return "broken"
    if isinstance(error, TimeoutError):
        return "slow"
    return "unsecured" if isinstance(error, (ssl.SSLError, StageError, ValueError)) else "lost"


def _reset(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    connection.close()
