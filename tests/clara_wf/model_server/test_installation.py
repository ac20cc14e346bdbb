"""What the model server's installation does when something is missing or was interrupted."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from clara_wf.model_server.installation import (
    ModelServerError,
    _remove_leftovers,
    _signs_of_life,
    assemble_backends,
    install,
)
from clara_wf.model_server.packages import _run, link_python
from clara_wf.model_server.requirements import (
    PlatformFacts,
    UnsupportedPlatformError,
    check_platform,
    find_libpython,
)
from clara_wf.model_server.server import serve
from stages.runtime import atomic

ROOT = Path(__file__).parents[3]
DEBIAN_12 = PlatformFacts(system="Linux", machine="x86_64", glibc=(2, 36), python=(3, 12))
INSTALL = """
import sys
from pathlib import Path
from clara_wf.model_server.installation import install
print(install(Path(sys.argv[1]), on_progress=print).folder)
"""


@pytest.mark.parametrize("python", [(3, 11), (3, 12), (3, 13)])
def test_supported_platform_passes(python):
    check_platform(replace(DEBIAN_12, python=python))


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"system": "Darwin", "machine": "arm64"}, "needs Linux on x86_64, this is Darwin on arm64"),
        ({"machine": "aarch64"}, "this is Linux on aarch64"),
        ({"glibc": (2, 31)}, "needs glibc 2.35 or newer, this machine has 2.31"),
        ({"glibc": None}, "this machine has another C library"),
        ({"python": (3, 14)}, "needs CPython 3.11, 3.12, 3.13, this is CPython 3.14"),
        ({"python_build": "free-threaded CPython", "python": (3, 13)}, "this is free-threaded CPython 3.13"),
    ],
)
def test_unsupported_platform_is_told_with_what_to_do(difference, message):
    with pytest.raises(UnsupportedPlatformError, match=message) as refusal:
        check_platform(replace(DEBIAN_12, **difference))
    assert str(refusal.value).endswith("run a Triton server elsewhere and name it with --server HOST:PORT")
    assert refusal.value.exit_code == 6


def test_shared_library_of_python_is_found(tmp_path):
    name = "libpython3.12.so.1.0"
    assert find_libpython(name, folders=[tmp_path]) is None
    (tmp_path / name).touch()
    assert find_libpython(name, folders=[tmp_path / "absent", tmp_path]) == tmp_path / name


@pytest.mark.triton
@pytest.mark.slow
def test_packages_that_cannot_be_fetched_are_told_with_what_to_do(triton_cache, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(ModelServerError, match=r"could not fetch .* check the network and pip's settings"):
        install(tmp_path, on_progress=print)
    assert not list(tmp_path.rglob("complete"))
    assert not list(tmp_path.rglob(atomic.UNFINISHED))


@pytest.mark.triton
def test_the_installation_takes_what_the_user_is_told(triton_cache):
    folder = install(triton_cache, on_progress=print).folder
    sizes = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # what a server that runs meanwhile has removed
            if path.is_file() and not path.is_symlink():
                found = path.stat()
                sizes[found.st_ino] = found.st_size
    assert sum(sizes.values()) < 400e6


def test_a_full_disk_is_told_with_what_to_do():
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    with pytest.raises(
        ModelServerError, match=r"No space left on device; make room in the cache \(CLARA_CACHE"
    ):
        _run([sys.executable, "-c", f"print({said!r}); raise SystemExit(1)"], doing="fetch the packages")


def test_cache_that_cannot_be_written_is_told_with_what_to_do(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ModelServerError, match=r"could not install the model server in .*CLARA_CACHE"):
        install(tmp_path / "file" / "cache", on_progress=print)


@pytest.mark.triton
def test_second_use_is_instant(triton_cache):
    said = []
    started = time.perf_counter()
    install(triton_cache, on_progress=said.append)
    assert time.perf_counter() - started < 0.2  # seconds; an installation takes many
    assert said == []


@pytest.fixture
def interrupted(triton_cache):
    """Return a cache with a copy of the installation as an interrupted one: whole parts, no marker."""
    installed = install(triton_cache, on_progress=print).folder
    with tempfile.TemporaryDirectory(dir=triton_cache) as cache:
        copy = Path(cache) / installed.name
        shutil.copytree(installed, copy, symlinks=True, copy_function=os.link)
        (copy / "complete").unlink()
        (copy / ".server.4711-abcd1234.tmp").mkdir()
        yield Path(cache)


@pytest.mark.triton
def test_interrupted_installation_is_ended_with_the_parts_that_are_whole(interrupted, add_model, tmp_path):
    add_model(tmp_path)
    said = []
    with serve(tmp_path, cache=interrupted, log=tmp_path / "log", on_progress=said.append):
        assert len(said) == 1  # nothing was fetched
        assert not list(interrupted.rglob(atomic.UNFINISHED))


@pytest.mark.triton
def test_processes_that_install_at_once_share_one_installation(interrupted):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", INSTALL, interrupted], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert len({lines[-1] for lines in outputs}) == 1
    assert sum("installed" in line for lines in outputs for line in lines) == 1


@pytest.mark.triton
def test_changed_backend_gets_a_folder_of_its_own(interrupted, tmp_path):
    installation = install(interrupted, on_progress=print)
    (tmp_path / "mine").mkdir()
    folders = []
    for version in ("one", "two", "two"):
        (tmp_path / "mine/model.py").write_text(version)
        folders.append(assemble_backends(installation, tmp_path))
        assert (folders[-1] / "mine/model.py").read_text() == version
    assert folders[0] != folders[1] == folders[2]


def test_a_long_installation_shows_signs_of_life_and_none_after_it_has_ended():
    told = []
    with _signs_of_life("installing the model server", told.append, every_s=0.02):
        time.sleep(0.1)
    count = len(told)
    time.sleep(0.05)
    assert told[0] == "still installing the model server, after 0 s"
    assert len(told) == count


def test_python_of_packages_that_were_brought_along_imports_them_where_they_lie(tmp_path):
    for name, folder in (("one", "first"), ("one", "second"), ("two", "second")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / f"{name}.py").write_text(f"place = {folder!r}\n")
    link_python(tmp_path / "python", [tmp_path / "first", tmp_path / "second"])
    code = "import one, two; print(one.place, two.place)"
    done = subprocess.run([tmp_path / "python/bin/python", "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout == "first second\n"


def test_what_a_killed_installation_still_writes_to_stops_no_other(tmp_path, monkeypatch):
    (tmp_path / ".python.4711-1.tmp/lib").mkdir(parents=True)
    (tmp_path / "python").mkdir()

    def is_not_empty(*_, **__):
        raise OSError(errno.ENOTEMPTY, "Directory not empty")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", is_not_empty)
        _remove_leftovers(tmp_path)
    _remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_the_image_of_the_model_server_gets_all_that_its_installation_imports(tmp_path):
    for line in (ROOT / "docker/model_server.Dockerfile").read_text().splitlines():
        *sources, target = line.split()[1:] or [""]
        if line.startswith("COPY ") and target.startswith(("/build/stages", "/build/clara_wf")):
            for source in sources:
                is_folder = (ROOT / source).is_dir()
                to = tmp_path / target.strip("/") / ("" if is_folder else Path(source).name)
                to.parent.mkdir(parents=True, exist_ok=True)
                (shutil.copytree if is_folder else shutil.copy)(ROOT / source, to)
    script = f"import sys; sys.path[:0] = [{str(tmp_path)!r} + '/build']"
    script += "; import clara_wf.model_server.installation"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
