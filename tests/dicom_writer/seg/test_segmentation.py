"""What the Segmentation object says."""

from dataclasses import replace

import highdicom as hd
import numpy as np
import pydicom
import pytest

from dicom_writer import Provenance, write_results
from stages.volume.labels import Code
from tests import phantoms


def code(sequence):
    return sequence[0].CodeValue, sequence[0].CodingSchemeDesignator, sequence[0].CodeMeaning


def test_the_segments_are_named_and_coded(written):
    liver, tumour = pydicom.dcmread(written()).SegmentSequence
    assert (liver.SegmentNumber, liver.SegmentLabel) == (1, "Liver")
    assert code(liver.SegmentedPropertyCategoryCodeSequence) == ("123037004", "SCT", "Anatomical Structure")
    assert code(liver.SegmentedPropertyTypeCodeSequence) == ("10200004", "SCT", "Liver")
    assert (tumour.SegmentNumber, tumour.SegmentLabel) == (2, "Liver tumour")
    assert code(tumour.SegmentedPropertyCategoryCodeSequence)[0] == "49755003"
    assert code(tumour.SegmentedPropertyTypeCodeSequence) == ("108369006", "SCT", "Neoplasm")
    assert code(tumour.AnatomicRegionSequence) == ("10200004", "SCT", "Liver")
    assert liver.SegmentAlgorithmType == tumour.SegmentAlgorithmType == "AUTOMATIC"
    assert len(tumour.RecommendedDisplayCIELabValue) == 3


def test_a_side_is_that_of_the_type_or_of_the_region(written):
    left = Code("7771000", "SCT", "Left")
    liver, tumour = (replace(label, modifier=left) for label in phantoms.LABELS)
    liver, tumour = pydicom.dcmread(written(labels=(liver, tumour))).SegmentSequence
    kind = liver.SegmentedPropertyTypeCodeSequence[0]
    assert code(kind.SegmentedPropertyTypeModifierCodeSequence) == ("7771000", "SCT", "Left")
    assert "SegmentedPropertyTypeModifierCodeSequence" not in tumour.SegmentedPropertyTypeCodeSequence[0]
    region = tumour.AnatomicRegionSequence[0]
    assert code(region.AnatomicRegionModifierSequence) == ("7771000", "SCT", "Left")


def test_the_algorithm_is_named(written):
    provenance = Provenance(algorithm_name="my model", algorithm_version="4.2")
    segment = pydicom.dcmread(written(provenance=provenance)).SegmentSequence[0]
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("my model", "4.2")
    assert segment.SegmentAlgorithmName == "my model"


def test_patient_and_study_are_those_of_the_source(written):
    dataset, source = pydicom.dcmread(written()), phantoms.ct_slices()[0]
    for keyword in (
        *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyID"),
        *("StudyDate", "StudyTime", "AccessionNumber", "FrameOfReferenceUID"),
    ):
        assert dataset[keyword].value == source[keyword].value
    assert dataset.SeriesInstanceUID != source.SeriesInstanceUID
    assert dataset.SeriesNumber == 301
    assert (dataset.Manufacturer, dataset.ManufacturerModelName) == ("clara-stages", "dicom-writer")
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian


@pytest.mark.parametrize(
    ("name", "charset"), [("Müller^Jörg", "ISO_IR 100"), ("山田^太郎", "ISO_IR 192"), ("no caret at all", "")]
)
def test_names_of_all_character_sets_survive_and_are_not_logged(tmp_path, caplog, name, charset):
    slices = phantoms.ct_slices(SpecificCharacterSet=charset, PatientName=name, PatientSex="X")
    folder = phantoms.save(slices, tmp_path / "source")
    with caplog.at_level("DEBUG"):
        (path,) = write_results(phantoms.mask(), folder, tmp_path / "out")
    dataset = pydicom.dcmread(path)
    assert dataset.PatientName == name
    assert dataset.PatientSex == "X"
    assert name not in caplog.text
    assert "P-1" not in caplog.text


def test_every_source_image_is_referenced(written):
    (series,) = pydicom.dcmread(written()).ReferencedSeriesSequence
    assert series.SeriesInstanceUID == phantoms.SERIES
    found = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert found == {phantoms.uid_of(n) for n in range(5)}


def uids(path):
    dataset = pydicom.dcmread(path)
    return (
        dataset.SOPInstanceUID,
        dataset.SeriesInstanceUID,
        dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID,
        *(item.DimensionOrganizationUID for item in dataset.DimensionIndexSequence),
        *(segment.TrackingUID for segment in dataset.SegmentSequence),
    )


def test_equal_content_has_the_same_uids(written):
    first = uids(written())
    assert uids(written()) == first
    assert len({first[0], first[1], first[2], *first[-2:]}) == 5
    assert first[2] == first[3] == first[4]


def test_another_model_or_mask_gives_other_uids(written):
    array = phantoms.labels()
    array[4, 4, 4] = 1
    first = uids(written())
    assert not set(first) & set(uids(written(provenance=Provenance(algorithm_version="2"))))
    assert not set(first) & set(uids(written(array)))


def test_a_voxel_fills_the_space_between_slices(written):
    measures = pydicom.dcmread(written()).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert measures.SpacingBetweenSlices == measures.SliceThickness == 2.5
    assert list(measures.PixelSpacing) == [0.8, 0.6]


def test_pydicom_gives_back_the_mask_voxel_by_voxel(written):
    assert np.array_equal(phantoms.read_back(written()), phantoms.labels())


def test_highdicom_gives_back_the_mask_voxel_by_voxel(written):
    segmentation = hd.seg.segread(written())
    uids_in_order = [phantoms.uid_of(n) for n in range(5)]
    found = segmentation.get_pixels_by_source_instance(
        uids_in_order, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(found, phantoms.labels())


def test_highdicom_gives_back_the_volume_in_its_place(written):
    volume = hd.seg.segread(written()).get_volume(combine_segments=True)
    grid = hd.VolumeGeometry(phantoms.AFFINE, phantoms.SHAPE, coordinate_system="PATIENT")
    assert np.array_equal(volume.match_geometry(grid).array, phantoms.labels())


@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 9, 3)])
def test_matrices_that_fill_no_whole_bytes_survive(tmp_path, shape):
    folder = phantoms.save(phantoms.ct_slices(shape), tmp_path / "source")
    array = np.random.default_rng(1).integers(0, 3, shape).astype(np.uint8)
    (path,) = write_results(phantoms.mask(array), folder, tmp_path / "out")
    assert np.array_equal(phantoms.read_back(path, shape), array)


def test_an_oblique_series_survives(tmp_path):
    c, s = np.cos(0.25), np.sin(0.25)
    slices = phantoms.ct_slices(orientation=(c, s, 0, -s * c, c * c, s))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[s * s, -s * c, c], [-s * c, c * c, s], [c, s, 0]]).T * phantoms.SPACING
    affine[:3, 3] = phantoms.FIRST
    folder = phantoms.save(slices, tmp_path / "source")
    (path,) = write_results(phantoms.mask(affine=affine), folder, tmp_path / "out")
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    grid = hd.VolumeGeometry(affine, phantoms.SHAPE, coordinate_system="PATIENT")
    assert np.array_equal(volume.match_geometry(grid, tol=1e-3).array, phantoms.labels())


def test_dciodvfy_finds_no_error(written, dciodvfy_errors):
    assert dciodvfy_errors(written()) == []


def test_dciodvfy_finds_no_error_in_an_empty_result(written, empty, dciodvfy_errors):
    assert dciodvfy_errors(written(empty)) == []
