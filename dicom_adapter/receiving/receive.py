"""An instance as it comes becomes a synced file under its final name; nothing is acknowledged before.

::

    incoming/<random> --fdatasync, link--> studies/<AE>/<study>/<SOPInstanceUID>.dcm --fsync of the folder-->

The link never replaces a file. Where one is, its data set is compared: the same is kept once, another one
is kept beside it as ``<SOPInstanceUID>~<hash>.dcm``, flagged, and never a job's input.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.uid import UID

from dicom_adapter.books.records import Received
from dicom_adapter.places import SUFFIX, AdapterPlaces, ae_title_of
from dicom_adapter.receiving.claims import Claims
from dicom_adapter.receiving.headers import Header, read_header
from dicom_adapter.receiving.room import FullError, Overflow, cannot_keep, require_room
from dicom_adapter.receiving.shared_sync import SharedSync
from stages.errors import InputError, OutputError
from stages.locks import sync_folder

_PREAMBLE = bytes(128) + b"DICM"
_PIECE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What became of an instance.

    Attributes
    ----------
    is_new
        False for one that was there already, byte by byte.
    """

    received: Received
    is_new: bool


class Receiver:
    """Keeps instances.

    Parameters
    ----------
    minimum_free
        Bytes of the disk that must stay free.
    claims
        A study is claimed once for each instance that is kept; who writes it into the books drops the claim.
    trouble
        Returns why nothing can be written down of an instance now; "" if it can.
    """

    def __init__(
        self,
        places: AdapterPlaces,
        *,
        minimum_free: int,
        claims: Claims,
        trouble: Callable[[], str] = lambda: "",
    ) -> None:
        self._trouble = trouble
        self._places = places
        self._claims = claims
        self._minimum_free = minimum_free
        self._folders = SharedSync()

    def keep(self, ae_title: str, header: Header, meta: bytes, data: bytes | memoryview) -> Kept:
        """Write an instance and return when it is on disk under its final name.

        Parameters
        ----------
        meta
            Its file meta information, as a file has it behind the preamble.
        data
            Its data set as it came.

        Raises
        ------
        FullError
            If the disk has no room, or the database cannot be written.
        OutputError
            If it cannot be written for another reason.
        """
        if why := self._trouble():
            raise FullError(why)
        require_room(self._places.root, len(data), self._minimum_free)
        written = self._places.incoming / uuid.uuid4().hex
        try:
            _write(written, meta, data)
            return self._claim(written, ae_title, header, data)
        except OSError as error:
            raise cannot_keep(error) from error
        finally:
            written.unlink(missing_ok=True)

    def overflow(self) -> Overflow:
        """Return where a data set goes while it comes if it is too large for memory.

        Raises
        ------
        OutputError
            If the disk does not take it.
        """
        return Overflow(self._places.incoming, self._minimum_free)

    def forget(self, folder: Path) -> None:
        """Forget a study's folder that was removed."""
        self._folders.forget(folder)

    def _claim(self, written: Path, ae_title: str, header: Header, data: bytes | memoryview) -> Kept:
        self._claims.take((ae_title, header.study_uid))
        try:
            return self._name(written, ae_title, header, data)
        except BaseException:
            self._claims.drop((ae_title, header.study_uid))
            raise

    def _name(self, written: Path, ae_title: str, header: Header, data: bytes | memoryview) -> Kept:
        folder = self._places.study(ae_title, header.study_uid)
        final = folder / f"{header.sop_instance_uid}{SUFFIX}"
        is_new, conflict = self._link(written, final), False
        if not is_new and not _same_data(final, data):
            final = folder / f"{header.sop_instance_uid}~{hashlib.sha256(data).hexdigest()[:16]}{SUFFIX}"
            is_new, conflict = self._link(written, final), True
        self._folders.sync(folder)
        return Kept(received=_received(ae_title, header, final, conflict=conflict), is_new=is_new)

    def _link(self, written: Path, final: Path) -> bool:
        while True:
            try:
                os.link(written, final)
                return True
            except FileExistsError:
                return False
            except FileNotFoundError:  # the study is new, or was removed just now
                _make_synced(final.parent, self._places.root)


def sweep(places: AdapterPlaces) -> int:
    """Make the folders, and remove files that were half received; return how many there were.

    Raises
    ------
    OutputError
        If the folders cannot be made.
    """
    try:
        for folder in (places.incoming, places.studies):
            _make_synced(folder, places.root.parent)
        half = list(places.incoming.iterdir())
        for path in half:
            path.unlink()
    except OSError as error:
        raise OutputError(f"{error.filename or places.root}: {error.strerror}") from error
    return len(half)


def kept_files(places: AdapterPlaces) -> Iterator[Path]:
    """Give every file that was received whole."""
    yield from places.studies.glob(f"*/*/*{SUFFIX}")


def taken_up(path: Path) -> Received:
    """Return what a received file holds.

    Raises
    ------
    InputError
        If it is none of ours.
    """
    try:
        meta = read_file_meta_info(path)
        begin = len(_PREAMBLE) + 12 + int(meta.FileMetaInformationGroupLength)
        with _mapped(path) as whole, whole[begin:] as data:
            header = read_header(data, UID(meta.TransferSyntaxUID))
    except (OSError, AttributeError, InvalidDicomError, ValueError) as error:
        raise InputError(f"{path} is no received instance: {error}") from error
    return _received(ae_title_of(path.parent.parent.name), header, path, conflict="~" in path.name)


def _received(ae_title: str, header: Header, path: Path, *, conflict: bool) -> Received:
    return Received(
        ae_title=ae_title,
        study_uid=header.study_uid,
        sop_instance_uid=header.sop_instance_uid,
        sop_class_uid=header.sop_class_uid,
        path=path,
        size=path.stat().st_size,
        modality=header.modality,
        series_description=header.series_description,
        conflict=conflict,
    )


def _write(path: Path, meta: bytes, data: bytes | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with open(descriptor, "wb", buffering=0) as file:
        whole = memoryview(_PREAMBLE + meta)
        for part in (whole, memoryview(data)):
            while part:
                part = part[file.write(part) :]
        os.fdatasync(descriptor)


def _same_data(path: Path, data: bytes | memoryview) -> bool:
    """Tell whether a file ends with a data set; its file meta information may be another sender's."""
    with path.open("rb") as file:
        file.seek(len(_PREAMBLE))
        head = file.read(12)
        begin = len(_PREAMBLE) + 12 + int.from_bytes(head[8:12], "little")
        if file.seek(0, os.SEEK_END) - begin != len(data):
            return False
        file.seek(begin)
        pieces = (bytes(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE))
        return all(file.read(len(piece)) == piece for piece in pieces)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    """Give a file's content without reading more of it than is looked at."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
    ):
        yield whole


def _make_synced(folder: Path, above: Path) -> None:
    """Make a folder, and sync what its name stands in."""
    folder.mkdir(parents=True, exist_ok=True)
    for parent in (folder, *folder.parents):
        if parent == above:
            break
        sync_folder(parent.parent)
