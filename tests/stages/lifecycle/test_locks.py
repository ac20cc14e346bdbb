import json
import os
import re
from dataclasses import asdict, replace

import pytest

from stages import OutputError
from stages.lifecycle import locks, models_file, outputs, validity
from stages.lifecycle.model_record import ModelRecord, records_in, why_changed
from stages.runtime.job_files import JobFileError
from tests.phantoms import LABELS


def lock_of(folder, **other):
    return locks.Lock(job="job-1", stage="reader", outputs=outputs.describe_files(folder), **other)


def reason(lock_dir, output, job="job-1", arguments=()):
    return validity.why_invalid(
        lock_dir, "reader.lock", job=job, output_dir=output, wait_locks=["input.lock"], arguments=arguments
    )


@pytest.fixture
def output(tmp_path):
    """Return an output folder with one file, vouched for by reader.lock in `tmp_path`."""
    output = tmp_path / "output"
    output.mkdir()
    (output / "volume.raw").write_bytes(b"42")
    inputs = validity.digests_of(tmp_path, ["input.lock"])
    locks.publish(tmp_path / "reader.lock", lock_of(output, inputs=inputs))
    return output


def test_lock_read_back_is_the_lock_that_was_published(tmp_path, output):
    lock = lock_of(output, inputs={"input.lock": "ab"}, arguments=("--model", "liver"), started="then")
    locks.publish(tmp_path / "reader.lock", lock)
    assert locks.read_lock(tmp_path / "reader.lock") == lock


def test_publishing_leaves_nothing_else_behind(tmp_path):
    locks.publish(tmp_path / "a.lock", {"job": "1"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.lock"]


def test_failed_publication_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.lock").mkdir()
    with pytest.raises(OutputError, match=r"cannot publish .*a\.lock"):
        locks.publish(tmp_path / "a.lock", {"job": "1"})
    assert [p.name for p in tmp_path.iterdir()] == ["a.lock"]


@pytest.mark.parametrize(
    "text", ["", "done", "[]", "{}", '{"outputs": 3}', '{"outputs": [], "x": 1}', "\x00"]
)
def test_lock_of_a_foreign_stage_says_nothing_and_stands(tmp_path, output, text):
    (tmp_path / "reader.lock").write_text(text)
    (output / "volume.raw").unlink()
    assert locks.read_lock(tmp_path / "reader.lock") is None
    assert reason(tmp_path, output) is None


@pytest.mark.parametrize("peak", [-1, True, "much", 1.5, None])
def test_lock_and_failure_with_a_peak_memory_that_is_no_size_are_foreign(tmp_path, output, peak):
    locks.publish(tmp_path / "reader.lock", lock_of(output, peak_memory_bytes=peak))
    assert locks.read_lock(tmp_path / "reader.lock") is None
    failure = dict(stage="reader", error="E", exit_code=3, message="no", root_stage="a", root_message="no")
    path = tmp_path / "reader.failed"
    locks.publish(path, locks.Failure(job="job-1", **failure, peak_memory_bytes=peak))
    assert locks.read_failure(path).exit_code == 1


def test_lock_without_a_peak_memory_stands(tmp_path, output):
    record = json.loads((tmp_path / "reader.lock").read_text())
    del record["peak_memory_bytes"]
    locks.publish(tmp_path / "reader.lock", record)
    assert locks.read_lock(tmp_path / "reader.lock").peak_memory_bytes == 0
    assert reason(tmp_path, output) is None


def test_result_stands_while_nothing_has_changed(tmp_path, output):
    assert reason(tmp_path, output) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda job: (job / "reader.lock").unlink(), "it has not finished before"),
        (lambda job: (job / "input.lock").touch(), "its inputs have changed"),
        (lambda job: (job / "output/volume.raw").write_bytes(b"43"), "volume.raw is missing or was changed"),
        (lambda job: (job / "output/volume.raw").write_bytes(b"4"), "volume.raw is missing or was changed"),
        (lambda job: (job / "output/volume.raw").unlink(), "volume.raw is missing or was changed"),
    ],
    ids=["no lock", "other input", "changed output", "shorter output", "missing output"],
)
def test_reason_to_run_again_is_told(tmp_path, output, change, expected):
    change(tmp_path)
    assert expected in reason(tmp_path, output)


def test_other_job_and_other_arguments_are_reasons_to_run_again(tmp_path, output):
    assert reason(tmp_path, output, job="job-2") == "its lock is of job job-1"
    assert reason(tmp_path, output, arguments=["-p"]) == "its arguments were [], now ['-p']"


FILES = {"config.pbtxt": "aa", "1/model.onnx": "bb"}
USED = ModelRecord(name="liver", version="1", weights_sha256="w", configuration_sha256="c", files=FILES)


def test_a_file_that_the_arguments_name_is_noticed_when_it_changes(tmp_path):
    labels = tmp_path / "labels.yaml"
    labels.write_text("one")
    for arguments in (("--labels", str(labels)), (f"--labels={labels}",)):
        assert list(validity.files_named(arguments)) == [str(labels)]
    output = tmp_path / "output"
    output.mkdir()
    lock = locks.Lock(job="j", stage="w", files=validity.files_named(["--labels", str(labels)]))
    locks.publish(tmp_path / "w.lock", lock)
    how = {"job": "j", "output_dir": output, "wait_locks": (), "arguments": ()}
    assert validity.why_invalid(tmp_path, "w.lock", **how) is None
    labels.write_text("two")
    said = validity.why_invalid(tmp_path, "w.lock", **how)
    assert said == f"the file {labels}, which its arguments name, has changed"
    labels.unlink()
    assert validity.why_invalid(tmp_path, "w.lock", **how) is None


def test_what_the_workflow_says_of_labels_is_noticed_by_stages_that_take_it(tmp_path):
    how = {"job": "j", "output_dir": tmp_path, "wait_locks": (), "arguments": ()}
    for stage, digest in (("w", validity.labels_sha256(LABELS)), ("r", "")):
        locks.publish(tmp_path / f"{stage}.lock", locks.Lock(job="j", stage=stage, labels=digest))
    said = "what the workflow says of labels has changed"
    assert validity.why_invalid(tmp_path, "w.lock", **how, labels=LABELS) is None
    assert validity.why_invalid(tmp_path, "w.lock", **how, labels=LABELS[:1]) == said
    assert validity.why_invalid(tmp_path, "w.lock", **how) == said
    assert validity.why_invalid(tmp_path, "r.lock", **how, labels=LABELS) is None


@pytest.mark.parametrize(
    ("now", "changed"),
    [
        ({"version": "1", "files": FILES}, None),
        ({"version": "2", "files": {**FILES, "2/model.onnx": "cc"}}, "version 1, now 2"),
        ({"version": "1", "files": {**FILES, "1/model.onnx": "cc"}}, "weights"),
        ({"version": "1", "files": {**FILES, "config.pbtxt": "cc"}}, "description"),
        ({"version": "1", "files": {**FILES, "1/weights.bin": "cc"}}, "weights"),
        ({"version": "1", "files": {"config.pbtxt": "aa"}}, "weights"),
        ({"version": "1", "files": {"config.pbtxt": "cc", "1/model.onnx": "cc"}}, "weights and description"),
        ({"version": "1", "files": {**FILES, "labels.txt": "cc"}}, "labels.txt"),
        ({"files": {**FILES, "1/model.onnx": "cc"}}, "weights"),  # the version is not known
        ({"version": "1", "weights_sha256": "w", "configuration_sha256": "c"}, None),  # what a server tells
        ({"version": "1", "weights_sha256": "x", "configuration_sha256": "c"}, "weights"),
        ({"version": "1", "weights_sha256": "w", "configuration_sha256": "d"}, "description"),
        ({"version": "3", "weights_sha256": "x"}, "version 1, now 3"),
        ({}, None),  # nothing is known
    ],
)
def test_a_changed_model_is_told_by_what_changed(now, changed):
    assert why_changed(USED, ModelRecord(name="liver", **now)) == changed


def test_a_result_does_not_stand_when_its_model_has_changed(tmp_path, output):
    lock = lock_of(output, inputs=validity.digests_of(tmp_path, ["input.lock"]), models=(USED,))
    locks.publish(tmp_path / "reader.lock", lock)
    assert reason(tmp_path, output) is None  # nobody says what the model is now
    models_file.publish_models(tmp_path, [ModelRecord(name="liver", version="1", files=FILES)])
    assert reason(tmp_path, output) is None
    models_file.publish_models(tmp_path, [ModelRecord(name="liver", version="2")])
    assert reason(tmp_path, output) == "model liver has changed (version 1, now 2)"
    models_file.publish_models(tmp_path, [ModelRecord(name="spleen", version="2")])
    assert reason(tmp_path, output) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([{"name": "liver", "version": "1"}], "model liver has changed (version 1, now 2)"),
        ([{"name": "liver"}], None),
        ([{"name": "liver", "version": 1}], None),  # no text: as if it were not there
        (["liver"], None),
        ({"name": "liver"}, None),
    ],
)
def test_a_foreign_lock_may_name_its_models(tmp_path, output, told, expected):
    (tmp_path / "reader.lock").write_text(json.dumps({"models": told}))
    models_file.publish_models(tmp_path, [ModelRecord(name="liver", version="2", files=FILES)])
    assert reason(tmp_path, output) == expected


def test_models_whose_weights_are_unknown_on_one_side_are_named(tmp_path, output):
    used = [USED, ModelRecord(name="spleen", version="1"), ModelRecord(name="lung", version="1", files=FILES)]
    locks.publish(tmp_path / "reader.lock", lock_of(output, models=tuple(used)))
    models_file.publish_models(tmp_path, [USED, ModelRecord(name="spleen", version="1", files=FILES)])
    assert models_file.models_of_unknown_weights(tmp_path, "reader.lock") == ["spleen", "lung"]


def test_records_that_are_read_back_are_those_that_were_published(tmp_path):
    models_file.publish_models(tmp_path, [USED])
    assert models_file.read_models(tmp_path) == {"liver": USED}
    models_file.publish_models(tmp_path, [])
    assert models_file.read_models(tmp_path) == {}
    assert list(records_in(None)) == []


def test_failure_of_a_foreign_stage_counts_with_its_message(tmp_path):
    (tmp_path / "other.failed").write_text('{"message": "out of memory"}')
    failure = locks.read_failure(tmp_path / "other.failed")
    assert (failure.root_stage, failure.root_message) == ("other", "out of memory")


FAILURE = locks.Failure(
    job="job-1",
    stage="reader",
    error="InputError",
    exit_code=3,
    message="no CT",
    retryable=False,
    root_stage="reader",
    root_message="no CT",
)


@pytest.mark.parametrize("code", [1, 3, 255])
def test_failure_read_back_is_the_one_that_was_published(tmp_path, code):
    failure = replace(FAILURE, exit_code=code, peak_memory_bytes=1)
    locks.publish(tmp_path / "reader.failed", failure)
    assert locks.read_failure(tmp_path / "reader.failed") == failure


@pytest.mark.parametrize(
    "wrong", [{"exit_code": 0}, {"exit_code": 256}, {"exit_code": True}, {"retryable": 1}, {"root_stage": 7}]
)
def test_failure_with_a_value_of_another_kind_counts_with_its_message_alone(tmp_path, wrong):
    (tmp_path / "reader.failed").write_text(json.dumps({**asdict(FAILURE), **wrong}))
    failure = locks.read_failure(tmp_path / "reader.failed")
    assert (failure.job, failure.error, failure.exit_code) == ("", "", 1)
    assert (failure.stage, failure.root_stage, failure.root_message) == ("reader", "reader", "no CT")
    assert not failure.retryable


@pytest.mark.parametrize("known", [True, False])
def test_message_of_a_failure_is_read_as_far_as_a_log_can_bear(tmp_path, known):
    long = {"message": "x" * 20_000, "root_message": "y" * 20_000}
    content = {**asdict(FAILURE), **long} if known else long
    (tmp_path / "reader.failed").write_text(json.dumps(content))
    failure = locks.read_failure(tmp_path / "reader.failed")
    assert (len(failure.message), len(failure.root_message)) == (16_384, 16_384)


@pytest.mark.parametrize("wrong", [{"job": 1}, {"arguments": [1]}, {"inputs": []}, {"files": {"a": 1}}])
def test_lock_with_a_value_of_another_kind_is_foreign(tmp_path, output, wrong):
    content = {**asdict(lock_of(output)), **wrong}
    (tmp_path / "reader.lock").write_text(json.dumps(content))
    assert locks.read_lock(tmp_path / "reader.lock") is None


def test_what_nobody_would_read_is_not_published(tmp_path):
    longest = (32 << 20) - len('{\n "message": ""\n}')
    locks.publish(tmp_path / "a.lock", {"message": "x" * longest})
    with pytest.raises(
        OutputError, match="it would have 33554433 bytes, and nobody reads more than 33554432"
    ):
        locks.publish(tmp_path / "b.lock", {"message": "x" * (longest + 1)})
    assert [path.name for path in tmp_path.iterdir()] == ["a.lock"]


def test_files_of_a_stage_bear_the_name_of_its_lock(tmp_path):
    assert locks.stage_of("reader.lock") == "reader"
    assert locks.failure_path(tmp_path, "reader.lock") == tmp_path / "reader.failed"
    assert locks.running_path(tmp_path, "reader.lock") == tmp_path / "reader.running"


def test_time_is_said_to_the_millisecond_in_utc():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", locks.now())


@pytest.mark.parametrize(("how", "syncs"), [({}, 2), ({"durable": False}, 0)])
def test_a_lock_and_its_folder_are_on_disk_when_it_is_published(tmp_path, monkeypatch, how, syncs):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    locks.publish(tmp_path / "a.lock", {"job": "1"}, **how)
    assert len(synced) == syncs


def test_a_failure_of_more_than_a_mebibyte_is_refused(tmp_path):
    text = '{"message": "no CT"}'
    (tmp_path / "a.failed").write_text(text.ljust(1 << 20))
    assert locks.read_failure(tmp_path / "a.failed").message == "no CT"
    (tmp_path / "a.failed").write_text(text.ljust((1 << 20) + 1))
    with pytest.raises(JobFileError):
        locks.read_failure(tmp_path / "a.failed")


def test_absent_failure_is_none(tmp_path):
    assert locks.read_failure(tmp_path / "other.failed") is None
