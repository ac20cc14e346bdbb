"""Every parameter of every public function and class of the API is documented, in numpydoc's form.

What numpydoc's validation calls PR01 (a parameter is missing), PR02 (one that is not there) and PR07 (no
description), read from the source by griffe, which the site is made with.
"""

import griffe
import pytest

from tests.test_imports import FOREIGN, REPOSITORY

API = ("stages", "dicom_reader", "ai_livertumor", "dicom_writer")


@pytest.fixture(scope="module")
def api():
    loader = griffe.GriffeLoader(search_paths=[REPOSITORY], docstring_parser="numpy", allow_inspection=False)
    return {package: loader.load(package) for package in API}


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


@pytest.mark.parametrize("package", API)
def test_every_parameter_is_documented(api, package):
    wrong = [
        f"{thing.path}: {', '.join(found)}"
        for thing in public(api[package])
        if (found := list(mistakes_of(thing)))
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
