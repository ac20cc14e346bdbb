"""Every parameter of every public function and class of the API is documented, in numpydoc's form.

What numpydoc's validation calls PR01 (a parameter is missing), PR02 (one that is not there) and PR07 (no
description), read from the source by griffe, which the site is made with. In the applications, which nobody
imports, a parameter that has the name of its type says itself, and an option of a command has its help.
"""

import re

import griffe
import pytest

from tests.test_imports import FOREIGN, REPOSITORY

API = ("stages", "dicom_files", "dicom_reader", "ai_livertumor", "dicom_writer")
APPLICATIONS = ("clara_wf", "dicom_adapter")
NAMES_OF_PATHS = {"file", "folder", "path"}


@pytest.fixture(scope="module")
def api():
    loader = griffe.GriffeLoader(search_paths=[REPOSITORY], docstring_parser="numpy", allow_inspection=False)
    return {package: loader.load(package) for package in (*API, *APPLICATIONS)}


def public(thing):
    """Yield the public functions and classes that a module or class defines, all the way down."""
    for name, member in thing.members.items():
        if member.is_alias or name.startswith("_") or name in FOREIGN:
            continue
        if member.is_function or member.is_class:
            yield member
        if member.is_module or member.is_class:
            yield from public(member)


def documented(thing):
    """Return the documented parameters of a function, or the parameters and attributes of a class."""
    found = {}
    for section in thing.docstring.parsed if thing.docstring else ():
        if section.kind in (griffe.DocstringSectionKind.parameters, griffe.DocstringSectionKind.attributes):
            for part in section.value:
                found |= {name.strip(" *"): part.description.strip() for name in part.name.split(",")}
    return found


def mistakes_of(thing):
    """Return what is wrong with the description of the parameters of a function or class."""
    is_method = thing.parent.is_class and "staticmethod" not in thing.labels
    own = thing.parameters if thing.is_class else list(thing.parameters)[int(is_method) :]
    names = [part.name.lstrip("*") for part in own if part.name != "self" and not part.name.startswith("_")]
    said = documented(thing)
    if thing.is_class:
        for base in thing.mro():
            said = documented(base) | said
    yield from (f"{name} is missing" for name in names if name not in said)
    yield from (f"{name} is not described" for name, text in said.items() if not text)
    if thing.is_function:
        yield from (f"{name} is no parameter" for name in said if name not in names)


def says_itself(part):
    """Return whether a parameter has the name of its type, or is the environment."""
    kind = re.split(r" \||\[", str(part.annotation))[0].rpartition(".")[2]
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", kind).lower().split("_")
    of_path = kind in ("Path", "FilePath") and part.name in NAMES_OF_PATHS
    return (
        part.name == "environ" or of_path or (kind[:1].isupper() and part.name in ("_".join(words), *words))
    )


def is_command(thing):
    """Return whether a function is a command, or what offers its values: their options have a help."""
    return any(re.search("typer|click|Annotated", str(part.annotation)) for part in thing.parameters)


def overrides(thing):
    """Return whether a method takes the place of one of a class of ours, which describes its parameters."""
    return thing.parent.is_class and any(thing.name in base.members for base in thing.parent.mro())


def left_unsaid(thing):
    """Return what is wrong with the description of a function or class of an application."""
    if ".commands." in thing.path or ".cli.app." in thing.path:
        return []
    if overrides(thing) or is_command(thing):
        return []
    silent = {f"{part.name.lstrip('*')} is missing" for part in thing.parameters if says_itself(part)}
    found = set(mistakes_of(thing))
    return sorted(found) if documented(thing) else sorted(found - silent)


@pytest.mark.parametrize("package", APPLICATIONS)
def test_every_parameter_of_an_application_says_what_it_is(api, package):
    wrong = [
        f"{thing.path}: {', '.join(found)}" for thing in public(api[package]) if (found := left_unsaid(thing))
    ]
    assert "\n".join(wrong) == ""


@pytest.mark.parametrize("package", API)
def test_every_parameter_is_documented(api, package):
    wrong = [
        f"{thing.path}: {', '.join(found)}"
        for thing in public(api[package])
        if (found := list(mistakes_of(thing))) and (documented(thing) or not overrides(thing))
    ]
    assert "\n".join(wrong) == ""


def test_the_check_sees_what_is_wrong():
    source = '''
def f(volume, *, spacing_mm):
    """Return it.

    Parameters
    ----------
    spacing_mm
        Millimetres.
    size
        Voxels.
    """
'''
    with griffe.temporary_visited_module(source, docstring_parser="numpy") as module:
        assert list(mistakes_of(module["f"])) == ["volume is missing", "size is no parameter"]


@pytest.mark.parametrize(
    ("signature", "wrong"),
    [
        ("store: Store, run: JobRun | None, folder: Path, environ: dict[str, str]", []),
        ("store: Store, name: str", ["name is missing"]),
        ("store: str, folder: str", ["folder is missing", "store is missing"]),
    ],
)
def test_what_says_itself_is_told_from_what_does_not(signature, wrong):
    source = f'def f({signature}):\n    """Return it."""\n'
    with griffe.temporary_visited_module(source, docstring_parser="numpy") as module:
        assert left_unsaid(module["f"]) == wrong
