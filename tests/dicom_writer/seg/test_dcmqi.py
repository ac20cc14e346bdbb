"""dcmqi reads segmentations and gives back the mask, in its place."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from dicom_writer import write_results
from tests.dicom_writer import letters


@pytest.fixture
def segimage2itkimage():
    path = shutil.which("segimage2itkimage", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if path is None:
        pytest.skip("segimage2itkimage (dcmqi) is not installed")
    return path


@pytest.mark.parametrize("orientation", ["axial", "coronal", "oblique"])
def test_dcmqi_finds_the_letter_where_the_patient_has_it(tmp_path, segimage2itkimage, orientation):
    source, mask = letters.series_and_mask(tmp_path / "source", letters.ORIENTATIONS[orientation])
    (path,) = write_results(mask, source, tmp_path / "out")
    out = tmp_path / "dcmqi"
    out.mkdir()
    command = [segimage2itkimage, "--inputDICOM", path, "--outputDirectory", out, "--outputType", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    for number in (1, 2):
        image = SimpleITK.ReadImage(str(out / f"{number}.nrrd"))
        array = SimpleITK.GetArrayFromImage(image)
        points = [
            image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]) for index in np.argwhere(array)
        ]
        assert len(points) == np.count_nonzero(mask.array == number)
        assert set(letters.label_at(points).tolist()) == {number}
