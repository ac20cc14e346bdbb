"""Whether a written result refers to every image of its source, each in its series."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from pydicom.dataset import Dataset

from dicom_writer.request.result_request import ResultRequest
from stages import OutputError


def referenced_instances(dataset: Dataset, request: ResultRequest) -> set[str]:
    """Return the source images that *Referenced Series Sequence* (0008,1115) names, each with its series.

    Parameters
    ----------
    dataset
        A written result, read back.
    request
        What should have been written.
    """
    return known_sources(
        (
            (str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
            for series in dataset.ReferencedSeriesSequence
            for item in series.ReferencedInstanceSequence
        ),
        request,
    )


def known_sources(named: Iterable[tuple[str, str]], request: ResultRequest) -> set[str]:
    """Return the instances of pairs of series and instance that are source images.

    Parameters
    ----------
    named
        *Series Instance UID* (0020,000E) and *SOP Instance UID* (0008,0018) of each.
    request
        Names the source images.
    """
    known = {(str(source.SeriesInstanceUID), str(source.SOPInstanceUID)) for source in request.sources}
    return {instance for series, instance in named if (series, instance) in known}


def require_references(referenced: Collection[str], request: ResultRequest) -> None:
    """Check that a result refers to every image of its source.

    Parameters
    ----------
    referenced
        *SOP Instance UID* (0008,0018) of each image that the result refers to.
    request
        Names the source images.

    Raises
    ------
    OutputError
        If it does not; the message says how many are missing.
    """
    missing = {str(source.SOPInstanceUID) for source in request.sources} - set(referenced)
    if missing:
        raise OutputError(f"{len(missing)} source images are not referenced, one of them {min(missing)}")
