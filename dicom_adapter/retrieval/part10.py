"""A DICOM file as it comes in pieces: its meta information is read, its data set passed on.

References
----------
DICOM PS3.10 7.1 (preamble, file meta information).
"""

from __future__ import annotations

from dicom_adapter.retrieval.expected import ExpectedReceiver, InstanceSink
from dicom_files.elements import Elements
from dicom_files.file_meta import END_OF_META, PREAMBLE
from stages.errors import InputError

_CLASS, _INSTANCE, _SYNTAX = 0x00020002, 0x00020003, 0x00020010
_BEGIN = len(PREAMBLE) + 12  # behind (0002,0000), the length of what follows
_MOST_META = 1 << 16


class IncomingFile:
    """One file on its way to the disk.

    Parameters
    ----------
    receiver
        Keeps it.
    place
        Who sends it, for people.
    receiver
        Keeps what comes.
    """

    def __init__(self, place: str, receiver: ExpectedReceiver) -> None:
        self._place, self._receiver = place, receiver
        self._head = bytearray()
        self._sink: InstanceSink | None = None

    def add(self, piece: bytes) -> None:
        """Take the next bytes.

        Parameters
        ----------
        piece
            Of any size.

        Raises
        ------
        InputError
            If it is no DICOM file.
        """
        if self._sink is not None:
            self._sink.add(piece)
            return
        self._head += piece
        if len(self._head) < _BEGIN:
            return
        end = _BEGIN + int.from_bytes(self._head[_BEGIN - 4 : _BEGIN], "little")
        if self._head[len(PREAMBLE) - 4 : len(PREAMBLE)] != PREAMBLE[-4:] or end > _MOST_META:
            raise self._no_file("it does not begin like one")
        if len(self._head) >= end:
            self._open(bytes(self._head[_BEGIN:end]))
            self._sink_of().add(bytes(self._head[end:]))

    def keep(self) -> None:
        """Return when it is on disk, which all of it has reached.

        Raises
        ------
        StageError
            If it is not what was asked for, or cannot be written.
        """
        self._sink_of().keep()

    def close(self) -> None:
        """Free the space, unless it was kept."""
        if self._sink is not None:
            self._sink.close()

    def _open(self, meta: bytes) -> None:
        try:
            found = Elements(meta, implicit=False).values(
                0, end=END_OF_META, wanted=frozenset({_CLASS, _INSTANCE, _SYNTAX})
            )[0]
            texts = [found[tag].decode("ascii").rstrip("\0 ") for tag in (_CLASS, _INSTANCE, _SYNTAX)]
        except (InputError, LookupError, ValueError) as error:
            raise self._no_file("its meta information cannot be read") from error
        self._sink = self._receiver.sink(
            sop_class_uid=texts[0], sop_instance_uid=texts[1], transfer_syntax=texts[2]
        )

    def _sink_of(self) -> InstanceSink:
        if self._sink is None:
            raise self._no_file("it is cut")
        return self._sink

    def _no_file(self, why: str) -> InputError:
        return InputError(f"{self._place} sent something that is no DICOM file: {why}")
