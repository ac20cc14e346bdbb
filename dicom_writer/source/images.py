"""The original images of a mask, found by their UIDs.

References
----------
DICOM PS3.3 C.7.6.2.1.1, Image Position and Image Orientation.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom import config
from pydicom.dataset import Dataset, FileDataset

from dicom_files.dataset import open_dataset
from dicom_files.header import ROWS, FileHeader, read_file_header
from dicom_files.uids import is_uid
from dicom_writer.source.frames import frame_headers, image_key, is_multi_frame
from dicom_writer.source.positions import pixel_positions
from dicom_writer.source.values import fit_headers
from stages import InputError, Origin, Volume
from stages.runtime.logs import printable

logger = logging.getLogger(__name__)

_IMAGE_TYPE, _SOP_CLASS, _SOP_INSTANCE, _SERIES = 0x00080008, 0x00080016, 0x00080018, 0x0020000E
_TELLING = frozenset({_IMAGE_TYPE, _SOP_CLASS, _SOP_INSTANCE, _SERIES, ROWS})
_NEEDED = (
    "SOPClassUID",
    "SOPInstanceUID",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "Rows",
    "Columns",
)


def find_source(folder: Path, mask: Volume) -> list[Dataset]:
    """Return the headers of the images that a mask was drawn on, in the order of its slices.

    Parameters
    ----------
    folder
        Where the original files lie, at any depth, under any names.
    mask
        Its origin names the series and, in slice order, the instances. Where it names no instances,
        all images of the series are taken, ordered by position.

    Raises
    ------
    InputError
        If images are missing, lack an attribute, or contradict what the mask says of them.
    """
    origin = mask.origin
    if not is_uid(origin.series_instance_uid):
        raise InputError(
            f"the mask's series {origin.series_instance_uid[:80]!r} is no UID; name its files after one"
        )
    if not folder.is_dir():
        what = "is a file, a folder is expected" if folder.exists() else "does not exist"
        raise InputError(f"the source folder {printable(folder)} {what}")
    wanted = {s.sop_instance_uid for s in origin.slices}
    try:
        with config.disable_value_validation():  # what is odd and needed is refused by its name
            images = _images(folder, wanted, origin.series_instance_uid)
            found = [d for image in images for d in _slices_of(image)]
            fit_headers(found)
            _require_attributes(found)
            sources = _in_slice_order(found, origin) if wanted else _by_position(found, mask)
            _take_missing_uids(sources, origin)
    except NotImplementedError as error:
        raise InputError(f"a source image is damaged: {error}") from error
    return sources


def _images(folder: Path, wanted: set[str], series_instance_uid: str) -> Iterator[FileDataset]:
    """Yield the images that are wanted, or all of the series, without pixels; links are not followed."""
    for path in _files(folder):
        try:
            header = read_file_header(path, _TELLING)
            if header and _belongs(header, wanted, series_instance_uid):
                dataset = open_dataset(path)
                _take_meta_uids(dataset)
                yield dataset
        except InputError as error:  # not needed, or it will be missed by its UID
            logger.warning("skipped a file of the source that cannot be read: %s", error)


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder, followlinks=False):
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _belongs(header: FileHeader, wanted: set[str], series_instance_uid: str) -> bool:
    if wanted:
        return header.text(_SOP_INSTANCE) in wanted
    is_localizer = "LOCALIZER" in header.text(_IMAGE_TYPE).split("\\")
    return header.text(_SERIES) == series_instance_uid and not is_localizer


def _take_meta_uids(dataset: FileDataset) -> None:
    """Add SOP class and instance from the meta information where the data set has none."""
    if not dataset.get("SOPClassUID"):
        dataset.SOPClassUID = dataset.file_meta.get("MediaStorageSOPClassUID", "")
    if not dataset.get("SOPInstanceUID"):
        dataset.SOPInstanceUID = dataset.file_meta.get("MediaStorageSOPInstanceUID", "")


def _slices_of(image: Dataset) -> Sequence[Dataset]:
    return frame_headers(image) if is_multi_frame(image) else [image]


def _in_slice_order(found: Sequence[Dataset], origin: Origin) -> list[Dataset]:
    by_key = {image_key(d): d for d in found}
    keys = [(s.sop_instance_uid, s.frame or 0) for s in origin.slices]
    missing = [uid for uid, frame in keys if (uid, frame) not in by_key]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(origin.slices)} source images are not in the source folder, "
            f"the first of them {missing[0][:64]}"
        )
    return [by_key[key] for key in keys]


def _by_position(found: Sequence[Dataset], mask: Volume) -> list[Dataset]:
    if not found:
        raise InputError(
            f"no image of series {mask.origin.series_instance_uid} in the source folder, and the mask "
            "has no description (.json) that names the images"
        )
    unique = {image_key(d): d for d in found}
    along = mask.affine[:3, 0]
    origin = np.zeros((1, 2))
    return sorted(unique.values(), key=lambda d: float(pixel_positions(d, origin)[0] @ along))


def _require_attributes(found: Sequence[Dataset]) -> None:
    for dataset in found:
        for keyword in _NEEDED:
            try:
                value = dataset.get(keyword)
            except (TypeError, ValueError, NotImplementedError) as error:
                raise InputError(f"source image {dataset.SOPInstanceUID}: {keyword} is damaged") from error
            if value is None or value == "":
                raise InputError(f"source image {dataset.SOPInstanceUID}: {keyword} is missing")


def _take_missing_uids(sources: Sequence[Dataset], origin: Origin) -> None:
    """Add UIDs that the source lacks, those of the volume; raise where one contradicts."""
    each = [s.series_instance_uid for s in origin.slices] or [""] * len(sources)
    for dataset, own_series in zip(sources, each, strict=True):
        known = {
            "SeriesInstanceUID": own_series or origin.series_instance_uid,
            "StudyInstanceUID": origin.study_instance_uid,
            "FrameOfReferenceUID": origin.frame_of_reference_uid,
        }
        for keyword, uid in known.items():
            own = str(dataset.get(keyword) or "")
            if not (own or uid):
                raise InputError(f"source image {dataset.SOPInstanceUID}: {keyword} is missing")
            if own and uid and own != uid:
                raise InputError(
                    f"source image {dataset.SOPInstanceUID}: {keyword} is {own}, the mask says {uid[:64]}"
                )
            if not own:
                setattr(dataset, keyword, uid)
