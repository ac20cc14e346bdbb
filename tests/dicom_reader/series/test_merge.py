"""A series whose every image has a series UID of its own is recognised, and read as one where asked for."""

import numpy as np
import pytest

from dicom_reader import read_series
from dicom_reader.read import judge_folder
from stages import GeometryError, InputError, read_volume, write_volume
from tests import phantoms


def single_images(shape=(4, 8, 8), *, uid="1.7", **attributes):
    """Return slices, each of a series of its own."""
    slices = phantoms.ct_slices(shape, series=uid, **attributes)
    for n, ds in enumerate(slices):
        ds.SeriesInstanceUID = f"{uid}.{n}.9"
    return slices


def test_it_is_said_how_many_series_seem_to_be_one(tmp_path):
    message = r"one slice only, and 4 such series with equal study, .*--merge-series reads them as one series"
    with pytest.raises(InputError, match=message):
        read_series(phantoms.save(single_images(), tmp_path))


def test_they_are_read_as_one_and_each_slice_keeps_its_series(tmp_path):
    volume = read_series(phantoms.save(single_images(), tmp_path / "in"), merge_series=True)
    assert np.array_equal(volume.array, phantoms.hounsfield((4, 8, 8)))
    origin = read_volume(write_volume(volume, tmp_path / "out")).origin
    assert [s.series_instance_uid for s in origin.slices] == [f"1.7.{n}.9" for n in range(4)]
    assert origin.series_instance_uid.startswith("2.25.")
    assert origin.repairs == (
        f"4 series of one image each read as one series, named {origin.series_instance_uid}",
    )


def test_the_name_of_what_was_joined_is_always_the_same(tmp_path):
    phantoms.save(single_images(), tmp_path / "a")
    phantoms.save(single_images()[::-1], tmp_path / "b")
    names = [read_series(tmp_path / f, merge_series=True).origin.series_instance_uid for f in "ab"]
    assert names[0] == names[1]


def test_a_series_that_is_whole_is_read_as_before_beside_pieces(tmp_path):
    phantoms.save(single_images(), tmp_path / "single-images")
    phantoms.save(phantoms.ct_slices((5, 8, 8)), tmp_path / "whole")
    for merge in (False, True):
        assert read_series(tmp_path, merge_series=merge).origin.series_instance_uid == phantoms.SERIES


def test_a_localizer_is_no_piece(tmp_path):
    scout = phantoms.localizer(series="1.7.0.9")
    scout.SOPInstanceUID = "1.8"
    volume = read_series(phantoms.save([*single_images(), scout], tmp_path), merge_series=True)
    assert volume.array.shape == (4, 8, 8)


def test_pieces_of_two_series_are_joined_each_by_itself(tmp_path):
    phantoms.save(single_images(ConvolutionKernel="B30f"), tmp_path / "soft")
    phantoms.save(single_images(uid="1.8", ConvolutionKernel="B60f"), tmp_path / "bone")
    taken, other = judge_folder(tmp_path, merge_series=True)
    assert (taken.state, len(taken.series.slices), taken.series.attributes.kernel) == ("taken", 4, "B30f")
    assert str(other) == "not chosen, of a kernel for bone or lung: 4 axial CT slices"


@pytest.mark.parametrize(
    "change",
    [
        lambda n: {"StudyInstanceUID": f"1.2.{n}"},
        lambda n: {"FrameOfReferenceUID": f"1.2.{n}"},
        lambda n: {"FrameOfReferenceUID": None},
        lambda n: {"PixelSpacing": [0.8 + n / 100, 0.6]},
        lambda n: {"SeriesNumber": n},
        lambda n: {"PatientID": f"P-{n}"},
    ],
)
def test_what_differs_in_study_place_or_patient_is_not_joined(tmp_path, change):
    slices = single_images()
    for n, ds in enumerate(slices):
        for keyword, value in change(n).items():
            setattr(ds, keyword, value)
    with pytest.raises(InputError, match=r"--merge-series: the 4 series of one image each differ in study"):
        read_series(phantoms.save(slices, tmp_path), merge_series=True)


def test_pieces_that_share_positions_are_refused_like_those_of_any_series(tmp_path):
    second = single_images(uid="1.8")
    for ds in second:
        ds.PixelData = bytes(len(ds.PixelData))
    phantoms.save([*single_images(), *second], tmp_path)
    with pytest.raises(GeometryError, match="lie at the same position"):
        read_series(tmp_path, merge_series=True)


def test_a_missing_piece_is_found(tmp_path):
    slices = single_images((6, 8, 8))
    del slices[2]
    with pytest.raises(GeometryError, match="may be missing"):
        read_series(phantoms.save(slices, tmp_path), merge_series=True)


def test_single_images_that_do_not_fit_one_another_do_not_stop_a_whole_series(tmp_path):
    for n in range(2):
        phantoms.save(single_images((1, 8, 8), uid=f"1.7.{n}", SeriesNumber=n), tmp_path / str(n))
    phantoms.save(phantoms.ct_slices(), tmp_path / "whole")
    assert read_series(tmp_path, merge_series=True).origin.series_instance_uid == phantoms.SERIES


@pytest.mark.parametrize("merge", [False, True])
def test_pieces_that_were_sent_twice_are_pieces_still(tmp_path, merge):
    phantoms.save(single_images(), tmp_path / "a")
    phantoms.save(single_images()[:2], tmp_path / "b")
    if merge:
        volume = read_series(tmp_path, merge_series=True)
        assert np.array_equal(volume.array, phantoms.hounsfield((4, 8, 8)))
    else:
        with pytest.raises(InputError, match=r"4 such series .*--merge-series reads them as one series"):
            read_series(tmp_path)


def test_a_refusal_for_a_missing_slice_tells_of_a_piece_at_its_place(tmp_path):
    slices = phantoms.ct_slices((7, 8, 8))
    slices[3].SeriesInstanceUID = "1.7.99"
    with pytest.raises(
        GeometryError, match=r"1 image\(s\) of the same study, .* each in a series of its own"
    ) as told:
        read_series(phantoms.save(slices, tmp_path))
    assert "--fill-missing" not in str(told.value)
