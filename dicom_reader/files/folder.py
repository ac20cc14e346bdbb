"""Find the DICOM images of a folder, at any depth and of any name, among any other files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dicom_files.pydicom_warnings import warnings_by_kind
from dicom_files.uids import NON_PATIENT_STORAGE, CTImageStorage
from dicom_reader.files.enhanced import is_enhanced, split_frames
from dicom_reader.files.headers import ImageHeader, read_header
from stages import InputError
from stages.runtime.logs import printable

logger = logging.getLogger(__name__)

_NAMED = 5
_LINK = "they are symbolic links that lead out of it, and are not followed; put the files themselves there"
_EMPTY = "they are empty; if they should be images, send them again"
_NO_HEADER = (
    "they are named or begin as DICOM files do, and have no header; if they should be images, send them again"
)
_ARCHIVE = "they are archives, which are not opened; if images are in them, unpack them there"
_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_ARCHIVES = (b"PK\3\4", b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\7")
_ARCHIVE_SUFFIXES = (".tar", ".tgz", ".tar.gz", ".tar.xz", ".tar.bz2", ".tar.zst", ".dcm.gz")
_NO_ARCHIVES = (".docx", ".xlsx", ".pptx", ".odt", ".ods", ".odp", ".npz", ".jar")  # in zip's format
_BEGINNING = 512  # bytes


@dataclass(frozen=True)
class FolderScan:
    """What a folder holds.

    Attributes
    ----------
    headers
        The DICOM images that belong to a series, in the order of their paths; each frame of an enhanced
        image is one.
    others
        Names of the other files.
    left_out
        How many files that may be images were not read, by the reason.
    """

    headers: list[ImageHeader] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


@warnings_by_kind()
def scan_folder(folder: Path) -> FolderScan:
    """Read the header of every DICOM file of a folder, at any depth and of any name.

    Symbolic links are not followed: what they lead to inside of the folder is found in its own place, and
    those that lead out of it are left out, with a warning, as are empty files, archives, and what is named
    or begins as a DICOM file and is none.

    Parameters
    ----------
    folder
        Where the files lie, at any depth.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be read, or a DICOM file of it is damaged.
    """
    if not folder.is_dir():
        what = "is a file, a folder is expected" if folder.exists() else "does not exist"
        raise InputError(f"the input folder {printable(folder)} {what}")
    found = FolderScan()
    root = os.path.realpath(folder)
    for path, is_file in sorted(_entries(folder)):
        header = read_header(Path(path)) if is_file else None
        if header is None:
            found.others.append(printable(Path(path).name))
            if why := _why_lost(path, root):
                found.left_out[why] += 1
        else:
            _refuse_nameless(header)
            found.headers.extend(split_frames(header) if is_enhanced(header) else [header])
    if found.others:
        names = ", ".join(found.others[:_NAMED]) + (", ..." if len(found.others) > _NAMED else "")
        logger.info("ignored %d file(s) that are no DICOM images, or links: %s", len(found.others), names)
    for why, count in sorted(found.left_out.items()):
        logger.warning("%d file(s) of the input were left out: %s", count, why)
    return found


def _why_lost(path: str, root: str) -> str | None:
    """Return why something that is not read may be an image, or lead to one; None where it may not."""
    if os.path.islink(path):
        target = os.path.realpath(path)
        is_found = os.path.exists(target) and os.path.commonpath([root, target]) == root
        return None if is_found else _LINK
    if not os.path.isfile(path) or os.path.basename(path).startswith("."):
        return None
    with open(path, "rb") as file:
        beginning = file.read(_BEGINNING)
    if not beginning:
        return _EMPTY
    name = os.path.basename(path).lower()
    if beginning.startswith(_ARCHIVES) or name.endswith(_ARCHIVE_SUFFIXES):
        return None if name.endswith(_NO_ARCHIVES) else _ARCHIVE
    return _NO_HEADER if not any(beginning) or name.endswith(_SUFFIXES) else None


def _refuse_nameless(header: ImageHeader) -> None:
    """Refuse an image that does not say what it is, since it may be a slice of what is looked for."""
    if header.text("Modality") or header.text("SOPClassUID").startswith(NON_PATIENT_STORAGE):
        return
    if not header.text("SeriesInstanceUID"):
        raise header.refuse("Modality", "and series are missing; the file is damaged, send it again")
    if header.text("SOPClassUID") == CTImageStorage or is_enhanced(header):
        raise header.refuse("Modality", "is missing in a CT image; send the file again")


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield the path of everything but folders, and whether it is an ordinary file."""
    folders = [os.fspath(folder)]
    while folders:
        parent = folders.pop()
        try:
            with os.scandir(parent) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        yield entry.path, entry.is_file(follow_symlinks=False)
        except OSError as error:
            raise InputError(
                f"cannot read the folder {printable(Path(parent).name)} of the input: {error.strerror}"
            ) from error
