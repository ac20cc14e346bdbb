"""What the distribution declares is what it imports."""

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from stages.runtime.extras import EXTRA_OF, EXTRAS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PACKAGES = {
    "stages": (),
    "ai_livertumor": (),
    "dicom_files": ("reader",),
    "dicom_reader": ("reader", "nvimgcodec-cuda12"),
    "dicom_writer": ("writer",),
    "phantoms": ("cli",),
    "clara_wf": ("cli", "import-torch"),
    "dicom_adapter": ("adapter",),
    "training": ("train",),
}
"""The extras whose packages each package may import, beside those of all."""

FOREIGN = {"triton_backends", "windows_model"}  # run inside the model server's own interpreter
CUDA = {"cupy", "cupyx"}
OF_NAMESPACE = {"google": "protobuf", "nvidia": "nvidia-nvimgcodec-cu12", "ruamel": "ruamel-yaml"}
"""Distributions of names that several share."""


def declared(extras):
    """Return the distributions of the base and of extras, with those of the extras that they name."""
    found = {canonicalize_name(Requirement(each).name) for each in PROJECT["dependencies"]}
    for extra in extras:
        for text in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(text)
            own = requirement.name == PROJECT["name"]
            found |= declared(requirement.extras) if own else {canonicalize_name(requirement.name)}
    return found


def imported(package):
    """Return the top-level names that a package imports, in functions and for the type checker too."""
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        if FOREIGN.isdisjoint(path.parent.parts):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module)
    top = {name.partition(".")[0] for name in names}
    return top - set(sys.stdlib_module_names) - set(PACKAGES) - CUDA


def distributions(names):
    known = packages_distributions()
    return {canonicalize_name(OF_NAMESPACE.get(name) or known.get(name, [name])[0]) for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(package):
    assert distributions(imported(package)) - declared(PACKAGES[package]) == set()


@pytest.mark.parametrize("extra", [(), ("reader",), ("writer",), ("cli",), ("adapter",)])
def test_everything_declared_is_imported(extra):
    used = {
        name for package, needs in PACKAGES.items() if set(extra) <= set(needs) for name in imported(package)
    }
    own = declared(extra) - (declared(()) if extra else set())
    if extra == ("adapter",):
        own -= declared(("cli",))
    assert own - distributions(used) == set()


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_a_part_cannot_do_without_is_declared_by_its_extra(extra):
    assert distributions(EXTRAS[extra]) <= declared((extra,)) - declared(())


def test_every_package_says_the_extra_that_it_needs():
    assert {package: needs[:1] for package, needs in PACKAGES.items() if package in EXTRA_OF} == {
        package: (extra,) for package, extra in EXTRA_OF.items()
    }
    assert set(EXTRA_OF.values()) | {"import", "import-torch"} == set(EXTRAS)


def test_the_toolkit_needs_no_kubernetes_no_dicom_and_no_reports():
    assert declared(()).isdisjoint({"kubernetes", "pydicom", "highdicom", "reportlab", "typer", "rich"})


def test_all_is_every_part():
    assert declared(("all",)) == declared(("reader", "writer", "cli", "adapter"))
