"""The page for people, an encapsulated PDF."""

import io
from dataclasses import replace

import numpy as np
import pydicom
import pytest
from pypdf import PdfReader
from reportlab.pdfbase.pdfmetrics import stringWidth

from dicom_writer import Provenance, write_results
from dicom_writer.pdf.document import PdfResult
from dicom_writer.pdf.verify import verify_pdf
from stages import OutputError, __version__
from stages.volume.labels import Code
from stages.volume.wording import NOTICE
from tests import phantoms
from tests.phantoms import LABELS


@pytest.fixture
def document(source, tmp_path):
    """Return what writes a mask as a page and gives the data set."""

    def write(array=None, meanings=LABELS, **how):
        (path,) = write_results(
            phantoms.mask(array, meanings=meanings), source, tmp_path / "out", results=["pdf"], **how
        )
        return pydicom.dcmread(path)

    return write


def page_of(dataset):
    (page,) = PdfReader(io.BytesIO(dataset.EncapsulatedDocument[: dataset.EncapsulatedDocumentLength])).pages
    return page


def said(dataset):
    return page_of(dataset).extract_text().splitlines()


def test_the_page_says_what_was_found(document):
    text = said(document(provenance=Provenance(weights_sha256="ab12")))
    assert text[:2] == [
        "AI segmentation: Liver and liver tumour",
        NOTICE,
    ]
    for line in (
        "Series 1.2.3.2, 5 slices", "weights sha256:ab12", "Liver", "0.029 ml",
        "Liver tumour", "0.0048 ml, 1 lesion",
        "Liver tumour 1", "0.0048 ml, longest diameter 2.0 mm, slice 3",
        "Slice 4", "Slice 3",
    ):  # fmt: skip
        assert line in text, line


def test_nobody_is_named_on_the_page(document):
    dataset = document()
    assert dataset.BurnedInAnnotation == "NO"
    assert not [
        word for word in ("Doe", "Jane", "P-1", "1950", "A-1") if word in page_of(dataset).extract_text()
    ]
    assert str(dataset.PatientName) == "Doe^Jane"


def test_the_document_says_what_it_is_and_what_made_it(document):
    dataset = document(provenance=Provenance(algorithm_name="my_liver", algorithm_version="3"))
    reader = PdfReader(io.BytesIO(dataset.EncapsulatedDocument))
    assert dict(reader.metadata) == {
        "/Title": "AI segmentation: Liver and liver tumour",
        "/Author": "my_liver 3",
        "/Subject": NOTICE,
        "/Creator": "dicom-writer",
        "/Producer": f"clara-stages {__version__}",
    }
    assert reader.root_object["/Lang"] == "en"


def test_as_many_lesions_as_are_not_listed_are_told(document, empty):
    empty[2, 1::2, 1::2] = 2  # 8 x 10 single pixels that do not touch
    text = said(document(empty))
    assert "and 72 more lesions" in text
    assert "Liver tumour 8" in text
    assert "Liver tumour 9" not in text


def test_it_is_a_document_of_the_study(document):
    dataset = document()
    assert (dataset.Modality, dataset.MIMETypeOfEncapsulatedDocument) == ("DOC", "application/pdf")
    assert dataset.ConceptNameCodeSequence[0].CodeValue == "18748-4"
    assert [i.ReferencedSOPInstanceUID for i in dataset.SourceInstanceSequence] == [
        phantoms.uid_of(n) for n in range(5)
    ]
    assert dataset.EncapsulatedDocument[:5] == b"%PDF-"


def test_equal_content_has_the_same_uid(document):
    one, again, other = (
        document(provenance=Provenance(algorithm_version=version)).SOPInstanceUID for version in "112"
    )
    assert one == again != other


def test_an_empty_mask_gives_a_page_that_says_so(document, empty):
    text = said(document(empty))
    assert text[0] == "AI segmentation: No liver or liver tumour found"
    assert text.count("examined, none found") == 2
    assert "Slice 3" in text


def test_many_labels_and_lesions_fit_on_one_page(document, empty):
    labels = tuple(
        replace(LABELS[1], value=n, name=f"Organ {n}", type=Code(str(n), "99TEST", f"organ {n}"))
        for n in range(1, 41)
    )
    empty[:, ::2, ::2] = np.arange(5 * 8 * 10).reshape(5, 8, 10) % 40 + 1
    text = said(document(empty, labels))
    assert "and 26 more labels" in text
    assert "Slice 5" in text


def of_another_mask(result_request, tmp_path):
    array = phantoms.labels()
    array[2, 3, 4] = 0
    return PdfResult().make(result_request(array), tmp_path)


def test_a_page_of_another_mask_is_refused(result_request, tmp_path):
    (path,) = of_another_mask(result_request, tmp_path)
    dataset = pydicom.dcmread(path)
    meant = result_request()
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = meant.uids.uid("pdf instance")
    dataset.save_as(path)
    with pytest.raises(OutputError, match=r"no picture of the page shows slice|the page does not say '0.029"):
        verify_pdf(path, meant)


def test_two_pages_are_refused(result_request, tmp_path):
    from pypdf import PdfWriter

    what = result_request()
    (path,) = PdfResult().make(what, tmp_path)
    dataset = pydicom.dcmread(path)
    twice, out = PdfWriter(), io.BytesIO()
    twice.add_page(page_of(dataset))
    twice.add_blank_page()
    twice.write(out)
    dataset.EncapsulatedDocument = out.getvalue() + bytes(len(out.getvalue()) % 2)
    dataset.EncapsulatedDocumentLength = len(out.getvalue())
    dataset.save_as(path)
    with pytest.raises(OutputError, match="the document has 2 pages, expected 1"):
        verify_pdf(path, what)


@pytest.mark.parametrize(
    "name", ["W" * 64, "Left lower lobe of the lung with everything in it, as segmented"]
)
def test_long_names_lie_over_no_number_and_within_the_page(document, name):
    meanings = (LABELS[0], replace(LABELS[1], name=name))
    found = {}

    def note(text, _, matrix, font, size):
        if text.strip():
            found[text.strip()] = (matrix[4], stringWidth(text.strip(), font["/BaseFont"][1:], size))

    page_of(document(meanings=meanings)).extract_text(visitor_text=note)
    left, width = found[name]
    (number,) = (left for text, (left, _) in found.items() if text.startswith("0.0048 ml, 1 lesion"))
    assert left + width < number
    assert all(left + width < 595 - 40 for left, width in found.values())
