"""The files of a job on their way into a Pod and back, without a Pod: what is sent, and what is taken."""

import errno
import io
import json
from types import SimpleNamespace

import pytest

from clara_wf.engines.engine import JobRun
from clara_wf.engines.kubernetes.pod_files import DamagedError, PayloadWriter, send
from clara_wf.payload import fill_input
from stages.errors import InputError, OutputError
from stages.lifecycle import locks, models_file, outputs
from stages.lifecycle.model_record import ModelRecord
from stages.pod.messages import read_content, read_header
from tests.clara_wf.engines.studies import Study


@pytest.fixture
def job(tmp_path):
    """Return a job of stages a and b of which b has to run."""
    study = Study(tmp_path, {})
    workflow = study.workflow(a="true", b="true")
    payload = study.payload
    payload.make_folders(workflow)
    fill_input(payload, workflow, study.source)
    (payload.root / "a/output/volume").write_text("voxels")
    locks.publish(payload.lock_dir / "a.lock", {"job": "job"})
    (payload.root / "b/output/half").write_text("left over")
    (payload.lock_dir / "b.failed").write_text("{}")
    run = JobRun(
        workflow=workflow, payload=payload, to_run={"b": ""}, triton_url=None, timeout_s=None, environ={}
    )
    return SimpleNamespace(run=run, root=payload.root, payload=payload)


def sent(run, models=None, *, payload=True):
    stream = io.BytesIO()
    send(stream.write, run, models, payload=payload)
    stream.seek(0)
    told = []
    while (header := read_header(stream.read)) is not None:
        content = b"".join(read_content(stream.read, header))
        told.append((header.get("path", "end"), None if header.get("folder") else content))
    return told


def test_what_the_stages_need_is_sent_with_the_locks_last_and_the_input_after_all(job):
    files = [name for name, content in sent(job.run) if content is not None]
    assert files == [
        "payload/a/input/file",
        "payload/a/output/volume",
        "payload/locks/a.lock",
        "payload/locks/input.lock",
        "end",
    ]


def test_what_the_models_are_is_sent_before_the_locks(job):
    models_file.publish_models(job.payload.lock_dir, [ModelRecord(name="liver", version="1")])
    names = [name for name, _ in sent(job.run)]
    assert names.index("payload/locks/models.json") < names.index("payload/locks/a.lock")


def test_every_folder_a_stage_writes_is_made(job):
    folders = {name for name, content in sent(job.run) if content is None}
    assert {"payload/locks", "payload/logs", "payload/b/output", "payload/publish/b"} <= folders


def test_where_the_pod_sees_the_payload_only_models_are_sent(job, tmp_path):
    (tmp_path / "models/m/1").mkdir(parents=True)
    (tmp_path / "models/m/1/model.onnx").write_text("w")
    assert sent(job.run, tmp_path / "models", payload=False) == [
        ("models/m/1/model.onnx", b"w"),
        ("end", b""),
    ]


def take(job, header, content=b"", receiver=None):
    receiver = receiver or PayloadWriter(run=job.run, on_synced=lambda number: None)
    stream = io.BytesIO(content)
    receiver.take({**header, "size": len(content)}, stream.read)
    return receiver


def lock_for(job, content="result", stage="b"):
    """Return the lock of a stage whose one output file is this."""
    folder = job.root.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    (folder / "mask").write_text(content)
    lock = locks.Lock(job="job", stage=stage, outputs=outputs.describe_files(folder))
    locks.publish(folder / f"{stage}.lock", lock)
    return (folder / f"{stage}.lock").read_bytes()


def test_a_result_is_put_in_place_of_an_older_one_and_its_lock_is_the_same_file(job):
    lock = lock_for(job)
    receiver = take(job, {"clear": "b/output"})
    take(job, {"file": "b/output/mask"}, b"result", receiver)
    take(job, {"file": "locks/b.lock"}, lock, receiver)
    assert [path.name for path in (job.root / "b/output").iterdir()] == ["mask"]
    assert (job.payload.lock_dir / "b.lock").read_bytes() == lock
    assert receiver.fetched == {"b"}


@pytest.mark.parametrize("content", [b"resulT", b"", None])
def test_a_result_that_is_not_what_its_lock_says_gets_no_lock(job, content):
    receiver = take(job, {"clear": "b/output"})
    if content is not None:
        take(job, {"file": "b/output/mask"}, content, receiver)
    with pytest.raises(DamagedError, match="the result of b did not arrive as it was sent"):
        take(job, {"file": "locks/b.lock"}, lock_for(job), receiver)
    assert not (job.payload.lock_dir / "b.lock").exists()
    assert receiver.fetched == set()


def test_an_empty_lock_of_a_foreign_stage_counts(job):
    receiver = take(job, {"file": "locks/b.lock"}, b"")
    assert receiver.fetched == {"b"}


def test_a_log_grows_where_it_ended_and_may_be_told_again(job):
    receiver = take(job, {"append": "logs/b.log", "at": 0}, b"one\n")
    take(job, {"append": "logs/b.log", "at": 4}, b"two\n", receiver)
    assert job.payload.log("b").read_text() == "one\ntwo\n"
    take(job, {"append": "logs/b.log", "at": 0}, b"one\ntwo\nthree\n", receiver)
    assert job.payload.log("b").read_text() == "one\ntwo\nthree\n"


def test_signs_of_life_tell_the_most_memory(job):
    receiver = take(job, {"beat": 1, "memory": {"b": 10}})
    take(job, {"beat": 2, "memory": {"b": 7}}, receiver=receiver)
    assert receiver.memory == {"b": 10}


@pytest.mark.parametrize(
    "name",
    [
        "a/output/volume",  # of a stage that does not run
        "a/input/file",
        "b/input/x",
        "b/x",
        "locks/input.lock",
        "locks/a.lock",
        "job.json",
        "publish/report.json",
        "publish/a/x",
        "logs/b.log",  # grows, and is never replaced
    ],
)
def test_a_pod_writes_only_what_its_stages_own(job, name):
    before = json.dumps([str(path) for path in sorted(job.root.rglob("*"))])
    with pytest.raises(DamagedError, match="none of its stages writes"):
        take(job, {"file": name}, b"evil")
    assert json.dumps([str(path) for path in sorted(job.root.rglob("*"))]) == before


@pytest.mark.parametrize("name", ["../x", "b/output/../../../x", "/etc/x", "locks/../x.lock", ""])
def test_no_name_leads_out_of_the_payload(job, name):
    for header in ({"file": name}, {"clear": name}, {"append": name, "at": 0}, {"gone": name}):
        with pytest.raises(InputError, match="leads out of the folder"):
            take(job, header)


@pytest.mark.parametrize("header", [{"file": "b/output/x"}, {"append": "logs/b.log", "at": 0}])
def test_a_connection_that_breaks_within_a_file_is_no_fault_of_this_machine(job, header):
    """So the client with the Pod begins anew, rather than the study failing."""

    def read(size):
        raise ConnectionResetError("reset by peer")

    with pytest.raises(ConnectionResetError):
        PayloadWriter(run=job.run, on_synced=lambda number: None).take({**header, "size": 10}, read)
    assert list((job.root / "b/output").iterdir()) == [job.root / "b/output/half"]


@pytest.mark.parametrize("header", [{"file": "b/output/x"}, {"append": "logs/b.log", "at": 0}])
def test_a_disk_of_this_machine_that_fails_is_named(job, header):
    """It is not taken for a connection that broke, which would be tried for ever."""

    def read(size):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"cannot write .* to the payload: No space left on device"):
        PayloadWriter(run=job.run, on_synced=lambda number: None).take({**header, "size": 10}, read)
