"""The DICOM files that a job has made: what is delivered."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info

from dicom_files.damage import parse_errors
from dicom_files.dataset import lenient
from dicom_files.file_meta import PREAMBLE
from stages.errors import OutputError

_TIMES = ("DA", "TM", "DT")


@dataclass(frozen=True, kw_only=True)
class ResultFile:
    """A DICOM file that is to be sent.

    Attributes
    ----------
    path
        Where it lies.
    sop_class_uid, sop_instance_uid, transfer_syntax_uid
        As its file meta information has them.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str


def find_results(folder: Path) -> list[ResultFile]:
    """Return the DICOM files below a folder, by path; what is not DICOM, such as a volume, is left out.

    Raises
    ------
    OutputError
        If a DICOM file has no usable file meta information, or two have the same SOPInstanceUID.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    found = [read_result(path) for path in paths if _is_dicom(path)]
    seen: dict[str, ResultFile] = {}
    for each in found:
        if other := seen.get(each.sop_instance_uid):
            raise OutputError(
                f"{other.path.name} and {each.path.name} have the same SOPInstanceUID; a destination would "
                f"keep one of them"
            )
        seen[each.sop_instance_uid] = each
    return found


def read_result(path: Path) -> ResultFile:
    """Return a DICOM file with what is needed to send it.

    Raises
    ------
    OutputError
        If it cannot be read, or its file meta information is incomplete.
    """
    try:
        if path.exists() and not path.is_file():  # opening a FIFO would wait for ever
            raise OutputError(f"{path} cannot be sent: it is no file")
        meta = read_file_meta_info(path)
        return ResultFile(
            path=path,
            sop_class_uid=str(meta.MediaStorageSOPClassUID),
            sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
            transfer_syntax_uid=str(meta.TransferSyntaxUID),
        )
    except OutputError:
        raise
    except parse_errors() as error:
        raise OutputError(f"{path} cannot be sent: {error}") from error


def content_of(path: Path) -> str:
    """Return a hash of a DICOM file's elements, dates and times left out: SHA-256, hexadecimal.

    Two results of equal content have the same hash whenever they were made. A file that cannot be read
    through has none: "", which equals nothing.
    """
    digest = hashlib.sha256()
    try:
        with lenient():
            dataset = dcmread(path)
            _add(digest, dataset)
    except parse_errors():
        return ""
    return digest.hexdigest() if "SOPInstanceUID" in dataset else ""


def _add(digest: hashlib._Hash, dataset: Dataset) -> None:
    for tag in sorted(dataset.keys()):
        item = dataset.get_item(tag)
        if (item.VR or _known_vr(tag)) in _TIMES:
            continue
        digest.update(b"%08x" % tag)
        if isinstance(item, RawDataElement):
            digest.update(item.value or b"")
        elif item.VR == "SQ":
            for inner in item.value:
                digest.update(b"item")
                _add(digest, inner)
        else:
            digest.update(repr(item.value).encode())


def _known_vr(tag: int) -> str:
    return dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(PREAMBLE))[-4:] == PREAMBLE[-4:]
