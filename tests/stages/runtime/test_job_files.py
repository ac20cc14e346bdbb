"""What stands where a file of a job belongs: a regular file, or one line that says what else."""

import os
import socket
import time

import pytest

from stages import InputError, OutputError
from stages.lifecycle import locks, models_file, outputs, validity
from stages.lifecycle.heartbeat import sole_owner, wait_for_locks
from stages.runtime import job_files
from stages.volume.io import read_volume
from stages.volume.labels_file import read_labels
from stages.volume.origin_file import read_origin


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def sparse(path):
    with path.open("wb") as file:
        file.truncate(10 << 30)


THINGS = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a socket": a_socket,
    "a symbolic link": lambda path: path.symlink_to("/dev/zero"),
}
READERS = {
    "a.lock": lambda folder: wait_for_locks(folder, ["a.lock"], timeout_s=5),
    "a.failed": lambda folder: wait_for_locks(folder, ["a.lock"], timeout_s=5),
    "a.running": lambda folder: wait_for_locks(folder, ["a.lock"], timeout_s=5),
    "b.lock": lambda folder: locks.read_lock(folder / "b.lock"),
    "models.json": models_file.read_models,
    ".a.owner": lambda folder: sole_owner(folder, "a").__enter__(),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("what", THINGS)
def test_what_is_no_file_is_refused_at_once_and_named(tmp_path, name, what):
    THINGS[what](tmp_path / name)
    clock = time.monotonic()
    with pytest.raises(InputError, match=rf"/{name} is {what}; a regular file is expected"):
        READERS[name](tmp_path)
    assert time.monotonic() - clock < 2


@pytest.mark.parametrize("leads_to", ["nowhere", "a.lock", "/etc/passwd"])
def test_a_link_is_no_lock_wherever_it_leads(tmp_path, leads_to):
    (tmp_path / "a.lock").symlink_to(leads_to)
    with pytest.raises(InputError, match="is a symbolic link"):
        job_files.is_there(tmp_path / "a.lock")


@pytest.mark.parametrize("name", ["b.lock", "models.json"])
def test_a_file_of_ten_gibibytes_is_not_read(tmp_path, name):
    sparse(tmp_path / name)
    with pytest.raises(InputError, match=r"has 10737418240 bytes; it may have 33554432 at most"):
        READERS[name](tmp_path)


@pytest.mark.parametrize(
    "text", ["[" * 200_000, '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": Infinity}', "\ufeff{}", "{", "\0"]
)
def test_what_is_no_plain_json_says_nothing(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert job_files.read_object(tmp_path / "a.json") == {}


OURS = {"job": "j", "stage": "a", "outputs": [], "arguments": []}
WRONG = [
    *({"inputs": []}, {"inputs": {"input.lock": 1}}, {"files": [1]}, {"arguments": 7}, {"arguments": [1]}),
    *({"outputs": [{"path": 3, "size": 1, "sha256": ""}]}, {"job": None}, {"more": 1}),
]


@pytest.mark.parametrize("changed", WRONG)
def test_a_lock_with_something_of_the_wrong_kind_is_none_of_ours(tmp_path, changed):
    locks.publish(tmp_path / "a.lock", OURS)
    assert locks.read_lock(tmp_path / "a.lock") is not None
    locks.publish(tmp_path / "a.lock", OURS | changed)
    assert locks.read_lock(tmp_path / "a.lock") is None


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../secret"])
def test_a_lock_that_vouches_for_a_file_elsewhere_is_not_believed(tmp_path, path):
    (tmp_path / "secret").write_text("top")
    files = (outputs.OutputFile(path=path, size=3, sha256=outputs.file_sha256(tmp_path / "secret")),)
    locks.publish(tmp_path / "a.lock", locks.Lock(job="j", stage="a", outputs=files))
    (tmp_path / "output").mkdir()
    why = validity.why_invalid(
        tmp_path, "a.lock", job="j", output_dir=tmp_path / "output", wait_locks=[], arguments=[]
    )
    assert why == f"its lock vouches for {path}, which is no file of its output"


FAILED = {"job": "j", "stage": "a", "error": "", "message": "no CT", "root_stage": "a", "root_message": ""}


@pytest.mark.parametrize("exit_code", ["x", 0, -9, True, 1e3, 999])
def test_a_failure_with_an_exit_code_that_is_none_is_told_as_a_foreign_one(tmp_path, exit_code):
    locks.publish(tmp_path / "a.failed", FAILED | {"exit_code": exit_code})
    failure = locks.read_failure(tmp_path / "a.failed")
    assert (failure.exit_code, failure.message) == (1, "no CT")


def test_a_long_reason_of_a_failure_is_cut_and_its_exit_code_kept(tmp_path):
    locks.publish(tmp_path / "a.failed", FAILED | {"exit_code": 3, "message": "x" * 20_000})
    failure = locks.read_failure(tmp_path / "a.failed")
    assert (failure.exit_code, len(failure.message)) == (3, 16384)


def test_a_lock_that_nobody_would_read_is_not_published(tmp_path):
    with pytest.raises(OutputError, match="nobody reads more than 33554432"):
        locks.publish(tmp_path / "a.lock", {"job": "x" * (32 << 20)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("write", [job_files.open_own, job_files.open_to_append])
def test_another_name_of_a_file_elsewhere_is_not_written(tmp_path, link, write):
    (tmp_path / "victim").write_text("precious")
    getattr(tmp_path / "name", link)(tmp_path / "victim")
    with pytest.raises(InputError, match=r"name (is a symbolic link|has another name elsewhere)"):
        write(tmp_path / "name")
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_published_lock_takes_the_place_of_a_link_and_leaves_what_it_leads_to(tmp_path):
    (tmp_path / "victim").write_text("precious")
    for name in ("a.lock", f".a.lock.{os.getpid()}.tmp"):
        (tmp_path / name).symlink_to("victim")
    locks.publish(tmp_path / "a.lock", {"job": "j"})
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "a.lock").is_symlink()


def test_a_log_that_nobody_reads_does_not_stop_who_writes_it(tmp_path):
    os.mkfifo(tmp_path / "a.log")
    with pytest.raises(InputError, match="is a FIFO"):
        job_files.open_to_append(tmp_path / "a.log")


def test_a_folder_of_the_job_is_no_link(tmp_path):
    (tmp_path / "locks").symlink_to("/tmp")
    with pytest.raises(OutputError, match=r"locks is a symbolic link; a folder of the job belongs there"):
        job_files.make_folder(tmp_path / "locks")


@pytest.mark.parametrize("name", ["my-stage.lock", "my-stage.failed", "my-stage.running", ".my-stage.owner"])
def test_a_stage_whose_own_file_is_a_folder_says_so_in_one_line(ready_job, name):
    (ready_job.locks / name).mkdir()
    stage = ready_job.start()
    assert stage.wait() == 3
    (line,) = stage.log.splitlines()
    assert f"{name} is a folder" in line


@pytest.mark.parametrize("name", ["ct.mhd", "ct.nii", "ct.json", "labels.yaml"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_lies_beside_a_volume_is_a_file_or_is_refused_at_once(tmp_path, name, make):
    readers = {
        "ct.json": lambda path: read_origin(path.with_suffix(".mhd")),
        "labels.yaml": read_labels,
    }
    make(tmp_path / name)
    with pytest.raises(ValueError, match=r"is a (FIFO|symbolic link|device)"):
        readers.get(name, read_volume)(tmp_path / name)


def test_a_volumes_header_of_ten_gibibytes_is_not_read(tmp_path):
    sparse(tmp_path / "ct.mhd")
    with pytest.raises(InputError, match="it may have 1048576 at most"):
        read_volume(tmp_path / "ct.mhd")
