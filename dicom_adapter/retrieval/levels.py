"""In which requests a study is asked for: whole series where all of one is missing, else single instances."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from dicom_adapter.retrieval.answers import SERIES_UID, SOP_INSTANCE, STUDY_UID, ListedInstance

_AT_ONCE = 50  # UIDs in one request


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to retrieve.

    Attributes
    ----------
    level
        Query/Retrieve Level (0008,0052).
    values
        UIDs by tag; several with backslashes between them.
    count
        Instances that it brings.
    """

    level: Literal["SERIES", "IMAGE"]
    values: Mapping[int, str]
    count: int


def requests_for(
    study_uid: str, instances: Sequence[ListedInstance], missing: set[str], *, alone: set[str]
) -> Iterator[Request]:
    """Yield the requests for what is missing; each looks at what still is.

    Parameters
    ----------
    study_uid
        StudyInstanceUID of all of them.
    instances
        In the order of their series.
    missing
        SOPInstanceUIDs of those that are to come; it shrinks meanwhile.
    alone
        SeriesInstanceUIDs of those series of which `instances` has all there is.
    """
    for series_uid, group in groupby(instances, key=lambda each: each.series_uid):
        of_series = [each.sop_instance_uid for each in group]
        left = [each for each in of_series if each in missing]
        place = {STUDY_UID: study_uid, SERIES_UID: series_uid}
        if left == of_series and series_uid in alone:
            yield Request(level="SERIES", values=place, count=len(left))
            continue
        for begin in range(0, len(left), _AT_ONCE):
            uids = left[begin : begin + _AT_ONCE]
            yield Request(level="IMAGE", values={**place, SOP_INSTANCE: "\\".join(uids)}, count=len(uids))
