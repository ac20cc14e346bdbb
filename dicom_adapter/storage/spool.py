"""Instances on their way to the disk: files under names of nobody's, which go if they do not become whole.

What is small is written at once when it has come; what is large (`SpooledDataSet`) is written while it comes,
and held nowhere else.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

from dicom_adapter.storage.disk_space import DiskFullError, require_space, write_error
from dicom_adapter.storage.folders import make_folder
from dicom_adapter.storage.instance_header import HeaderReader, InstanceHeader
from dicom_files.file_meta import PREAMBLE
from stages.errors import StageError
from stages.runtime.atomic import rename_new

_CHECK_EVERY = 1 << 26
_PIECE = 1 << 20


class Spool:
    """Where files are written before they are whole.

    Parameters
    ----------
    folder
        Made again whenever it is missing.
    file_mode, folder_mode
        Permissions, whatever the umask.
    minimum_free
        Bytes of the disk that must stay free.
    largest
        Bytes of the largest data set that is taken.
    """

    def __init__(
        self, folder: Path, *, file_mode: int, folder_mode: int, minimum_free: int, largest: int
    ) -> None:
        self.folder, self.minimum_free, self.largest = folder, minimum_free, largest
        self._file_mode, self._folder_mode = file_mode, folder_mode
        self._begin, self._numbers = uuid.uuid4().hex, itertools.count()
        umask = os.umask(0o077)
        os.umask(umask)
        self._is_masked = bool(file_mode & umask)

    def create(self) -> tuple[Path, int]:
        """Return the name and the descriptor of a new file.

        Raises
        ------
        OSError
            If there cannot be one.
        """
        path = self.folder / f"{self._begin}-{next(self._numbers):x}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, self._file_mode)
        except FileNotFoundError:
            make_folder(self.folder, self.folder.parent.parent, self._folder_mode)
            descriptor = os.open(path, flags, self._file_mode)
        if self._is_masked:
            os.fchmod(descriptor, self._file_mode)
        return path, descriptor


class SpoolFile:
    """A file that is being written.

    Parameters
    ----------
    spool
        Where files are written until they are whole.
    meta
        The file meta information; the data set is added behind it.

    Raises
    ------
    OSError
        If there cannot be such a file.
    """

    def __init__(self, spool: Spool, meta: bytes) -> None:
        self._spool = spool
        self._head = PREAMBLE + meta
        self.size = 0
        self._path, self._descriptor = spool.create()

    @property
    def data_size(self) -> int:
        """Bytes of its data set."""
        return self.size - len(self._head)

    def add(self, piece: bytes | memoryview) -> None:
        """Write the next bytes of the data set, all of them.

        Parameters
        ----------
        piece
            The bytes.

        Raises
        ------
        OSError
            If the disk does not take them.
        """
        parts = [piece] if self.size else [self._head, piece]
        left = sum(map(len, parts))
        self.size += left
        while left:
            done = os.writev(self._descriptor, parts)
            left -= done
            while left and done >= len(parts[0]):
                done -= len(parts.pop(0))
            if left:
                parts[0] = memoryview(parts[0])[done:]

    def sync(self) -> None:
        """Return when all of it is on disk."""
        os.fdatasync(self._descriptor)

    def name(self, final: Path) -> bool:
        """Move it to its final name; return False if another file has it.

        Parameters
        ----------
        final
            The name.

        Raises
        ------
        FileNotFoundError
            If the folder of the final name is not there, or somebody has removed the file.
        """
        try:
            rename_new(self._path, final)
        except FileExistsError:
            return False
        self._path = final
        return True

    def pieces(self) -> Iterator[bytes]:
        """Yield its data set, as it was written."""
        at = len(self._head)
        while piece := os.pread(self._descriptor, _PIECE, at):
            yield piece
            at += len(piece)

    def close(self) -> None:
        """Close it; without a final name it is removed."""
        if self._descriptor < 0:
            return
        os.close(self._descriptor)
        self._descriptor = -1
        if self._path.parent == self._spool.folder:
            with contextlib.suppress(OSError):  # swept at the next start
                self._path.unlink()


class SpooledDataSet:
    """A data set that is too large for memory, on the disk while it comes.

    It is told of no error before it has come whole: a sender hears nothing before it has sent everything.
    What is refused takes no space from then on.

    Parameters
    ----------
    spool
        Where files are written until they are whole.
    meta
        The file meta information.
    transfer_syntax
        UID of its transfer syntax.
    """

    def __init__(self, spool: Spool, meta: bytes, transfer_syntax: str) -> None:
        self._spool = spool
        self._header = HeaderReader(transfer_syntax)
        self._checked = 0
        self._refusal: StageError | None = None
        self._file: SpoolFile | None = None
        try:
            self._file = SpoolFile(spool, meta)
        except OSError as error:
            self._refusal = write_error(error)

    @property
    def file(self) -> SpoolFile:
        """The file that it is in.

        Raises
        ------
        StageError
            Why it is in none.
        """
        if self._refusal is not None or self._file is None:
            raise self._refusal or write_error(OSError())
        return self._file

    def write(self, piece: memoryview) -> None:
        """Add bytes.

        Parameters
        ----------
        piece
            The bytes.
        """
        if self._refusal is not None:
            return
        try:
            self._require_space(len(piece))
            self._header.feed(piece)
            self.file.add(piece)
        except StageError as error:
            self._refuse(error)
        except OSError as error:
            self._refuse(write_error(error))

    def header(self) -> InstanceHeader:
        """Return who the instance is.

        Raises
        ------
        StageError
            If it is refused, or has no usable UIDs.
        """
        if self._refusal is not None:
            raise self._refusal
        return self._header.header()

    def close(self) -> None:
        """Free the space, unless it has its final name."""
        if self._file is not None:
            self._file.close()

    def _require_space(self, more: int) -> None:
        size = self.file.data_size + more if self.file.size else more
        if size > self._spool.largest:
            raise DiskFullError(
                f"an instance has more than {self._spool.largest >> 20} MiB, the most that is taken "
                "(storage.largest-instance)"
            )
        if size > self._checked:
            require_space(self._spool.folder.parent, more, self._spool.minimum_free)
            self._checked = size + _CHECK_EVERY

    def _refuse(self, error: StageError) -> None:
        self._refusal = error
        self.close()
