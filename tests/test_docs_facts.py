"""Numbers and names of the pages that a command prints or a file says: they are those, not remembered."""

import re
import runpy
import sys
import tomllib
from pathlib import Path

import pytest

import stages
from clara_wf.model_server import installation
from tests.test_docs import PAGES

ROOT = Path(__file__).parents[1]
INSTALL = (ROOT / "docs/how-to/install.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
LAUNCHER = runpy.run_path(str(ROOT / "scripts/environment.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def row_of(page, beginning):
    """Return the cells of the one row of a table that begins so."""
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {beginning}")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_what_the_launcher_says_of_its_environment_is_on_the_pages():
    fetched, taken = LAUNCHER["SIZES_MB"]["run"]
    assert f"({fetched} MB to fetch, {taken} MB on disk)" in " ".join(INSTALL.split())
    assert row_of(INSTALL, "`pip install")[1:3] == [f"{fetched} MB", f"{taken} MB"]
    assert f"# {taken / 1000:.1f} GB on disk" in README


@pytest.mark.parametrize("cuda", ["cuda12", "cuda13"])
def test_cupy_is_about_as_large_as_the_page_says(cuda):
    page = (ROOT / "docs/how-to/use-a-gpu.md").read_text(encoding="utf-8")
    said = [int(number) for number in re.findall(r"(\d+) MB", row_of(page, "CuPy")[2])]
    assert said == pytest.approx(LAUNCHER["SIZES_MB"][cuda], rel=0.05)


def test_what_installing_the_model_server_prints_is_on_the_page():
    source = Path(installation.__file__).read_text(encoding="utf-8")
    sizes = re.findall(r"once, (\d+) MB to fetch, (\d+) MB on disk", source)
    assert len(sizes) == 2
    fetched, taken = (sum(map(int, column)) for column in zip(*sizes, strict=True))
    assert row_of(INSTALL, "the first `clara-wf test`")[1:3] == [f"{fetched} MB", f"{taken} MB"]


def test_this_environment_is_as_large_as_the_launcher_says():
    folder = Path(sys.prefix)
    if not folder.name.startswith("env-dev-"):
        pytest.skip("this Python is not of the launcher's environment for tests")
    taken = sum(path.lstat().st_blocks for path in folder.rglob("*")) * 512 / 2**20
    assert taken == pytest.approx(LAUNCHER["SIZES_MB"]["dev"][1], rel=0.1)


def test_every_extra_is_in_the_table_and_no_other():
    table = INSTALL.partition("| extra | for |")[2].partition("\n\n")[0]
    named = re.findall(r"`([\w-]+)`", "".join(line.split("|")[1] for line in table.splitlines()[2:]))
    assert sorted(named) == sorted(PROJECT["optional-dependencies"])


def test_every_python_that_is_supported_is_named():
    versions = [each[-4:] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)]
    text = f"{', '.join(versions[:-1])} or {versions[-1]}"
    assert f"Python {text}" in INSTALL
    assert f"Python {text}" in README
    lowest, highest = LAUNCHER["SUPPORTED"]
    assert (versions[0], versions[-1]) == (f"{lowest[0]}.{lowest[1]}", f"{highest[0]}.{highest[1]}")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_image_has_the_tag_of_this_version(page):
    if page.name == "CHANGELOG.md":
        return
    tags = set(re.findall(r"\bclara/[\w-]+:(\d+\.\d+\.\d+)", page.read_text(encoding="utf-8")))
    assert tags <= {stages.__version__}


def test_the_table_of_images_has_those_that_are_built():
    script = (ROOT / "scripts/build-images").read_text(encoding="utf-8")
    built = re.search(r"for name in \$\{names:-([^}]*)\}", script)[1].split()
    page = (ROOT / "docs/how-to/build-images.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `clara/([\w-]+)` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(name.replace("_", "-") for name in built)
