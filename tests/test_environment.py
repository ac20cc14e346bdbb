"""The environment that the launcher and the scripts make for themselves."""

import contextlib
import importlib.util
import io
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/environment.py"


@pytest.fixture(scope="module")
def environment():
    spec = importlib.util.spec_from_file_location("environment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def made(environment, tmp_path_factory):
    """Make an environment of no packages; return its cache, its list, its Python, and what was said."""
    folder, said = tmp_path_factory.mktemp("made"), io.StringIO()
    (folder / "nothing.txt").write_text("# no packages\n")
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setenv("CLARA_CACHE", str(folder / "cache"))
        patch.setitem(environment.SIZES_MB, "nothing", (190, 880))
        python = environment.ensure(folder / "nothing.txt")
    return SimpleNamespace(folder=folder, python=python, said=said.getvalue().splitlines())


@pytest.fixture
def requirements(made, monkeypatch):
    """A list of no packages, and a cache of the tests' own."""
    monkeypatch.setenv("CLARA_CACHE", str(made.folder / "cache"))
    return made.folder / "nothing.txt"


def test_it_is_made_once_and_then_only_looked_up(environment, made, requirements, monkeypatch):
    python = made.python
    assert made.said[0].startswith(
        "setting up an environment of its own, once (190 MB to fetch, 880 MB on disk), in "
    )
    monkeypatch.setattr(sys, "prefix", str(python.parent.parent))  # its own Python leads to it as well
    made = python.parent.parent.stat().st_mtime_ns
    assert environment.ensure(requirements) == python
    assert python.parent.parent.stat().st_mtime_ns == made
    assert subprocess.run([python, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout == "42\n"


@pytest.mark.slow
def test_one_that_was_interrupted_is_made_again(environment, made, requirements):
    folder = made.python.parent.parent
    (folder / ".complete").unlink()
    made.python.unlink()
    environment.ensure(requirements)
    assert made.python.exists()
    assert (folder / ".complete").exists()


def test_packages_that_cannot_be_had_are_told_and_leave_theirs_incomplete(
    environment, made, requirements, tmp_path, capsys
):
    other = tmp_path / requirements.name
    other.write_text("no-such-package-of-clara==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(SystemExit, match="pip could not install the packages"):
        environment.ensure(other)
    assert "no-such-package-of-clara" in capsys.readouterr().err
    assert len(list((made.folder / "cache").glob("env-*/bin"))) == 2
    assert [path.parent for path in (made.folder / "cache").glob("env-*/.complete")] == [
        made.python.parents[1]
    ]


def test_a_python_that_is_too_old_is_refused(environment, requirements, monkeypatch):
    monkeypatch.setattr(environment, "SUPPORTED", ((3, 99), (3, 99)))
    with pytest.raises(SystemExit, match=r"Python 3\.11, 3\.12 or 3\.13 is needed, this is 3\."):
        environment.ensure(requirements)


def test_the_launcher_says_so_when_no_python_fits(tmp_path):
    done = subprocess.run(
        ["/bin/sh", ROOT / "clara-reference-workflows/clara-wf", "list"],
        env={"PATH": os.defpath, "HOME": str(tmp_path), "CLARA_PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "no Python 3.11, 3.12 or 3.13 found" in done.stderr


@pytest.mark.parametrize("folder", ["clara-reference-workflows", "clara-reference-workflow"])
def test_the_launcher_works_from_any_folder_and_under_both_names(tmp_path, folder):
    done = subprocess.run(
        [ROOT / folder / "clara-wf", "list"],
        cwd=tmp_path,
        env={**os.environ, "CLARA_PYTHON": sys.executable},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd" in done.stdout


MAKES_NONE = """
import os, sys
from pathlib import Path
found, folder = Path(sys.argv[4]), Path(os.environ["CLARA_CACHE"]) / "env-run"
(folder / "bin").mkdir(parents=True, exist_ok=True)
(folder / ".complete").touch()
(folder / "bin/python").unlink(missing_ok=True)
(folder / "bin/python").symlink_to(sys.executable)
found.write_text(f"{folder}/bin/python\\n")
"""


def test_python_is_asked_for_the_environment_once_and_again_when_it_is_gone(tmp_path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/with-python", tmp_path / "scripts/with-python")
    (tmp_path / "scripts/environment.py").write_text(MAKES_NONE)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/run.txt").write_text("one==1.0\n")
    environ = {"PATH": os.environ["PATH"], "CLARA_PYTHON": sys.executable, "CLARA_CACHE": str(tmp_path / "c")}

    def printed():
        command = [tmp_path / "scripts/with-python", "--", "-c", "import os; print(os.environ['PYTHONPATH'])"]
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout

    assert [printed(), printed()] == ["", f"{tmp_path}\n"]
    (tmp_path / "c/env-run/.complete").unlink()
    assert [printed(), printed()] == ["", f"{tmp_path}\n"]
    (tmp_path / "requirements/run.txt").write_text("one==1.1\n")
    assert [printed(), printed()] == ["", f"{tmp_path}\n"]


def test_the_script_leaves_word_where_the_environment_is(environment, tmp_path):
    environment._note(tmp_path / "python-run", Path("/somewhere/bin/python"))
    environment._note(tmp_path / "gone/python-run", Path("/somewhere/bin/python"))
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
        ("python-run", "/somewhere/bin/python\n")
    ]


def test_without_a_terminal_a_line_tells_each_quarter(environment, capsys):
    with environment.Progress(8) as progress:
        for number in range(8):
            progress.see(f"Collecting package{number}==1.0 (from -r run.txt)\n")
            progress.see("  Downloading package.whl\n")
        progress.see("Installing collected packages: package1, package2\n")
    assert capsys.readouterr().err.splitlines() == [
        "  2 of at most 8 packages: package1",
        "  4 of at most 8 packages: package3",
        "  6 of at most 8 packages: package5",
        "  8 of at most 8 packages: package7",
        "  unpacking",
    ]


def test_a_long_silence_is_told_with_what_is_being_done(environment, capsys):
    with environment.Progress(8, silence_s=0.02) as progress:
        progress.see("Installing collected packages: package1\n")
        time.sleep(0.1)
    assert capsys.readouterr().err.splitlines()[:2] == ["  unpacking", "  unpacking, after 0 s"]


def test_a_cache_that_cannot_be_used_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, SCRIPT, "--for", "run", "--", "-c", "pass"],
        env={**os.environ, "CLARA_CACHE": str(tmp_path / "file")},
        capture_output=True,
        text=True,
    )
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"cannot use the folder {tmp_path}/file for the Python environment: ")


@pytest.fixture
def add_cupy(environment, tmp_path, monkeypatch):
    """Return what adds CuPy to an environment, what was asked of pip so far, and what became of it."""
    (tmp_path / "env").mkdir()
    asked = []
    monkeypatch.setattr(
        environment, "_install", lambda command, requirements: asked.append(requirements.stem)
    )

    def add(cuda):
        gpu = environment.NvidiaGpu(
            name="NVIDIA H200", memory_bytes=0, compute_capability=(9, 0), cuda=cuda, driver="", count=1
        )
        environment.ensure_cupy(tmp_path / "env/bin/python", gpu if cuda else None)
        told = tmp_path / "env/.cupy"
        return asked, told.read_text().strip() if told.exists() else None

    return add


@pytest.mark.parametrize(("cuda", "name"), [((13, 0), "cuda13"), ((14, 1), "cuda13"), ((12, 4), "cuda12")])
def test_cupy_of_the_drivers_cuda_is_added_once(add_cupy, cuda, name):
    assert [add_cupy(cuda), add_cupy(cuda)] == [([name], name)] * 2


def test_without_a_gpu_no_cupy_is_added_and_with_an_old_driver_it_is_told_why(add_cupy, capsys):
    assert add_cupy(None) == ([], None)
    assert add_cupy((11, 8)) == ([], "none: the driver runs CUDA 11")
    assert "CuPy needs a driver for CUDA 12 or 13" in capsys.readouterr().err


def test_cupy_that_cannot_be_had_is_told_once_and_everything_goes_on(
    add_cupy, environment, monkeypatch, capsys
):
    def fail(command, requirements):
        raise SystemExit("pip could not install the packages")

    monkeypatch.setattr(environment, "_install", fail)
    for _ in range(2):
        assert add_cupy((13, 0)) == ([], "none: pip could not install the packages")
    assert capsys.readouterr().err.count("to try again, remove ") == 1


@pytest.mark.parametrize("name", ["cuda12", "cuda13"])
def test_cupy_brings_the_numpy_that_is_there(name):
    def numpy_in(requirements):
        text = (ROOT / "requirements" / f"{requirements}.txt").read_text()
        return [line.partition(" \\")[0] for line in text.splitlines() if line.startswith("numpy==")]

    assert numpy_in(name) == numpy_in("run")


@pytest.mark.parametrize(("switch", "asked"), [("", True), ("off", False)])
def test_environment_without_cupy_is_looked_at_again_where_there_is_a_gpu(tmp_path, switch, asked):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "gpu").touch()
    text = (ROOT / "scripts/with-python").read_text().replace("/dev/nvidia*", str(tmp_path / "gp*"))
    (tmp_path / "scripts/with-python").write_text(text)
    (tmp_path / "scripts/with-python").chmod(0o755)
    (tmp_path / "scripts/environment.py").write_text(MAKES_NONE)
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/run.txt").write_text("one==1.0\n")
    environ = {"PATH": os.environ["PATH"], "CLARA_PYTHON": sys.executable, "CLARA_CACHE": str(tmp_path / "c")}
    command = [tmp_path / "scripts/with-python", "--", "-c", "print(7)"]

    def printed():
        done = subprocess.run(
            command, env={**environ, "CLARA_GPU": switch}, capture_output=True, text=True, check=True
        )
        return done.stdout

    printed()
    assert printed() == ("" if asked else "7\n")
    (tmp_path / "c/env-run/.cupy").touch()
    assert printed() == "7\n"
