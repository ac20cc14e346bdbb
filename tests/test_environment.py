"""The environment that the launcher and the scripts make for themselves."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts/environment.py"


@pytest.fixture(scope="module")
def environment():
    spec = importlib.util.spec_from_file_location("environment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def requirements(tmp_path, monkeypatch):
    """A list of no packages, and a cache of the test's own."""
    monkeypatch.setenv("CLARA_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "nothing.txt"
    path.write_text("# no packages\n")
    return path


def test_it_is_made_once_and_then_only_looked_up(environment, requirements):
    python = environment.ensure(requirements)
    made = python.parent.parent.stat().st_mtime_ns
    assert environment.ensure(requirements) == python
    assert python.parent.parent.stat().st_mtime_ns == made
    assert subprocess.run([python, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout == "42\n"


def test_one_that_was_interrupted_is_made_again(environment, requirements):
    python = environment.ensure(requirements)
    folder = python.parent.parent
    (folder / ".complete").unlink()
    python.unlink()
    environment.ensure(requirements)
    assert python.exists()
    assert (folder / ".complete").exists()


def test_other_requirements_get_another_one(environment, requirements):
    first = environment.ensure(requirements)
    requirements.write_text("# still no packages\n")
    assert environment.ensure(requirements) != first


def test_packages_that_cannot_be_had_are_told_and_leave_it_incomplete(environment, requirements, capsys):
    requirements.write_text("no-such-package-of-clara==1.0 --hash=sha256:" + "0" * 64 + "\n")
    with pytest.raises(SystemExit, match="pip could not install the packages"):
        environment.ensure(requirements)
    assert "no-such-package-of-clara" in capsys.readouterr().err
    assert not list((requirements.parent / "cache").glob("env-*/.complete"))


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
