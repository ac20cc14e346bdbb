"""One page for people, as an encapsulated PDF: volumes, lesions, key slices. No patient is named on it.

References
----------
DICOM PS3.3 A.45.1, Encapsulated PDF IOD; C.24.2, Encapsulated Document.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_writer.dicom.header import code_item, new_result, references_to
from dicom_writer.encoding import save
from dicom_writer.finding import finding
from dicom_writer.mask.measure import Measurement
from dicom_writer.pdf.page import draw_page
from dicom_writer.request.result_request import Given
from dicom_writer.series.mask_series import copy_body_part
from stages.volume.labels import Code

SERIES_NUMBER_OFFSET = 7
_REPORT = Code("18748-4", "LN", "Diagnostic imaging report")


class PdfResult:
    """An encapsulated PDF of one page."""

    name = "pdf"

    def make(self, given: Given, folder: Path) -> list[Path]:
        """Write the one file."""
        path = folder / f"{given.file_name}.pdf.dcm"
        page = draw_page(given)
        with config.disable_value_validation():
            head = new_result(
                given,
                sop_class_uid=EncapsulatedPDFStorage,
                what="pdf",
                modality="DOC",
                series_offset=SERIES_NUMBER_OFFSET,
                description=f"AI page: {finding(given.labels, given.measured)}",
            )
            head.ConversionType, head.BurnedInAnnotation = "WSD", "NO"  # nothing that names the patient
            head.AcquisitionDateTime = ""
            head.DocumentTitle = head.SeriesDescription
            head.ConceptNameCodeSequence = [code_item(_REPORT)]
            head.VerificationFlag = "UNVERIFIED"
            head.SourceInstanceSequence = references_to(given.sources)
            copy_body_part(head, given.sources[0])
            _put_document(head, page)
            save(head, path)
        return [path]

    def verify(self, given: Given, paths: Sequence[Path]) -> Mapping[int, Measurement]:
        """Read the page by pypdf: what it says, and each picture on it."""
        from dicom_writer.pdf.verify import verify_pdf

        (path,) = paths
        return verify_pdf(path, given)


RESULT = PdfResult()


def _put_document(head: Dataset, page: bytes) -> None:
    head.MIMETypeOfEncapsulatedDocument = "application/pdf"
    head.EncapsulatedDocumentLength = len(page)
    head.EncapsulatedDocument = page + bytes(len(page) % 2)
