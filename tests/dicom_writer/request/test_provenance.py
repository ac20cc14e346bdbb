"""Results say whose they are, what made them, and of what; and nothing that is not theirs."""

from dataclasses import replace

import pydicom
import pytest

from dicom_writer import Provenance, write_results
from dicom_writer.kinds import RESULT_KINDS
from dicom_writer.request.mask_request import request_of_mask
from stages import Algorithm, SettingsError, read_volume, write_volume
from tests import phantoms

KINDS = ("seg", "labelmap", "series")
ALGORITHM = Algorithm(name="my_liver", version="3", weights_sha256="ab" * 32, configuration_sha256="cd" * 32)


@pytest.fixture(params=KINDS)
def result(request, tmp_path):
    """Return what writes a mask of a source with these attributes, and gives its first file."""

    def write(provenance=None, **attributes):
        slices = phantoms.ct_slices(**attributes)
        for ds in slices:
            ds.private_block(0x0019, "PHANTOM", create=True).add_new(0x01, "LO", "private")
        source = phantoms.save(slices, tmp_path / "source")
        paths = write_results(
            phantoms.mask(), source, tmp_path / "out", results=[request.param], provenance=provenance
        )
        return pydicom.dcmread(paths[0])

    return write


def test_no_private_attribute_of_the_source_is_copied(result):
    assert not [e.tag for e in result().iterall() if e.tag.is_private]


def test_scanner_and_algorithm_are_contributing_equipment(result):
    provenance = Provenance.of(ALGORITHM)
    dataset = result(provenance, InstitutionName="Clinic", SoftwareVersions="5.1")
    scanner, algorithm = dataset.ContributingEquipmentSequence
    assert scanner.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    assert (scanner.Manufacturer, scanner.ManufacturerModelName) == ("phantoms", "CT-1")
    assert (scanner.InstitutionName, scanner.SoftwareVersions) == ("Clinic", "5.1")
    assert algorithm.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert (algorithm.ManufacturerModelName, algorithm.SoftwareVersions) == ("my_liver", "3")
    assert (
        algorithm.ContributionDescription == f"weights sha256:{'ab' * 32}; configuration sha256:{'cd' * 32}"
    )


def test_a_source_without_a_manufacturer_contributes_no_scanner(result):
    (algorithm,) = result(Manufacturer="").ContributingEquipmentSequence
    assert algorithm.ManufacturerModelName == "clara-stages liver tumour segmentation"


def test_it_says_when_it_was_made_and_by_what(result):
    dataset = result()
    assert dataset.ContentDate == dataset.InstanceCreationDate == dataset.SeriesDate
    assert len(dataset.ContentTime) == len("101500.000000")
    assert (dataset.Manufacturer, dataset.ManufacturerModelName) == ("clara-stages", "dicom-writer")
    assert dataset.SoftwareVersions
    assert dataset.StudyDate == "20260102"


def test_the_mask_says_which_model_made_it_and_the_result_repeats_that(tmp_path):
    mask = phantoms.mask()
    mask = replace(mask, origin=replace(mask.origin, algorithm=ALGORITHM))
    read = read_volume(write_volume(mask, tmp_path / "mask"))
    assert read.origin.algorithm == ALGORITHM
    source = phantoms.save(phantoms.ct_slices(), tmp_path / "source")
    (path,) = write_results(read, source, tmp_path / "out", provenance=Provenance.of(read.origin.algorithm))
    item = pydicom.dcmread(path).SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert (item.AlgorithmName, item.AlgorithmVersion) == ("my_liver", "3")
    assert item.AlgorithmParameters == f"weights sha256:{'ab' * 32}; configuration sha256:{'cd' * 32}"
    assert item.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"


def test_what_is_stated_counts_more_than_what_the_mask_says():
    stated = Provenance.of(ALGORITHM, algorithm_name="other")
    assert (stated.algorithm_name, stated.algorithm_version) == ("other", "3")
    assert Provenance.of(None).algorithm_name == "clara-stages liver tumour segmentation"


@pytest.mark.parametrize("name", ["x" * 65, "a\\b", "a\nb", "L\u00e9sion", "\u809d"])
def test_a_name_that_does_not_fit_is_refused(name):
    with pytest.raises(SettingsError, match="at most 64 ASCII characters"):
        Provenance(algorithm_name=name)


def test_settings_that_change_the_result_change_its_uids(result_request):
    first = result_request().uids.uid("seg instance")
    assert result_request().uids.uid("seg instance") == first
    other = result_request(provenance=Provenance(algorithm_version="2"))
    assert other.uids.uid("seg instance") != first
    assert other.uids.uid("seg series") != other.uids.uid("seg instance")


@pytest.mark.parametrize(
    "change",
    [
        {"PatientID": "P-2"},
        {"PatientName": "Roe^Jane"},
        {"StudyDescription": "Abdomen"},
        {"Manufacturer": "other"},
        {"AccessionNumber": "A-2"},
        {"SliceThickness": 2.5},
        {"SeriesNumber": 4},
    ],
)
def test_what_is_taken_over_from_the_source_changes_the_uids(result_request, tmp_path, change):
    other = request_of_mask(phantoms.mask(), phantoms.save(phantoms.ct_slices(**change), tmp_path / "other"))
    assert other.uids.uid("seg instance") != result_request().uids.uid("seg instance")


def test_what_is_not_taken_over_changes_no_uid(result_request, tmp_path):
    other = phantoms.save(phantoms.ct_slices(ContentTime="101112", Rows=16, KVP=120), tmp_path / "other")
    assert request_of_mask(phantoms.mask(), other).uids.uid("seg instance") == result_request().uids.uid(
        "seg instance"
    )


def test_a_warning_changes_the_uids(source, result_request):
    mask = phantoms.mask()
    warned = replace(mask, origin=replace(mask.origin, warnings=("slices 3 to 5 may be missing",)))
    other = request_of_mask(warned, source)
    assert other.uids.uid("seg instance") != result_request().uids.uid("seg instance")


def test_another_version_of_this_software_gives_other_uids(result_request, monkeypatch):
    first = result_request().uids.uid("seg instance")
    monkeypatch.setattr("stages.__version__", "0.0.1")
    assert result_request().uids.uid("seg instance") != first


def test_what_has_the_same_uid_differs_in_dates_and_times_only(source, tmp_path):
    kinds = [name for name in RESULT_KINDS if name != "volume"]
    first = write_results(phantoms.mask(), source, tmp_path / "1", results=kinds)
    again = write_results(phantoms.mask(), source, tmp_path / "2", results=kinds)
    for one, other in zip(map(pydicom.dcmread, first), map(pydicom.dcmread, again), strict=True):
        assert (one.SOPInstanceUID, one.keys()) == (other.SOPInstanceUID, other.keys())
        assert {e.VR for e in one if e.value != other[e.tag].value} <= {"DA", "TM"}
