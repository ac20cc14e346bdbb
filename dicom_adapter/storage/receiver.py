"""An instance as it comes becomes a synced file under its final name; nothing is acknowledged before.

::

    incoming/<random> --fdatasync, name--> studies/<AE>/<study>/<SOPInstanceUID>.dcm --fsync of the folder-->

The name never replaces a file. Where one is, its data set is compared: the same is kept once, another one
is kept beside it as ``<SOPInstanceUID>~<hash>.dcm``, flagged, and never a job's input.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import RawIOBase
from pathlib import Path

from dicom_adapter.database.records import ReceivedInstance
from dicom_adapter.observability.pseudonym import study_hash
from dicom_adapter.storage.disk_space import DiskFullError, require_space, write_error
from dicom_adapter.storage.folders import FolderSync, make_folder
from dicom_adapter.storage.instance_header import HeaderReader, InstanceHeader
from dicom_adapter.storage.paths import SUFFIX, AdapterPaths, ae_title_of
from dicom_adapter.storage.spool import Spool, SpooledDataSet, SpoolFile
from dicom_adapter.storage.study_locks import StudyLocks
from dicom_files.elements import Elements
from dicom_files.file_meta import END_OF_META, PREAMBLE
from stages.errors import InputError, OutputError, StageError

_TRANSFER_SYNTAX = 0x00020010
_HEADER_PIECE = 1 << 16
_STUDIES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class KeptInstance:
    """What became of an instance.

    Attributes
    ----------
    received
        The instance.
    is_new
        False for one that was there already, byte by byte.
    """

    received: ReceivedInstance
    is_new: bool


class InstanceReceiver:
    """Keeps instances.

    Parameters
    ----------
    paths
        The folders of the storage.
    minimum_free
        Bytes of the disk that must stay free.
    study_locks
        A study is locked once for each instance that is kept; who writes it into the database releases it.
    trouble
        Returns why nothing can be written down of an instance now; "" if it can.
    largest
        Bytes of the largest data set that is taken.
    permissions
        Of the files; folders may be entered by whom may read.
    """

    def __init__(
        self,
        paths: AdapterPaths,
        *,
        minimum_free: int,
        study_locks: StudyLocks,
        trouble: Callable[[], str] = lambda: "",
        largest: int = 1 << 32,
        permissions: int = 0o640,
    ) -> None:
        self._trouble = trouble
        self._paths = paths
        self._study_locks = study_locks
        self._folder_mode = folder_mode(permissions)
        self._folders = FolderSync()
        self._folder_of = lru_cache(_STUDIES_AT_ONCE)(paths.study)
        self._spool = Spool(
            paths.incoming,
            file_mode=permissions,
            folder_mode=self._folder_mode,
            minimum_free=minimum_free,
            largest=largest,
        )

    def spool(self, meta: bytes, transfer_syntax: str) -> SpooledDataSet:
        """Return where a data set goes while it comes if it is too large for memory.

        Parameters
        ----------
        meta
            Its file meta information, as a file has it behind the preamble.
        transfer_syntax
            UID of its transfer syntax.
        """
        return SpooledDataSet(self._spool, meta, transfer_syntax)

    def keep(
        self, ae_title: str, header: InstanceHeader, meta: bytes, data: bytes | memoryview | SpooledDataSet
    ) -> KeptInstance:
        """Write an instance and return when it is on disk under its final name.

        Parameters
        ----------
        ae_title, header
            The AE title that it came under and who the instance is.
        meta
            Its file meta information, as a file has it behind the preamble.
        data
            Its data set as it came; where it was spooled its meta information is before it already.

        Raises
        ------
        DiskFullError
            If the disk has no space, or the database cannot be written.
        OutputError
            If it cannot be written for another reason.
        """
        if why := self._trouble():
            raise DiskFullError(why)
        try:
            if isinstance(data, SpooledDataSet):
                return self._lock_and_name(data.file, ae_title, header)
            require_space(self._paths.root, len(data), self._spool.minimum_free)
            with contextlib.closing(SpoolFile(self._spool, meta)) as file:
                file.add(data)
                return self._lock_and_name(file, ae_title, header)
        except StageError:
            raise
        except OSError as error:
            raise write_error(error) from error

    def forget(self, folder: Path) -> None:
        """Forget a study's folder that was removed."""
        self._folders.forget(folder)

    def _lock_and_name(self, file: SpoolFile, ae_title: str, header: InstanceHeader) -> KeptInstance:
        file.sync()
        self._study_locks.acquire((ae_title, header.study_uid))
        try:
            return self._name(file, ae_title, header)
        except BaseException:
            self._study_locks.release((ae_title, header.study_uid))
            raise

    def _name(self, file: SpoolFile, ae_title: str, header: InstanceHeader) -> KeptInstance:
        folder = self._folder_of(ae_title, header.study_uid)
        final = folder / f"{header.sop_instance_uid}{SUFFIX}"
        is_new, conflict = self._is_named(file, final), False
        if not is_new and not _same_data(final, file):
            final = folder / f"{header.sop_instance_uid}~{_digest(file)[:16]}{SUFFIX}"
            is_new, conflict = self._is_named(file, final), True
        self._folders.sync(folder)
        size = file.size if is_new else final.stat().st_size
        return KeptInstance(
            received=_received(ae_title, header, final, size=size, conflict=conflict), is_new=is_new
        )

    def _is_named(self, file: SpoolFile, final: Path) -> bool:
        """Move a file to its final name; return False if another has it."""
        try:
            return file.name(final)
        except FileNotFoundError:  # the study is new, or somebody has removed its folder, or this file
            make_folder(final.parent, self._paths.root.parent, self._folder_mode)
            return file.name(final)


def folder_mode(permissions: int) -> int:
    """Return the permissions of a folder whose files have these: who may read them may enter it.

    Parameters
    ----------
    permissions
        Those of the files.
    """
    return permissions | (permissions & 0o444) >> 2


def sweep(paths: AdapterPaths, *, permissions: int = 0o640) -> int:
    """Make the folders, and remove files that were half received; return how many there were.

    Parameters
    ----------
    paths
        The folders of the storage.
    permissions
        Of the files that will come; the folder that all lies in has those of `folder_mode` from now on.

    Raises
    ------
    OutputError
        If the folders cannot be made.
    """
    try:
        for folder in (paths.incoming, paths.studies):
            make_folder(folder, paths.root.parent, folder_mode(permissions))
        with contextlib.suppress(PermissionError):  # somebody else's, who decides
            paths.root.chmod(folder_mode(permissions))
        half = [path for path in paths.incoming.iterdir() if path.is_symlink() or not path.is_dir()]
        for path in half:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{error.filename or paths.root}: {error.strerror}") from error
    return len(half)


def received_files(paths: AdapterPaths) -> Iterator[Path]:
    """Yield every file that was received whole."""
    yield from paths.studies.glob(f"*/*/*{SUFFIX}")


def read_received(path: Path) -> ReceivedInstance:
    """Return what a received file holds.

    Raises
    ------
    InputError
        If it is none of ours.
    """
    what = f"a file of study {study_hash(path.parent.name)} is no received instance"
    if path.exists() and not path.is_file():
        raise InputError(f"{what}: it is no file")  # opening a FIFO would wait for ever
    try:
        with path.open("rb", buffering=0) as file:
            header = _header_of(file, _transfer_syntax(file))
            size = os.fstat(file.fileno()).st_size
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise InputError(f"{what}: {type(error).__name__}") from error
    title = ae_title_of(path.parent.parent.name)
    return _received(title, header, path, size=size, conflict="~" in path.name)


def _transfer_syntax(file: RawIOBase) -> str:
    """Return the transfer syntax that a file of ours names; it is left where its data set begins."""
    begin = len(PREAMBLE) + 12
    head = file.read(begin) or b""
    meta = file.read(int.from_bytes(head[-4:], "little")) or b""
    found = Elements(meta, implicit=False).values(0, end=END_OF_META, wanted=frozenset({_TRANSFER_SYNTAX}))
    return found[0][_TRANSFER_SYNTAX].decode("ascii").rstrip("\0 ")


def _header_of(file: RawIOBase, transfer_syntax: str) -> InstanceHeader:
    """Read who an instance is from a file, positioned at its data set; what nobody wants is not read."""
    reader = HeaderReader(transfer_syntax)
    while not reader.is_done and (piece := file.read(_HEADER_PIECE)):
        reader.feed(piece)
        if ahead := reader.ahead:
            file.seek(ahead, os.SEEK_CUR)
            reader.passed(ahead)
    return reader.header()


def _received(
    ae_title: str, header: InstanceHeader, path: Path, *, size: int, conflict: bool
) -> ReceivedInstance:
    return ReceivedInstance(
        ae_title=ae_title,
        study_uid=header.study_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        path=path,
        size=size,
        modality=header.modality,
        series_description=header.series_description,
        conflict=conflict,
    )


def _digest(file: SpoolFile) -> str:
    digest = hashlib.sha256()
    for piece in file.pieces():
        digest.update(piece)
    return digest.hexdigest()


def _same_data(path: Path, spooled: SpoolFile) -> bool:
    """Return whether a file ends with a data set; its file meta information may be another sender's."""
    with path.open("rb") as file:
        file.seek(len(PREAMBLE))
        head = file.read(12)
        begin = len(PREAMBLE) + 12 + int.from_bytes(head[8:12], "little")
        if file.seek(0, os.SEEK_END) - begin != spooled.data_size:
            return False
        file.seek(begin)
        return all(file.read(len(piece)) == piece for piece in spooled.pieces())
