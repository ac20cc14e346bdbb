"""Messages put together of their fragments; what a peer may make us hold is bounded.

References
----------
DICOM PS3.8 Annex E (messages in P-DATA).
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterator
from typing import TypeAlias

from dicom_adapter.dimse import pdus
from dicom_adapter.dimse.commands import StoreCommand, has_data_set, read_store_command
from dicom_adapter.scp.pdu_stream import Incoming
from dicom_adapter.storage.spool import SpooledDataSet

DataSet: TypeAlias = memoryview | SpooledDataSet
"""A data set as it came: in memory, or on the disk."""

_LARGEST_COMMAND = 1 << 16
_LARGEST_DATA = (1 << 32) - 1
_IN_MEMORY = 1 << 20  # of an instance; larger ones go to the disk while they come
_OTHERS_IN_MEMORY = 1 << 24  # of what is no instance, such as a report on storage commitment
_MANY_FRAGMENTS, _SMALL_FRAGMENT = 10_000, 64


class MessageReader:
    """Messages as their fragments come.

    A data set is in a buffer that the next one uses again; one that is larger is where `spool` puts it. What
    finds no place there is read all the same, so that the peer can be told why.

    Parameters
    ----------
    incoming
        What the peer sends.
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
        """Read the body of a P-DATA, and yield each message that is complete: context, command, data set.

        Parameters
        ----------
        length
            Bytes.
        """
        while length:
            head = self._incoming.take(min(length, 6))
            if len(head) < 6 or not 2 <= (item := int.from_bytes(head[:4], "big")) <= length - 4:
                raise pdus.ProtocolError("a presentation data value is cut", pdus.INVALID_PARAMETER)
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
        """Read a fragment, and return whether it was the last of its message."""
        is_command, is_last = header & 1, header & 2
        self._fragments += 1
        if self._fragments > _MANY_FRAGMENTS and self._size < self._fragments * _SMALL_FRAGMENT:
            raise pdus.ProtocolError("a message in countless tiny fragments", pdus.INVALID_PARAMETER)
        if self._context not in (0, context) or (not is_command and not self._command):
            raise pdus.ProtocolError("fragments of two messages are mixed", pdus.INVALID_PARAMETER)
        self._context = context
        if not is_command:
            self._add_data(size)
            return bool(is_last)
        self._command += self._incoming.take(size)
        if self._size or len(self._command) > _LARGEST_COMMAND:
            raise pdus.ProtocolError("a command that never ends", pdus.INVALID_PARAMETER)
        return bool(is_last) and not has_data_set(self._command)

    def _add_data(self, size: int) -> None:
        self._size += size
        if self._size > _LARGEST_DATA:
            raise pdus.ProtocolError("a data set that never ends", pdus.INVALID_PARAMETER)
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
                raise pdus.ProtocolError("a data set that never ends", pdus.INVALID_PARAMETER)
            self._spooled = self._make_spool(self._context, command)
        with memoryview(self._buffer) as buffer, buffer[: self._held] as data:
            self._spooled.write(data)
        self._held = 0
