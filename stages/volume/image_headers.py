"""Where the voxels of another program's file lie, and that all are there, before SimpleITK reads them.

SimpleITK takes the missing voxels of a NIfTI file from whatever lies in memory, compares no checksum of a
compressed file, reads voxels from any path that a header names, and assumes a place where none is stated.

References
----------
NIfTI-1: https://nifti.nimh.nih.gov/nifti-1. NRRD: https://teem.sourceforge.net/nrrd/format.html. MetaImage:
https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stages.errors import GeometryError, InputError, printable
from stages.runtime import job_files

_LARGEST_HEADER = 1 << 20  # bytes
_CHUNK = 1 << 20  # bytes
_NIFTI_2 = (b"\x1c\x02\0\0", b"\0\0\x02\x1c")  # the size of its header, 540, in both orders
_NRRD_SPACES = (
    "left-posterior-superior",
    "right-anterior-superior",
    "left-anterior-superior",
    "lps",
    "ras",
    "las",
)
_NRRD_PLACE = ("space", "space directions", "space origin")
_META_PLACE = ("TransformMatrix", "Offset", "ElementSpacing")


@dataclass(frozen=True)
class StoredVoxels:
    """Where the voxels of an image file lie.

    Attributes
    ----------
    path
        The file that holds them: the image file itself or one beside it.
    offset
        Where they begin in it, bytes; of NIfTI the header before them counts as theirs.
    compression
        "gzip", "zlib" or "".
    """

    path: Path
    offset: int = 0
    compression: str = ""

    def chunks(self) -> Iterator[bytes]:
        """Yield what is there, unpacked, in pieces of a megabyte at most.

        Raises
        ------
        InputError
            If what is compressed ends too early or differs from its checksum.
        """
        with _opened(self.path) as file:
            file.seek(self.offset)
            try:
                yield from _unpacked(file, self.compression)
            except (OSError, EOFError, zlib.error) as error:
                raise InputError(f"its compressed voxels are damaged: {error}") from error


def _opened(path: Path) -> BinaryIO:
    file = job_files.open_to_read(path, follow=True)
    if file is None:
        raise InputError("there is no such file")
    return file


def _unpacked(file: BinaryIO, compression: str) -> Iterator[bytes]:
    if compression != "zlib":
        unpacked = gzip.GzipFile(fileobj=file) if compression else file
        yield from iter(lambda: unpacked.read(_CHUNK), b"")
        return
    inflate = zlib.decompressobj()
    while not inflate.eof:
        packed = inflate.unconsumed_tail or file.read(_CHUNK)
        if not packed:
            raise EOFError("they end too early")
        yield inflate.decompress(packed, _CHUNK)


def voxels_of(path: Path) -> StoredVoxels:
    """Return where the voxels of a NIfTI, NRRD or MetaImage file lie.

    Parameters
    ----------
    path
        The file, or its detached header.

    Raises
    ------
    InputError
        If there is no such file, its header has no place in the patient or names voxels outside of the
        folder or in several files, or it is of a kind that SimpleITK does not read.
    """
    if path.name.endswith((".nii", ".nii.gz")):
        return _of_nifti(path)
    with _opened(path) as file:
        header = file.read(_LARGEST_HEADER)
    return _of_nrrd(path, header) if path.suffix in (".nrrd", ".nhdr") else _of_metaimage(path, header)


def _of_nifti(path: Path) -> StoredVoxels:
    stored = StoredVoxels(path, compression="gzip" if path.suffix == ".gz" else "")
    with _opened(path) as file:
        try:
            start = gzip.GzipFile(fileobj=file).read(4) if stored.compression else file.read(4)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"it is compressed and damaged: {error}") from error
    if start in _NIFTI_2:
        raise InputError("it is NIfTI-2, which SimpleITK does not read; save it as NIfTI-1")
    return stored


def _of_nrrd(path: Path, content: bytes) -> StoredVoxels:
    header = re.match(rb"NRRD000.*?(\r?\n\r?\n|\Z)", content, re.DOTALL)
    if header is None:
        raise InputError("its first line is not that of a NRRD file")
    lines = (line.partition(":") for line in header[0].decode("latin-1").splitlines() if line[:1] != "#")
    fields = {name.strip().lower(): value.strip() for name, colon, value in lines if colon}
    missing = [name for name in _NRRD_PLACE if name not in fields]
    if missing or fields["space"].lower() not in _NRRD_SPACES or "none" in fields["space directions"]:
        raise GeometryError(
            f"{printable(path.name)}: its header does not say where it lies in the patient ("
            + ", ".join(f"{name}: {fields.get(name, 'missing')}" for name in _NRRD_PLACE)
            + ")"
        )
    encoding = fields.get("encoding", "").lower()
    if encoding not in ("raw", "gz", "gzip"):
        raise InputError(f"its voxels are written as {encoding!r}; write them raw or compressed by gzip")
    elsewhere = fields.get("data file", fields.get("datafile"))
    voxels, offset = (path, header.end()) if elsewhere is None else (_beside(path, elsewhere), 0)
    return StoredVoxels(voxels, offset, "" if encoding == "raw" else "gzip")


def _of_metaimage(path: Path, content: bytes) -> StoredVoxels:
    header = re.match(rb"(?s).*?ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*)\r?\n?", content)
    if header is None:
        raise InputError(
            "it is no MetaImage, or its header does not say where its voxels are (ElementDataFile)"
        )
    text = header[0].decode("utf-8", errors="surrogateescape")
    missing = [name for name in _META_PLACE if not re.search(rf"(?m)^{name}\s*[=:]", text)]
    if missing:
        raise GeometryError(
            f"{printable(path.name)}: its header does not say where it lies in the patient "
            f"({', '.join(missing)} missing)"
        )
    compression = "zlib" if re.search(r"(?mi)^CompressedData\s*[=:]\s*True", text) else ""
    elsewhere = header[1].decode("utf-8", errors="surrogateescape").strip()
    if elsewhere.upper() == "LOCAL":
        return StoredVoxels(path, header.end(), compression)
    return StoredVoxels(_beside(path, elsewhere), 0, compression)


def _beside(path: Path, name: str) -> Path:
    """Return the file beside another that its header names; a header may ask for any path, and for many."""
    beside = path.parent / Path(name).name
    if beside.name != name or "%" in name or not beside.is_file():
        raise InputError(f"its voxels are expected in it or in one file beside it, its header says {name!r}")
    return beside
