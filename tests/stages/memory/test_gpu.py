"""What a run takes of a GPU whose pool is a list of blocks, each used once and then kept for its size."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from stages import SettingsError, StageError
from stages.memory.gpu import DeviceMemoryError, GpuMemory, count_outside_pool
from stages.memory.reservations import Reservations
from stages.model.tensors import ModelTensors
from stages.runtime.sizes import MIB
from stages.segmentation import segment


class NoMemoryError(Exception):
    pass


class Pool:
    """Blocks of a size, as CuPy's pool has them, but never cut in two."""

    def __init__(self):
        self.used, self.kept, self.limit = [], [], 0

    def malloc(self, size):
        if size in self.kept:
            self.kept.remove(size)
        elif self.limit and self.total_bytes() + size > self.limit:
            raise NoMemoryError
        self.used.append(size)
        return size

    def free(self, size):
        self.used.remove(size)
        self.kept.append(size)

    def total_bytes(self):
        return sum(self.used) + sum(self.kept)

    def used_bytes(self):
        return sum(self.used)

    def free_all_blocks(self):
        self.kept.clear()

    def set_limit(self, size):
        self.limit = size


class Gpu:
    uuid = "GPU-1"
    total = 1000 * MIB

    def __init__(self):
        self.pool = Pool()
        self.allocator = self.pool.malloc

    def free(self):
        return self.total - self.taken()

    def taken(self):
        return self.pool.total_bytes()

    def is_out_of_memory(self, error):
        return isinstance(error, NoMemoryError)

    @contextmanager
    def using_allocator(self, malloc):
        self.allocator = malloc
        yield
        self.allocator = self.pool.malloc


@pytest.fixture
def gpu():
    return Gpu()


@pytest.fixture
def memory(gpu, tmp_path):
    made = GpuMemory(gpu, wait_s=0, folder=tmp_path)
    yield made
    made.close()


def test_pool_may_take_what_was_reserved_until_the_run_has_ended(gpu, memory):
    with memory.kept():
        memory.reserve([300 * MIB])
        assert gpu.pool.limit == 300 * MIB
        gpu.allocator(200 * MIB)
    assert gpu.pool.limit == 0
    assert memory.peak == 200 * MIB


def test_memory_shared_with_a_server_is_part_of_what_was_reserved(gpu, memory):
    with memory.kept():
        memory.reserve([300 * MIB])
        count_outside_pool(50 * MIB)  # a buffer, made by the first request
        gpu.allocator(10 * MIB)
        count_outside_pool(-50 * MIB)
        assert gpu.pool.limit == 250 * MIB


def test_stages_that_wait_for_each_others_free_blocks_give_them_up(tmp_path):
    """Two that have each done a volume, and whose next needs more than the other's blocks leave."""
    one, other = Gpu(), Gpu()
    one.free = other.free = lambda: Gpu.total - one.taken() - other.taken()
    memories = [GpuMemory(each, wait_s=5.0, folder=tmp_path) for each in (one, other)]
    for memory, each in zip(memories, (one, other), strict=True):
        with memory.kept():
            memory.reserve([400 * MIB])
            each.pool.free(each.allocator(400 * MIB))

    def run(memory):
        with memory.kept():
            chosen, _ = memory.reserve([700 * MIB])
        memory.close()
        return chosen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(run, memories)) == [0, 0]


def test_free_blocks_of_other_sizes_are_given_up_before_a_run_fails(gpu, memory):
    with memory.kept():
        memory.reserve([300 * MIB])
        gpu.pool.free(gpu.allocator(200 * MIB))
        gpu.allocator(250 * MIB)
    assert memory.reserved == 300 * MIB
    assert gpu.pool.total_bytes() == 250 * MIB


def test_run_that_needs_more_than_it_told_takes_what_others_leave_and_says_so(gpu, memory, caplog):
    with memory.kept():
        memory.reserve([300 * MIB])
        for _ in range(4):
            gpu.allocator(90 * MIB)
    assert "the run takes 90 MiB more of the GPU's memory than was estimated" in caplog.text


def test_run_that_finds_no_more_fails_with_what_there_was_and_what_to_do(gpu, memory, tmp_path):
    other = Reservations(Gpu(), folder=tmp_path)
    other.reserve([650 * MIB])
    with memory.kept():
        memory.reserve([300 * MIB])
        gpu.allocator(270 * MIB)
        with pytest.raises(DeviceMemoryError) as told:
            gpu.allocator(90 * MIB)
    other.close()
    message = str(told.value)
    assert "90 MiB more were needed; 270 MiB were taken of 300 MiB reserved, 730 MiB are free" in message
    assert "1 other stages work there; let fewer stages run at a time" in message
    assert (told.value.exit_code, told.value.retryable) == (1, True)


def test_limit_of_the_user_holds_while_the_run_goes_on(gpu, tmp_path):
    memory = GpuMemory(gpu, wanted="32%", wait_s=0, folder=tmp_path)
    with memory.kept():
        memory.reserve([300 * MIB])
        with pytest.raises(DeviceMemoryError, match="allow more"):
            gpu.allocator(301 * MIB)
        gpu.allocator(300 * MIB)
    memory.close()


def test_what_runs_out_in_foreign_code_is_told_the_same_way(memory):
    with pytest.raises(StageError, match="out of GPU memory: 7 bytes"), memory.kept():
        raise NoMemoryError("7 bytes")


def test_other_errors_pass_as_they_are(memory):
    with pytest.raises(ValueError, match="wrong"), memory.kept():
        raise ValueError("wrong")


def test_nothing_is_held_after_the_job(gpu, tmp_path):
    memory = GpuMemory(gpu, wait_s=0, folder=tmp_path)
    with memory.kept():
        memory.reserve([300 * MIB])
        gpu.pool.free(gpu.allocator(200 * MIB))
    memory.close()
    assert gpu.taken() == 0
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize("wanted", ["0%", "101%", "much", "-5%"])
def test_limit_that_is_neither_a_size_nor_a_share_is_refused(gpu, tmp_path, wanted):
    with pytest.raises(SettingsError):
        GpuMemory(gpu, wanted=wanted, folder=tmp_path)


def test_volume_with_too_many_voxels_for_components_is_refused_before_the_model_is_asked(
    place, describe, monkeypatch
):
    monkeypatch.setattr("stages.compute.components_device._MOST", 1000)
    volume = place(np.zeros((10, 10, 10), np.int16))
    with pytest.raises(SettingsError, match="less than 1000 voxels, the mask has 1000; segment on the host"):
        segment.segment(volume, pytest.fail, model=describe(), on_device=True)


@pytest.mark.parametrize(("mebibytes", "most"), [(100, 4), (4, 2), (3, 1)])
def test_volume_is_brought_to_a_gpu_after_its_memory_was_reserved(
    gpu, tmp_path, place, describe, monkeypatch, mebibytes, most
):
    memory, asked = GpuMemory(gpu, wanted=f"{mebibytes}M", folder=tmp_path), []

    @contextmanager
    def upload(array, *, backwards):
        assert gpu.pool.limit == memory.reserved > 3 * array.size
        yield SimpleNamespace(array=array, wait_for=lambda view: None)

    def predictor(windows):
        asked.append(len(windows))
        return np.concatenate([windows] * 3, axis=1)

    monkeypatch.setattr(segment, "upload", upload)
    monkeypatch.setattr(
        segment, "download_place", lambda *_: SimpleNamespace(fill=lambda array, after: array)
    )
    monkeypatch.setattr(segment, "stream_event", lambda: None)
    model = describe(spacing_mm="native", window_shape=[8, 64, 64])
    tensors = ModelTensors(
        model="m",
        input_layout="bczyx",
        output_layout="bczyx",
        input_type="FP32",
        output_type="FP32",
        fixed=(8, 64, 64),
        largest_batch=4,
    )
    volume = place(np.zeros((30, 80, 80), np.int16))
    segment.segment(volume, predictor, model=model, tensors=tensors, gpu=memory, on_device=True)
    assert max(asked) == most
    assert gpu.pool.limit == 0
    memory.close()
