"""The documentation cannot drift from the code."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.test_imports import ROOMS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/**/*.md")])


def test_the_reference_of_the_command_line_is_what_help_prints():
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts/cli_reference.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    written = (ROOT / "docs/reference/cli.md").read_text(encoding="utf-8")
    assert written == printed.stdout, "run scripts/cli_reference.py > docs/reference/cli.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", page.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


def test_every_page_is_linked_from_the_overview():
    overview = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/*/*.md")}
    assert [page for page in sorted(pages) if f"({page})" not in overview] == []


def test_every_marker_is_in_the_page_on_the_tests():
    page = (ROOT / "docs/contributing/tests.md").read_text(encoding="utf-8")
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"][
        "ini_options"
    ]["markers"]
    assert [
        name for name in (text.partition(":")[0] for text in markers) if f"| `{name}` |" not in page
    ] == []


def test_the_architecture_page_speaks_of_every_room_of_the_map():
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    for package, rooms in ROOMS.items():
        section = page.partition(f"## {package}\n")[2].partition("\n## ")[0]
        said = [
            name
            for line in re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE)
            for name in line.split(", ")
        ]
        assert sorted(said) == sorted(rooms), package


def test_every_exit_code_of_the_tree_is_in_the_reference():
    from stages import errors

    page = (ROOT / "docs/reference/stage.md").read_text(encoding="utf-8")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(f"| {kind.exit_code} |" in page for kind in kinds if issubclass(kind, errors.StageError))


def test_every_parameter_of_a_model_is_in_the_reference():
    from ai_livertumor import ModelDescription

    page = (ROOT / "docs/reference/model.md").read_text(encoding="utf-8")
    assert [name for name in ModelDescription.model_fields if f"| `{name}` |" not in page] == []


def test_every_setting_of_a_stage_is_in_the_reference():
    page = (ROOT / "docs/reference/stage.md").read_text(encoding="utf-8")
    code = (ROOT / "stages/lifecycle/settings.py").read_text(encoding="utf-8")
    keys = set(re.findall(r'given\("([A-Z]+)"', code))
    assert len(keys) == 16
    assert [key for key in keys if f"`NVIDIA_CLARA_{key}`" not in page] == []


TUTORIAL = {
    "dense.py": ([[0, 300, 301]], [[0, 0, 1]]),
    "opened.py": (
        [[301, 0, 0, 0], [0, 301, 301, 301], [0, 301, 301, 301], [0, 301, 301, 301], [0, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]],
    ),
}
"""Of each script the HU of a slice, and what it makes of it."""


@pytest.mark.parametrize("script", TUTORIAL)
def test_the_stages_of_the_tutorial_run_as_they_are_written(tmp_path, script):
    from stages import Origin, Volume, find_volumes, read_volume, write_volume

    page = (ROOT / "docs/tutorial/first-stage.md").read_text(encoding="utf-8")
    (tmp_path / script).write_text(re.search(rf"```python\n(# {script}.*?)```", page, re.DOTALL).group(1))
    hu, expected = TUTORIAL[script]
    ct = np.array([hu], dtype=np.int16)
    write_volume(
        Volume(array=ct, affine=np.eye(4), origin=Origin(series_instance_uid="1.2")), tmp_path / "in"
    )
    done = subprocess.run(
        [sys.executable, script, "--input", "in", "--output", "out"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert read_volume(find_volumes(tmp_path / "out")[0]).array.tolist() == [expected]


# What is typed after the line that puts clara-wf and its python on PATH

README = (ROOT / "README.md").read_text(encoding="utf-8")
PATH_LINE = 'eval "$(clara-reference-workflows/clara-wf env)"'
AFTER_IT = README[README.index(PATH_LINE) + len(PATH_LINE) :]
TYPED = sorted(set(re.findall(r"`((?:clara-wf|python -m) [^`]+)`", AFTER_IT)))


def typed(line, shell="bash"):
    """Run a line in a shell that knows nothing but the system's own programs, after the README's line."""
    options = {"bash": ["--norc", "-c"], "zsh": ["-f", "-c"], "fish": ["--no-config", "-c"]}[shell]
    environ = {
        "HOME": os.environ["HOME"],
        "PATH": "/usr/bin:/bin",
        "CLARA_PYTHON": sys.executable,
        "COLUMNS": "200",
    }
    environ |= {key: os.environ[key] for key in ("CLARA_CACHE", "XDG_CACHE_HOME") if key in os.environ}
    command = [shutil.which(shell), *options, f"{PATH_LINE}\ncd /\n{line}"]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_one_line_puts_clara_wf_and_its_python_on_path(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    done = typed("clara-wf --version; python -c 'import dicom_reader, sys; print(sys.prefix)'", shell)
    assert done.returncode == 0, done.stderr
    version, prefix = done.stdout.splitlines()
    assert re.fullmatch(r"clara-wf \d+\.\d+\.\d+", version)
    assert (Path(prefix) / ".complete").exists()


def test_clara_wf_is_typed_the_same_way_on_every_page():
    whole = re.compile(r"^ +(?:\./|\S+/)clara-wf .*", re.MULTILINE)
    found = {page.name: lines for page in PAGES if (lines := whole.findall(page.read_text(encoding="utf-8")))}
    assert list(found) == ["README.md"], "after the line that puts it on PATH it is clara-wf"
    assert all(line.split("#")[0].split()[1] == "test" for line in found["README.md"])


@pytest.mark.parametrize("command", TYPED)
def test_every_command_of_the_readme_is_one_with_the_options_it_has(command):
    words = command.split()
    program = words[:3] if words[0] == "python" else words[: 1 + (not words[1].startswith("-"))]
    done = typed(f"{' '.join(program)} --help")
    assert done.returncode == 0, done.stderr
    assert [word for word in words if word.startswith("--") and word not in done.stdout] == []


def test_a_command_of_the_readme_runs_as_it_is_typed(tmp_path):
    from phantoms.dicom_series import write_series

    write_series(
        np.zeros((12, 16, 16), np.int16), tmp_path, spacing_mm=(2.0, 1.0, 1.0), first_mm=(0, 0, 0), seed=1
    )
    done = typed(next(each for each in TYPED if "--explain" in each).replace("DIR", str(tmp_path)))
    assert done.returncode == 0, done.stderr
    assert "taken" in done.stdout
