"""Processes share a GPU that is a folder: what each holds of it is a file that it has locked."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import stages
from stages import SettingsError
from stages.errors import StageTimeoutError
from stages.memory import reservations
from stages.memory.limits import MemoryLimit, MemoryLimitError
from stages.memory.reservations import Reservations
from stages.runtime.sizes import MIB

TOTAL = 1000 * MIB


class FolderGpu:
    """A GPU of 1000 MiB; each process writes what it holds into a file, which counts while it is locked."""

    uuid = "GPU-0a1b"
    total = TOTAL

    def __init__(self, folder):
        self.folder = folder
        self.held = 0
        self.file = os.open(folder / f"held-{os.getpid()}-{id(self)}", os.O_RDWR | os.O_CREAT)
        fcntl.flock(self.file, fcntl.LOCK_EX)

    def hold(self, size):
        self.held = size
        os.pwrite(self.file, size.to_bytes(8), 0)

    def taken(self):
        return self.held

    def free(self):
        return self.total - sum(map(self._held, self.folder.glob("held-*")))

    def _held(self, path):
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int.from_bytes(file.read(8))
            return 0


@pytest.fixture
def stage(tmp_path):
    """Return what makes a stage's reservations on the one GPU; `stage.gpu(...)` is its view of that."""
    made = []

    def make(held=0):
        gpu = FolderGpu(tmp_path)
        gpu.hold(held)
        made.append(Reservations(gpu, folder=tmp_path))
        made[-1].gpu = gpu
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_what_another_has_reserved_is_not_free(stage):
    stage().reserve([600 * MIB])
    chosen, limit = stage().reserve([500 * MIB, 450 * MIB, 400 * MIB, 300 * MIB])
    assert (chosen, limit.size) == (2, 400 * MIB)


def test_what_another_has_taken_of_its_reservation_is_counted_once(stage):
    one, two = stage(), stage()
    one.reserve([600 * MIB])
    one.gpu.hold(250 * MIB)
    assert two.available().now == 150 * MIB  # the other has not said so yet: rather too little
    one.note_taken()
    assert two.available().now == 400 * MIB


def test_what_a_stage_holds_already_is_part_of_what_it_reserves(stage):
    one = stage(held=300 * MIB)
    stage().reserve([600 * MIB])
    assert one.reserve([400 * MIB])[0] == 0


def test_memory_that_is_being_freed_is_not_free_before_it_is(stage):
    one, two = stage(held=700 * MIB), stage()
    one.reserve([700 * MIB])
    one.note_taken()
    with one.freeing():
        one.gpu.hold(100 * MIB)
    assert two.available().now == 300 * MIB
    one.give_back(700 * MIB)
    assert two.available().now == 900 * MIB


def test_memory_of_a_stage_that_is_gone_is_free_and_its_file_removed(stage, tmp_path):
    one, two = stage(), stage()
    one.reserve([900 * MIB])
    os.close(one._descriptor)  # as a killed process leaves it
    one._descriptor = -1
    assert two.available().now == TOTAL
    assert not one._path.exists()


def test_run_that_never_fits_is_refused_at_once_even_if_others_work(stage):
    stage().reserve([900 * MIB])
    began = time.monotonic()
    with pytest.raises(MemoryLimitError, match="1001 MiB of 1000 MiB") as told:
        stage().reserve([1001 * MIB], wait_s=60)
    assert told.value.exit_code == 2
    assert time.monotonic() - began < 1


def test_run_that_would_fit_but_for_what_no_stage_holds_is_refused(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(reservations, "_SETTLES_WITHIN_S", 0.1)
    stranger = FolderGpu(tmp_path)
    stranger.hold(500 * MIB)
    with pytest.raises(MemoryLimitError, match="600 MiB of 500 MiB"):
        stage().reserve([600 * MIB], wait_s=60)


def test_limit_of_the_user_is_kept_and_named(stage):
    most = MemoryLimit(200 * MIB, "--gpu-memory-limit")
    assert stage().reserve([300 * MIB, 150 * MIB], most=most) == (1, most)
    with pytest.raises(SettingsError, match="--gpu-memory-limit"):
        stage().reserve([300 * MIB], most=most, wait_s=60)


def test_run_waits_until_another_has_ended(stage):
    one, two = stage(), stage()
    one.reserve([600 * MIB])
    threading.Timer(0.2, one.give_back, [600 * MIB]).start()
    assert two.reserve([500 * MIB], wait_s=10)[0] == 0


def test_wait_ends_with_what_was_waited_for(stage):
    stage().reserve([600 * MIB])
    with pytest.raises(StageTimeoutError, match=r"500 MiB are needed, 400 MiB are free .* 1 other stages"):
        stage().reserve([500 * MIB], wait_s=0.1)


def test_more_is_reserved_only_where_it_is_left(stage):
    one, two = stage(), stage()
    one.reserve([600 * MIB])
    two.reserve([300 * MIB])
    assert not two.grow(101 * MIB)
    assert two.grow(100 * MIB)
    assert two.reserved == 400 * MIB


@pytest.mark.parametrize("content", [b"", b"x" * 7, b"\xff" * 16, (10**18).to_bytes(8, "little") * 2])
def test_file_of_another_that_says_nonsense_harms_nobody(stage, tmp_path, content):
    path = tmp_path / f"clara-gpu-GPU0a1b-{'0' * 16}"
    path.write_bytes(content)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert 0 <= stage().available().now <= TOTAL


def test_link_and_pipe_in_the_place_of_a_file_are_passed_over(stage, tmp_path):
    (tmp_path / f"clara-gpu-GPU0a1b-{'1' * 16}").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / f"clara-gpu-GPU0a1b-{'2' * 16}")
    assert stage().available().now == TOTAL


def test_every_user_may_read_what_a_stage_has_reserved(stage, tmp_path):
    before = os.umask(0o077)
    try:
        stage().reserve([1])
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("clara-gpu-*")} == {0o644}


def test_host_without_shared_memory_has_stages_that_see_themselves_alone(tmp_path, caplog):
    alone = Reservations(FolderGpu(tmp_path), folder=tmp_path / "nowhere")
    assert alone.reserve([900 * MIB])[0] == 0
    assert "cannot be written to: other stages on the GPU do not see this one" in caplog.text
    alone.close()


STAGES = """
import os, random, signal, sys, time
from pathlib import Path
from tests.stages.memory.test_reservations import FolderGpu, MIB, Reservations

folder = Path(sys.argv[1])

def live(chance):
    gpu = FolderGpu(folder)
    mine = Reservations(gpu, folder=folder)
    for _ in range(2):
        wanted = chance.randint(100, 500) * MIB
        size = (wanted, wanted // 2)[mine.reserve([wanted, wanted // 2], wait_s=60)[0]]
        while gpu.held < size:
            gpu.hold(min(size, gpu.held + 90 * MIB))
            if gpu.free() < 0:
                (folder / "OVER").touch()
            mine.note_taken()
            time.sleep(chance.random() * 0.004)
        if chance.random() < 0.3:
            os.kill(os.getpid(), signal.SIGKILL)
        mine.give_back(size)
        with mine.freeing():
            gpu.hold(0)

chance, running, started = random.Random(5), set(), 0
while started < 100 or running:
    while started < 100 and len(running) < 8:
        started += 1
        child = os.fork()
        if child == 0:
            try:
                live(random.Random(started))
            finally:
                os._exit(0)
        running.add(child)
    time.sleep(0.002)
    if chance.random() < 0.05:
        os.kill(chance.choice(sorted(running)), signal.SIGKILL)
    running = {child for child in running if os.waitpid(child, os.WNOHANG)[0] == 0}
"""


def test_memory_is_never_promised_twice_whoever_starts_and_dies(tmp_path):
    root = Path(stages.__file__).parents[1]
    subprocess.run([sys.executable, "-c", STAGES, tmp_path], cwd=root, check=True, timeout=60)
    assert len(list(tmp_path.glob("held-*"))) > 90
    assert not (tmp_path / "OVER").exists()
    assert Reservations(FolderGpu(tmp_path), folder=tmp_path).available().now == TOTAL


WAITS = """
from tests.stages.memory.test_reservations import FolderGpu, MIB, Reservations

def execute(job):
    mine = Reservations(FolderGpu(Path({folder!r})), folder=Path({folder!r}))
    (job.output_dir / "waits").touch()
    mine.reserve([900 * MIB], wait_s=60)
"""


def test_stage_that_waits_for_the_gpu_longer_than_its_timeout_says_what_for(ready_job, stage, tmp_path):
    stage().reserve([200 * MIB])
    failed = ready_job.start(WAITS.format(folder=str(tmp_path)), timeout=0.5)
    assert failed.wait() == 4
    message = ready_job.read("my-stage.failed")["message"]
    assert "longer than the stage's timeout of 0.5 s; waited" in message
    assert "900 MiB are needed, 800 MiB are free and not reserved by the 1 other stages" in message
    assert "INFO stages.memory.reservations: waiting for GPU memory: 900 MiB are needed" in failed.log


def test_stage_that_waits_for_the_gpu_ends_when_it_is_asked_to(ready_job, stage, tmp_path):
    stage().reserve([200 * MIB])
    waiting = ready_job.start(WAITS.format(folder=str(tmp_path)), timeout=30)
    ready_job.until("../my-stage/output/waits")
    assert waiting.ask_to_stop() == 1
    assert ready_job.read("my-stage.failed")["message"] == "stopped by SIGTERM"
