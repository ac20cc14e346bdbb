"""Connections to destinations: what is done with one has a total time, and a stop ends all of them."""

from __future__ import annotations

import contextlib
import io
import queue
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any, TypeAlias

from dicom_adapter.supervision.deadline import Deadline
from dicom_adapter.supervision.worker import heartbeat

_PIECE = 1 << 16
_LOOK_S = 0.1
_WAIT_S = 1.0  # after which the deadline is looked at again
_Address: TypeAlias = tuple[Any, ...]
_Bytes: TypeAlias = bytes | bytearray | memoryview


class DestinationConnections:
    """The open connections of one delivery worker."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.are_ended = False

    def end(self) -> None:
        """End all of them, whatever waits for them, and allow no more."""
        with self._lock:
            self.are_ended = True
            for each in self._open:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(each, socket.SHUT_RDWR)  # of TLS too: no farewell to wait for

    def connect(
        self, host: str, port: int, *, tls: ssl.SSLContext | None = None, timeout_s: float
    ) -> DestinationConnection:
        """Return a connection, secured if `tls` says how.

        Parameters
        ----------
        host
            A name, or an address of version 4 or 6.
        port
            The port.
        tls
            How to secure it; None for not at all.
        timeout_s
            For finding, reaching and securing it together, seconds.

        Raises
        ------
        OSError
            If there is no such host, it does not answer in time, or it shows another certificate.
        """
        deadline = Deadline(timeout_s)
        found = self._find(host, port, deadline)
        wire = self._reach(found, deadline)
        try:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                wire = self._secure(wire, tls, host, deadline)
        except BaseException:
            self.forget(wire)
            raise
        return DestinationConnection(wire, self)

    def addresses_of(self, host: str, *, timeout_s: float = 5.0) -> list[str]:
        """Return the addresses of a host; none if they cannot be found in time.

        Parameters
        ----------
        host
            Its name or address.
        timeout_s
            Longest wait, seconds.
        """
        try:
            return [str(each[4][0]) for each in self._find(host, 0, Deadline(timeout_s))]
        except OSError:
            return []

    def forget(self, wire: socket.socket) -> None:
        """Close one that is over.

        Parameters
        ----------
        wire
            The connection.
        """
        with self._lock:
            self._open.discard(wire)
        wire.close()

    def _find(self, host: str, port: int, deadline: Deadline) -> list[_Address]:
        """Ask for the addresses of a host in a thread that nobody has to wait for."""
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except (socket.gaierror, UnicodeError):  # it is a name, or none at all
            answers: queue.Queue[list[_Address] | OSError] = queue.Queue()
            threading.Thread(target=_look_up, args=(host, port, answers), daemon=True).start()
        while True:
            try:
                found = answers.get(timeout=min(_LOOK_S, deadline.require()))
            except queue.Empty:
                self._require()
                continue
            if isinstance(found, OSError):
                raise found
            return found

    def _reach(self, found: list[_Address], deadline: Deadline) -> socket.socket:
        """Try one address after the other, each for its share of the time."""
        for left, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
            wire = self._remember(socket.socket(family, kind, protocol))
            wire.settimeout(deadline.require() / left)
            try:
                wire.connect(address)
            except OSError as error:
                self.forget(wire)
                self._require()
                if left == 1:
                    raise error
            else:
                return wire
        raise OSError("it has no address")

    def _secure(
        self, wire: socket.socket, tls: ssl.SSLContext, host: str, deadline: Deadline
    ) -> socket.socket:
        try:
            secured = tls.wrap_socket(wire, server_hostname=host, do_handshake_on_connect=False)
        except ValueError as error:
            raise OSError(f"{host!r} is no name for TLS") from error
        with self._lock:
            self._open.discard(wire)
        self._remember(secured)
        try:
            secured.settimeout(deadline.require())  # of the whole handshake
            secured.do_handshake()
        except BaseException:
            self.forget(secured)
            raise
        return secured

    def _remember(self, wire: socket.socket) -> socket.socket:
        with self._lock:
            self._open.add(wire)
        if self.are_ended:
            self.forget(wire)
            self._require()
        return wire

    def _require(self) -> None:
        if self.are_ended:
            raise ConnectionAbortedError("we are stopping")


class DestinationConnection:
    """A connection to a destination.

    Attributes
    ----------
    wire
        The connection.
    connections
        Makes the connections to destinations, and closes them.
    deadline
        For everything from now on until it is set anew; no byte that comes prolongs it.
    """

    def __init__(self, wire: socket.socket, connections: DestinationConnections) -> None:
        self._wire, self._connections = wire, connections
        self._files, self._is_closed = 0, False
        self.deadline = Deadline(0)

    def sendall(self, data: _Bytes) -> None:
        """Send all of it.

        Parameters
        ----------
        data
            The bytes.

        Raises
        ------
        OSError
            If the deadline is over before the peer has taken it, or the peer is gone.
        """
        with memoryview(data).cast("B") as view:
            sent = 0
            while sent < len(view):
                self._wire.settimeout(self.deadline.require())
                with self._timed():
                    sent += self._wire.send(view[sent : sent + _PIECE])
                heartbeat()  # a large result may take long, but not longer than the deadline

    def receive_into(self, buffer: bytearray | memoryview) -> int:
        """Fill what there is of a buffer, and return how many bytes that are; 0 if the peer has hung up.

        Parameters
        ----------
        buffer
            The buffer.
        """
        while True:
            self._wire.settimeout(min(_WAIT_S, self.deadline.require()))
            try:
                return self._wire.recv_into(buffer)
            except TimeoutError:  # somebody may have given it more time meanwhile
                continue

    def receive(self, count: int) -> bytes:
        """Return so many bytes.

        Parameters
        ----------
        count
            How many.

        Raises
        ------
        EOFError
            If the peer hangs up before.
        OSError
            If the deadline is over before, or the connection is reset.
        """
        data = bytearray(count)
        with memoryview(data) as view:
            filled = 0
            while filled < count:
                if not (got := self.receive_into(view[filled:])):
                    raise EOFError("it hung up")
                filled += got
        return bytes(data)

    def close(self) -> None:
        """Hang up, once what comes is read by no file any more."""
        self._is_closed = True
        if not self._files:
            self.hang_up()

    def hang_up(self) -> None:
        """Hang up at once."""
        self._connections.forget(self._wire)

    def makefile(self, *mode: object, **more: object) -> io.BufferedReader:
        """Return what comes as a file, for `http.client`, which closes a connection before it reads it.

        Parameters
        ----------
        mode
            Is not looked at.
        more
            Is not looked at.
        """
        self._files += 1
        return io.BufferedReader(_Incoming(self))

    def file_is_closed(self) -> None:
        """Note that one of its files is read no more."""
        self._files -= 1
        if self._is_closed:
            self.close()

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise TimeoutError(f"it took longer than {self.deadline.seconds:g} s") from error


class _Incoming(io.RawIOBase):
    def __init__(self, connection: DestinationConnection) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._connection.file_is_closed()

    def readinto(self, buffer: Any) -> int:
        return self._connection.receive_into(buffer)


def _look_up(host: str, port: int, answers: queue.Queue[list[_Address] | OSError]) -> None:
    try:
        answers.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    except OSError as error:
        answers.put(error)
    except UnicodeError:
        answers.put(OSError(f"{host!r} is no name of a host"))
