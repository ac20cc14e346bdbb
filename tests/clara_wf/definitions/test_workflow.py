"""Reading values.yaml: what is accepted, and how each mistake is told."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clara_wf.definitions.workflow import Workflow, find_workflow, load_workflows
from stages.errors import SettingsError

CHART = Path(__file__).parents[3] / "clara-reference-workflows/charts/clara-workflow/values.yaml"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"


@pytest.fixture
def values(tmp_path):
    """The shipped chart as a dictionary, and a function that loads it after a change."""
    content = YAML(typ="safe").load(CHART)

    def load(change=lambda workflow, content: None) -> dict[str, Workflow]:
        change(content["workflows"][LIVER_SEG], content)
        path = tmp_path / "values.yaml"
        YAML().dump(content, path)
        return load_workflows(path)

    return load


def test_the_reference_workflow_is_read_as_the_manual_writes_it():
    workflow = load_workflows(CHART)[LIVER_SEG]
    assert workflow.name == "liver-seg"
    assert [s.name for s in workflow.steps] == ["dicom-reader", "ai-livertumor", "dicom-writer"]
    assert [s.wait_locks for s in workflow.steps] == [
        ("input.lock",),
        ("dicom-reader.lock",),
        ("ai-livertumor.lock",),
    ]
    assert workflow.input_folder == "dicom-reader/input"
    assert workflow.steps[2].input_folders == ("ai-livertumor/output",)
    assert workflow.result_folders == ("dicom-writer/output",)


def test_a_workflow_is_found_by_its_name_too():
    assert find_workflow(load_workflows(CHART), "liver-seg").id == LIVER_SEG


def test_an_unknown_workflow_names_those_there_are():
    with pytest.raises(SettingsError, match=r"no workflow 'spleen'; .*fd3ee8bf.*\(liver-seg\)"):
        find_workflow(load_workflows(CHART), "spleen")


@pytest.mark.parametrize(
    ("given", "expected"),
    [("", ()), ("--fast", ("--fast",)), (["-p", "foo bar"], ("-p", "foo bar"))],
)
def test_arguments_are_nothing_one_text_or_a_list(values, given, expected):
    workflow = values(lambda w, c: w["args"].__setitem__(1, given))[LIVER_SEG]
    assert workflow.steps[1].arguments == expected


def test_stages_are_put_in_an_order_in_which_each_follows_those_it_waits_for(values):
    def reverse(workflow, content):
        for key in ("stages", "waitLocks", "args"):
            workflow[key].reverse()
        workflow["ioFolders"] = [*workflow["ioFolders"][2::-1], "dicom-writer/output"]

    steps = values(reverse)[LIVER_SEG].steps
    assert [s.name for s in steps] == ["dicom-reader", "ai-livertumor", "dicom-writer"]


def test_a_stage_may_wait_for_several_locks_and_read_several_folders(values):
    def join(workflow, content):
        workflow["waitLocks"][2] = ["dicom-reader.lock", "ai-livertumor.lock"]
        workflow["ioFolders"][2] = ["dicom-reader/output", "ai-livertumor/output"]

    step = values(join)[LIVER_SEG].steps[2]
    assert step.wait_locks == ("dicom-reader.lock", "ai-livertumor.lock")
    assert step.input_folders == ("dicom-reader/output", "ai-livertumor/output")


def test_the_blank_that_a_line_break_in_print_leaves_is_passed_over(values):
    workflow = values(lambda w, c: w["ioFolders"].__setitem__(2, "ai-livertumor/ output"))[LIVER_SEG]
    assert workflow.steps[2].input_folders == ("ai-livertumor/output",)


def test_every_mistake_is_told_at_once_with_its_place(values):
    def spoil(workflow, content):
        workflow["waitLocks"].pop()
        content["stages"]["dicom-reader"]["timeout"] = "soon"

    with pytest.raises(SettingsError) as error:
        values(spoil)
    assert re.search(r"values.yaml:\d+:\d+: error: stages.dicom-reader.timeout: .*soon", str(error.value))
    assert re.search(r"values.yaml:\d+:\d+: error: .*waitLocks has 2 entries, expected 3", str(error.value))


def test_a_name_that_two_workflows_have_asks_for_an_id(values):
    other = "7b413e24-d018-4689-8c41-73272f6649d4"
    workflows = values(lambda w, c: c["workflows"].update({other: dict(w)}))
    with pytest.raises(SettingsError, match=rf"several workflows are called 'liver-seg'.*{other}"):
        find_workflow(workflows, "liver-seg")
    assert find_workflow(workflows, other.upper()).id == other
