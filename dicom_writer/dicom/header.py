"""What every result has in its header: patient, study, equipment, algorithm, and what it was made of.

References
----------
DICOM PS3.3 C.7.1.1, Patient; C.7.2, Study; C.7.5, Equipment; C.12.1, SOP Common (Contributing
Equipment); C.7.6.16.1.3, Algorithm Identification Macro.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_writer.dicom.codes import code_item
from dicom_writer.request.provenance import MANUFACTURER, MODEL_NAME, software_version
from dicom_writer.source.attributes import IDENTITY, LOSSINESS, PATIENT_AND_STUDY, SCANNER, copy_elements
from dicom_writer.wording import COMMENTS_LENGTH, warnings_text
from stages.volume.labels import Code

if TYPE_CHECKING:
    from dicom_writer.request.result_kind import ResultKind
    from dicom_writer.request.result_request import ResultRequest

_PATIENT_TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY_TYPE_2 = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")

_UNPAIRED = frozenset(
    {"ABDOMEN", "ABDOMENPELVIS", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "HEAD", "HEADNECK", "LIVER"}
    | {"NECK", "NECKCHEST", "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "PANCREAS", "PELVIS", "SPLEEN", "TRUNK"}
    | {"CSPINE", "LSPINE", "TSPINE", "SPINE", "WHOLEBODY"}
)


def new_result(
    request: ResultRequest,
    kind: ResultKind,
    *,
    sop_class_uid: str,
    modality: str,
    description: str,
    instance_number: int = 1,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
) -> FileDataset:
    """Return a data set with everything but what its SOP class is about.

    Parameters
    ----------
    request
        What the result is made of.
    kind
        Its series is ``request.uids.uid(f"{kind.name} series")``, its instance
        ``request.uids.uid(f"{kind.name} instance")``, with the number behind it from the second on.
    sop_class_uid, transfer_syntax_uid
        *SOP Class UID* (0008,0016) and *Transfer Syntax UID* (0002,0010).
    modality, description
        *Modality* (0008,0060) and *Series Description* (0008,103E), which is cut to 64 characters.
    instance_number
        *Instance Number* (0020,0013), from 1.
    """
    instance = "instance" if instance_number == 1 else f"instance {instance_number}"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(request.uids.uid(f"{kind.name} {instance}"))
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    source = request.sources[0]
    _copy_patient_and_study(source, dataset)
    dataset.Modality = modality
    dataset.SeriesInstanceUID = request.uids.uid(f"{kind.name} series")
    dataset.SeriesNumber = _series_number(source, offset=kind.series_number_offset)
    dataset.SeriesDescription = description[:64].rstrip()
    dataset.InstanceNumber = instance_number
    _add_equipment(dataset, request)
    return dataset


def _add_equipment(dataset: Dataset, request: ResultRequest) -> None:
    """Add the equipment that made a result, the time, the scanner and the algorithm."""
    date, time = request.moment.strftime("%Y%m%d"), request.moment.strftime("%H%M%S.%f")
    dataset.InstanceCreationDate = dataset.ContentDate = dataset.SeriesDate = date
    dataset.InstanceCreationTime = dataset.ContentTime = dataset.SeriesTime = time
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "0", software_version()
    with config.disable_value_validation():
        dataset.ContributingEquipmentSequence = list(_contributors(request))


def add_comments(result: Dataset, request: ResultRequest) -> None:
    """Add the warnings of the mask to an image, as *Image Comments* (0020,4000).

    Parameters
    ----------
    result
        What is added to.
    request
        Its mask has the warnings.
    """
    text = warnings_text(request, COMMENTS_LENGTH)
    if text:
        result.ImageComments = text


def copy_lossiness(result: Dataset, request: ResultRequest) -> None:
    """Add whether the images that a result was made of had been compressed with loss, and how.

    Parameters
    ----------
    result
        What is added to.
    request
        Names the source images.
    """
    result.LossyImageCompression = "00"
    lossy = next((s for s in request.sources if s.get("LossyImageCompression") == "01"), None)
    if lossy is not None:
        copy_elements(lossy, result, LOSSINESS)


def _copy_patient_and_study(source: Dataset, result: Dataset) -> None:
    with config.disable_value_validation():
        for keyword in (*_PATIENT_TYPE_2, *_STUDY_TYPE_2):
            setattr(result, keyword, "")
        copy_elements(source, result, (*PATIENT_AND_STUDY, *IDENTITY))
        result.StudyInstanceUID = source.StudyInstanceUID


def _contributors(request: ResultRequest) -> Iterator[Dataset]:
    """Yield the scanner, as far as the source names it, and the algorithm."""
    source = request.sources[0]
    if source.get("Manufacturer"):
        scanner = Dataset()
        scanner.PurposeOfReferenceCodeSequence = [code_item(Code("109101", "DCM", "Acquisition Equipment"))]
        copy_elements(source, scanner, SCANNER)
        yield scanner
    algorithm = Dataset()
    algorithm.PurposeOfReferenceCodeSequence = [code_item(Code("109102", "DCM", "Processing Equipment"))]
    algorithm.Manufacturer = request.provenance.manufacturer or MANUFACTURER
    algorithm.ManufacturerModelName = request.provenance.algorithm_name
    algorithm.SoftwareVersions = request.provenance.version
    if request.provenance.parameters:
        algorithm.ContributionDescription = request.provenance.parameters
    yield algorithm


def _series_number(source: Dataset, *, offset: int) -> int:
    """Return a *Series Number* (0020,0011) beside the source's: its own times 100, plus an offset."""
    try:
        number = int(source.get("SeriesNumber") or 0)
    except (TypeError, ValueError):
        number = 0
    return number * 100 + offset if 0 < number < 20_000_000 else 9000 + offset


def copy_body_part(head: Dataset, source: Dataset) -> None:
    """Copy *Body Part Examined* (0018,0015), and *Laterality* (0020,0060) unless the part is no pair.

    Parameters
    ----------
    head
        What is added to.
    source
        Header of a source image.
    """
    part, side = str(source.get("BodyPartExamined") or ""), str(source.get("Laterality") or "")
    if part and (side or part in _UNPAIRED):
        head.BodyPartExamined = part
    if side or part not in _UNPAIRED:
        head.Laterality = side
