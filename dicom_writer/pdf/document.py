"""One page for people, as an encapsulated PDF: volumes, lesions, key slices. No patient is named on it.

References
----------
DICOM PS3.3 A.45.1, Encapsulated PDF IOD; C.24.2, Encapsulated Document.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_writer.dicom.codes import code_item
from dicom_writer.dicom.header import copy_body_part, new_result
from dicom_writer.dicom.references import references_to
from dicom_writer.encoding import save
from dicom_writer.mask.measure import Measurement
from dicom_writer.pdf.page import draw_page
from dicom_writer.request.result_kind import OneFileKind
from dicom_writer.request.result_request import ResultRequest
from dicom_writer.wording import summary
from stages.volume.labels import Code

_REPORT = Code("18748-4", "LN", "Diagnostic imaging report")


class PdfResult(OneFileKind):
    """An encapsulated PDF of one page."""

    name = "pdf"
    series_number_offset = 7

    def write(self, request: ResultRequest, path: Path) -> None:
        """Write it."""
        page = draw_page(request)
        head = new_result(
            request,
            KIND,
            sop_class_uid=EncapsulatedPDFStorage,
            modality="DOC",
            description=f"AI page: {summary(request.labels, request.measured)}",
        )
        head.ConversionType, head.BurnedInAnnotation = "WSD", "NO"  # nothing that names the patient
        head.AcquisitionDateTime = ""
        head.DocumentTitle = head.SeriesDescription
        head.ConceptNameCodeSequence = [code_item(_REPORT)]
        head.VerificationFlag = "UNVERIFIED"
        head.SourceInstanceSequence = references_to(request.sources)
        copy_body_part(head, request.sources[0])
        _put_document(head, page)
        save(head, path)

    def read_back(self, path: Path, request: ResultRequest) -> Mapping[int, Measurement]:
        """Read the page by pypdf: what it says, and each picture on it."""
        from dicom_writer.pdf.verify import verify_pdf

        return verify_pdf(path, request)


KIND = PdfResult()


def _put_document(head: Dataset, page: bytes) -> None:
    head.MIMETypeOfEncapsulatedDocument = "application/pdf"
    head.EncapsulatedDocumentLength = len(page)
    head.EncapsulatedDocument = page + bytes(len(page) % 2)
