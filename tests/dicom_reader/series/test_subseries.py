"""Volumes of one series are told apart by every attribute that can, and named after it."""

import struct

import pytest

from dicom_reader.series.series import group_by_series
from dicom_reader.slices.stack import stack_slices
from stages import GeometryError
from tests.dicom_reader.scans import changed, scan


def f32(value):
    return struct.pack("<f", value)


def u32(value):
    return struct.pack("<L", value)


def f64(value):
    return struct.pack("<d", value)


def volumes(*parts):
    """Return name -> first instance of each volume of what is put into one series."""
    headers = [h for part in parts for h in changed(part, SeriesInstanceUID="1.2")]
    return {s.subseries: s.slices[0].text("SOPInstanceUID") for s in group_by_series(headers)}


def phases(keyword, *values):
    """Return scans at the same positions, numbered position by position, that differ in one attribute."""
    count = len(values)
    return [
        scan(f"1.{n}", 6, numbers=range(n + 1, 6 * count + 1, count), **{keyword: value})
        for n, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("keyword", "values", "names"),
    [
        ("NominalPercentageOfCardiacPhase", [f32(40), f32(75)], ["cardiac-40", "cardiac-75"]),
        ("NominalPercentageOfRespiratoryPhase", [f32(0), f32(50)], ["respiratory-0", "respiratory-50"]),
        ("NominalCardiacTriggerDelayTime", [f64(300), f64(600)], ["trigger-300", "trigger-600"]),
        ("ActualCardiacTriggerDelayTime", [f64(300.5), f64(600.25)], ["trigger-1", "trigger-2"]),
        ("TemporalPositionIndex", [u32(2), u32(10)], ["phase-2", "phase-10"]),
        ("TemporalPositionTimeOffset", [f64(0), f64(1.5)], ["phase-1", "phase-2"]),
        ("TemporalPositionIdentifier", ["1", "2", "10"], ["phase-1", "phase-2", "phase-10"]),
        ("TriggerTime", ["1", "1.5", "2"], ["trigger-1", "trigger-2", "trigger-3"]),
        ("TriggerTime", ["0", "350.0"], ["trigger-0", "trigger-350"]),
        ("KVP", ["80", "140.0"], ["kvp-80", "kvp-140"]),
        ("ContrastBolusAgent", ["", "OMNIPAQUE 350"], ["contrast-1", "contrast-2"]),
        ("ContrastBolusAgentPhase", ["PRE_CONTRAST", "POST_CONTRAST"], ["contrast-1", "contrast-2"]),
        ("ConvolutionKernel", ["B30f", "B60f"], ["kernel-1", "kernel-2"]),
        ("SpiralPitchFactor", [f64(0.6), f64(1.2)], ["pitch-1", "pitch-2"]),
        ("ExposureTime", ["500", "1000"], ["exposure-500", "exposure-1000"]),
        ("XRayTubeCurrent", ["100", "400"], ["current-100", "current-400"]),
        ("ReconstructionDiameter", ["350", "351"], ["diameter-350", "diameter-351"]),
        ("FilterType", ["BODY", "HEAD"], ["filter-1", "filter-2"]),
        ("ImageType", ["ORIGINAL\\PRIMARY\\LOW", "ORIGINAL\\PRIMARY\\HIGH"], ["type-1", "type-2"]),
        ("ImageComments", ["40 keV", "70 keV"], ["comment-1", "comment-2"]),
        ("SeriesDescription", ["arterial", "venous"], ["description-1", "description-2"]),
        ("AcquisitionTime", ["101500", "101530"], ["time-1", "time-2"]),
        ("AcquisitionDateTime", ["20260101101500", "20260101101530"], ["time-1", "time-2"]),
        ("ContentDate", ["20260101", "20260102"], ["date-1", "date-2"]),
        ("IrradiationEventUID", ["1.5", "1.6"], ["exposure-1", "exposure-2"]),
        ("SliceThickness", ["1", "3"], ["thickness-1", "thickness-3"]),
    ],
)  # fmt: skip
def test_phases_are_split_by_any_attribute_and_named(keyword, values, names):
    found = volumes(*phases(keyword, *values))
    assert list(found) == names
    assert sorted(found.values()) == [f"1.{n}.1" for n in range(len(values))]


def test_what_no_attribute_tells_apart_is_refused_in_true_words(monkeypatch):
    monkeypatch.setattr("dicom_reader.slices.duplicates._equal", lambda a, b: False)  # there are no pixels
    headers = [h for part in phases("KVP", "120", "120") for h in changed(part, SeriesInstanceUID="1.2")]
    (series,) = group_by_series(headers)
    with pytest.raises(
        GeometryError, match=r"that no attribute looked at tells apart \(docs/reference/geometry"
    ):
        stack_slices(series.slices)


def test_two_ways_to_write_one_number_are_one_phase():
    first, second = phases("KVP", "80", "140")
    first[2:4] = changed(first[2:4], KVP="80.00")
    assert list(volumes(first, second)) == ["kvp-80", "kvp-140"]


def test_the_attribute_whose_parts_are_whole_goes_before_one_whose_are_not():
    first, second = phases("KVP", "80", "140")
    numbers = (3, 3, 4, 4, 3, 4)  # no volume shares a position by these, and none is whole
    first = [changed([h], AcquisitionNumber=n)[0] for h, n in zip(first, numbers, strict=True)]
    assert list(volumes(first, second)) == ["kvp-80", "kvp-140"]


def test_dose_that_follows_the_body_does_not_split_one_scan():
    slices = [changed([h], XRayTubeCurrent=100 + n // 3)[0] for n, h in enumerate(scan("1.2", 12))]
    assert list(volumes(slices)) == [""]


def test_one_scan_with_a_lost_slice_is_not_split_by_what_changes_along_it():
    slices = [changed([h], ExposureTime=500 + 10 * (n % 2))[0] for n, h in enumerate(scan("1.2", 14))]
    del slices[6]
    assert list(volumes(slices)) == [""]
