"""Find the DICOM images of a folder, at any depth and of any name, among any other files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dicom_reader.enhanced import is_enhanced, split_frames
from dicom_reader.files import read_header
from dicom_reader.headers import Header, printable
from stages import InputError

logger = logging.getLogger(__name__)

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
_NAMED = 5


@dataclass(frozen=True)
class Found:
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

    headers: list[Header] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def find_headers(folder: Path) -> Found:
    """Read the header of every DICOM file of a folder, at any depth and of any name.

    Symbolic links are not followed: they may lead out of the folder, and what they lead to inside of it
    is found in its own place.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be read, or a DICOM file of it is damaged.
    """
    if not folder.is_dir():
        what = "is a file, a folder is expected" if folder.exists() else "does not exist"
        raise InputError(f"the input folder {folder} {what}")
    found = Found()
    for path, is_file in sorted(_entries(folder)):
        header = read_header(Path(path)) if is_file else None
        if header is None:
            found.others.append(printable(Path(path)))
        else:
            _refuse_nameless(header)
            found.headers.extend(split_frames(header) if is_enhanced(header) else [header])
    if found.others:
        names = ", ".join(found.others[:_NAMED]) + (", ..." if len(found.others) > _NAMED else "")
        logger.info("ignored %d file(s) that are no DICOM images, or links: %s", len(found.others), names)
    return found


def _refuse_nameless(header: Header) -> None:
    """Refuse an image that does not say what it is, since it may be a slice of what is looked for."""
    if header.text("Modality"):
        return
    if not header.text("SeriesInstanceUID"):
        raise header.refuse("Modality", "and series are missing; the file is damaged, send it again")
    if header.text("SOPClassUID") == CT_IMAGE or is_enhanced(header):
        raise header.refuse("Modality", "is missing in a CT image; send the file again")


def _entries(folder: Path) -> Iterator[tuple[str, bool]]:
    """Give the path of everything but folders, and whether it is an ordinary file."""
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
                f"cannot read the folder {printable(Path(parent))} of the input: {error.strerror}"
            ) from error
