"""Which instances of a study a job gets."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_adapter.config.dicom_blocks import SeriesFilter
from dicom_adapter.config.patterns import matches
from dicom_adapter.database.records import ReceivedInstance


def chosen(instances: Sequence[ReceivedInstance], wanted: SeriesFilter) -> list[ReceivedInstance]:
    """Return the instances that pass a filter.

    Parameters
    ----------
    instances, wanted
        The instances of the study and the filter.
    """
    return [
        each
        for each in instances
        if (not wanted.modalities or each.modality in wanted.modalities)
        and (not wanted.sop_classes or each.sop_class_uid in wanted.sop_classes)
        and matches(wanted.descriptions, each.series_description)
    ]
