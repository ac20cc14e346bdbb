"""Reading values.yaml: what is accepted, and how each mistake is told."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clara_wf.workflow import Workflow, find_workflow, load_workflows
from stages.errors import SettingsError

CHART = Path(__file__).parents[2] / "clara-reference-workflows/charts/clara-workflow/values.yaml"
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w, c: w["waitLocks"].pop(), "waitLocks has 2 entries, expected 3"),
        (lambda w, c: w["ioFolders"].pop(), "ioFolders has 3 entries, expected 4"),
        (lambda w, c: w["args"].append(""), "args has 4 entries, expected 3"),
        (lambda w, c: w["stages"].__setitem__(1, "ai-spleen"), r"stages \['ai-spleen'\] are not defined"),
        (lambda w, c: w["stages"].__setitem__(1, "dicom-writer"), "a stage is listed twice"),
        (
            lambda w, c: w["waitLocks"].__setitem__(1, "ai-vnet.lock"),
            "waits for ai-vnet.lock, which no stage",
        ),
        (lambda w, c: w["waitLocks"].__setitem__(0, "dicom-writer.lock"), "wait for one another"),
        (lambda w, c: w["waitLocks"].__setitem__(1, "../../x.lock"), "not of the form <stage>.lock"),
        (lambda w, c: w["ioFolders"].__setitem__(1, "../other-job/output"), "not of the form <stage>/input"),
        (lambda w, c: w.update(colour="red"), "colour: Extra inputs are not permitted"),
        (lambda w, c: c["stages"]["dicom-reader"].pop("lockName"), "stages.dicom-reader: lockName"),
        (lambda w, c: c["stages"]["dicom-reader"].update(timeout="soon"), "stages.dicom-reader: timeout"),
        (lambda w, c: c["workflows"].update(liver=w), "ID is a UUID, found 'liver'"),
    ],
)
def test_a_mistake_is_told_with_its_place(values, change, message):
    with pytest.raises(SettingsError, match=message):
        values(change)


def test_a_file_that_is_no_yaml_is_told(tmp_path):
    path = tmp_path / "values.yaml"
    path.write_text("stages: [")
    with pytest.raises(SettingsError, match=r"cannot read .*values.yaml"):
        load_workflows(path)
