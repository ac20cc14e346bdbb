"""Who an instance is, read while it comes from the first attributes of its data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dicom_adapter.storage.paths import checked_uid
from dicom_files.character_sets import decoded
from dicom_files.header_stream import HeaderStream

_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE = 0x00080005, 0x00080016, 0x00080018
_MODALITY, _DESCRIPTION, _PATIENT_ID, _STUDY, _SERIES = 0x80060, 0x8103E, 0x100020, 0x20000D, 0x20000E
_WANTED = frozenset(
    {_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE, _MODALITY, _DESCRIPTION, _PATIENT_ID, _STUDY, _SERIES}
)
_END = _SERIES + 1
_LONGEST_TEXT = 1 << 10  # bytes that a filter looks at; a description has 64 characters


@dataclass(frozen=True, kw_only=True)
class InstanceHeader:
    """Who an instance is. Description and patient stay out of logs and pages.

    Attributes
    ----------
    study_uid
        Of the study.
    series_uid
        Of the series.
    sop_instance_uid
        Of the instance.
    sop_class_uid
        Of the instance.
    modality
        Of the series.
    series_description
        Of the series.
    patient_id
        Of the patient.
    """

    study_uid: str
    series_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    modality: str
    series_description: str
    patient_id: str = field(default="", repr=False)


def read_header(data: bytes | memoryview, transfer_syntax: str) -> InstanceHeader:
    """Return who an instance is whose data set is in memory.

    Parameters
    ----------
    data
        The data set as it came, without preamble and file meta information.
    transfer_syntax
        Its UID.

    Raises
    ------
    InputError
        As `HeaderReader`.
    """
    reader = HeaderReader(transfer_syntax)
    reader.feed(data)
    return reader.header()


class HeaderReader(HeaderStream):
    """Reads who an instance is while its data set comes in pieces, of which it holds none.

    Parameters
    ----------
    transfer_syntax
        Its UID.
    """

    def __init__(self, transfer_syntax: str) -> None:
        super().__init__(transfer_syntax, end=_END, wanted=_WANTED)

    def header(self) -> InstanceHeader:
        """Return who it is, once it is `is_done` or nothing more comes.

        Raises
        ------
        InputError
            If it has no usable UIDs.
        """
        values = self.values
        text, patient_id = (values.get(tag, b"")[:_LONGEST_TEXT] for tag in (_DESCRIPTION, _PATIENT_ID))
        character_set = values.get(_CHARACTER_SET, b"")
        return InstanceHeader(
            study_uid=_uid(values, _STUDY, "StudyInstanceUID"),
            series_uid=_uid(values, _SERIES, "SeriesInstanceUID"),
            sop_instance_uid=_uid(values, _SOP_INSTANCE, "SOPInstanceUID"),
            sop_class_uid=_uid(values, _SOP_CLASS, "SOPClassUID"),
            modality=decoded(values.get(_MODALITY, b"")[:_LONGEST_TEXT]),
            series_description=decoded(text, character_set),
            patient_id=decoded(patient_id, character_set),
        )


def _uid(values: Mapping[int, bytes], tag: int, name: str) -> str:
    return checked_uid(values.get(tag, b"").decode("ascii", "replace").rstrip("\0 "), name)
