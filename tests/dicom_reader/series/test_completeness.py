"""What a volume may lack is a warning in its origin; what only looks like a loss is none."""

import pytest

from dicom_reader import read_all_series, read_series
from dicom_reader.selection.rules import with_series
from dicom_reader.selection.select import require_taken, select_series
from dicom_reader.series.completeness import missing_image_warnings
from dicom_reader.series.series import group_by_series
from dicom_reader.slices.stack import stack_slices
from stages import InputError, read_volume, write_volume
from tests import phantoms
from tests.dicom_reader.scans import changed, scan


def warnings_of(*series, chosen="1.2", left_out=()):
    rules = with_series(None, chosen)
    verdicts = select_series(group_by_series([h for headers in series for h in headers]), rules)
    (taken,) = require_taken(verdicts, rules)
    every = [verdict.series for verdict in verdicts]
    return tuple(missing_image_warnings(taken, stack_slices(taken.slices).slices, every, dict(left_out)))


NUMBERS = "no slice of the volume has the instance number "
EVERY_SECOND = (NUMBERS + "2, 4, 6, 8, 10, ...: 14 slice(s) may be missing",)


def test_a_whole_series_has_no_warning():
    assert warnings_of(scan(ImagesInAcquisition=30)) == ()


def test_every_second_slice_lost_is_told_by_the_numbers():
    assert warnings_of(scan(keep=slice(None, None, 2))) == EVERY_SECOND


def test_two_of_three_slices_lost_are_told_too():
    (warning,) = warnings_of(scan(keep=slice(None, None, 3)))
    assert warning == NUMBERS + "2, 3, 5, 6, 8, ...: 18 slice(s) may be missing"  # 1, 4, ... 28 are there


def test_every_second_slice_lost_in_one_half_only_is_told():
    slices = scan()
    del slices[11::2]
    assert NUMBERS + "12, 14, 16, 18, 20, ...: 9 slice(s) may be missing" in warnings_of(slices)


def test_numbers_that_run_down_the_scan_tell_it_as_well():
    slices = scan(numbers=range(130, 100, -1), keep=slice(None, None, 2))
    (warning,) = warnings_of(slices)
    assert warning.startswith(NUMBERS + "103, 105")


def test_numbers_that_run_up_and_down_tell_all_that_are_not_there():
    numbers = [*range(1, 31, 2), *range(30, 1, -2)]
    (warning,) = warnings_of(scan(numbers=numbers, keep=slice(20)))
    assert warning == NUMBERS + "2, 4, 6, 8, 10, ...: 10 slice(s) may be missing"  # and 12 to 20


def test_slices_that_the_scanner_counted_and_that_are_not_here_are_told():
    assert warnings_of(scan(ImagesInAcquisition=30, keep=slice(20))) == (
        "the scanner counted 30 images in the acquisition (0020,1002), 20 are here: 10 may be missing",
    )


@pytest.mark.parametrize("keep", [slice(20), slice(10, None), slice(29)])
def test_a_series_that_ends_before_its_sibling_is_told(keep):
    lost = 30 - len(range(30)[keep])
    sibling = scan("1.3", ConvolutionKernel="B60f")
    assert warnings_of(scan(keep=keep), sibling) == (
        f"another series of the same acquisition reaches {2.5 * lost:.1f} mm further: "
        f"{lost} slice(s) may be missing",
    )


def overlapping():
    """Return two acquisitions of a series; of the second's 25 slices 3 lie where the first has its last."""
    second = scan("1.3", 25, first_mm=100 + 27 * 2.5, numbers=range(100, 75, -1), AcquisitionNumber=2)
    return [*scan(), *changed(second, SeriesInstanceUID="1.2")]


def test_acquisitions_that_overlap_are_told():
    assert warnings_of(overlapping()) == (
        "the series holds another volume, acquisition-2, that overlaps or joins this one, acquisition-1, and "
        "reaches 55.0 mm beyond: 22 slice(s) of it lie outside",
    )


# no false alarms


def test_numbers_may_begin_anywhere():
    assert warnings_of(scan(numbers=range(100, 130))) == ()


def test_numbers_may_rise_in_steps_where_those_of_other_series_of_the_study_do():
    steps = range(1, 61, 2)
    assert warnings_of(scan(numbers=steps), scan("1.3", numbers=steps, AcquisitionNumber=2)) == ()


def test_series_of_another_study_excuse_nothing():
    other = scan("1.3", numbers=range(1, 61, 2), StudyInstanceUID="1.2.9")
    assert warnings_of(scan(keep=slice(None, None, 2)), other) == EVERY_SECOND


def test_a_whole_sibling_excuses_nothing():
    assert EVERY_SECOND[0] in warnings_of(scan(keep=slice(None, None, 2)), scan("1.3"))


def test_two_series_may_share_one_numbering():
    thick = scan(count=10, numbers=range(1, 31, 3))
    thin = scan("1.3", 18, step_mm=1.25, numbers=[n for n in range(1, 28) if n % 3 != 1])
    assert warnings_of(thick, thin) == ()


def test_a_scanner_that_counted_as_many_images_as_there_are_numbered_them_in_steps():
    assert warnings_of(scan(numbers=range(1, 61, 2), ImagesInAcquisition=30)) == ()


def test_a_localizer_in_the_series_counts_as_one_of_its_images():
    scout = scan("1.3", 1, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER")
    whole = scan(ImagesInAcquisition=31)
    assert warnings_of(whole, changed(scout, SeriesInstanceUID="1.2")) == ()


@pytest.mark.parametrize(("count", "warned"), [(3, 0), (4, 1), (15, 1)])
def test_more_localizers_than_a_scan_has_may_be_slices(count, warned):
    whole = scan()
    kept, last = whole[:-count], whole[-count:]
    typed = changed(last, ImageType="ORIGINAL\\PRIMARY\\LOCALIZER")
    said = [w for w in warnings_of(kept, typed) if "localizers" in w]
    assert len(said) == warned
    assert all(w.startswith(f"{count} images of the series say") for w in said)


def test_two_phases_of_a_series_may_be_numbered_position_by_position():
    first = scan(numbers=range(1, 61, 2), TemporalPositionIdentifier=1)
    second = scan("1.3", numbers=range(2, 62, 2), TemporalPositionIdentifier=2)
    assert warnings_of(first, changed(second, SeriesInstanceUID="1.2")) == ()


def test_each_acquisition_of_one_scan_may_begin_at_a_new_hundred():
    numbers = [*range(1, 16), *range(101, 116)]
    slices = scan(numbers=numbers)
    assert warnings_of(slices[:15], changed(slices[15:], AcquisitionNumber=2)) == ()


def test_numbers_may_jump_where_positions_leave_no_room_for_a_slice():
    assert warnings_of(scan(numbers=[*range(1, 11), *range(14, 34)])) == ()


def test_derived_images_that_were_set_apart_may_have_numbers_among_those_of_the_slices():
    slices = scan(numbers=[*range(1, 11), *range(14, 34)])
    derived = scan("1.3", 3, numbers=range(11, 14), ImageType="DERIVED\\PRIMARY\\MIP")
    assert warnings_of(slices, changed(derived, SeriesInstanceUID="1.2")) == ()


def test_every_second_slice_set_apart_as_derived_is_told():
    half = [
        changed([h], ImageType="DERIVED\\PRIMARY\\AXIAL")[0] if n % 2 else h for n, h in enumerate(scan())
    ]
    assert warnings_of(half) == (f"{EVERY_SECOND[0]}; 15 derived image(s) of the series were left out",)


def test_copies_have_numbers_of_their_own(tmp_path):
    for n, folder in enumerate("ab"):
        slices = phantoms.ct_slices((12, 8, 8))
        for k, ds in enumerate(slices):
            ds.SOPInstanceUID, ds.InstanceNumber = f"1.{1 + (n + k) % 2}.{k + 1}", 100 * n + k + 1
        phantoms.save(slices, tmp_path / folder)
    assert read_series(tmp_path).origin.warnings == ()


def test_numbers_that_are_all_the_same_or_missing_say_nothing():
    assert warnings_of(scan(numbers=[1] * 30)) == ()
    assert warnings_of(scan(numbers=[None] * 30)) == ()


def test_a_reconstruction_at_wider_intervals_is_whole_beside_the_finer_one():
    wide = scan(count=15, step_mm=5.0, ImagesInAcquisition=30)
    assert warnings_of(wide, scan("1.3", ImagesInAcquisition=30)) == ()


def test_an_acquisition_may_be_divided_between_two_series():
    upper = scan("1.3", 10, first_mm=300, ImagesInAcquisition=30)
    assert warnings_of(scan(count=20, ImagesInAcquisition=30), upper) == ()


@pytest.mark.parametrize(
    "sibling",
    [
        {"AcquisitionNumber": 2},  # another phase
        {"AcquisitionNumber": None},
        {"AcquisitionTime": "120000"},
        {"AcquisitionDate": "20260103"},
        {"FrameOfReferenceUID": "1.2.9"},
        {"step_mm": 1.0, "count": 100},  # for another purpose
        {"first_mm": 60, "count": 60},  # begins and ends elsewhere
    ],
    ids=lambda attributes: next(iter(attributes)),
)
def test_series_of_another_scan_or_purpose_may_be_longer(sibling):
    short = scan(count=20, AcquisitionTime="101500")
    assert warnings_of(short, scan("1.3", **{"AcquisitionTime": "101500", **sibling})) == ()


def test_phases_at_the_same_positions_lack_nothing():
    second = scan("1.3", AcquisitionNumber=2)
    assert warnings_of(scan(), changed(second, SeriesInstanceUID="1.2")) == ()


def test_another_region_of_the_series_is_no_loss():
    pelvis = scan("1.3", first_mm=500, AcquisitionNumber=2)
    assert warnings_of(scan(), changed(pelvis, SeriesInstanceUID="1.2")) == ()


# where they are told


def test_files_that_were_left_out_are_told():
    assert warnings_of(scan(), left_out={"links": 2}) == ("2 file(s) of the input were left out: links",)


@pytest.fixture
def lossy(tmp_path):
    """Return a folder with every second slice of a series."""
    slices = phantoms.ct_slices((9, 8, 8))
    return phantoms.save(slices[::2], tmp_path / "in")


LOST = NUMBERS + "2, 4, 6, 8: 4 slice(s) may be missing"


def test_warnings_are_in_the_log_and_in_the_volumes_description(lossy, tmp_path, caplog):
    volume = read_series(lossy)
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [LOST]
    assert read_volume(write_volume(volume, tmp_path / "out")).origin.warnings == (LOST,)


def test_strict_refuses_what_may_lack_slices_with_exit_code_3(lossy):
    with pytest.raises(InputError, match=r"4 slice\(s\) may be missing; --strict refuses such a volume"):
        read_series(lossy, strict=True)
    with pytest.raises(InputError, match="--strict"):
        list(read_all_series(lossy, strict=True))
    assert InputError.exit_code == 3


def test_strict_takes_what_is_whole(tmp_path):
    folder = phantoms.save(phantoms.ct_slices(), tmp_path)
    assert read_series(folder, strict=True).origin.warnings == ()


PIECE = (
    "1 image(s) of the same study, series number and geometry lie where the series has no slice, "
    "each in a series of its own: they may be missing slices"
)


@pytest.mark.parametrize(
    ("first_mm", "attributes", "told"),
    [
        (175.0, {}, (PIECE,)),  # the 31st of 30 slices from 100 mm, 2.5 mm apart
        (97.5, {}, (PIECE,)),
        (100.0, {}, ()),  # one of its own places
        (176.0, {}, ()),  # between its planes
        (175.0, {"SeriesNumber": 9}, ()),
        (175.0, {"ImageType": "ORIGINAL\\PRIMARY\\LOCALIZER"}, ()),
        (175.0, {"FrameOfReferenceUID": "1.2.9"}, ()),
    ],
)
def test_a_slice_that_got_a_series_of_its_own_is_told(first_mm, attributes, told):
    assert warnings_of(scan(), scan("1.9", 1, first_mm=first_mm, **attributes)) == told


@pytest.mark.parametrize(
    ("attributes", "first_mm", "told"),
    [
        ({"RescaleType": "US"}, 175.0, "1 US image(s)"),
        ({"ImageType": "DERIVED\\PRIMARY\\AXIAL"}, 97.5, "1 derived image(s)"),
        ({"ImageType": "DERIVED\\SECONDARY\\MPR"}, 120.0, ""),  # a place that has a slice
        ({"ImageType": "DERIVED\\SECONDARY\\MPR"}, 176.2, ""),  # between planes
    ],
)
def test_an_image_set_apart_for_its_values_is_told_where_no_slice_lies(attributes, first_mm, told):
    (stray,) = scan("1.9", 1, first_mm=first_mm, SeriesInstanceUID="1.2", **attributes)
    lost = " of the series were left out, and lie where the volume has no slice: they may be missing slices"
    assert warnings_of([*scan(), stray]) == ((told + lost,) if told else ())
