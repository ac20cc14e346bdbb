"""What comes over a connection: protocol data units, and messages put together of their fragments.

What a peer may make us hold is bounded, also before it is known who that is.

References
----------
DICOM PS3.8 9.3 (protocol data units) and Annex E (messages in P-DATA).
"""

from __future__ import annotations

import contextlib
import mmap
import select
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dicom_adapter.dimse.commands import StoreCommand, has_data_set, read_store_command
from dicom_adapter.storage.spool import SpooledDataSet
from dicom_adapter.supervision.deadline import Deadline

DataSet: TypeAlias = memoryview | SpooledDataSet
"""A data set as it came: in memory, or on the disk."""

ASSOCIATE_RQ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 0x01, 0x04, 0x05, 0x06, 0x07
BY_USER, BY_PROVIDER = 0x00, 0x02
NO_REASON, UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0x00, 0x01, 0x02, 0x06
LARGEST_PDU = 1 << 20
_LARGEST_COMMAND = 1 << 16
_LARGEST_DATA = (1 << 32) - 1
_IN_MEMORY = 1 << 20  # of an instance; larger ones go to the disk while they come
_OTHERS_IN_MEMORY = 1 << 24  # of what is no instance, such as a report on storage commitment
_HEADS = 12  # of a PDU and its first value
_VALUE_HEAD = 6
_MANY_FRAGMENTS, _SMALL_FRAGMENT = 10_000, 64
PARTING_S, PARTING_BYTES = 1.0, 1 << 24


class ProtocolError(Exception):
    """A peer does what the standard does not allow; `reason` is that of the abort (PS3.8 9.3.8)."""

    def __init__(self, message: str, reason: int) -> None:
        super().__init__(message)
        self.reason = reason


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
            raise ProtocolError(f"a PDU of {length} bytes, more than was negotiated", INVALID_PARAMETER)
        return kind, length, b"" if kind == P_DATA else bytes(head + self.take(length))

    def message_ended(self) -> None:
        """Note that a message has come whole; how long the peer waits with the next is its affair."""
        self._is_between = True
        self._for_message, self._heard = 0.0, 0

    def take(self, count: int) -> bytearray:
        """Return so many bytes."""
        data = bytearray(count)
        with memoryview(data) as view:
            self.fill(view)
        return data

    def fill(self, buffer: memoryview) -> None:
        """Fill a buffer.

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


def p_data(context_id: int, command: bytes, largest: int = 0) -> bytes:
    """Return the P-DATA that carry a command set alone.

    Parameters
    ----------
    largest
        The longest PDU that the peer takes, bytes; 0 for any.
    """
    size = min(largest, LARGEST_PDU) - _VALUE_HEAD if largest else len(command)
    pdus = []
    for at in range(0, len(command), size):
        piece = command[at : at + size]
        control = 0x03 if at + size >= len(command) else 0x01
        pdus.append(
            struct.pack(">BxLLBB", P_DATA, len(piece) + 6, len(piece) + 2, context_id, control) + piece
        )
    return b"".join(pdus)


def abort(source: int, reason: int) -> bytes:
    """Return the A-ABORT (PS3.8 9.3.8)."""
    return struct.pack(">BxLxxBB", ABORT, 4, source, reason)


def part(wire: socket.socket) -> None:
    """Hang up, once the peer has read what was said last; what it still says is not listened to."""
    deadline, heard = Deadline(PARTING_S), 0
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_WR)
        while heard < PARTING_BYTES:
            wire.settimeout(deadline.require())
            piece = wire.recv(1 << 16)
            if not piece:
                break
            heard += len(piece)
    wire.close()


class MessageReader:
    """Messages as their fragments come.

    A data set is in a buffer that the next one uses again; one that is larger is where `spool` puts it. What
    finds no place there is read all the same, so that the peer can be told why.

    Parameters
    ----------
    spool
        Returns where an instance is written while it comes: of its presentation context and request.
    """

    def __init__(self, incoming: Incoming, spool: Callable[[int, StoreCommand], SpooledDataSet]) -> None:
        self._incoming, self._make_spool = incoming, spool
        # takes memory as it is filled, and gives it back when it is closed
        self._buffer = mmap.mmap(-1, _OTHERS_IN_MEMORY)
        self._most = _IN_MEMORY
        self._command = bytearray()
        self._context = self._size = self._held = self._fragments = 0
        self._spooled: SpooledDataSet | None = None

    @property
    def is_within(self) -> bool:
        """Whether something has come of a message that is not whole yet."""
        return bool(self._command)

    def read(self, length: int) -> Iterator[tuple[int, bytes, DataSet]]:
        """Read the body of a P-DATA, and give each message that is complete: context, command, data set."""
        while length:
            head = self._incoming.take(min(length, 6))
            if len(head) < 6 or not 2 <= (item := int.from_bytes(head[:4], "big")) <= length - 4:
                raise ProtocolError("a presentation data value is cut", INVALID_PARAMETER)
            length -= 4 + item
            if self._add(head[4], head[5], item - 2):
                with self._data() as data:
                    yield head[4], bytes(self._command), data
                self._command, self._context, self._size = bytearray(), 0, 0
                self._fragments = 0

    def close(self) -> None:
        """Forget what has come of a message that did not, and give the memory back."""
        self._forget()
        with contextlib.suppress(BufferError):  # an error on its way still holds a part of it
            self._buffer.close()

    def _forget(self) -> None:
        if self._spooled is not None:
            self._spooled.close()
        self._spooled, self._held, self._most = None, 0, _IN_MEMORY

    @contextlib.contextmanager
    def _data(self) -> Iterator[DataSet]:
        try:
            if self._spooled is not None:
                self._flush()
                yield self._spooled
            else:
                with memoryview(self._buffer) as buffer, buffer[: self._held] as data:
                    yield data
        finally:
            self._forget()

    def _add(self, context: int, header: int, size: int) -> bool:
        """Read a fragment, and tell whether it was the last of its message."""
        is_command, is_last = header & 1, header & 2
        self._fragments += 1
        if self._fragments > _MANY_FRAGMENTS and self._size < self._fragments * _SMALL_FRAGMENT:
            raise ProtocolError("a message in countless tiny fragments", INVALID_PARAMETER)
        if self._context not in (0, context) or (not is_command and not self._command):
            raise ProtocolError("fragments of two messages are mixed", INVALID_PARAMETER)
        self._context = context
        if not is_command:
            self._add_data(size)
            return bool(is_last)
        self._command += self._incoming.take(size)
        if self._size or len(self._command) > _LARGEST_COMMAND:
            raise ProtocolError("a command that never ends", INVALID_PARAMETER)
        return bool(is_last) and not has_data_set(self._command)

    def _add_data(self, size: int) -> None:
        self._size += size
        if self._size > _LARGEST_DATA:
            raise ProtocolError("a data set that never ends", INVALID_PARAMETER)
        with memoryview(self._buffer) as buffer:
            while size:
                if self._held == self._most:
                    self._flush()
                count = min(size, self._most - self._held)
                with buffer[self._held : self._held + count] as free:
                    self._incoming.fill(free)
                self._held, size = self._held + count, size - count

    def _flush(self) -> None:
        """Write what is held of an instance to the disk; of anything else more may be held."""
        if self._spooled is None:
            command = read_store_command(bytes(self._command))
            if command is None and self._most < _OTHERS_IN_MEMORY:
                self._most = _OTHERS_IN_MEMORY
                return
            if command is None:
                raise ProtocolError("a data set that never ends", INVALID_PARAMETER)
            self._spooled = self._make_spool(self._context, command)
        with memoryview(self._buffer) as buffer, buffer[: self._held] as data:
            self._spooled.write(data)
        self._held = 0


def limit_silence(wire: socket.socket, seconds: float) -> None:
    """Let reading end with TimeoutError, or BlockingIOError, when nothing comes for so long.

    The kernel watches the time where it can: Python would ask before each read whether there is something.
    """
    if sys.platform != "linux" or isinstance(wire, ssl.SSLSocket):
        wire.settimeout(seconds)
        return
    wire.settimeout(None)
    limit = struct.pack("ll", int(seconds), max(1, int(seconds % 1 * 1e6)))  # 0 would be for ever
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        wire.setsockopt(socket.SOL_SOCKET, option, limit)
