"""The commands as they are typed: what they print and how they exit."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHART = ROOT / "clara-reference-workflows/charts/clara-workflow/values.yaml"
LIVER_SEG = "fd3ee8bf-b9f3-4808-bd60-243f870ff9bd"


@pytest.fixture
def values(tmp_path):
    return Path(shutil.copy(CHART, tmp_path / "values.yaml"))


@pytest.fixture
def clara_wf(tmp_path):
    """Run clara-wf and return the finished process."""

    def run(*arguments, timeout=120):
        return subprocess.run(
            [sys.executable, "-m", "clara_wf", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


def test_a_stage_and_a_workflow_are_added_and_found_without_mistake(clara_wf, values):
    assert "added the stage user-ai" in clara_wf("cs", "user-ai", "--values", values).stdout
    assert "nothing to do" in clara_wf("cs", "user-ai", "--values", values).stdout
    done = clara_wf("new", "mine", "--stages", "dicom-reader, user-ai,dicom-writer", "--values", values)
    assert done.returncode == 0, done.stderr
    assert "no mistake found" in clara_wf("lint", values).stdout
    rows = json.loads(clara_wf("list", "--json", "--values", values).stdout)
    assert rows[-1]["name"] == "mine"
    assert rows[-1]["stages"] == ["dicom-reader", "user-ai", "dicom-writer"]
    assert "● user-ai   user-ai:latest, 300 s" in clara_wf("show", "mine", "--values", values).stdout


def test_mistakes_are_printed_a_line_each_and_the_exit_code_is_2(clara_wf, values):
    values.write_text(values.read_text().replace('timeout: "300"', "timeout: never", 1))
    done = clara_wf("lint", values)
    assert done.returncode == 2
    assert done.stdout.startswith(f"{values}:")
    assert 'expected a positive number of seconds, found "never"' in done.stdout
    found = json.loads(clara_wf("lint", values, "--json").stdout)
    assert found[0]["where"] == "stages.dicom-reader.timeout"


def test_a_warning_fails_only_when_asked_to(clara_wf, values):
    values.write_text(values.read_text().replace('"ai-livertumor/output", "d', '"ai-livertumor/ output", "d'))
    assert clara_wf("lint", values).returncode == 0
    assert clara_wf("lint", values, "--strict").returncode == 2


def test_a_wrong_id_is_told_in_one_line(clara_wf, values):
    done = clara_wf("new", "mine", "--stages", "dicom-reader", "--id", "7", "--values", values)
    assert done.returncode == 2
    assert done.stderr == "clara-wf: --id: a workflow's ID is a UUID, found '7'\n"


def test_what_each_engine_would_run_is_printed_and_nothing_is_run(clara_wf, tmp_path):
    done = clara_wf("plan", LIVER_SEG, "job-7", "--payloads", tmp_path / "payloads", "--json")
    planned = json.loads(done.stdout)
    assert {engine: len(lines) for engine, lines in planned.items()} == {
        "process": 3,
        "docker": 3,
        "kubernetes": 1,
    }
    assert "NVIDIA_CLARA_JOBID=job-7" in planned["process"][0]
    assert not (tmp_path / "payloads").exists()


def test_a_scaffolded_stage_runs_in_a_workflow_at_once_and_its_job_can_be_looked_at(
    clara_wf, values, tmp_path
):
    clara_wf("cs", "my-ai", "--scaffold", tmp_path / "my-ai", "--values", values)
    clara_wf("new", "mine", "--stages", "my-ai", "--values", values)
    (tmp_path / "in").mkdir()
    import numpy as np

    from stages import Origin, Volume, write_volume

    write_volume(
        Volume(
            array=np.zeros((2, 3, 4), np.int16), affine=np.eye(4), origin=Origin(series_instance_uid="1.2.3")
        ),
        tmp_path / "in",
    )
    payloads = ("--payloads", tmp_path / "payloads")
    done = clara_wf(
        "test", "mine", "job-1", "--input", tmp_path / "in", "--server", "none", "--values", values, *payloads
    )
    assert done.returncode == 0, done.stderr
    status = json.loads(clara_wf("status", "job-1", "--json", *payloads).stdout)
    assert (status[0]["state"], status[0]["workflow"]) == ("done", "mine")
    assert "done in" in clara_wf("logs", "job-1", "my-ai", *payloads).stdout
    assert clara_wf("logs", "job-1", *payloads).stdout.startswith("my-ai | ")
    assert clara_wf("logs", "job-1", "-n", "1", *payloads).stdout.count("\n") == 1
    with (tmp_path / "payloads/job-1/logs/my-ai.log").open("ab") as log:
        log.write(b"\x1b]0;title\x07\tcaf\xe9 \xe2\x80\xaefdp\n")
    (line,) = clara_wf("logs", "job-1", "-n", "1", *payloads).stdout.splitlines()
    assert line == "my-ai | \\x1b]0;title\\x07\tcaf\\xe9 \\u202efdp"
    wrong = clara_wf("logs", "job-1", "reader", *payloads)
    assert wrong.stderr == "clara-wf: job job-1 has no stage 'reader'; it has my-ai\n"


def test_a_stage_that_has_only_its_image_cannot_be_a_process(clara_wf, values):
    clara_wf("cs", "only-image", "--values", values)
    clara_wf("new", "mine", "--stages", "only-image", "--values", values)
    done = clara_wf("test", "mine", "--engine", "process", "--values", values)
    assert done.returncode == 2
    assert "only-image cannot run as a process: its block has no 'command'" in done.stderr


def test_an_engine_that_does_not_exist_is_told(clara_wf):
    done = clara_wf("test", LIVER_SEG, "--engine", "slurm")
    assert done.returncode == 2
    assert "choose from process, docker, kubernetes" in done.stderr


def test_the_doctor_looks_at_everything_and_says_how_to_get_what_is_missing(clara_wf):
    found = json.loads(clara_wf("doctor", "--json").stdout)
    by_name = {each["what"]: each for each in found}
    expected = {
        "Python",
        "payloads",
        "cache",
        "chart",
        "models",
        "model server",
        "GPU",
        "Docker",
        "Helm",
        "cluster",
    }
    assert expected <= set(by_name)
    assert by_name["Python"]["verdict"] == "ok"
    assert all(each["advice"] for each in found if each["verdict"] != "ok")


def test_the_doctor_finds_a_chart_with_mistakes_wrong(clara_wf, values):
    values.write_text(values.read_text().replace('timeout: "300"', "timeout: never", 1))
    done = clara_wf("doctor", "--values", values)
    assert done.returncode == 1
    assert "WRONG   chart: 1 mistake(s); run `clara-wf lint`" in done.stdout


@pytest.mark.slow
def test_a_workflow_is_published_listed_run_as_it_was_then_and_taken_back(clara_wf, values, tmp_path):
    shop = tmp_path / "workflows"
    scaffolded = clara_wf("cs", "copy-it", "--scaffold", tmp_path / "copy-it", "--values", values)
    assert scaffolded.returncode == 0, scaffolded.stderr
    identifier = "7b413e24-d018-4689-8c41-73272f6649d4"
    chain = ("new", "mine", "--stages", "dicom-reader,copy-it", "--id", identifier, "--values", values)
    assert clara_wf(*chain).returncode == 0
    publish = ("publish", "mine", "My copy", shop, "--values", values)
    assert "published mine as 'My copy', version 1" in clara_wf(*publish).stdout
    assert "mine is published just like that: version 1" in clara_wf(*publish).stdout
    (row,) = json.loads(clara_wf("list", shop, "--json").stdout)
    assert (row["id"], row["name"], row["workflow"], row["version"]) == (identifier, "My copy", "mine", 1)
    assert "My copy" in clara_wf("list", shop).stdout
    values.unlink()
    payloads = ("--payloads", tmp_path / "payloads", "--server", "none", "--json")
    done = clara_wf("test", identifier, "--published", shop, *payloads)
    assert done.returncode == 0, done.stderr
    assert [stage["state"] for stage in json.loads(done.stdout)["stages"]] == ["done", "done"]
    assert "not published any more" in clara_wf("unpublish", identifier, shop).stdout
    assert clara_wf("list", shop).stdout == f"no workflow is published in {shop}\n"
    assert clara_wf("test", identifier, "--published", shop).returncode == 2


def test_what_is_published_is_run_with_its_own_settings_only(clara_wf, values, tmp_path):
    done = clara_wf("test", "mine", "--published", tmp_path, "--values", values)
    assert done.returncode == 2
    assert "--published or --values, not both" in done.stderr


def test_a_folder_of_published_workflows_that_is_not_there_is_told(clara_wf, tmp_path):
    done = clara_wf("list", tmp_path / "nowhere")
    assert done.returncode == 3
    assert f"there is no folder {tmp_path / 'nowhere'}" in done.stderr


def test_sigterm_is_heeded_while_it_is_still_being_imported():
    """The first process of a container would not even end by it."""
    with subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "clara_wf", "--help"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    ) as process:
        while "click" not in process.stderr.readline():
            assert process.poll() is None
        process.terminate()
        process.stderr.read()
    assert process.returncode == 1
