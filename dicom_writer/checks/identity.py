"""Whether a written result is of its source's patient and study, and has the warnings of the mask."""

from __future__ import annotations

from pydicom.dataset import Dataset

from dicom_writer.request.result_request import ResultRequest
from dicom_writer.source.attributes import IDENTITY, raw_value
from dicom_writer.wording import COMMENTS_LENGTH, warnings_text
from stages import OutputError

_REQUIRED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber", "Modality"),
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ContentDate", "ContentTime"),
)


def require_same_identity(dataset: Dataset, request: ResultRequest) -> None:
    """Check that a result is of the source's patient, study and frame of reference.

    Parameters
    ----------
    dataset
        A written result, read back.
    request
        What should have been written.

    Raises
    ------
    OutputError
        If it is not; the message names the attribute, never its value.
    """
    first = request.sources[0]
    for keyword in ("StudyInstanceUID", *IDENTITY):
        if raw_value(dataset, keyword) != raw_value(first, keyword):
            raise OutputError(f"{keyword} of the written result is not that of its source")
    if dataset.get("FrameOfReferenceUID", first.FrameOfReferenceUID) != first.FrameOfReferenceUID:
        raise OutputError("FrameOfReferenceUID of the written result is not that of its source")
    if str(dataset.SeriesInstanceUID) == str(first.SeriesInstanceUID):
        raise OutputError("the written result has the SeriesInstanceUID of its source")
    _require_attributes(dataset)
    _refuse_private(dataset)


def _require_attributes(dataset: Dataset) -> None:
    missing = [keyword for keyword in _REQUIRED if not dataset.get(keyword)]
    if missing:
        raise OutputError(f"{missing[0]} is missing in the written result")
    meta = getattr(dataset, "file_meta", Dataset())
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if meta.get(f"MediaStorage{keyword}") != dataset[keyword].value:
            raise OutputError(f"{keyword} of the written result is not that of its meta information")


def _refuse_private(dataset: Dataset) -> None:
    for tag in dataset.keys():  # noqa: SIM118
        if tag.is_private:
            raise OutputError(f"the written result holds a private attribute, {tag}")
        if dataset.get_item(tag).VR == "SQ":
            for item in dataset[tag].value:
                _refuse_private(item)


def require_comments(image: Dataset, request: ResultRequest) -> None:
    """Check that *Image Comments* (0020,4000) of an image are the warnings of the mask.

    Parameters
    ----------
    image
        A written image, read back.
    request
        What should have been written.

    Raises
    ------
    OutputError
        If they are not; the message says how many warnings there are, not what they say.
    """
    if str(image.get("ImageComments") or "") != warnings_text(request, COMMENTS_LENGTH):
        count = len(request.mask.origin.warnings)
        raise OutputError(f"ImageComments of the written result are not the {count} warnings of the mask")
