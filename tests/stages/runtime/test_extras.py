"""What is said where the packages of an extra are missing."""

import subprocess
import sys
from pathlib import Path

import pytest

import dicom_reader  # noqa: F401 - its front door is looked at
from stages.errors import SettingsError
from stages.runtime import extras
from stages.runtime.extras import MissingExtraError, explain, front_door, report_missing_extra, require_extra

ROOT = Path(__file__).parents[3]
WITHOUT = """
import runpy, sys
from importlib.machinery import PathFinder

class Missing:
    def find_spec(name, path=None, target=None):
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in MISSING else super().find_spec(name, path, target)

sys.meta_path[:] = [Finder if each is PathFinder else each for each in sys.meta_path]
"""


def run_without(*missing, code):
    """Run code in a Python that finds none of these packages."""
    return subprocess.run(
        [sys.executable, "-c", f"MISSING = {missing}\n{WITHOUT}\n{code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


def as_program(package, *arguments):
    return f"sys.argv = [{package!r}, *{arguments}]\nrunpy.run_module({package!r}, run_name='__main__')"


def install(extra):
    return f'pip install "clara-stages[{extra}]"'


@pytest.mark.parametrize(
    ("missing", "package", "arguments", "extra"),
    [
        ("pydicom", "dicom_reader", ("--help",), "reader"),
        ("pydicom", "dicom_writer", ("--help",), "writer"),
        ("reportlab", "dicom_writer", ("--help",), "writer"),
        ("typer", "clara_wf", ("list",), "cli"),
        ("kubernetes", "clara_wf", ("list",), "cli"),
        ("pynetdicom", "clara_wf", ("adapter", "--config", "none.yaml"), "adapter"),
    ],
)
def test_a_program_says_in_one_line_which_extra_is_missing(missing, package, arguments, extra):
    done = run_without(missing, code=as_program(package, *arguments))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"{missing} is not installed; install it with: {install(extra)}")


def test_the_toolkit_runs_without_any_extra():
    everything = {name for names in extras.EXTRAS.values() for name in names} - {"google"}  # has protobuf
    done = run_without(*everything, code=as_program("ai_livertumor", "--help"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("read_series", "dicom_reader", "reader"), ("write_results", "dicom_writer", "writer")],
)
def test_an_import_says_which_extra_is_missing(name, package, extra):
    done = run_without("pydicom", code=f"from {package} import {name}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(
        f"pydicom is not installed; install it with: {install(extra)}"
    )


@pytest.mark.parametrize(
    ("module", "package"), [("kubernetes.client", "kubernetes"), ("google.protobuf", "protobuf")]
)
def test_what_is_missing_later_is_said_by_the_name_of_its_package(module, package):
    error = explain(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert str(error) == f"{package} is not installed; install it with: {install('cli')}"


def test_a_package_that_is_of_no_extra_is_not_explained():
    assert explain(ModuleNotFoundError("No module named 'left_pad'", name="left_pad")) is None


def test_what_is_installed_is_not_complained_of(capsys):
    require_extra("cli")
    assert report_missing_extra("writer") == 0
    assert capsys.readouterr().err == ""


def test_the_error_is_one_of_settings_and_one_of_imports():
    assert issubclass(MissingExtraError, SettingsError)
    assert issubclass(MissingExtraError, ImportError)


def test_a_front_door_offers_what_it_names_and_nothing_else():
    find = front_door("dicom_reader", {"EXTRAS": "stages.runtime.extras"})
    assert find("EXTRAS") is vars(sys.modules["dicom_reader"]).pop("EXTRAS") is extras.EXTRAS
    with pytest.raises(AttributeError, match="has no attribute 'other'"):
        find("other")
