"""Who an image is of, as far as it says, and whether that can be the patient of another image.

References
----------
DICOM PS3.5 6.2.1.2, Person Name; PS3.3 C.7.1.1, Patient.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from dicom_reader.files.headers import ImageHeader
from dicom_reader.series.attributes import decoded

_PLACEHOLDER = re.compile(
    r"(?i)[0x*?_. -]*|(anon|anonym|anonymous|anonymi[sz]ed|anonymisiert|de-?identified|pseudonymi[sz]ed"
    r"|hidden|unknown|unbekannt|inconnu|none|null|n/?a|no ?id|removed|deleted|redacted|patient|test)"
    r"[0x*?_. -]*"
)
_TITLES = frozenset({"dr", "prof", "mr", "mrs", "ms", "herr", "frau", "med"})
_UMLAUTS = (("ae", "a"), ("oe", "o"), ("ue", "u"))  # one of two ways to write what has no letter in ASCII


@dataclass(frozen=True)
class PatientIdentity:
    """What an image says of its patient; never logged.

    Attributes
    ----------
    patient_id, issuer
        *Patient ID* (0010,0020), *Issuer of Patient ID* (0010,0021).
    names
        Words of *Patient's Name* (0010,0010): alphabetic, ideographic, phonetic; case, order, accents and
        titles left aside.
    birth_date
        *Patient's Birth Date* (0010,0030), YYYYMMDD; empty where it is none.
    """

    patient_id: str
    issuer: str
    names: tuple[frozenset[str], ...]
    birth_date: str

    @classmethod
    def from_header(cls, header: ImageHeader) -> PatientIdentity:
        """Return the patient of an image.

        Parameters
        ----------
        header
            Of the image.
        """
        day = re.sub(r"[^0-9]", "", header.text("PatientBirthDate"))
        return cls(
            decoded(header, "PatientID"),
            decoded(header, "IssuerOfPatientID"),
            tuple(_words(group) for group in decoded(header, "PatientName").split("=")),
            day if re.fullmatch(r"(1[89]|20)[0-9]{6}", day) else "",
        )

    def differs_in(self, other: PatientIdentity) -> tuple[str, ...]:
        """Return the keywords of what shows that this is another patient; none where nothing does.

        Parameters
        ----------
        other
            The patient of another image.
        """
        if self.patient_id != other.patient_id:
            return ("PatientID",)
        if self.issuer and other.issuer and self.issuer != other.issuer:
            return ("IssuerOfPatientID",)
        differs = {
            "PatientName": _are_other_names(self.names, other.names),
            "PatientBirthDate": bool(self.birth_date) and other.birth_date not in ("", self.birth_date),
        }
        found = tuple(keyword for keyword, does in differs.items() if does)
        return found if len(found) == 2 or _PLACEHOLDER.fullmatch(self.patient_id) else ()


def _are_other_names(names: tuple[frozenset[str], ...], others: tuple[frozenset[str], ...]) -> bool:
    """Return whether names differ in every way to write them that both have; a shorter form is the same."""
    pairs = [(a, b) for a, b in zip(names, others, strict=False) if a and b]
    return bool(pairs) and not any(_is_short_for(a, b) or _is_short_for(b, a) for a, b in pairs)


def _is_short_for(name: frozenset[str], other: frozenset[str]) -> bool:
    """Return whether each word of a name is one of another, or the initial of one."""
    initials = {word[0] for word in other}
    return all(word in other or word in initials for word in name)


def _words(name: str) -> frozenset[str]:
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    for long, short in _UMLAUTS:
        plain = plain.replace(long, short)
    return frozenset(re.findall(r"\w+", plain)) - _TITLES
