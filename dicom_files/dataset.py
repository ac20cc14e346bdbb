"""One file -> its whole data set by pydicom, within bounds and whatever its preamble and meta information.

References
----------
DICOM PS3.10 section 7, DICOM File Format.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import config, dcmread
from pydicom.dataset import FileDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import UID

from dicom_files.character_sets import decode_only_dicom_character_sets
from dicom_files.damage import ExcessError, parse_errors, too_large, unreadable
from dicom_files.deflate import inflated_head, is_deflated
from dicom_files.elements import FUNCTIONAL_GROUPS, MOST_OF_FRAMES, PIXEL_DATA, Data
from dicom_files.file_meta import beginning_of
from dicom_files.pydicom_warnings import warnings_by_kind
from dicom_files.uids import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from stages.errors import InputError, printable

MOST_PARSED = 10_000  # elements and items, where the rest is read by pydicom, which takes long for each
_META_AT_MOST = 1 << 12
_MAX_INFLATED = 1 << 30
_END = 1 << 32  # behind every tag

decode_only_dicom_character_sets()


@contextmanager
def lenient() -> Iterator[None]:
    """Run a block in which pydicom validates no value, and log its warnings by kind.

    What is odd and needed is refused by its name.
    """
    with config.disable_value_validation(), warnings_by_kind():
        yield


def open_dataset(path: Path, *, with_pixels: bool = False) -> FileDataset:
    """Read all of a file that is known to be DICOM; what its values are is not validated.

    Parameters
    ----------
    path
        The file.
    with_pixels
        Read *Pixel Data* (7FE0,0010) as well, and what follows it.

    Returns
    -------
    FileDataset
        Its *Transfer Syntax UID* (0002,0010) is there also where the file has none.

    Raises
    ------
    InputError
        If the file cannot be read, is damaged, or has more elements than a header has.
    """
    name = printable(path.name)
    try:
        with lenient(), path.open("rb") as file:
            deflated = is_deflated(file.read(_META_AT_MOST))
            source: Any = _inflated(file) if deflated else file
            is_measured = _is_measured(source, end=_END if with_pixels else PIXEL_DATA)
            dataset = parsed(source, stop_before_pixels=not with_pixels, is_measured=is_measured)
            if deflated or not dataset.file_meta.get("TransferSyntaxUID"):
                dataset.file_meta.TransferSyntaxUID = UID(
                    DeflatedExplicitVRLittleEndian if deflated else syntax_of(dataset)
                )
    except ExcessError as error:
        raise too_large(name, error) from error
    except zlib.error as error:
        raise InputError(f"{name} is damaged: it cannot be inflated") from error
    except OSError as error:
        raise unreadable(name, error) from error
    except parse_errors() as error:
        raise InputError(f"{name} is damaged: {type(error).__name__} in it") from error
    dataset.filename = str(path)
    return dataset


def parsed(
    file: BinaryIO, *, tags: Iterable[int] = (), stop_before_pixels: bool = True, is_measured: bool = False
) -> FileDataset:
    """Return what pydicom makes of a file, with or without preamble; it is left where pydicom ends.

    Parameters
    ----------
    file
        Positioned anywhere.
    tags
        All that is wanted; empty for everything.
    stop_before_pixels
        Whether to end before *Pixel Data* (7FE0,0010).
    is_measured
        Whether its elements have been counted; if not, they are while pydicom reads.

    Raises
    ------
    ExcessError
        If it has too many elements or items, or they are nested too deep.
    Exception
        Whatever pydicom raises on a damaged file; see `dicom_files.damage.parse_errors`.
    """
    file.seek(0)
    with _bounded(file, is_measured=is_measured) as source:
        return dcmread(
            source, stop_before_pixels=stop_before_pixels, specific_tags=sorted(tags) or None, force=True
        )


def parsed_values(
    data: bytes, *, implicit: bool, big: bool, end: int, wanted: frozenset[int]
) -> dict[int, bytes]:
    """Return the wanted values below a tag that pydicom finds in a data set without meta information.

    Parameters
    ----------
    data
        The data set, or its beginning.
    implicit, big
        Whether value representations are left out, and whether bytes are in big endian order.
    end
        The first tag that is not looked at.
    wanted
        Tags.

    Raises
    ------
    ExcessError, Exception
        As `parsed`.
    """
    with _bounded(BytesIO(data), is_measured=False) as source:
        dataset = read_dataset(
            source,
            implicit,
            not big,
            stop_when=lambda tag, vr, length: tag >= end,
            specific_tags=[BaseTag(tag) for tag in wanted],
        )
        found = {int(tag): dataset.get_item(tag).value for tag in dataset.keys()}  # noqa: SIM118
    return {tag: value for tag, value in found.items() if tag in wanted and isinstance(value, bytes)}


@contextmanager
def _bounded(file: BinaryIO, *, is_measured: bool) -> Iterator[BinaryIO]:
    """Yield a file that counts what pydicom reads of it, unless that is done; no value is validated."""
    counted = None if is_measured else _BoundedFile(file)
    try:
        with lenient():
            yield counted or file
    except RecursionError as error:
        raise ExcessError("sequences and items nested deeper than can be read") from error
    except Exception as error:
        if counted and counted.is_exceeded:
            raise ExcessError(f"more than {MOST_PARSED:,} elements and items of sequences") from error
        raise
    finally:
        if counted:
            position = counted.tell()
            counted.detach()
            file.seek(position)


def syntax_of(dataset: FileDataset) -> str:
    """Return the transfer syntax that pydicom found in a file that does not say.

    Parameters
    ----------
    dataset
        As pydicom has read it.
    """
    implicit, little = dataset.original_encoding
    return (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian) if little else ExplicitVRBigEndian


class _BoundedFile(BufferedReader):
    """A file that counts the elements and items read from it: each begins with 8 bytes."""

    def __init__(self, raw: Any) -> None:
        super().__init__(raw)
        self._left = MOST_PARSED
        self.is_exceeded = False

    @property
    def name(self) -> str:
        """The file's name; empty where it is in memory."""
        return str(getattr(self.raw, "name", ""))

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= size == 8
        if self._left < 0:
            self.is_exceeded = True
            raise ExcessError("too many elements")
        return super().read(size)


def _inflated(file: BinaryIO) -> BytesIO:
    data = inflated_head(file, _MAX_INFLATED)
    if len(data) == _MAX_INFLATED:
        raise ExcessError(f"{_MAX_INFLATED >> 30} GiB or more when it is inflated")
    return BytesIO(data)


def _is_measured(source: BytesIO | BinaryIO, *, end: int) -> bool:
    """Count the elements of a file below a tag, and return whether they could be counted."""
    if isinstance(source, BytesIO):
        return _count(source.getvalue(), end)
    with mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return _count(mapped, end)


def _count(data: Data, end: int) -> bool:
    try:
        beginning = beginning_of(data)
        elements = beginning.elements(data)
        position = elements.measure(beginning.start, end=FUNCTIONAL_GROUPS)
        elements.allow(MOST_OF_FRAMES)
        elements.measure(position, end=end)
    except ExcessError:
        raise
    except (ValueError, struct.error):  # odd, or cut off
        return False
    return True
