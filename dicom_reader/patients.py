"""One patient a job: series of two are refused before a pixel is read, and neither is named."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_reader.facts import decoded
from dicom_reader.headers import ATTRIBUTES, Header
from dicom_reader.series import Series
from stages import InputError

_TO_DO = "a job is of one patient: send each in a job of its own, or name one series with --series"


def refuse_two_patients(candidates: Sequence[Series]) -> None:
    """Refuse series that are of more than one patient, as far as their images tell.

    An issuer that only some of the images name tells nothing.

    Parameters
    ----------
    candidates
        What passes the rules, whether it is taken or not; the first series is the best.

    Raises
    ------
    InputError
        If *Patient ID* (0010,0020) differs, or *Issuer of Patient ID* (0010,0021) where both have one; names
        two files and their series, and no value.
    """
    for keyword, may_lack in (("PatientID", False), ("IssuerOfPatientID", True)):
        first: tuple[Header, Series] | None = None
        for series in candidates:
            for header in _one_of_each(series.slices):
                value = decoded(header, keyword)
                if may_lack and not value:
                    continue
                first = first or (header, series)
                if value != decoded(first[0], keyword):
                    raise _two_patients(keyword, (header, series), first)


def _one_of_each(headers: Sequence[Header]) -> list[Header]:
    """Return the first image of each patient, as encoded; a series has one."""
    tags = [ATTRIBUTES[key][0] for key in ("PatientID", "IssuerOfPatientID", "SpecificCharacterSet")]
    found: dict[tuple[bytes | None, ...], Header] = {}
    for header in headers:
        found.setdefault(tuple(header.values.get(tag) for tag in tags), header)
    return list(found.values())


def _two_patients(keyword: str, here: tuple[Header, Series], there: tuple[Header, Series]) -> InputError:
    (header, series), (other, others) = here, there
    if series is others:
        where = "of the same series"
    else:
        where = f"of series {others.name[:80]}, while this is of series {series.name[:80]}"
    return header.refuse(keyword, f"differs from that of {other.name}, {where}; {_TO_DO}")
