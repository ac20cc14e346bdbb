"""Few fixtures, each returning a plain object."""

import logging
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import hypothesis
import pytest

from stages import __version__
from stages.arrays import device_available, to_device

ROOT = Path(__file__).parents[1]
REAL_DATA = Path(os.environ.get("CLARA_TEST_DATA") or ROOT.parent / "shared/data")


# A loaded machine takes its time for an example; that is no mistake of the code.
hypothesis.settings.register_profile("clara", deadline=None, print_blob=True)
hypothesis.settings.load_profile("clara")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Keep the tests of a file in one worker, or those of files that name a group of their own.

    Tests that share the Docker engine begin, in one worker too. Those with the most slow tests follow, so
    that no worker waits at the end for another's long file.
    """
    slow = Counter()
    for item in items:
        if any(item.get_closest_marker(name) for name in ("docker", "cluster")):
            item.add_marker(pytest.mark.xdist_group("docker"), append=False)
        elif item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.as_posix()))
        slow[_group_of(item)] += item.get_closest_marker("slow") is not None
    slow["docker"] += len(items)
    items.sort(key=lambda item: -slow[_group_of(item)])


def pytest_collection_finish(session):
    """Refuse to run where pytest-xdist leaves the groups out of the names, as it does with pytest 9.2."""
    if getattr(session.config.option, "loadgroup", False):
        lost = [item.nodeid for item in session.items if not item.nodeid.endswith(f"@{_group_of(item)}")]
        if lost:
            raise pytest.UsageError(f"pytest-xdist would run each test anywhere, such as {lost[0]}")


def _group_of(item):
    return item.get_closest_marker("xdist_group").args[0]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Write by its number what is no text in captured output: processes send reports as UTF-8."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def root_handlers():
    """Take away what a test leaves at the root logger: its stream is closed with the test."""
    before = logging.root.handlers[:]
    yield
    for handler in set(logging.root.handlers) - set(before):
        logging.root.removeHandler(handler)


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


@pytest.fixture(scope="session")
def images():
    """Build the project's images, once a session, and return their names.

    ``CLARA_BASE_IMAGE`` names another base image than the official Python's.
    """
    base = os.environ.get("CLARA_BASE_IMAGE", "python:3.11-slim")
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    found = subprocess.run(["docker", "image", "inspect", base], capture_output=True, text=True)
    if found.returncode != 0:
        pytest.skip(
            f"Docker has no base image {base}: {found.stderr.strip()} (CLARA_BASE_IMAGE names another)"
        )
    build = [str(ROOT / "scripts/build-images"), "--base", base, "--offline"]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    names = ("stages", "dicom-reader", "ai-livertumor", "dicom-writer", "model-server", "dicom-adapter")
    return {name: f"clara/{name}:{__version__}" for name in names}


@pytest.fixture(params=["host", "device"])
def put(request):
    """Return what puts an array where the test works: the host, then the CUDA device."""
    if request.param == "host":
        return lambda array: array
    if not device_available():
        pytest.skip("CuPy sees no CUDA device")
    return to_device
