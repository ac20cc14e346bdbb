"""What is said to Docker for a stage, read without a Docker engine."""

import csv
import shlex

import pytest

from clara_wf.chart import edit
from clara_wf.definitions.workflow import StageBlock, Step, Workflow
from clara_wf.engines.docker.client import Docker
from clara_wf.engines.docker.engine import DockerEngine
from clara_wf.engines.engine import JobRun
from clara_wf.payload import Payload
from stages.errors import SettingsError


def block(name, **more):
    usual = edit.stage_block(name, repository=f"clara-test/{name}", tag="1")
    return StageBlock.model_validate(usual | {"timeout": "20"} | more)


@pytest.fixture
def plan(tmp_path):
    """Return the planned command of stage b, which waits for a and c, as a list."""

    def plan(*, root=tmp_path / "job", models=None, triton_url=None, **more):
        step = Step(
            name="b",
            block=block("b", **more),
            wait_locks=("a.lock", "c.lock"),
            input_folders=("a/output", "c/output"),
            arguments=("-p", "two words"),
        )
        workflow = Workflow(
            id="w", name="w", input_folder="a/input", steps=(step,), result_folders=("b/output",)
        )
        run = JobRun(
            workflow=workflow,
            payload=Payload(root=root, job_id="job"),
            to_run={"b": "asked to"},
            triton_url=triton_url,
            timeout_s=None,
            environ={},
        )
        (line,) = DockerEngine(models=models).plan(run)
        return shlex.split(line)

    return plan


def mounts(command):
    """Return (source, target, whether read-only) of every mount."""
    rows = [
        next(csv.reader([word.removeprefix("--mount=")])) for word in command if word.startswith("--mount=")
    ]
    return {
        (row[1].removeprefix("source="), row[2].removeprefix("target="), row[3:] == ["readonly"])
        for row in rows
    }


def test_a_stage_sees_its_own_folders_and_no_others(plan, tmp_path):
    job = tmp_path / "job"
    assert mounts(plan()) == {
        (f"{job}/a/output", "/app/input", True),
        (f"{job}/c/output", "/app/input-2", True),
        (f"{job}/a/input", "/app/source", True),
        (f"{job}/b/output", "/app/output", False),
        (f"{job}/publish/b", "/publish", False),
        (f"{job}/locks", "/app/locks", False),
        (f"{job}/logs/b.log", "/app/logs/b.log", False),
    }


def test_a_path_may_hold_a_comma_and_a_quote(plan, tmp_path):
    root = tmp_path / 'a,b "c"'
    assert (f"{root}/b/output", "/app/output", False) in mounts(plan(root=root))


def test_every_container_is_hardened(plan):
    assert {"--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"} <= set(plan())
    user = next(word for word in plan() if word.startswith("--user="))
    assert not user.startswith("--user=0")


def test_the_arguments_of_a_stage_come_last_as_they_are(plan):
    assert plan()[-3:] == ["clara-test/b:1", "-p", "two words"]


def test_the_limits_of_a_block_become_those_of_its_container(plan):
    resources = {"limits": {"memory": "1.5Gi", "cpu": "500m", "nvidia.com/gpu": "2"}}
    command = plan(resources=resources, gpu=True)
    assert {"--memory=1610612736", "--memory-swap=1610612736", "--cpus=0.5", "--gpus=2"} <= set(command)


def test_a_stage_without_limits_gets_none_and_no_gpu(plan):
    assert not [word for word in plan() if word.startswith(("--memory", "--cpus", "--gpus"))]


def test_without_a_server_there_is_no_network(plan):
    assert "--network=none" in plan()
    assert "--env=NVIDIA_CLARA_TRTISURI=" in plan()


def test_with_models_the_server_is_found_by_name_in_the_network_of_the_job(plan, tmp_path):
    command = plan(models=tmp_path)
    assert "--network=clara-job" in command
    assert "--env=NVIDIA_CLARA_TRTISURI=model-server:8001" in command


def test_the_settings_of_a_block_do_not_override_those_of_the_job(plan):
    command = plan(env={"OMP_NUM_THREADS": "2", "NVIDIA_CLARA_JOBID": "another"})
    assert "--env=OMP_NUM_THREADS=2" in command
    assert "--env=NVIDIA_CLARA_JOBID=job" in command
    assert "--env=NVIDIA_CLARA_JOBID=another" not in command


def test_a_machine_without_docker_is_told_what_to_do(tmp_path):
    with pytest.raises(SettingsError, match=r"no docker command.*--engine process"):
        Docker.find({"PATH": str(tmp_path)})


def test_an_engine_that_does_not_answer_is_told_with_its_reason(tmp_path):
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2; exit 1\n")
    program.chmod(0o755)
    with pytest.raises(SettingsError, match=r"Cannot connect to the Docker daemon; start it"):
        Docker.find({"PATH": str(tmp_path)}).images(["a:1"])
