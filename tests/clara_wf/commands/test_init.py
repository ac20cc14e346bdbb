"""A workspace that clara-wf init lays out."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from clara_wf.commands.init import LAYOUT, make_workspace
from clara_wf.workspace import VALUES, find_workspace
from stages.errors import OutputError, SettingsError

ROOT = Path(__file__).parents[3]


def test_a_new_one_has_what_the_manual_has_and_can_be_written(tmp_path):
    make_workspace(tmp_path / "w", python="/usr/bin/python3")
    names = {path.name for path in (tmp_path / "w").iterdir()}
    assert {"clara-reference-workflows", "clara-reference-workflow", "clara-platform", "models"} <= names
    assert all((tmp_path / "w" / name).exists() for name in LAYOUT)
    assert os.access(tmp_path / "w/clara-reference-workflow/clara-wf", os.X_OK)
    assert find_workspace({}, tmp_path / "w").root == tmp_path / "w"


def test_an_empty_folder_becomes_one(tmp_path):
    make_workspace(tmp_path, python="/usr/bin/python3")
    assert (tmp_path / VALUES).is_file()


def test_a_folder_with_files_is_refused_and_stays(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(SettingsError, match="is there already and not empty"):
        make_workspace(tmp_path, python="/usr/bin/python3")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_is_refused(tmp_path):
    (tmp_path / "w").touch()
    with pytest.raises(SettingsError, match="not empty"):
        make_workspace(tmp_path / "w", python="/usr/bin/python3")


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot lay out a workspace"):
        make_workspace(tmp_path / "file/w", python="/usr/bin/python3")


def test_the_launcher_of_a_new_one_runs_what_made_it(tmp_path):
    make_workspace(tmp_path / "w", python=sys.executable)
    program = tmp_path / "w/clara-reference-workflows/.clara-wf"
    assert program.read_text() == f"{ROOT}/clara-reference-workflows/clara-wf\n"
    program.write_text(f"{sys.executable}\n")  # as of an installation, which PYTHONPATH stands for
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    launcher = [tmp_path / "w/clara-reference-workflows/clara-wf"]
    subprocess.run([*launcher, "cs", "user-ai"], cwd=tmp_path, env=environ, check=True, capture_output=True)
    assert "##BEGIN_user-ai##" in (tmp_path / "w" / VALUES).read_text()


def test_a_launcher_whose_python_is_gone_says_so(tmp_path):
    make_workspace(tmp_path / "w", python="/usr/bin/python3")
    (tmp_path / "w/clara-reference-workflows/.clara-wf").write_text("/gone/bin/python\n")
    done = subprocess.run(
        ["/bin/sh", tmp_path / "w/clara-reference-workflows/clara-wf", "list"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "clara-stages is not there any more as /gone/bin/python" in done.stderr


def test_the_package_holds_what_a_new_one_gets():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    held = build["targets"]["wheel"]["force-include"]
    assert held == {name: f"clara_wf/workspace_files/{name}" for name in LAYOUT}
