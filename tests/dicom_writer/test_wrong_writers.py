"""A writer that errs is caught by verification, and nothing of what it wrote appears."""

import copy
from dataclasses import replace

import numpy as np
import pytest

from dicom_writer import write_results
from dicom_writer.kinds import RESULT_KINDS
from stages import OutputError
from tests.dicom_writer import letters

KINDS = ("seg", "labelmap", "series", "rtstruct", "report", "capture", "pdf")


def of_array(change):
    """Make a change of what is written out of one of an array."""
    return lambda request: replace(
        request,
        masks=replace(request.masks, array=np.ascontiguousarray(change(request.masks.array))),
    )


def of_images(change):
    """Make a change of what is written out of one of the source images that tell the place."""

    def wrong(request):
        sources = [copy.deepcopy(source) for source in request.sources]
        for source in sources:
            change(source)
        return replace(request, sources=sources, masks=replace(request.masks, affine=place_of(sources[0])))

    return wrong


def place_of(source):
    """Return the affine that an image's header says, for what is placed by the mask's own."""
    affine = np.eye(4)
    along_row, along_column = np.reshape(source.ImageOrientationPatient, (2, 3)).astype(float)
    affine[:3, 0] = [0, 0, letters.SPACING[0]]
    affine[:3, 1] = along_column * source.PixelSpacing[0]
    affine[:3, 2] = along_row * source.PixelSpacing[1]
    affine[:3, 3] = source.ImagePositionPatient
    return affine


def moved(offset):
    def move(source):
        source.ImagePositionPatient = list(np.add(source.ImagePositionPatient, offset))

    return of_images(move)


def turned(source):
    cosines = list(source.ImageOrientationPatient)
    source.ImageOrientationPatient = [*cosines[3:], *cosines[:3]]


def mirrored(source):
    source.ImageOrientationPatient = [-c for c in source.ImageOrientationPatient[:3]] + list(
        source.ImageOrientationPatient[3:]
    )


def rename_patient(source):
    source.PatientID = "another"


def swap_spacing(source):
    source.PixelSpacing = list(source.PixelSpacing)[::-1]


def reverse_references(request):
    return replace(request, sources=request.sources[::-1])


WRONG = {
    "mirrored left to right": of_array(lambda a: a[:, :, ::-1]),
    "mirrored front to back": of_array(lambda a: a[:, ::-1]),
    "upside down": of_array(lambda a: a[::-1]),
    "transposed": of_array(lambda a: a.transpose(0, 2, 1)),
    "shifted by a slice": of_array(lambda a: np.roll(a, 1, axis=0)),
    "shifted by a row": of_array(lambda a: np.roll(a, 1, axis=1)),
    "shifted by a column": of_array(lambda a: np.roll(a, -1, axis=2)),
    "relabelled": of_array(lambda a: np.array([0, 2, 1], np.uint8)[a]),
    "without the tumour": of_array(lambda a: np.array([0, 1, 1], np.uint8)[a]),
    "empty": of_array(np.zeros_like),
    "placed a slice higher": moved([0, 0, letters.SPACING[0]]),
    "placed a pixel to the left": moved([letters.SPACING[2], 0, 0]),
    "turned in the plane": of_images(turned),
    "mirrored by its orientation": of_images(mirrored),
    "with the spacings swapped": of_images(swap_spacing),
    "referring to the wrong images": reverse_references,
    "of another patient": of_images(rename_patient),
}


PLACED = ("placed a slice higher", "placed a pixel to the left")
SAYS_NOTHING_OF = {
    "report": (*PLACED, "turned in the plane", "mirrored by its orientation", "with the spacings swapped"),
    "capture": PLACED,
    "pdf": (
        *(*PLACED, "mirrored by its orientation", "turned in the plane"),
        "referring to the wrong images",  # the page as a whole refers to all of them
    ),
}
"""What changes nothing in a result: a report says nothing of places but pixels of images."""

CASES = [(kind, wrong) for kind in KINDS for wrong in WRONG if wrong not in SAYS_NOTHING_OF.get(kind, ())]


@pytest.fixture(scope="module")
def letter(tmp_path_factory):
    return letters.series_and_mask(tmp_path_factory.mktemp("letter") / "source")


@pytest.mark.parametrize(("name", "wrong"), CASES)
def test_a_result_that_is_wrong_never_appears(letter, tmp_path, monkeypatch, name, wrong):
    kind = type(RESULT_KINDS[name])
    make = kind.make
    monkeypatch.setattr(kind, "make", lambda self, request, folder: make(self, WRONG[wrong](request), folder))
    source, mask = letter
    with pytest.raises(OutputError) as caught:
        write_results(mask, source, tmp_path / "out", results=[name])
    assert caught.value.exit_code == 7
    assert list((tmp_path / "out").iterdir()) == []
    assert "another" not in str(caught.value)


def test_one_wrong_result_holds_back_the_right_ones(letter, tmp_path, monkeypatch):
    kind = type(RESULT_KINDS["labelmap"])
    make = kind.make
    upside_down = WRONG["upside down"]
    monkeypatch.setattr(kind, "make", lambda self, request, folder: make(self, upside_down(request), folder))
    source, mask = letter
    with pytest.raises(OutputError):
        write_results(mask, source, tmp_path / "out", results=["seg", "labelmap", "series"])
    assert list((tmp_path / "out").iterdir()) == []


def test_an_earlier_result_stays_when_a_later_one_is_wrong(letter, tmp_path, monkeypatch):
    source, mask = letter
    before = write_results(mask, source, tmp_path / "out", results=["seg"])[0].read_bytes()
    kind = type(RESULT_KINDS["seg"])
    make = kind.make
    monkeypatch.setattr(
        kind,
        "make",
        lambda self, request, folder: make(self, WRONG["transposed"](request), folder),
    )
    with pytest.raises(OutputError):
        write_results(mask, source, tmp_path / "out", results=["seg"])
    (path,) = (tmp_path / "out").iterdir()
    assert path.read_bytes() == before


def test_a_series_of_an_earlier_run_gives_way_whole(letter, tmp_path):
    source, mask = letter
    write_results(mask, source, tmp_path / "out", results=["series"])
    stray = tmp_path / "out/1.2.3.2.series/9999.dcm"
    stray.write_bytes(b"of an earlier run")
    paths = write_results(mask, source, tmp_path / "out", results=["series"])
    assert sorted(p.name for p in stray.parent.iterdir()) == sorted(p.name for p in paths)
