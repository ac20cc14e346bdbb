"""Items that refer to instances: to the source images, and to other results."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_writer.source.frames import image_key


def reference_to(instance: Dataset) -> Dataset:
    """Return an item that refers to an instance.

    Parameters
    ----------
    instance
        Has *SOP Class UID* (0008,0016) and *SOP Instance UID* (0008,0018).
    """
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    return item


def image_reference(source: Dataset) -> Dataset:
    """Return an item that refers to the image of one slice, and to its frame where it has several.

    Parameters
    ----------
    source
        Header of the source image of a slice.
    """
    item = reference_to(source)
    _, frame = image_key(source)
    if frame:
        item.ReferencedFrameNumber = frame
    return item


def references_to(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return one item for each source image; several frames of one image give one item.

    Parameters
    ----------
    sources
        Header of the source image of each slice.
    """
    return list({str(source.SOPInstanceUID): reference_to(source) for source in sources}.values())


def by_series(sources: Sequence[Dataset]) -> dict[str, list[Dataset]]:
    """Return the source images of each series, by *Series Instance UID* (0020,000E); mostly there is one.

    Parameters
    ----------
    sources
        Header of the source image of each slice.
    """
    found: dict[str, list[Dataset]] = {}
    for source in sources:
        found.setdefault(str(source.SeriesInstanceUID), []).append(source)
    return found
