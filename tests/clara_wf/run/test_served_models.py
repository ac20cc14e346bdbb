"""A finished job runs again from the stage on whose model has changed."""

import os
import socket
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from clara_wf.definitions.workflow import find_workflow, load_workflows
from clara_wf.payload import Payload, fill_input, steps_to_run
from clara_wf.run.local_run import LocalRun, run_locally
from clara_wf.run.served_models import not_compared, publish_repository, publish_server
from clara_wf.workspace import Places
from stages.lifecycle import locks, models_file
from stages.lifecycle.model_record import ModelRecord
from tests.clara_wf.definitions.test_workflow import CHART
from tests.clara_wf.engines.studies import Study
from tests.clara_wf.test_payload import STAGES, finish
from tests.onnx_models import add_model
from tests.stages.tritons import running

MODEL = {"image": (1, -1, -1, -1), "scores": (3, -1, -1, -1), "window_shape": [8, 16, 16]}


@pytest.fixture
def models(tmp_path):
    """Return a repository with the model `liver`."""
    add_model(tmp_path / "models", "liver", **MODEL)
    return tmp_path / "models"


@pytest.fixture
def workflow():
    return find_workflow(load_workflows(CHART), "liver-seg")


@pytest.fixture
def payload(tmp_path, workflow):
    """Return a job with its input, and nothing done yet."""
    payload = Payload(root=tmp_path / "payloads/job-1", job_id="job-1")
    payload.make_folders(workflow)
    (tmp_path / "source").mkdir()
    (tmp_path / "source/a.dcm").write_bytes(b"abc")
    fill_input(payload, workflow, tmp_path / "source")
    return payload


@pytest.fixture
def finish_job(payload, workflow):
    """Return what finishes all stages, the second of them having used a model."""

    def finish_with(*used):
        finish(payload, workflow, STAGES[0])
        finish(payload, workflow, STAGES[1])
        lock = locks.read_lock(payload.lock_dir / "ai-livertumor.lock")
        locks.publish(payload.lock_dir / "ai-livertumor.lock", replace(lock, models=used))
        finish(payload, workflow, STAGES[2])

    return finish_with


@pytest.fixture
def done_from(models, payload, tmp_path, finish_job):
    """Finish the job with the model of the repository."""
    publish_repository(payload, models, tmp_path / "cache")
    finish_job(models_file.read_models(payload.lock_dir)["liver"])


def again(payload, workflow, models, cache, **options):
    publish_repository(payload, models, cache, **options)
    return steps_to_run(payload, workflow, fresh=False)


CHANGES = {
    "weights": lambda liver: (liver / "1/model.onnx").write_bytes(
        (liver / "1/model.onnx").read_bytes() + b"x"
    ),
    "description": lambda liver: (liver / "config.pbtxt").write_text("# other"),
    "version 1, now 2": lambda liver: (liver / "2").mkdir(),
}


@pytest.mark.parametrize("changed", CHANGES)
@pytest.mark.usefixtures("done_from")
def test_a_changed_model_runs_its_stage_and_those_behind_it(payload, workflow, models, tmp_path, changed):
    CHANGES[changed](models / "liver")
    reasons = again(payload, workflow, models, tmp_path / "cache")
    assert reasons == {
        "ai-livertumor": f"model liver has changed ({changed})",
        "dicom-writer": "ai-livertumor runs",
    }


@pytest.mark.usefixtures("done_from")
def test_a_model_that_is_as_it_was_lets_everything_stand(payload, workflow, models, tmp_path):
    add_model(models, "spleen", **MODEL)  # another one
    (models / "liver/README.md").write_text("a note")
    assert again(payload, workflow, models, tmp_path / "cache") == {}
    assert list(not_compared(payload, workflow.steps)) == []


@pytest.mark.usefixtures("done_from")
def test_a_result_of_a_repository_is_compared_also_where_a_cluster_may_serve_it(
    payload, workflow, models, tmp_path
):
    assert again(payload, workflow, models, tmp_path / "cache", surely=False) == {}
    (models / "liver/2").mkdir()
    (models / "liver/2/model.onnx").write_bytes(b"new")
    assert list(again(payload, workflow, models, tmp_path / "cache", surely=False)) == STAGES[1:]


def test_a_result_of_a_server_elsewhere_is_kept_on_a_cluster_and_told(
    payload, workflow, models, tmp_path, finish_job
):
    finish_job(ModelRecord(name="liver", version="7"))
    assert again(payload, workflow, models, tmp_path / "cache", surely=False) == {}
    assert list(not_compared(payload, workflow.steps)) == [
        "ai-livertumor is kept; whether the weights of model liver are still the same is not known (--fresh "
        "runs it again)"
    ]


def test_a_server_that_does_not_answer_leaves_the_result_and_is_told_at_once(payload, workflow, finish_job):
    finish_job(ModelRecord(name="liver", version="1", weights_sha256="ab"))
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        publish_server(payload, workflow, f"127.0.0.1:{taken.getsockname()[1]}")
    assert steps_to_run(payload, workflow, fresh=False) == {}
    assert len(list(not_compared(payload, workflow.steps))) == 1


def test_a_job_that_used_no_model_asks_no_server(payload, workflow, finish_job):
    finish_job()
    publish_server(payload, workflow, "no address at all")
    assert steps_to_run(payload, workflow, fresh=False) == {}


@pytest.mark.triton
def test_a_server_tells_whether_its_model_is_the_one_that_was_used(
    payload, workflow, models, tmp_path, finish_job
):
    with running(models, tmp_path / "server.log") as server:
        finish_job(ModelRecord(name="liver", version="1"))
        publish_server(payload, workflow, server.grpc_url)
        told = models_file.read_models(payload.lock_dir)["liver"]
        assert (told.version, len(told.configuration_sha256)) == ("1", 64)
        assert steps_to_run(payload, workflow, fresh=False) == {}
        finish_job(ModelRecord(name="liver", version="1", configuration_sha256="0" * 64))
        reasons = steps_to_run(payload, workflow, fresh=False)
    assert reasons["ai-livertumor"] == "model liver has changed (description)"


@pytest.mark.usefixtures("done_from")
def test_another_model_in_the_arguments_runs_the_stage_again(payload, workflow, models, tmp_path):
    steps = tuple(
        replace(step, arguments=("--model", "spleen")) if step.name == "ai-livertumor" else step
        for step in workflow.steps
    )
    reasons = again(payload, replace(workflow, steps=steps), models, tmp_path / "cache")
    assert reasons["ai-livertumor"] == "its arguments were [], now ['--model', 'spleen']"


@pytest.fixture
def try_foreign_stage(models, tmp_path, monkeypatch):
    """Return what tries a workflow of one shell script that names its model in its lock, and what is said."""
    study = Study(tmp_path, {})
    names = '{"models": [{"name": "liver", "version": "1"}]}'
    script = f"echo '{names}' > $NVIDIA_CLARA_LOCKDIR/a.lock"
    workflow = study.workflow(a="", blocks={"a": {"command": ["sh", "-c", script]}})
    steps = (replace(workflow.steps[0], arguments=()),)
    places = replace(Places.here({}), payloads=tmp_path, models=models, cache=tmp_path / "cache")
    run = LocalRun(
        workflow=replace(workflow, steps=steps), places=places, job="job-2", input_dir=study.source
    )
    server = contextmanager(lambda *_, **__: iter([SimpleNamespace(grpc_url="127.0.0.1:1")]))
    monkeypatch.setattr("clara_wf.model_server.server.serve", server)

    def try_again(**changes):
        said = []
        _, outcome = run_locally(
            replace(run, **changes),
            environ=os.environ,
            print_line=said.append,
            on_progress=lambda statuses: None,
        )
        return said, outcome.statuses[0].state

    return try_again


def test_why_a_stage_runs_again_is_told_also_of_a_foreign_stage_that_names_its_model(
    models, try_foreign_stage
):
    assert try_foreign_stage() == ([], "done")
    said, state = try_foreign_stage()
    assert state == "kept"
    assert said[0].startswith("a is kept; whether the weights of model liver are still the same is not known")
    (models / "liver/2").mkdir()
    assert try_foreign_stage() == (["a runs again: model liver has changed (version 1, now 2)"], "done")


def test_without_a_server_nothing_is_known_of_the_models(models, try_foreign_stage):
    try_foreign_stage()
    (models / "liver/2").mkdir()
    said, state = try_foreign_stage(server="none")
    assert (len(said), state) == (1, "kept")
