"""Data sets of pydicom as bytes, little endian, and files of them with a tail of encoded elements.

What comes by the thousand is encoded by `dicom_files.encoding`; pydicom encodes the rest, which comes first.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from pydicom import __version__ as pydicom_version
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_data_element
from pydicom.uid import PYDICOM_IMPLEMENTATION_UID

from dicom_files.deflate import deflated
from dicom_files.encoding import element, implicit_element, item
from dicom_files.file_meta import PREAMBLE, encoded_meta


def save(dataset: FileDataset, path: Path, tail: Iterable[bytes] = ()) -> None:
    """Write a data set, and behind it encoded elements whose tags are higher than all of its own.

    Parameters
    ----------
    dataset
        Its meta information names the transfer syntax: explicit VR little endian, deflated or not.
    path
        Where to.
    tail
        Bytes that are written as they come, so that the pixels need not be in memory at once.
    """
    with open(path, "wb") as file:
        file.write(file_head(dataset.file_meta))
        parts = itertools.chain([encoded(dataset)], tail)
        is_deflated = dataset.file_meta.TransferSyntaxUID.is_deflated
        for part in deflated(parts) if is_deflated else parts:
            file.write(part)


def encoded(dataset: Dataset, *, implicit: bool = False) -> bytes:
    """Return a data set as bytes, little endian; what was never decoded stays byte for byte as it is.

    Parameters
    ----------
    dataset
        Of pydicom.
    implicit
        Whether value representations are left out.
    """
    elements = elements_of(dataset, implicit=implicit)
    return b"".join(elements[tag] for tag in sorted(elements))


def elements_of(
    dataset: Dataset, *, implicit: bool = False, encodings: tuple[str, ...] = ()
) -> dict[int, bytes]:
    """Return each element of a data set encoded, by its tag, to be joined in the order of tags.

    Parameters
    ----------
    dataset
        Of pydicom.
    implicit
        Whether value representations are left out.
    encodings
        Of the data set around it, which hold where it names no character set itself.
    """
    if dataset.get("SpecificCharacterSet"):
        encodings = encodings_of(dataset)
    return {
        int(tag): _encoded(dataset.get_item(tag), implicit, encodings or (default_encoding,))
        for tag in dataset.keys()  # noqa: SIM118
    }


def encodings_of(dataset: Dataset) -> tuple[str, ...]:
    """Return the encodings that a data set names, Python's; the default where it names none that exists.

    Parameters
    ----------
    dataset
        Has a *Specific Character Set* (0008,0005) or none.
    """
    stated = dataset.get("SpecificCharacterSet") or "ISO_IR 6"
    return _encodings((stated,) if isinstance(stated, str) else tuple(stated))


@lru_cache
def _encodings(stated: tuple[str, ...]) -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return tuple(convert_encodings(list(stated)))


def _encoded(one: DataElement | RawDataElement, implicit: bool, encodings: tuple[str, ...]) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    if one.VR != "SQ" or isinstance(one, RawDataElement):
        write_data_element(buffer, one, list(encodings))
        return buffer.getvalue()
    items = b"".join(
        item(b"".join(inner[tag] for tag in sorted(inner)))
        for inner in (elements_of(x, implicit=implicit, encodings=encodings) for x in one.value or ())
    )
    return implicit_element(one.tag, items) if implicit else element(one.tag, "SQ", items)


def file_head(meta: FileMetaDataset, sop_instance_uid: str = "") -> bytes:
    """Return preamble and meta information of a file.

    Parameters
    ----------
    meta
        Names SOP class, instance and transfer syntax.
    sop_instance_uid
        Instead of that of ``meta``, where files differ in their instance only.
    """
    return PREAMBLE + encoded_meta(
        sop_class_uid=meta.MediaStorageSOPClassUID,
        sop_instance_uid=sop_instance_uid or meta.MediaStorageSOPInstanceUID,
        transfer_syntax=meta.TransferSyntaxUID,
        implementation_class_uid=PYDICOM_IMPLEMENTATION_UID,
        implementation_version=f"PYDICOM {pydicom_version}",
    )
