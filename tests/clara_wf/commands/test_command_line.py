"""The command line itself: help, versions, suggestions, completion, and what it imports to answer."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from clara_wf.cli import COMMANDS, main
from clara_wf.run.doctor import examine
from clara_wf.workspace import Places

ROOT = Path(__file__).parents[3]
HEAVY = {
    "numpy",
    "scipy",
    "numba",
    "pydicom",
    "pynetdicom",
    "phantoms",
    "kubernetes",
    "dicom_adapter.config",
} | {*("pydantic", "ruamel", "rich", "PIL", "jinja2", "tritonclient", "grpc")}
LOADED = "import sys; from clara_wf.cli import main; main(sys.argv[1:]); print(file=sys.stderr, *sys.modules)"


def packages_of(module):
    parts = module.split(".")
    return {".".join(parts[:depth]) for depth in (1, 2)}


def run(*arguments, **environ):
    """Run clara-wf; `loaded` are the packages that it has imported at its end."""
    command = [sys.executable, "-c", LOADED, *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **environ}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1] if done.stderr else ""
    return SimpleNamespace(
        out=done.stdout,
        err=done.stderr,
        loaded={name for module in last.split() for name in packages_of(module)},
    )


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]], ids=" ".join)
def test_what_needs_no_command_imports_nothing_heavy(arguments):
    assert "typer" in (loaded := run(*arguments).loaded)
    assert loaded & HEAVY == set()


@pytest.mark.parametrize("group", [[], ["models"], ["adapter"]], ids=" ".join)
def test_every_summary_fits_a_terminal_of_80_columns(group, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*group, "--help"]) == 0
    listed = capsys.readouterr().out.split("Commands:")[1]
    assert "..." not in listed
    assert max(map(len, listed.splitlines())) <= 80


@pytest.mark.parametrize("name", [*COMMANDS, "adapter"])
def test_every_command_of_the_list_is_there_and_says_what_it_does(name, capsys):
    assert main([name, "-h"]) == 0
    usage, _, said = capsys.readouterr().out.splitlines()[:3]
    assert usage.startswith(f"Usage: clara-wf {name} ")
    assert said.strip()


def test_help_of_a_command_is_what_its_option_prints(capsys):
    main(["help", "models", "check"])
    by_command = capsys.readouterr().out
    main(["models", "check", "--help"])
    assert by_command == capsys.readouterr().out
    assert by_command.startswith("Usage: clara-wf models check ")


def test_the_version_is_printed(capsys):
    from stages import __version__

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"clara-wf {__version__}\n"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("tset", "Did you mean 'test'?"),
        ("help modles", "Did you mean 'models'?"),
        ("models chekc x", "Did you mean 'check'?"),
        ("test liver-seg --frehs", "--fresh"),
        ("show liverseg", "no workflow 'liverseg' (did you mean 'liver-seg'?); the chart defines: "),
        (
            "show FD3EE8BF-b9f3-4808-bd60-243f870ff9be",
            "(did you mean 'fd3ee8bf-b9f3-4808-bd60-243f870ff9bd'?)",
        ),
        ("plan liver-seg --engine dokcer", "(did you mean 'docker'?)"),
        ("show zzz", "there is no workflow 'zzz'; the chart"),
    ],
)
def test_a_typing_mistake_is_told_with_what_was_meant(typed, meant, capsys):
    assert main(typed.split()) == 2
    assert meant in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("clara-wf te", ["test"]),
        ("clara-wf show liver", ["liver-seg"]),
        ("clara-wf show fd3", ["fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"]),
        ("clara-wf test liver-seg --engine k", ["kubernetes"]),
        ("clara-wf models check seg", ["segmentation_liver_v1"]),
        ("clara-wf show --values /gone.yaml l", []),
        ("clara-wf help un", ["unpublish"]),
    ],
)
def test_the_shell_completes_the_names_there_are(typed, offered, capsys, monkeypatch):
    monkeypatch.setenv("_CLARA_WF_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(len(typed.split()) - 1))
    assert main([]) == 0
    assert capsys.readouterr().out.split() == offered


# Models that are incomplete


@pytest.fixture
def repository(tmp_path):
    """A repository with the shipped model and one that is incomplete in each way."""
    for name in ("whole", "no-version", "empty", "undescribed", "no-text"):
        shutil.copytree(ROOT / "models/segmentation_liver_v1", tmp_path / name)
    shutil.rmtree(tmp_path / "no-version/1")
    shutil.rmtree(tmp_path / "empty/1")
    (tmp_path / "empty/1").mkdir()
    described = (tmp_path / "undescribed/config.pbtxt").read_text()
    (tmp_path / "undescribed/config.pbtxt").write_text(described.replace('"channel_labels"', '"x_labels"'))
    (tmp_path / "no-text/config.pbtxt").write_text("name: {")
    return tmp_path


LACKS = {
    "no-version": "a version: a folder",
    "empty": "its model: ",
    "undescribed": "channel_labels",
    "no-text": "is no configuration of Triton",
}


def test_the_list_of_models_marks_the_incomplete_ones_and_says_why(repository, capsys):
    assert main(["models", "list", "--models", str(repository)]) == 0
    table = capsys.readouterr().out
    rows = {
        line.split()[0]: line.split()[-1]
        for line in table.splitlines()
        if line.split()[-1:] in (["complete"], ["incomplete"])
    }
    assert rows == dict.fromkeys(LACKS, "incomplete") | {"whole": "complete"}
    assert all(re.search(f"^{name} lacks: .*{words}", table, re.MULTILINE) for name, words in LACKS.items())


def test_the_doctor_finds_incomplete_models_wrong(repository):
    places = replace(Places.here({}), models=repository)
    (found,) = (each for each in examine(places, {"PATH": ""}) if each.what == "models")
    assert (found.verdict, found.found.count("(incomplete)")) == ("wrong", 4)
    assert all(words in found.advice for words in LACKS.values())


# A job that has finished

STAGE = """
import os, sys
from stages import find_volumes, main, read_volume, write_volume
def execute(job):
    ct = read_volume(find_volumes(job.input_dir)[0])
    write_volume(ct.with_array((ct.array > 300).astype("uint8")), job.output_dir)
sys.exit(main(execute, sys.argv[1:], os.environ, name="dense"))
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A job of one stage that has run once; `again` runs it again and returns what was printed."""
    from clara_wf.chart.edit import add_stage, add_workflow, stage_block
    from clara_wf.yaml.document import parsed
    from stages import Origin, Volume, write_volume

    root = tmp_path_factory.mktemp("finished")
    (root / "dense.py").write_text(STAGE)
    block = stage_block("dense", command=["python", str(root / "dense.py")])
    text = add_stage(parsed(root / "values.yaml", "stages:\nworkflows:\n"), "dense", block).text
    key = "7b413e24-d018-4689-8c41-73272f6649d4"
    text = add_workflow(parsed(root / "values.yaml", text), key, "mine", ["dense"]).text
    (root / "values.yaml").write_text(text)
    ct = np.zeros((4, 5, 6), np.int16)
    ct[1:3, 1:3, 1:3] = 400
    write_volume(Volume(array=ct, affine=np.eye(4), origin=Origin(series_instance_uid="1.2")), root / "in")

    def again():
        places = ("--values", root / "values.yaml", "--payloads", root / "payloads", "--server", "none")
        done = run("test", "mine", "job-1", "--input", root / "in", "--json", *places)
        return SimpleNamespace(report=json.loads(done.out), loaded=done.loaded)

    first = again()
    return SimpleNamespace(root=root, first=first.report, again=again, job=root / "payloads/job-1")


def told(report):
    """Return what a report says, but for how the run went."""
    return {key: value for key, value in report.items() if key not in ("seconds", "stages")}


def test_a_finished_job_is_told_again_without_what_draws(finished):
    page = Path(finished.first["page"])
    drawn = page.stat().st_mtime_ns
    again = finished.again()
    assert again.loaded & (HEAVY - {"pydantic", "ruamel", "rich"}) == set()
    assert page.stat().st_mtime_ns == drawn
    assert told(again.report) == told(finished.first)
    assert [stage["state"] for stage in again.report["stages"]] == ["kept"]


def test_a_page_that_is_gone_or_changed_is_drawn_again(finished):
    page = Path(finished.first["page"])
    page.unlink()
    finished.again()
    whole = page.stat().st_size
    page.write_text("other")
    finished.again()
    assert page.stat().st_size == whole


def test_a_result_that_was_changed_is_made_and_told_again(finished):
    mask = next((finished.job / "dense/output").glob("*.raw"))
    right = mask.read_bytes()
    mask.write_bytes(bytes(len(right)))
    again = finished.again()
    assert [stage["state"] for stage in again.report["stages"]] == ["done"]
    assert mask.read_bytes() == right
    assert told(again.report) == told(finished.first)
