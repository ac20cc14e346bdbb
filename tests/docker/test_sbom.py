"""The bill of materials says what is in an image."""

import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

SBOM = Path(__file__).parents[2] / "scripts/sbom"


def bill_of(image):
    done = subprocess.run([str(SBOM), image], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def packages(bill, kind):
    return {
        part["name"]: part["version"]
        for part in bill["components"]
        if part["purl"].startswith(f"pkg:{kind}/")
    }


def test_a_bill_names_python_and_system_packages_with_versions_and_licences(images):
    bill = bill_of(images["dicom-writer"])
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert bill["metadata"]["component"]["name"] == "clara/dicom-writer"
    assert {"numpy", "pydicom", "highdicom"} <= set(packages(bill, "pypi"))
    assert "tritonclient" not in packages(bill, "pypi")
    assert "libc6" in packages(bill, "deb")
    (highdicom,) = (part for part in bill["components"] if part["name"] == "highdicom")
    assert highdicom["licenses"] == [{"license": {"id": "MIT"}}]


def test_the_bill_of_the_model_server_names_triton_and_is_the_same_each_time(images):
    bill = bill_of(images["model-server"])
    assert packages(bill, "generic") == {"tritonserver": "2.51.0"}
    assert "onnxruntime" in packages(bill, "pypi")
    assert bill == bill_of(images["model-server"])


def test_an_image_that_is_not_there_is_one_line_of_error(images):
    done = subprocess.run([str(SBOM), "clara-test/none:1"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("cannot look into the image clara-test/none:1: ")
    assert done.stderr.count("\n") == 1
