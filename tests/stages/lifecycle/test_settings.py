from pathlib import Path

import pytest

from stages import SettingsError, StageSettings
from stages.lifecycle.settings import is_in_job


def test_container_without_settings_finds_its_folders_below_app():
    settings = StageSettings.from_environ({}, stage_name="user-ai")
    assert settings.input_dirs == (Path("/app/input"),)
    assert settings.output_dir == Path("/app/output")
    assert settings.source_dir == Path("/app/source")
    assert settings.lock_dir == Path("/app/locks")
    assert settings.lock_name == "user-ai.lock"
    assert settings.wait_locks == ("input.lock",)
    assert settings.timeout_s == 300
    assert settings.publish_dir is None
    assert settings.log_file is None
    assert settings.triton_url is None
    assert settings.use_locks
    assert settings.termination_log is None


def test_a_platform_may_ask_for_the_reason_of_a_failure():
    environ = {"NVIDIA_CLARA_TERMINATIONLOG": "/dev/termination-log"}
    assert StageSettings.from_environ(environ).termination_log == Path("/dev/termination-log")


def test_arguments_of_the_workflow_are_a_list_of_texts():
    environ = {"NVIDIA_CLARA_ARGUMENTS": '["-p", "foo bar"]'}
    assert StageSettings.from_environ(environ).arguments == ("-p", "foo bar")
    assert StageSettings.from_environ({}).arguments is None


@pytest.mark.parametrize("text", ["-p foo", '{"a": 1}', "[1]"])
def test_anything_else_as_arguments_is_refused(text):
    with pytest.raises(SettingsError, match="expected a JSON list of texts"):
        StageSettings.from_environ({"NVIDIA_CLARA_ARGUMENTS": text})


def test_environment_names_the_stage_before_its_program_does():
    settings = StageSettings.from_environ({"NVIDIA_CLARA_STAGENAME": "liver-2"}, stage_name="user-ai")
    assert (settings.stage_name, settings.lock_name) == ("liver-2", "liver-2.lock")


@pytest.mark.parametrize(
    ("text", "locks"),
    [
        ("", ("input.lock",)),
        ("dicom-reader.lock", ("dicom-reader.lock",)),
        ("a.lock, b.lock", ("a.lock", "b.lock")),
        (",a.lock", ("input.lock", "a.lock")),
    ],
)
def test_empty_name_of_an_awaited_lock_means_the_input(text, locks):
    assert StageSettings.from_environ({"NVIDIA_CLARA_WAITLOCKS": text}).wait_locks == locks


@pytest.mark.parametrize(("text", "locks"), [("TRUE", False), ("true", False), ("1", False), ("", True)])
def test_nosynclock_runs_without_locks(text, locks):
    assert StageSettings.from_environ({"NVIDIA_CLARA_NOSYNCLOCK": text}).use_locks is locks


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("WAITLOCKS", "../x.lock"),
        ("WAITLOCKS", "input.lock,/etc/x.lock"),
        ("WAITLOCKS", "input"),
        ("WAITLOCKS", ".hidden.lock"),
        ("LOCKNAME", "../x.lock"),
        ("LOCKNAME", "x\n.lock"),
        ("LOCKNAME", "x.lock/y.lock"),
        ("STAGENAME", "../x"),
        ("STAGENAME", "My Stage"),
        ("STAGENAME", "x-"),
        ("STAGENAME", "x" * 64),
        ("JOBID", ".."),
        ("JOBID", "a/b"),
        ("JOBID", "-a"),
        ("TIMEOUT", "soon"),
        ("TIMEOUT", "0"),
        ("TIMEOUT", "-1"),
        ("TIMEOUT", "nan"),
        ("TIMEOUT", "inf"),
    ],
)
def test_bad_setting_is_refused_by_its_name_and_value(key, value):
    with pytest.raises(SettingsError, match=f"^NVIDIA_CLARA_{key}=") as refused:
        StageSettings.from_environ({f"NVIDIA_CLARA_{key}": value})
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("environ", "in_job"),
    [
        ({}, False),
        ({"NVIDIA_CLARA_TRTISURI": "localhost:8001", "HOME": "/root"}, False),
        ({"NVIDIA_CLARA_WAITLOCKS": ""}, False),
        ({"NVIDIA_CLARA_JOBID": "job-1"}, True),
        ({"NVIDIA_CLARA_NOSYNCLOCK": "TRUE"}, True),
    ],
)
def test_a_job_is_told_from_a_person_by_what_is_set(tmp_path, environ, in_job):
    assert is_in_job(environ, lock_dir=tmp_path / "locks") == in_job


def test_a_lock_folder_says_that_there_is_a_job(tmp_path):
    assert is_in_job({}, lock_dir=tmp_path)
