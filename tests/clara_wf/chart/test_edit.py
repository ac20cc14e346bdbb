"""Editing values.yaml: what is added, and that nothing else is touched."""

import difflib
import os
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from clara_wf.chart.edit import add_stage, add_workflow, save, stage_block
from clara_wf.definitions.lint import lint
from clara_wf.yaml.document import read_document
from stages.errors import SettingsError

CHART = Path(__file__).parents[3] / "clara-reference-workflows/charts/clara-workflow/values.yaml"
NEW_ID = "7b413e24-d018-4689-8c41-73272f6649d4"

MANUAL = """\
  ##BEGIN_user-ai##
  user-ai:
    image:
      repository: user-ai
      tag: latest
    mount:
      in:
        name: "input"
      out:
        name: "output"
    stageName: "user-ai"
    appDir: "/app"
    inputLock: "/app/locks/input.lock"
    inputs: "input"
    logName: "/app/logs/user-ai.log"
    outputs: "output"
    lockDir: "/app/locks"
    lockName: "user-ai.lock"
    timeout: "300"
    publishPath: "/publish"
  ##END_user-ai##
"""


@pytest.fixture
def chart(tmp_path):
    """Return a function that writes a text as values.yaml, adds the stage, and gives file and edit."""

    def chart(text, name="user-ai"):
        file = tmp_path / "values.yaml"
        file.write_bytes(text.encode())
        document = read_document(file)
        edit = add_stage(document, name, stage_block(name))
        save(document, edit)
        return file, edit

    return chart


def added_lines(before, after):
    """Return what a diff adds; fails if it takes anything away."""
    changes = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert not [line for line in changes if line[0] == "-"]
    return "".join(line[2:] + "\n" for line in changes)


def test_the_block_is_the_manuals_to_the_letter_and_nothing_else_changes(chart):
    before = CHART.read_text()
    file, edit = chart(before)
    assert MANUAL in file.read_text()
    assert added_lines(before, file.read_text()).strip("\n") + "\n" == MANUAL
    assert edit.changes == ("added the stage user-ai",)
    assert lint(file) == []


def test_the_same_command_again_changes_nothing(chart):
    file, _ = chart(CHART.read_text())
    once = file.read_bytes()
    file, edit = chart(once.decode())
    assert edit.changes == ()
    assert file.read_bytes() == once


@pytest.mark.parametrize(
    "text",
    [
        "workflows: {}\nstages:\n",
        "stages: {}\nworkflows: {}\n",
        "stages: null\nworkflows: {}\n",
        "# a comment\nstages:\n\n# of the workflows\nworkflows: {}\n",
        "workflows: {}",
        "stages:\r\n  # mine\r\nworkflows: {}\r\n",
    ],
)
def test_a_chart_without_stages_gets_its_first(chart, text):
    file, _ = chart(text)
    assert lint(file) == []
    assert ("\r\n" in text) == (file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n"))
    for line in text.splitlines():
        if line.startswith("#"):
            assert line in file.read_text()


def test_a_file_with_other_indents_and_windows_line_ends_keeps_them(chart):
    before = CHART.read_text().replace("  ", "    ").replace("\n", "\r\n")
    file, _ = chart(before)
    after = file.read_bytes().decode()
    assert after.count("\n") == after.count("\r\n")
    assert "\r\n    user-ai:\r\n" in after
    assert lint(file) == []


def test_a_comment_that_belongs_to_the_next_section_stays_with_it(chart):
    before = CHART.read_text().replace("\nworkflows:", "\n# What is run.\nworkflows:")
    file, _ = chart(before)
    assert "\n# What is run.\nworkflows:" in file.read_text()


def test_an_edited_block_gets_only_the_keys_it_lacks(chart):
    end = "  ##END_dicom-writer"
    edited = (
        CHART.read_text()
        .replace('    timeout: "300"\n    publishPath: "/publish"\n' + end, end)
        .replace('      tag: "0.1.0"\n', '      tag: "2"  # ours\n')
        .replace("clara/dicom-writer", "hospital/dicom-writer")
    )  # fmt: skip
    file, edit = chart(edited, name="dicom-writer")
    assert edit.changes == (
        "added timeout to the stage dicom-writer",
        "added publishPath to the stage dicom-writer",
    )
    assert added_lines(edited, file.read_text()) == '    timeout: "300"\n    publishPath: "/publish"\n'
    assert lint(file) == []


def test_a_key_that_is_missing_deep_inside_is_added_there(chart):
    edited = CHART.read_text().replace('      tag: "0.1.0"\n', "", 1)
    file, edit = chart(edited, name="dicom-reader")
    assert edit.changes == ("added image.tag to the stage dicom-reader",)
    assert added_lines(edited, file.read_text()) == "      tag: latest\n"


def test_a_stage_without_markers_gets_them(chart):
    edited = (
        CHART.read_text().replace("  ##BEGIN_dicom-reader##\n", "").replace("  ##END_dicom-reader##\n", "")
    )
    file, edit = chart(edited, name="dicom-reader")
    assert edit.changes == ("put the stage dicom-reader between its markers",)
    assert file.read_text() == CHART.read_text()


@pytest.mark.parametrize("name", ["User_AI", "-a", "a-", "", "a" * 64, "a.b", "../x", "user ai", "ü", "a\n"])
def test_a_name_that_is_no_dns_label_is_refused(chart, name):
    with pytest.raises(SettingsError, match="it is no DNS label; use at most 63 of a-z, 0-9 and -"):
        chart(CHART.read_text(), name=name)


def test_a_name_that_the_toolkit_uses_itself_is_refused(chart):
    with pytest.raises(SettingsError, match="'carrier' cannot be a stage: it is taken by the toolkit"):
        chart(CHART.read_text(), name="carrier")


@pytest.mark.parametrize("name", ["true", "null", "no", "10", "1e3", "a" * 63])
def test_a_name_that_yaml_would_take_for_something_else_is_quoted(chart, name):
    file, _ = chart(CHART.read_text(), name=name)
    assert name in YAML(typ="safe").load(file)["stages"]
    assert lint(file) == []


def test_a_marker_without_its_partner_is_told_before_anything_is_written(chart):
    broken = CHART.read_text().replace("  ##END_dicom-reader##\n", "")
    with pytest.raises(
        SettingsError, match=r"values.yaml:7:1: error: BEGIN_dicom-reader has no|has no partner"
    ):
        chart(broken)


def test_a_stage_in_braces_is_told_and_not_touched(chart):
    text = "stages:\n  a: {image: {repository: a, tag: b}}\nworkflows: {}\n"
    with pytest.raises(
        SettingsError, match=r"values.yaml:2: the stage a lacks mount, stageName, .*not written as a block"
    ):
        chart(text, name="a")


def test_stages_that_stand_elsewhere_are_told_and_not_touched(chart, tmp_path):
    block = "".join(f"    {line}\n" for line in MANUAL.replace("user-ai", "a").splitlines()[1:-1])
    text = f"kept:\n  here: &all\n{block}stages: *all\nworkflows: {{}}\n"
    with pytest.raises(SettingsError, match=r"'stages:' has nothing below it, it refers to another place"):
        chart(text)
    assert (tmp_path / "values.yaml").read_text() == text


def test_what_somebody_else_wrote_meanwhile_is_not_lost(tmp_path):
    file = tmp_path / "values.yaml"
    file.write_text(CHART.read_text())
    document = read_document(file)
    edit = add_stage(document, "user-ai", stage_block("user-ai"))
    file.write_text("# new\n" + CHART.read_text())
    with pytest.raises(SettingsError, match="changed by somebody else"):
        save(document, edit)
    assert file.read_text().startswith("# new\n")


def test_the_file_keeps_its_mode_and_a_link_stays_a_link(tmp_path):
    file, link = tmp_path / "real.yaml", tmp_path / "values.yaml"
    file.write_text(CHART.read_text())
    file.chmod(0o640)
    link.symlink_to(file)
    document = read_document(link)
    save(document, add_stage(document, "user-ai", stage_block("user-ai")))
    assert link.is_symlink()
    assert MANUAL in file.read_text()
    assert os.stat(file).st_mode & 0o777 == 0o640


def test_a_new_workflow_is_a_chain_as_the_manual_writes_it(chart):
    file, _ = chart(CHART.read_text())
    document = read_document(file)
    edit = add_workflow(document, NEW_ID, "user-workflow", ["dicom-reader", "user-ai", "dicom-writer"])
    save(document, edit)
    assert f"""
  {NEW_ID}:
    name: "user-workflow"
    stages: ["dicom-reader", "user-ai", "dicom-writer"]
    waitLocks: ["", "dicom-reader.lock", "user-ai.lock"]
    ioFolders: ["dicom-reader/input", "dicom-reader/output", "user-ai/output", "dicom-writer/output"]
    args: ["", "", ""]
""" in file.read_text()
    assert added_lines(document.text, file.read_text()).count("\n") <= 7
    assert lint(file) == []


@pytest.mark.parametrize(
    ("name", "stages", "message"),
    [
        ("liver-seg", ["dicom-reader"], "there is a workflow 'liver-seg' already: fd3ee8bf"),
        ("new", ["dicom-reader", "ai-spleen"], "no stage ai-spleen is defined"),
        ("new", ["dicom-reader", "dicom-reader"], "each once"),
        ("new", [], "at least one stage"),
    ],
)
def test_a_new_workflow_that_could_not_run_is_refused(chart, name, stages, message):
    file, _ = chart(CHART.read_text())
    with pytest.raises(SettingsError, match=message):
        add_workflow(read_document(file), NEW_ID, name, stages)


THREE_SECTIONS = """\
stages:
  a:
    image: {repository: a, tag: b}
# of the platform
platform:
  deep:
    deeper: 1
workflows: {}
"""


def test_a_block_goes_to_the_end_of_its_own_section_also_where_no_markers_are(chart):
    file, _ = chart(THREE_SECTIONS)
    lines = file.read_text().splitlines()
    assert lines.index("  ##BEGIN_user-ai##") == 4
    assert lines.index("# of the platform") > lines.index("  ##END_user-ai##")
    assert added_lines(THREE_SECTIONS, file.read_text()).strip("\n") + "\n" == MANUAL


def test_markers_at_the_edge_of_the_line_belong_to_the_section(chart):
    at_the_edge = CHART.read_text().replace("  ##", "##")
    file, _ = chart(at_the_edge)
    lines = file.read_text().splitlines()
    assert lines.index("  ##BEGIN_user-ai##") > lines.index("##END_dicom-writer##")
    assert lint(file) == []
