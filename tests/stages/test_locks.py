import pytest

from stages import OutputError, locks


def lock_of(folder, **other):
    return locks.Lock(job="job-1", stage="reader", outputs=locks.describe_files(folder), **other)


def reason(lock_dir, output, job="job-1", arguments=()):
    return locks.why_invalid(
        lock_dir, "reader.lock", job=job, output_dir=output, wait_locks=["input.lock"], arguments=arguments
    )


@pytest.fixture
def output(tmp_path):
    """Return an output folder with one file, vouched for by reader.lock in `tmp_path`."""
    output = tmp_path / "output"
    output.mkdir()
    (output / "volume.raw").write_bytes(b"42")
    inputs = locks.digests_of(tmp_path, ["input.lock"])
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


def test_failure_of_a_foreign_stage_counts_with_its_message(tmp_path):
    (tmp_path / "other.failed").write_text('{"message": "out of memory"}')
    failure = locks.read_failure(tmp_path / "other.failed")
    assert (failure.root_stage, failure.root_message) == ("other", "out of memory")


def test_absent_failure_is_none(tmp_path):
    assert locks.read_failure(tmp_path / "other.failed") is None
