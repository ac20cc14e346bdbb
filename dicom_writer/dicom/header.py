"""What every result says of itself: patient, study, equipment, algorithm, and what it was made of.

References
----------
DICOM PS3.3 C.7.1.1, Patient; C.7.2, Study; C.7.5, Equipment; C.12.1, SOP Common (Contributing
Equipment); C.7.6.16.1.3, Algorithm Identification Macro.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_writer.request.provenance import (
    IDENTITY,
    MANUFACTURER,
    MODEL_NAME,
    Provenance,
    result_series_number,
    software_version,
)
from dicom_writer.source.frames import image_key
from dicom_writer.source.values import LOSSINESS, PATIENT_AND_STUDY, SCANNER, copy_elements
from dicom_writer.wording import COMMENTS_LENGTH, warnings_text
from stages.volume.labels import Code

if TYPE_CHECKING:
    from dicom_writer.request.result_request import Given

_PATIENT_TYPE_2 = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_STUDY_TYPE_2 = ("StudyDate", "StudyTime", "ReferringPhysicianName", "StudyID", "AccessionNumber")


def new_result(
    given: Given,
    *,
    sop_class_uid: str,
    what: str,
    modality: str,
    series_offset: int,
    description: str,
    instance_number: int = 1,
    transfer_syntax_uid: str = ExplicitVRLittleEndian,
) -> FileDataset:
    """Return a data set with everything but what its SOP class is about.

    Parameters
    ----------
    what
        The kind of result; its series is ``given.uids.uid(f"{what} series")``, its instance
        ``given.uids.uid(f"{what} instance")``, with the number behind it from the second on.
    modality, description
        *Modality* (0008,0060) and *Series Description* (0008,103E).
    series_offset
        Tells this result's *Series Number* from those of the others.
    """
    instance = "instance" if instance_number == 1 else f"instance {instance_number}"
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.MediaStorageSOPClassUID = UID(sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(given.uids.uid(f"{what} {instance}"))
    dataset = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    dataset.SOPClassUID, dataset.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    source = given.sources[0]
    _copy_patient_and_study(source, dataset)
    dataset.Modality = modality
    dataset.SeriesInstanceUID = given.uids.uid(f"{what} series")
    dataset.SeriesNumber = result_series_number(source, offset=series_offset)
    dataset.SeriesDescription = description[:64].rstrip()
    dataset.InstanceNumber = instance_number
    add_provenance(dataset, given)
    return dataset


def add_provenance(dataset: Dataset, given: Given) -> None:
    """Say what equipment made a result, when, on whose images, by which algorithm."""
    date, time = given.moment.strftime("%Y%m%d"), given.moment.strftime("%H%M%S.%f")
    dataset.InstanceCreationDate = dataset.ContentDate = dataset.SeriesDate = date
    dataset.InstanceCreationTime = dataset.ContentTime = dataset.SeriesTime = time
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MODEL_NAME
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "0", software_version()
    with config.disable_value_validation():
        dataset.ContributingEquipmentSequence = list(_contributors(given))


def algorithm_identification(provenance: Provenance) -> Dataset:
    """Return an item of the Algorithm Identification Macro."""
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(Code("123110", "DCM", "Artificial Intelligence"))]
    item.AlgorithmName = provenance.algorithm_name
    item.AlgorithmVersion = provenance.version
    if provenance.parameters:
        item.AlgorithmParameters = provenance.parameters
    return item


def code_item(code: Code) -> Dataset:
    """Return a coded concept as an item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme, code.meaning
    return item


def reference_to(instance: Dataset) -> Dataset:
    """Return an item that refers to an instance."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance.SOPClassUID, instance.SOPInstanceUID
    return item


def image_reference(source: Dataset) -> Dataset:
    """Return an item that refers to the image of one slice, and to its frame where it has several."""
    item = reference_to(source)
    _, frame = image_key(source)
    if frame:
        item.ReferencedFrameNumber = frame
    return item


def references_to(sources: Sequence[Dataset]) -> list[Dataset]:
    """Return one item for each source image; several frames of one image give one item."""
    return list({str(source.SOPInstanceUID): reference_to(source) for source in sources}.values())


def by_series(sources: Sequence[Dataset]) -> dict[str, list[Dataset]]:
    """Return the source images of each series, by *Series Instance UID* (0020,000E); mostly there is one."""
    found: dict[str, list[Dataset]] = {}
    for source in sources:
        found.setdefault(str(source.SeriesInstanceUID), []).append(source)
    return found


def add_comments(result: Dataset, given: Given) -> None:
    """Say in *Image Comments* (0020,4000) of an image what everybody who uses it has to be told."""
    text = warnings_text(given, COMMENTS_LENGTH)
    if text:
        result.ImageComments = text


def copy_lossiness(result: Dataset, given: Given) -> None:
    """Say whether the images that a result was made of had been compressed with loss, and how."""
    result.LossyImageCompression = "00"
    lossy = next((s for s in given.sources if s.get("LossyImageCompression") == "01"), None)
    if lossy is not None:
        copy_elements(lossy, result, LOSSINESS)


def _copy_patient_and_study(source: Dataset, result: Dataset) -> None:
    with config.disable_value_validation():
        for keyword in (*_PATIENT_TYPE_2, *_STUDY_TYPE_2):
            setattr(result, keyword, "")
        copy_elements(source, result, (*PATIENT_AND_STUDY, *IDENTITY))
        result.StudyInstanceUID = source.StudyInstanceUID


def _contributors(given: Given) -> Iterator[Dataset]:
    """Yield the scanner, as far as the source names it, and the algorithm."""
    source = given.sources[0]
    if source.get("Manufacturer"):
        scanner = Dataset()
        scanner.PurposeOfReferenceCodeSequence = [code_item(Code("109101", "DCM", "Acquisition Equipment"))]
        copy_elements(source, scanner, SCANNER)
        yield scanner
    algorithm = Dataset()
    algorithm.PurposeOfReferenceCodeSequence = [code_item(Code("109102", "DCM", "Processing Equipment"))]
    algorithm.Manufacturer = given.provenance.manufacturer or MANUFACTURER
    algorithm.ManufacturerModelName = given.provenance.algorithm_name
    algorithm.SoftwareVersions = given.provenance.version
    if given.provenance.parameters:
        algorithm.ContributionDescription = given.provenance.parameters
    yield algorithm
