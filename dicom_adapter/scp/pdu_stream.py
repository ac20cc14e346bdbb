"""What comes over a connection, one protocol data unit after the other, and how long a peer may take for it.

References
----------
DICOM PS3.8 9.3 (protocol data units).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import sys
import time
from dataclasses import dataclass

from dicom_adapter.dimse import pdus
from dicom_adapter.supervision.deadline import Deadline

LINGER_S, LINGER_BYTES = 1.0, 1 << 24
_HEADS = 12  # of a PDU and its first value


class SlowPeerError(TimeoutError):
    """A peer lets us wait longer than it may."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long a peer may let us wait; what we do ourselves in the meantime is not counted.

    Attributes
    ----------
    idle_s
        Longest silence, and longest time that one PDU may take from its first byte to its last, seconds.
    least_rate
        Bytes a second that a message must come at, over the time beyond `idle_s`.
    """

    idle_s: float
    least_rate: int = 0


class Incoming:
    """What a peer sends. What is there already of the next head is read along with what was asked for.

    Each read costs more than its system call where many associations share Python's interpreter lock. The
    kernel ends a silence; the time that a peer takes by sending little at a time is added up here.

    Parameters
    ----------
    wire
        The connection.
    pace
        How long the peer may let us wait.
    """

    def __init__(self, wire: socket.socket, pace: Pace) -> None:
        self._wire, self._pace = wire, pace
        self._ahead = bytearray(_HEADS)
        self._begin = self._end = 0
        self._is_between = self._is_hurried = False
        self._for_pdu = self._for_message = 0.0
        self._heard = 0
        limit_silence(wire, pace.idle_s)

    def pdu(self, largest: int) -> tuple[int, int, bytes] | None:
        """Return type, length and, but for P-DATA, the whole of the next PDU; None if the peer has hung up.

        Parameters
        ----------
        largest
            Most bytes that it may have.

        Raises
        ------
        ProtocolError
            If it is longer than allowed.
        SlowPeerError
            If the peer takes too long.
        EOFError
            If the peer hangs up within it.
        """
        self._begin_pdu()
        head = bytearray(6)
        got = self._fill(memoryview(head))
        if not got:
            return None
        if got < len(head):
            raise EOFError("it ended within a PDU")
        self._is_between = False
        kind, length = struct.unpack(">BxL", head)
        if length > largest:
            raise pdus.ProtocolError(
                f"a PDU of {length} bytes, more than was negotiated", pdus.INVALID_PARAMETER
            )
        return kind, length, b"" if kind == pdus.P_DATA else bytes(head + self.take(length))

    def message_ended(self) -> None:
        """Note that a message has come whole; how long the peer waits with the next is its affair."""
        self._is_between = True
        self._for_message, self._heard = 0.0, 0

    def take(self, count: int) -> bytearray:
        """Return so many bytes.

        Parameters
        ----------
        count
            How many.
        """
        data = bytearray(count)
        with memoryview(data) as view:
            self.fill(view)
        return data

    def fill(self, buffer: memoryview) -> None:
        """Fill a buffer.

        Parameters
        ----------
        buffer
            The buffer.

        Raises
        ------
        EOFError
            If the peer hangs up before it is full.
        """
        if self._fill(buffer) < len(buffer):
            raise EOFError("it ended within a PDU")

    def _fill(self, buffer: memoryview) -> int:
        done = min(len(buffer), self._end - self._begin)
        buffer[:done] = self._ahead[self._begin : self._begin + done]
        self._begin += done
        while done < len(buffer) and (got := self._read(buffer[done:])):
            done += got
        return done

    def _read(self, free: memoryview) -> int:
        begun = time.monotonic()
        try:
            got = self._receive(free)
        except (BlockingIOError, TimeoutError) as error:
            raise self._slow() from error
        self._heard += got
        self._count(time.monotonic() - begun, is_whole=got == len(free))
        return got

    def _slow(self) -> SlowPeerError:
        what = "a PDU took longer than" if self._is_hurried else "it was silent for"
        return SlowPeerError(f"{what} {self._pace.idle_s:g} s")

    def _receive(self, free: memoryview) -> int:
        if isinstance(self._wire, ssl.SSLSocket):
            return self._wire.recv_into(free)
        got = self._wire.recvmsg_into([free, self._ahead])[0]
        self._begin, self._end = 0, max(got - len(free), 0)
        return min(got, len(free))

    def _begin_pdu(self) -> None:
        pace = self._pace
        if self._is_hurried:
            limit_silence(self._wire, pace.idle_s)
            self._is_hurried = False
        beyond = self._for_message - pace.idle_s
        if beyond > 0 and self._heard < beyond * pace.least_rate:
            raise SlowPeerError(f"a message came at less than {pace.least_rate} bytes a second")
        self._for_pdu = 0.0

    def _count(self, seconds: float, *, is_whole: bool) -> None:
        """Add to the time that the peer has taken, unless that was a pause between two messages."""
        if self._is_between:
            self._is_between = False
            return
        self._for_pdu += seconds
        self._for_message += seconds
        if is_whole or self._for_pdu < self._pace.idle_s / 10:
            return
        left_s = self._pace.idle_s - self._for_pdu
        self._is_hurried = True
        if left_s <= 0:
            raise self._slow()
        limit_silence(self._wire, left_s)


def write(wire: socket.socket, data: bytes, seconds: float) -> None:
    """Send all of it.

    Parameters
    ----------
    wire, data
        The connection and the bytes.
    seconds
        Longest time in all that the peer may take to read.

    Raises
    ------
    SlowPeerError
        If it does not read.
    """
    try:
        if isinstance(wire, ssl.SSLSocket):
            wire.sendall(data)  # within the time of `limit_silence`, which Python counts over the whole call
            return
        _write_plain(wire, memoryview(data), seconds)
    except (BlockingIOError, TimeoutError) as error:
        raise SlowPeerError(f"it did not read for {seconds:g} s") from error


def _write_plain(wire: socket.socket, data: memoryview, seconds: float) -> None:
    deadline = Deadline(seconds)
    while data:
        with contextlib.suppress(BlockingIOError):
            data = data[wire.send(data, socket.MSG_DONTWAIT) :]
        if data:
            poll = select.poll()
            poll.register(wire, select.POLLOUT)
            poll.poll(deadline.require() * 1000)


def linger_close(wire: socket.socket) -> None:
    """Hang up, once the peer has read what was said last; what it still says is not listened to.

    Parameters
    ----------
    wire
        The connection.
    """
    deadline, heard = Deadline(LINGER_S), 0
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_WR)
        while heard < LINGER_BYTES:
            wire.settimeout(deadline.require())
            piece = wire.recv(1 << 16)
            if not piece:
                break
            heard += len(piece)
    wire.close()


def limit_silence(wire: socket.socket, seconds: float) -> None:
    """Make reading end with TimeoutError, or BlockingIOError, when nothing comes for so long.

    The kernel watches the time where it can: Python would ask before each read whether there is something.

    Parameters
    ----------
    wire
        The connection.
    seconds
        Seconds.
    """
    if sys.platform != "linux" or isinstance(wire, ssl.SSLSocket):
        wire.settimeout(seconds)
        return
    wire.settimeout(None)
    limit = struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1e6)))  # 0 would be for ever
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        wire.setsockopt(socket.SOL_SOCKET, option, limit)
