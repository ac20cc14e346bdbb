"""The three stages and Triton, run by Docker Compose alone."""

import os
import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from ruamel.yaml import YAML

from stages import __version__

COMPOSE = Path(__file__).parents[2] / "docker/compose.yaml"


@pytest.fixture
def compose(tmp_path):
    """Return what runs a command of Compose, version 2 or 1, in a project of the test's own."""
    plugin = (
        subprocess.run(["docker", "compose", "version"], capture_output=True)
        if shutil.which("docker")
        else None
    )
    if plugin is not None and plugin.returncode == 0:
        program = ["docker", "compose"]
    elif shutil.which("docker-compose"):
        program = ["docker-compose"]
    else:
        pytest.skip("Docker Compose is not installed")
    user = f"{os.getuid() or 10001}:{os.getgid() or 10001}"
    environ = {**os.environ, "JOB": str(tmp_path / "job"), "USER_ID": user}

    def compose(*arguments):
        command = [*program, "-p", f"clara-test-{os.getpid()}", "-f", str(COMPOSE), *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True)

    yield compose
    compose("down", "--volumes", "--timeout", "3")


def test_compose_names_the_images_of_this_version_and_builds_them_from_their_dockerfiles():
    services = YAML(typ="safe").load(COMPOSE)["services"]
    for name, service in services.items():
        assert service["image"] == f"clara/{name}:${{VERSION:-{__version__}}}"
        assert (COMPOSE.parents[1] / service["build"]["dockerfile"]).is_file()
        stage = service["build"].get("args", {}).get("STAGE", name.replace("-", "_"))
        assert stage.replace("_", "-") == name
    assert len(services) == 4


@pytest.mark.docker
def test_a_series_becomes_a_segmentation(images, compose, tmp_path):
    from clara_wf.run.demo import write_phantom
    from phantoms import make_abdomen

    phantom = make_abdomen(900_001, shape=(40, 160, 160), spacing_mm=(5.0, 2.5, 2.5))
    write_phantom(phantom, tmp_path / "job/dicom-reader/input", truth_folder=tmp_path / "truth")
    for name in ("dicom-reader", "ai-livertumor", "dicom-writer"):
        output = tmp_path / "job" / name / "output"
        output.mkdir(parents=True)
        output.chmod(0o777)
    done = compose("run", "--rm", "dicom-writer")
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = (tmp_path / "job/dicom-writer/output").glob("*.dcm")
    assert [segment.SegmentLabel for segment in pydicom.dcmread(result).SegmentSequence] == [
        "Liver",
        "Liver tumour",
    ]
