"""Which workspace is used."""

from pathlib import Path

import pytest

from clara_wf import workspace
from clara_wf.workspace import VALUES, Places, find_workspace, own_workspace
from stages.errors import SettingsError

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
