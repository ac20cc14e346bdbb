"""One file -> its header: the attributes that the reader needs, and where its pixels lie."""

from __future__ import annotations

from pathlib import Path

from dicom_files.header import read_file_header
from dicom_reader.files.headers import ATTRIBUTES, Header

_WANTED = frozenset(tag for tag, _ in ATTRIBUTES.values())


def read_header(path: Path) -> Header | None:
    """Read the header of a file, without its pixels.

    Returns
    -------
    Header or None
        None when the file is not DICOM.

    Raises
    ------
    InputError
        If the file cannot be read, or is DICOM and damaged.
    """
    found = read_file_header(path, _WANTED)
    if found is None:
        return None
    return Header(
        path,
        found.values,
        found.transfer_syntax,
        found.pixel_offset,
        found.pixel_length,
        found.instance_from_meta,
    )
