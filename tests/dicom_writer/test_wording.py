"""What everybody who uses a result has to be told, in each kind of result."""

import io
from dataclasses import replace

import highdicom as hd
import pydicom
import pytest
from pypdf import PdfReader

from dicom_writer import write_results
from dicom_writer.kinds import RESULT_KINDS
from dicom_writer.request.mask_request import request_of_mask
from dicom_writer.wording import shortened, warnings_text
from stages import OutputError
from tests import phantoms
from tests.dicom_writer.test_kinds import KINDS, all_errors

TOLD = ("4 slices may be missing: 2 to 5.", "Lésion \\ λ.dcm\x1b$B was left out.")
WRITTEN = [
    "Warning: 4 slices may be missing: 2 to 5.",
    "Warning: L<U+00E9>sion \\ <U+03BB>.dcm<U+001B>$B was left out.",
]


def warned(*warnings, array=None):
    mask = phantoms.mask(array)
    return replace(mask, origin=replace(mask.origin, warnings=warnings))


@pytest.fixture
def written(source, tmp_path):
    """Return what writes a mask with warnings as one kind and gives its data sets."""

    def write(kind, *warnings):
        paths = write_results(warned(*warnings), source, tmp_path / "out", results=[kind])
        return [pydicom.dcmread(path) for path in paths]

    return write


@pytest.mark.parametrize("kind", ["seg", "labelmap", "series", "capture"])
def test_images_say_them_in_their_comments(written, kind):
    assert {image.ImageComments for image in written(kind, *TOLD)} == {"\r\n".join(WRITTEN)}
    assert not any("ImageComments" in image for image in written(kind))


def test_a_structure_set_says_them_below_what_was_found(written):
    (dataset,) = written("rtstruct", *TOLD)
    assert dataset.StructureSetDescription == "\r\n".join(["Liver and liver tumour", *WRITTEN])
    (dataset,) = written("rtstruct")
    assert dataset.StructureSetDescription == "Liver and liver tumour"


def test_a_report_has_a_comment_for_each(source, tmp_path):
    _, path = write_results(warned(*TOLD), source, tmp_path / "out", results=["report"])
    evaluations = hd.sr.srread(path).content[0].ContentSequence[-1]
    assert evaluations.name.meaning == "Qualitative Evaluations"
    assert [(c.name.meaning, c.value) for c in evaluations.ContentSequence] == [
        ("Comment", text) for text in WRITTEN
    ]
    _, path = write_results(warned(), source, tmp_path / "none", results=["report"])
    assert "Qualitative Evaluations" not in str(pydicom.dcmread(path))


def test_a_page_has_them_in_a_box(written):
    (dataset,) = written("pdf", *TOLD)
    (page,) = PdfReader(io.BytesIO(dataset.EncapsulatedDocument)).pages
    lines = page.extract_text().splitlines()
    assert [line for line in lines if line.startswith("Warning")] == WRITTEN


def test_a_capture_has_a_line_for_each_and_is_taller_by_them(written):
    without, with_two, with_many = (written("capture", *told)[0] for told in ((), TOLD, ("It is so.",) * 9))
    amber = (with_two.pixel_array == (255, 191, 0)).all(axis=2)
    assert with_two.Rows == without.Rows + 2 * 26
    assert amber[without.Rows :].any(axis=1).sum() > 2 * 8
    assert with_many.Rows == without.Rows + 5 * 26  # four, and how many more


def test_every_kind_with_warnings_is_valid(source, tmp_path, dciodvfy_errors):
    paths = write_results(warned(*TOLD, "x" * 12000), source, tmp_path / "out", results=KINDS)
    assert all_errors(paths, dciodvfy_errors) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_without_them_is_refused(source, tmp_path, kind):
    result_request = request_of_mask(warned(), source)
    paths = RESULT_KINDS[kind].make(result_request, tmp_path)
    mask = replace(result_request.mask, origin=replace(result_request.mask.origin, warnings=TOLD))
    with pytest.raises(OutputError, match=r"warnings of the mask|does not say 'Warning"):
        RESULT_KINDS[kind].verify(replace(result_request, mask=mask), paths)


def test_what_does_not_fit_is_counted(result_request):
    some = replace(result_request(), mask=warned("one", "two", "3" * 40))
    whole = "Warning: one\r\nWarning: two\r\nWarning: " + "3" * 40
    assert warnings_text(some, len(whole)) == whole
    assert (
        warnings_text(some, len(whole) - 1)
        == "Warning: one\r\nWarning: two\r\nWarning: 1 more, see the report"
    )


def test_what_is_too_long_says_that_it_is_not_whole():
    assert shortened("a" * 30, 30) == "a" * 30
    assert shortened("a" * 31, 30) == "a" * 10 + "... (see the report)"


def test_other_warnings_give_other_uids(source):
    one, again, other = (request_of_mask(warned(text), source).uids.uid("seg instance") for text in "AAB")
    assert one == again != other
