"""What comes over a connection: protocol data units, and messages put together of their fragments.

What a peer may make us hold is bounded, also before it is known who that is.

References
----------
DICOM PS3.8 9.3 (protocol data units) and Annex E (messages in P-DATA).
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

from dicom_adapter.receiving.commands import StoreCommand, has_data_set, read_store_command
from dicom_adapter.receiving.spool import SpooledDataSet

DataSet: TypeAlias = memoryview | SpooledDataSet
"""A data set as it came: in memory, or on the disk."""

ASSOCIATE_RQ, P_DATA, RELEASE_RQ, ABORT = 0x01, 0x04, 0x05, 0x07
BY_USER, BY_PROVIDER = 0x00, 0x02
NO_REASON, UNRECOGNISED_PDU, UNEXPECTED_PDU, INVALID_PARAMETER = 0x00, 0x01, 0x02, 0x06
LARGEST_PDU = 1 << 20
_LARGEST_COMMAND = 1 << 16
_LARGEST_DATA = (1 << 32) - 1
_IN_MEMORY = 1 << 20  # of an instance; larger ones go to the disk while they come
_OTHERS_IN_MEMORY = 1 << 24  # of what is no instance, such as a report on storage commitment
_HEADS = 12  # of a PDU and its first value
_PARTING_S, _PARTING_BYTES = 1.0, 1 << 24


class ProtocolError(Exception):
    """A peer does what the standard does not allow; `reason` is that of the abort (PS3.8 9.3.8)."""

    def __init__(self, message: str, reason: int) -> None:
        super().__init__(message)
        self.reason = reason


class Incoming:
    """What a peer sends. What is there already of the next head is read along with what was asked for.

    Each read costs more than its system call where many associations share Python's interpreter lock.
    """

    def __init__(self, wire: socket.socket) -> None:
        self._wire = wire
        self._ahead = bytearray(_HEADS)
        self._begin = self._end = 0

    def pdu(self, largest: int) -> tuple[int, int, bytes] | None:
        """Return type, length and, but for P-DATA, the whole of the next PDU; None if the peer has hung up.

        Raises
        ------
        ProtocolError
            If it is longer than allowed.
        EOFError
            If the peer hangs up within it.
        """
        head = bytearray(6)
        got = self._fill(memoryview(head))
        if not got:
            return None
        if got < len(head):
            raise EOFError("it ended within a PDU")
        kind, length = struct.unpack(">BxL", head)
        if length > largest:
            raise ProtocolError(f"a PDU of {length} bytes, more than was negotiated", INVALID_PARAMETER)
        return kind, length, b"" if kind == P_DATA else bytes(head + self.take(length))

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
        if isinstance(self._wire, ssl.SSLSocket):
            return self._wire.recv_into(free)
        got = self._wire.recvmsg_into([free, self._ahead])[0]
        self._begin, self._end = 0, max(got - len(free), 0)
        return min(got, len(free))


def p_data(context_id: int, command: bytes) -> bytes:
    """Return the P-DATA that carries a command set alone."""
    return struct.pack(">BxLLBB", P_DATA, len(command) + 6, len(command) + 2, context_id, 0x03) + command


def part(wire: socket.socket) -> None:
    """Hang up, once the peer has read what was said last; what it still says is not listened to."""
    with contextlib.suppress(OSError):
        wire.shutdown(socket.SHUT_WR)
        wire.settimeout(_PARTING_S)
        end, heard = time.monotonic() + _PARTING_S, 0
        while heard < _PARTING_BYTES and time.monotonic() < end and (piece := wire.recv(1 << 16)):
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
        self._context = self._size = self._held = 0
        self._spooled: SpooledDataSet | None = None

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
    limit = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        wire.setsockopt(socket.SOL_SOCKET, option, limit)
