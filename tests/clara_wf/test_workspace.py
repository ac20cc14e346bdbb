"""Which workspace is used, and how one is made."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from clara_wf import workspace
from clara_wf.places import Places
from clara_wf.workspace import LAYOUT, VALUES, find_workspace, make_workspace, own_workspace
from stages.errors import OutputError, SettingsError

ROOT = Path(__file__).parents[2]


def laid_out(folder):
    (folder / VALUES).parent.mkdir(parents=True)
    (folder / VALUES).write_text("stages: {}\nworkflows: {}\n")
    return folder


@pytest.fixture
def packaged(tmp_path, monkeypatch):
    """Return the folder of an installed package's own workspace."""
    folder = laid_out(tmp_path / "site-packages/clara_wf/workspace_files")
    monkeypatch.setattr(workspace, "_PACKAGED", folder)
    return folder


def test_it_is_that_of_the_current_folder_or_of_one_above(tmp_path):
    root = laid_out(tmp_path / "w")
    below = root / "models" / "liver"
    below.mkdir(parents=True)
    for folder in (root, below, (root / VALUES).parent):
        found = find_workspace({"CLARA_WORKSPACE": "/elsewhere"}, folder)
        assert (found.root, found.chosen_by) == (root, "of the current folder")


def test_the_nearest_one_above_is_taken(tmp_path):
    inner = laid_out(laid_out(tmp_path / "outer") / "inner")
    assert find_workspace({}, inner).root == inner


def test_outside_of_any_it_is_the_one_that_the_environment_names(tmp_path):
    found = find_workspace({"CLARA_WORKSPACE": str(tmp_path / "w")}, tmp_path)
    assert (found.root, found.chosen_by) == (tmp_path / "w", "named by CLARA_WORKSPACE")


def test_without_any_it_is_the_checkout(tmp_path):
    found = find_workspace({}, tmp_path)
    assert found.root == ROOT
    assert found.is_checkout
    assert not found.is_packaged


def test_without_any_and_without_a_checkout_it_is_the_packages(tmp_path, packaged):
    found = find_workspace({}, tmp_path)
    assert (found.root, found.is_packaged, found.is_checkout) == (packaged, True, False)


def test_a_folder_inside_of_the_package_is_not_a_workspace_of_ones_own(packaged):
    assert find_workspace({}, (packaged / VALUES).parent).is_packaged


def test_jobs_of_the_package_run_in_the_users_folder_for_data(tmp_path, packaged):
    places = Places.of(own_workspace(), {"XDG_DATA_HOME": str(tmp_path / "data")})
    assert places.payloads == tmp_path / "data/clara-stages/payloads"
    assert places.test_data == tmp_path / "data/clara-stages/test-data"
    assert places.values == packaged / VALUES


def test_jobs_of_a_workspace_run_in_it(tmp_path):
    places = Places.of(find_workspace({}, laid_out(tmp_path)), {"XDG_DATA_HOME": "/elsewhere"})
    assert places.payloads == tmp_path / "clara-reference-workflows/payloads"
    assert places.test_data == tmp_path / "clara-reference-workflows/test-data"


def test_what_belongs_to_the_package_is_not_changed(tmp_path, packaged):
    with pytest.raises(
        SettingsError, match=r"values\.yaml belongs to the installed package.*clara-wf init DIR"
    ):
        own_workspace().require_changeable(packaged / VALUES)
    own_workspace().require_changeable(tmp_path / "values.yaml")


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
