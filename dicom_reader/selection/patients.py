"""One patient a job: series of two are refused before a pixel is read, and neither is named."""

from __future__ import annotations

from collections.abc import Sequence

from dicom_reader.files.headers import ATTRIBUTES, ImageHeader
from dicom_reader.selection.patient_identity import PatientIdentity
from dicom_reader.series.series import Series
from stages import InputError

_ONE_PATIENT = "a job is of one patient: send each in a job of its own"


def refuse_two_patients(candidates: Sequence[Series]) -> None:
    """Refuse series that are of more than one patient, as far as their images tell.

    An issuer that only some of the images name tells nothing. Names and birth dates tell where both
    differ, and either alone where there is no ID, or one that stands for none.

    Parameters
    ----------
    candidates
        What passes the rules, whether it is taken or not; the first series is the best.

    Raises
    ------
    InputError
        If *Patient ID* (0010,0020) differs, or *Issuer of Patient ID* (0010,0021) where both have one, or
        *Patient's Name* (0010,0010) and *Patient's Birth Date* (0010,0030) are those of two people; names
        two files and their series, and no value.
    """
    known: dict[PatientIdentity, tuple[ImageHeader, Series]] = {}
    for series in candidates:
        for header in _one_of_each(series.slices):
            patient = PatientIdentity.from_header(header)
            for other, there in known.items():
                if keywords := patient.differs_in(other):
                    raise _two_patients(keywords, (header, series), there)
            known.setdefault(patient, (header, series))


def _one_of_each(headers: Sequence[ImageHeader]) -> list[ImageHeader]:
    """Return the first image of each patient, as encoded; a series has one."""
    keywords = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "SpecificCharacterSet")
    tags = [ATTRIBUTES[keyword][0] for keyword in keywords]
    found: dict[tuple[bytes | None, ...], ImageHeader] = {}
    for header in headers:
        found.setdefault(tuple(header.values.get(tag) for tag in tags), header)
    return list(found.values())


def _two_patients(
    keywords: Sequence[str], here: tuple[ImageHeader, Series], there: tuple[ImageHeader, Series]
) -> InputError:
    (header, series), (other, others) = here, there
    if series is others:
        where, to_do = "of the same series", _ONE_PATIENT
    else:
        where = f"of series {others.name[:80]}, while this is of series {series.name[:80]}"
        to_do = _ONE_PATIENT + ", or name one series with --series"
    named = " and ".join(header.named(keyword) for keyword in keywords)
    differ = "differs from that" if len(keywords) == 1 else "differ from those"
    return InputError(f"{header.name}: {named} {differ} of {other.name}, {where}; {to_do}")
