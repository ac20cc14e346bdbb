"""The images as they are run in production: read-only, without capabilities, as nobody in particular."""

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import __version__

ROOT = Path(__file__).parents[2]
STAGES = ("dicom-reader", "ai-livertumor", "dicom-writer")
HEALTH = ("python", "-m", "clara_wf", "adapter", "health")
HARDENED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--network=none",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--log-driver=none",
)
DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
BASES = ("alpine/helm:3.19.0", "python:3.11-slim")
BUILT = (*STAGES, "stages", "model-server", "dicom-adapter")


def docker(*arguments, check=True):
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True)
    assert not check or done.returncode == 0, done.stderr
    return done


def python_in(image, code, *more):
    """Return what a program prints in a hardened container of an image."""
    return docker("run", "--rm", *HARDENED, *more, "--entrypoint=python", image, "-c", code).stdout.strip()


def config_of(image):
    return json.loads(docker("image", "inspect", image).stdout)[0]["Config"]


def locked(path):
    """Return the versions that a requirements file pins, by package."""
    pins = re.findall(r"^([a-z0-9.-]+(?:\[\w+\])?)==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {(name, version) for name, version in pins}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_is_built_as_the_version_of_the_toolkit(path):
    assert f"ARG VERSION={__version__}\n" in path.read_text()
    names = STAGES if path.stem == "stage" else [path.stem.replace("_", "-")]
    assert all(f"clara/{name}:{__version__}" in path.read_text() for name in names)


def test_every_image_builds_on_the_same_base_until_it_is_pinned_for_all():
    bases = {re.search(r"^ARG BASE_IMAGE=(.+)$", path.read_text(), re.MULTILINE)[1] for path in DOCKERFILES}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.11-slim(@sha256:[0-9a-f]{64})?", bases.pop())


def test_bases_are_pinned_where_they_stand_by_what_the_registry_says(tmp_path):
    for folder in ("scripts", "docker"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    docker = tmp_path / "docker-of-the-test"
    docker.mkdir()
    (docker / "docker").write_text(
        "#!/bin/sh\n"
        '[ "$1" = pull ] && exit 0\n'
        'echo "mirror.example/other@sha256:0"\n'
        'echo "registry.example/${5%:*}@sha256:$(printf %s "$5" | sha256sum | cut -d" " -f1)"\n'
    )
    (docker / "docker").chmod(0o755)
    environ = {**os.environ, "PATH": f"{docker}:{os.environ['PATH']}"}
    wanted = [f"{name}@sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in BASES]
    for _ in range(2):  # pinned anew, they stay what they are
        done = subprocess.run(
            [tmp_path / "scripts/pin-bases"], env=environ, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == wanted
    for path in (tmp_path / "docker").glob("*.Dockerfile"):
        assert f"ARG BASE_IMAGE={wanted[1]}\n" in path.read_text()


@pytest.mark.parametrize("name", STAGES)
def test_the_chart_names_the_images_of_this_version(name):
    chart = YAML(typ="safe").load(ROOT / "clara-reference-workflows/charts/clara-workflow/values.yaml")
    assert chart["stages"][name]["image"] == {"repository": f"clara/{name}", "tag": __version__}


@pytest.mark.parametrize("path", sorted((ROOT / "requirements/images").glob("*.txt")), ids=lambda p: p.stem)
def test_an_image_gets_the_versions_that_are_tested(path):
    tested = {name for name, _ in locked(ROOT / "requirements/run.txt")}
    pins = {pin for pin in locked(path) if pin[0] in tested}
    assert len(pins) >= 5
    assert pins <= locked(ROOT / "requirements/run.txt")


@pytest.mark.docker
@pytest.mark.parametrize("name", BUILT)
def test_an_image_tells_what_it_is_and_runs_as_nobody_in_particular(images, name):
    config = config_of(images[name])
    labels = config["Labels"]
    assert labels["org.opencontainers.image.title"] == f"clara/{name}"
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(r"[0-9a-f]{40}", labels["org.opencontainers.image.revision"])
    assert labels["org.opencontainers.image.base.name"] == os.environ.get(
        "CLARA_BASE_IMAGE", "python:3.11-slim"
    )
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"][0] == "python"
    assert config["StopSignal"] == "SIGTERM"


@pytest.mark.docker
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_carries_no_installer_no_compiler_and_no_tests(images, name):
    code = """
import importlib.util, pathlib, shutil, sysconfig
site = pathlib.Path(sysconfig.get_path("purelib"))
print([n for n in ("pip", "setuptools") if importlib.util.find_spec(n)], shutil.which("gcc"),
      sorted(str(p) for p in site.rglob("tests"))[:3], sum(1 for _ in site.glob("*.dist-info")) > 3)
"""
    assert python_in(images[name], code) == "[] None [] True"


@pytest.mark.docker
@pytest.mark.parametrize(
    ("name", "foreign"),
    [
        ("dicom-reader", ["grpc", "tritonclient", "highdicom", "scipy", "ai_livertumor", "dicom_writer"]),
        ("ai-livertumor", ["pydicom", "highdicom", "dicom_reader", "dicom_writer", "clara_wf"]),
        ("dicom-writer", ["grpc", "tritonclient", "SimpleITK", "dicom_reader", "ai_livertumor"]),
    ],
)
def test_a_stage_carries_nothing_of_the_others(images, name, foreign):
    code = f"import importlib.util as u; print([n for n in {foreign} if u.find_spec(n)])"
    assert python_in(images[name], code) == "[]"


@pytest.mark.docker
@pytest.mark.parametrize("name", STAGES)
def test_python_finds_all_of_a_stage_compiled(images, name):
    package = name.replace("-", "_")
    code = f"""
import os, sys
import {package}.__main__
sources = [m for m in list(sys.modules.values()) if getattr(m, "__cached__", None)]
print(len(sources) > 150, [m.__name__ for m in sources if not os.path.exists(m.__cached__)])
"""
    assert python_in(images[name], code) == "True []"


@pytest.mark.docker
def test_the_reader_decodes_in_its_image_what_scanners_send(images, real_data):
    code = """
import logging, pathlib, shutil
from pydicom import dcmread
from dicom_reader import read_series
logging.disable()
sums = {}
for file in sorted(pathlib.Path("/data").glob("CTImage*")):
    folder = pathlib.Path("/tmp/series")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for n in range(2):
        image = dcmread(file)
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = f"2.25.{n}"
        image.ImagePositionPatient = [0, 0, 5 * n]
        image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        image.save_as(folder / str(n))
    sums[file.name] = int(read_series(folder).array.sum(dtype="int64"))
exact = {total for name, total in sums.items() if not any(lossy in name for lossy in LOSSY)}
print(len(sums), len(exact), all(abs(total / next(iter(exact)) - 1) < 0.02 for total in sums.values()))
"""
    lossy = ("JPEG2000Transfer", "JPEGLSLossy", "Process10", "Process1Transfer", "Process2", "Process6")
    mount = ("-v", f"{real_data / 'transfer_syntaxes'}:/data:ro")
    assert python_in(images["dicom-reader"], code.replace("LOSSY", repr(lossy)), *mount) == "16 1 True"


@pytest.mark.docker
def test_nothing_but_tmp_can_be_written(images):
    code = """
import pathlib
for place in ("/", "/app/x", "/app/output/x", "/opt/clara/x", "/tmp/x"):
    try:
        pathlib.Path(place, "file").mkdir(parents=True); print("wrote", place)
    except OSError as error:
        print(error.errno)
"""
    assert python_in(images["dicom-writer"], code).split("\n") == ["30", "30", "30", "30", "wrote /tmp/x"]


@pytest.mark.docker
def test_a_stage_that_waits_as_process_1_ends_soon_after_sigterm(images, tmp_path):
    locks = tmp_path / "locks"
    locks.mkdir()
    locks.chmod(0o777)
    mount = f"--mount=type=bind,source={locks},target=/app/locks"
    name = f"clara-test-{secrets.token_hex(3)}"
    run = [
        "docker",
        "run",
        "--rm",
        f"--name={name}",
        *HARDENED,
        mount,
        "--tmpfs=/app/output",
        images["dicom-reader"],
    ]
    with subprocess.Popen(run, stderr=subprocess.PIPE, text=True) as process:
        while not (locks / "dicom-reader.running").exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        asked = time.monotonic()
        docker("stop", "--time=30", name)
        _, log = process.communicate()
        assert (process.returncode, time.monotonic() - asked < 10) == (1, True), log
    assert json.loads((locks / "dicom-reader.failed").read_text())["message"] == "stopped by SIGTERM"


@pytest.mark.docker
def test_the_model_server_becomes_healthy_and_stops_when_asked(images):
    name = f"clara-test-{secrets.token_hex(3)}"
    mount = f"--mount=type=bind,source={ROOT / 'models'},target=/models,readonly"
    fast = "--health-interval=1s"
    docker(
        "run", "--detach", f"--name={name}", *HARDENED, "--shm-size=1g", fast, mount, images["model-server"]
    )
    try:
        deadline = time.monotonic() + 60
        health = "starting"
        while health != "healthy" and time.monotonic() < deadline:
            time.sleep(0.5)
            health = docker("inspect", "--format={{.State.Health.Status}}", name).stdout.strip()
        assert health == "healthy"
        docker("stop", name)
        assert docker("inspect", "--format={{.State.ExitCode}}", name).stdout.strip() == "0"
    finally:
        docker("rm", "--force", name)


@pytest.mark.docker
def test_the_model_server_takes_less_than_500_megabytes(images):
    (facts,) = json.loads(docker("image", "inspect", images["model-server"]).stdout)
    assert facts["Size"] < 500e6


@pytest.mark.docker
def test_a_stage_of_ones_own_is_built_on_the_toolkit_and_can_call_triton_and_install(images):
    code = "import stages, SimpleITK, numba, tritonclient.grpc, pip; print(stages.__version__)"
    assert python_in(images["stages"], code) == __version__


@pytest.mark.docker
@pytest.mark.parametrize("name", ["ai-livertumor", "stages"])
def test_what_numba_compiles_was_compiled_when_the_image_was_built(images, name):
    code = """
import numba.core.event as event
with event.install_recorder("numba:compile") as recorder:
    import stages.segmentation.warm_up
    stages.segmentation.warm_up.warm_up()
print(len(recorder.buffer))
"""
    assert python_in(images[name], code) == "0"


@pytest.mark.docker
def test_the_adapter_listens_in_its_image_and_stops_when_asked(images, tmp_path):
    config = tmp_path / "dicom-server-config.yaml"
    config.write_text(
        "dicom: {scp: {port: 11112, ae-titles: [{ae-title: CT_AI}], reject-unknown-sources: false}}\n"
    )
    storage = tmp_path / "clara-io"
    storage.mkdir()
    for path, mode in ((tmp_path, 0o755), (config, 0o644), (storage, 0o777)):
        path.chmod(mode)
    mounts = [f"--volume={config}:/etc/clara/dicom-server-config.yaml:ro", f"--volume={storage}:/clara-io"]
    container = docker("run", "--detach", *HARDENED, *mounts, images["dicom-adapter"]).stdout.strip()
    ready = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/readyz').read().decode())"
    echo = """
from pynetdicom import AE
entity = AE()
entity.add_requested_context("1.2.840.10008.1.1")
print(entity.associate("127.0.0.1", 11112, ae_title="CT_AI").send_c_echo().Status)
"""
    try:
        deadline = time.monotonic() + 30
        while docker("exec", container, "python", "-c", ready, check=False).stdout.strip() != "ok":
            assert time.monotonic() < deadline, docker("inspect", container).stdout
            time.sleep(0.3)
        assert docker("exec", container, "python", "-c", echo).stdout.strip() == "0"
        assert docker("exec", container, "python", "-m", "clara_wf", "adapter", "status").returncode == 0
        assert config_of(images["dicom-adapter"])["Healthcheck"]["Test"] == ["CMD", *HEALTH]
        assert docker("exec", container, *HEALTH).stdout == "ok\n"
        assert "v" in docker("exec", container, "helm", "version", "--short").stdout
        docker("stop", "--time=20", container)
        state = json.loads(docker("inspect", container).stdout)[0]["State"]
        assert state["ExitCode"] in (0, 1)
    finally:
        docker("rm", "--force", "--volumes", container, check=False)
    assert (storage / "clara-core/dicom-adapter/adapter.sqlite").exists()
