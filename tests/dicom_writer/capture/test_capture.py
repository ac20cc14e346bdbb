"""Key slices as Secondary Capture."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from dicom_writer import Provenance, write_results
from dicom_writer.capture.capture import CaptureResult
from dicom_writer.capture.verify import verify_capture
from dicom_writer.capture.words import TOP
from dicom_writer.pictures.picture import MARGIN, direction, picture_grid
from stages import InputError, OutputError
from stages.volume.wording import NOTICE
from tests import phantoms
from tests.dicom_writer import letters
from tests.dicom_writer.test_corrected import CASES, mask_on, series
from tests.phantoms import LABELS

LIVER, TUMOUR = (label.rgb for label in LABELS)


@pytest.fixture
def captures(source, tmp_path):
    """Return what writes a mask as captures and gives their data sets."""

    def write(array=None, **how):
        paths = write_results(phantoms.mask(array), source, tmp_path / "out", results=["capture"], **how)
        return [pydicom.dcmread(path) for path in paths]

    return write


def shown(image):
    """Return which slice a capture shows, from 0."""
    uid = image.SourceImageSequence[0].ReferencedSOPInstanceUID
    return [phantoms.uid_of(n) for n in range(5)].index(uid)


def picture_of(image, mm=(0.8, 0.6), matrix=(16, 20)):
    """Return the picture without words and margin."""
    rows, columns = (round(n * one / image.PixelSpacing[0]) for n, one in zip(matrix, mm, strict=True))
    pixels = image.pixel_array
    return pixels[TOP + MARGIN : TOP + MARGIN + rows, MARGIN : MARGIN + columns]


def test_the_slices_shown_are_those_where_labels_are_largest(captures):
    # by hand: liver has 13 pixels in slice 1 and 11 in slice 2; the tumour is in slice 2
    assert [shown(image) for image in captures()] == [1, 2]


def test_outlines_lie_around_the_pixels_of_the_mask(captures):
    image = captures()[1]
    picture = picture_of(image)
    tumour = np.argwhere((picture == TUMOUR).all(axis=2)) * image.PixelSpacing[0]
    # rows 4 and 5 of 0.8 mm, columns 6 and 7 of 0.6 mm, to a pixel of the picture
    one = image.PixelSpacing[0]
    assert tumour.min(axis=0) == pytest.approx([3.2, 3.6], abs=one)
    assert tumour.max(axis=0) == pytest.approx([4.8, 4.8], abs=one)
    assert (picture == LIVER).all(axis=2).any()


def test_the_grey_is_that_of_the_source_in_the_window_of_soft_tissue(captures):
    picture = picture_of(captures()[1])
    # slice 2, row 15, column 19 has -131 HU: 29 of 400 above the window's lower end of -160 HU
    assert picture[-1, -1].tolist() == [18, 18, 18]
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_pixels_are_square_and_large(captures):
    image = captures()[0]
    assert image.PixelSpacing[0] == image.PixelSpacing[1] <= 0.6 / 2
    assert min(image.Rows, image.Columns) >= 560
    assert image.pixel_array.shape == (image.Rows, image.Columns, 3)


def test_it_says_that_nobody_is_named_in_it(captures):
    for image in captures():
        assert (image.PhotometricInterpretation, image.BurnedInAnnotation) == ("RGB", "NO")
        assert (image.Modality, image.ConversionType) == ("OT", "WSD")
        assert image.ImageType == ["DERIVED", "SECONDARY"]
        assert image.PatientOrientation == ["L", "P"]
        assert str(image.PatientName) == "Doe^Jane"


def test_instances_are_numbered_in_one_series(captures):
    images = captures()
    assert [image.InstanceNumber for image in images] == [1, 2]
    assert len({image.SeriesInstanceUID for image in images}) == 1
    assert len({image.SOPInstanceUID for image in images}) == 2


def test_equal_content_has_the_same_uids(captures):
    one, again, other = (
        [i.SOPInstanceUID for i in captures(provenance=Provenance(algorithm_version=version))]
        for version in "112"
    )
    assert one == again
    assert not set(one) & set(other)


def test_an_empty_mask_gives_one_picture_that_says_so(captures, empty):
    (image,) = captures(empty)
    assert shown(image) == 2
    assert not (picture_of(image) == LIVER).all(axis=2).any()
    assert image.SeriesDescription == "AI pictures: No liver or liver tumour found"
    assert (image.pixel_array[-60:] == LIVER).all(axis=2).sum() > 200  # the legend


def test_words_tell_the_volumes(source, tmp_path, monkeypatch):
    from dicom_writer import wording
    from dicom_writer.request import mask_request

    result_request = mask_request.request_of_mask(phantoms.mask(), source)
    assert [(line.name, line.found) for line in wording.label_lines(result_request)] == [
        ("Liver", "0.029 ml"),
        ("Liver tumour", "0.0048 ml, 1 lesion"),
    ]
    ((lesion, said),) = wording.largest_lesions(result_request, 3)
    assert (lesion.name, said) == ("Liver tumour 1", "0.0048 ml, longest diameter 2.0 mm")


@pytest.mark.parametrize(("count", "told"), [(3, ""), (4, "and 1 more lesion"), (80, "and 77 more lesions")])
def test_words_tell_how_many_lesions_are_not_shown(result_request, empty, count, told):
    from dicom_writer import wording
    from dicom_writer.capture.words import _legend

    empty[2, 1::2, 1::2] = np.where(np.arange(80).reshape(8, 10) < count, 2, 0)
    assert wording.lesions_not_shown(result_request(empty), 3) == told
    assert [text for _, text in _legend(result_request(empty))][5:] == [told] * bool(told)


def test_a_slice_has_the_number_that_a_viewer_shows(captures, source):
    (image, *_) = captures()
    n = shown(image)
    assert image.DerivationDescription == f"Outlines and volumes burned into slice {5 - n}"


def test_the_words_fit_into_the_picture(result_request):
    from dicom_writer.capture.words import _WIDEST_TEXT
    from dicom_writer.pictures.picture import MARGIN, font

    assert MARGIN + font(18).getlength(NOTICE) < _WIDEST_TEXT


def test_words_of_an_empty_mask(result_request, empty):
    from dicom_writer import wording

    assert [line.found for line in wording.label_lines(result_request(empty))] == ["examined, none found"] * 2


@pytest.mark.parametrize(
    ("cosines", "letters"), [((1, 0, 0), "L"), ((0, -1, 0), "A"), ((0, 0, 1), "H"), ((0, 0.6, -0.8), "FP")]
)
def test_letters_name_the_side_of_the_patient(cosines, letters):
    assert direction(np.array(cosines)) == letters


@pytest.mark.parametrize("rgb", [(200, 200, 200), (10, 12, 9)])
def test_a_grey_label_is_not_drawn_grey(rgb):
    drawn = replace(LABELS[0], rgb=rgb).drawn_rgb
    assert max(drawn) - min(drawn) > 100


def a_pixel_of_another_colour(pixels):
    pixels[TOP + MARGIN + 5, MARGIN + 5] = TUMOUR


def a_brighter_pixel(pixels):
    pixels[TOP + MARGIN + 5, MARGIN + 5] += 3


def another_word(pixels):
    pixels[20, 40] ^= 255


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (a_pixel_of_another_colour, "outline of Liver tumour on slice 3 is wrong in 1 pixels, the first at"),
        (a_brighter_pixel, "1 pixels of the picture of slice 3 are neither its source image nor an outline"),
        (another_word, "the words in the capture of slice 3 are not those of the mask"),
    ],
)
def test_a_capture_that_was_changed_is_refused(result_request, tmp_path, damage, message):
    what = result_request()
    paths = CaptureResult().make(what, tmp_path)
    image = pydicom.dcmread(paths[1])
    pixels = image.pixel_array.copy()
    damage(pixels)
    image.PixelData = pixels.tobytes()
    image.save_as(paths[1])
    with pytest.raises(OutputError, match=message):
        verify_capture(paths, what)


def test_a_missing_capture_is_missed(result_request, tmp_path):
    what = result_request()
    paths = CaptureResult().make(what, tmp_path)
    with pytest.raises(OutputError, match=r"the captures show slices \[2\], not the key slices"):
        verify_capture(paths[:1], what)


def test_pixels_that_cannot_be_decoded_are_told(tmp_path):
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGLosslessSV1

    slices = phantoms.ct_slices()
    for ds in slices:
        ds.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        ds.PixelData = encapsulate([b"no JPEG "])
        ds["PixelData"].is_undefined_length = True
    source = phantoms.save(slices, tmp_path / "source")
    with pytest.raises(InputError, match=r"cannot be decoded to show them .* leave capture and pdf out of"):
        write_results(phantoms.mask(), source, tmp_path / "out", results=["capture"])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("orientation", letters.ORIENTATIONS)
def test_every_orientation_is_shown_and_verified(tmp_path, dciodvfy_errors, orientation):
    source, mask = letters.series_and_mask(tmp_path / "source", letters.ORIENTATIONS[orientation])
    paths = write_results(mask, source, tmp_path / "out", results=["capture"])
    assert len(paths) >= 2
    assert dciodvfy_errors(paths[0]) == []
    image = pydicom.dcmread(paths[0])
    assert len(image.PatientOrientation) == 2


def test_the_raster_repeats_pixels_until_they_are_square(result_request):
    how = picture_grid(result_request())
    assert how.pixel_mm == pytest.approx(0.6 / round(800 / (16 * 0.8 / 0.6)))
    assert np.bincount(how.columns).tolist() == [round(0.6 / how.pixel_mm)] * 20
    assert set(np.bincount(how.rows)) <= {int(0.8 / how.pixel_mm), int(0.8 / how.pixel_mm) + 1}


@pytest.mark.parametrize("case", CASES)
def test_a_corrected_series_is_shown_as_it_was_acquired(tmp_path, case):
    source = series(tmp_path / "source", **CASES[case])
    mask = mask_on(source, tmp_path)
    paths = write_results(mask, source, tmp_path / "out", results=["capture"])
    uids = {ds.SOPInstanceUID for ds in map(pydicom.dcmread, source.rglob("IM*"))}
    assert {pydicom.dcmread(p).SourceImageSequence[0].ReferencedSOPInstanceUID for p in paths} < uids


@pytest.mark.real_data
def test_the_same_image_is_shown_from_every_transfer_syntax(real_data):
    from dicom_writer.source.pixels import source_values

    plain = source_values(real_data / "transfer_syntaxes/CTImage.dcm")
    lossless = ("JPEG2000LosslessOnly", "JPEGLSLossless", "JPEGProcess14SV1", "JPEGProcess14T", "RLE", "Big")
    for name in lossless:
        (path,) = (real_data / "transfer_syntaxes").glob(f"CTImage.dcm_{name}*")
        assert np.array_equal(source_values(path), plain), name


def test_the_longest_name_leaves_room_for_what_is_said_of_it(source, tmp_path):
    meanings = (LABELS[0], replace(LABELS[1], name="W" * 64))
    mask = phantoms.mask(meanings=meanings)
    image = pydicom.dcmread(write_results(mask, source, tmp_path / "out", results=["capture"])[0])
    assert (image.pixel_array[-120:, -20:] == 0).all()  # the words end before the picture does
    assert image.Columns > 64 * 15
