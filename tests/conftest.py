"""Few fixtures, each returning a plain object."""

import shutil
import subprocess
from pathlib import Path

import pytest

from stages.arrays import device_available, to_device

REAL_DATA = Path(__file__).parents[2] / "shared/data"


@pytest.fixture
def real_data():
    """Return the folder of real scanner files, which lies outside the repository."""
    if not REAL_DATA.is_dir():
        pytest.skip("the folder with real scanner files is not there")
    return REAL_DATA


@pytest.fixture
def dciodvfy_errors():
    """Return what gives the lines beginning with Error that dciodvfy prints of a file."""
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")

    def errors(path):
        done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace")
        return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]

    return errors


@pytest.fixture(params=["host", "device"])
def put(request):
    """Return what puts an array where the test works: the host, then the CUDA device."""
    if request.param == "host":
        return lambda array: array
    if not device_available():
        pytest.skip("CuPy sees no CUDA device")
    return to_device
