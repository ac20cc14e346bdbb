"""Results of a volume that was read of many series refer to each image in its own series."""

import numpy as np
import pytest
from pydicom import dcmread

from dicom_reader import read_series
from dicom_writer import write_results
from stages import InputError, read_volume, write_volume
from tests import phantoms

KINDS = ["seg", "labelmap", "series", "rtstruct", "report", "capture"]


@pytest.fixture
def torn(tmp_path):
    """Return a folder with slices that each have a series of their own, and a mask of them on disk."""
    slices = phantoms.ct_slices()
    for n, ds in enumerate(slices):
        ds.SeriesInstanceUID = f"1.7.{n}"
    folder = phantoms.save(slices, tmp_path / "in")
    ct = read_series(folder, merge_series=True)
    return folder, read_volume(write_volume(phantoms.drawn_on(ct, phantoms.labels()), tmp_path / "mask"))


def pairs(dataset, found=()):
    """Return series and instance of each reference, at any depth."""
    found = set(found)
    for element in dataset:
        for item in element.value if element.VR == "SQ" else ():
            uid = item.get("SeriesInstanceUID")
            below = [i for e in item if e.VR == "SQ" for i in e.value if "ReferencedSOPInstanceUID" in i]
            found |= {(str(uid), str(i.ReferencedSOPInstanceUID)) for i in below if uid}
            found |= pairs(item)
    return found


def test_every_kind_of_result_refers_to_the_images_in_their_own_series(torn, tmp_path, dciodvfy_errors):
    folder, mask = torn
    expected = {(f"1.7.{n}", phantoms.uid_of(n)) for n in range(5)}
    named = {kind: set() for kind in KINDS}
    for path in write_results(mask, folder, tmp_path / "out", results=KINDS):
        if "labelmap" not in path.name:
            assert dciodvfy_errors(path) == []
        kind = next(kind for kind in KINDS if kind in str(path.relative_to(tmp_path / "out")))
        named[kind] |= pairs(dcmread(path))
    assert {kind: found & expected == expected for kind, found in named.items() if kind != "capture"} == {
        kind: True for kind in KINDS if kind != "capture"
    }
    assert len(named["capture"] & expected) == len(named["capture"]) > 0


def test_an_image_that_left_its_series_is_refused(torn, tmp_path):
    folder, mask = torn
    path = next(p for p in folder.rglob("IM014"))
    ds = dcmread(path)
    ds.SeriesInstanceUID = "1.7.99"
    ds.save_as(path)
    with pytest.raises(InputError, match=r"SeriesInstanceUID is 1\.7\.99, the mask says 1\.7\.2"):
        write_results(mask, folder, tmp_path / "out")
    assert np.array_equal(mask.array, phantoms.labels())
