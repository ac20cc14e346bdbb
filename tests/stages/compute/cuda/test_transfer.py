"""Arrays come to the device and back whole, whoever copies first and however they lie.

Without a device, memory of the host stands for its memory, and each copy ends a random while later.
"""

import random
import time

import numpy as np
import pytest

from stages.compute.cuda.copiers import Threads
from stages.compute.cuda.transfer import Download, Upload, download_place, stream_event, upload
from stages.segmentation.segment import segment

BLOCK = 1000


class SlowCopier:
    """Copies within the host, after a while."""

    def __init__(self, fail_at=None):
        self._fail_at = fail_at

    def buffer(self, size):
        return np.zeros(size, np.uint8)

    def to_device(self, source, target, start, after):
        time.sleep(random.random() / 500)
        if start == self._fail_at:
            raise OSError("the bus is gone")
        target.reshape(-1).view(np.uint8)[start : start + source.size] = source

    def to_host(self, source, start, target, after):
        time.sleep(random.random() / 500)
        target[:] = source.reshape(-1).view(np.uint8)[start : start + target.size]


@pytest.fixture
def threads():
    return Threads(SlowCopier, count=4, block_bytes=BLOCK)


def numbers(*shape, dtype=np.int16):
    return np.random.default_rng(5).integers(-1000, 1000, shape).astype(dtype)


VIEWS = {
    "in order": numbers(13, 10, 12),
    "of one slice": numbers(1, 9, 7),
    "with slices larger than a buffer": numbers(3, 40, 50),
    "with rows larger than a buffer": numbers(2, 2, 1500),
    "backwards": numbers(13, 10, 12)[::-1, :, ::-1],
    "with its axes in another order": numbers(13, 10, 12).transpose(2, 0, 1),
    "every second row": numbers(13, 20, 12)[:, ::2],
    "of the other byte order": numbers(13, 10, 12).astype(">i2"),
    "float": numbers(13, 10, 12, dtype=np.float32),
    "empty": numbers(0, 10, 12),
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("source", VIEWS.values(), ids=VIEWS)
def test_all_of_an_array_arrives(threads, source, backwards):
    place = np.full(source.shape, 77, source.dtype.newbyteorder("="))
    with Upload(source, place, threads=threads, backwards=backwards) as arriving:
        arriving.wait_for(arriving.array)
        assert np.array_equal(place, source)


def test_a_mapped_file_arrives(threads, tmp_path):
    numbers(13, 10, 12).tofile(tmp_path / "raw")
    source = np.memmap(tmp_path / "raw", np.int16, "r", shape=(13, 10, 12))[2:-1]
    place = np.zeros(source.shape, np.int16)
    with Upload(source, place, threads=threads) as arriving:
        arriving.wait_for(place)
    assert np.array_equal(place, numbers(13, 10, 12)[2:-1])


PARTS = [np.s_[3:5], np.s_[6:2:-2], np.s_[:, 4:6, ::-1], np.s_[12:], np.s_[5:5]]


@pytest.mark.parametrize("part", PARTS, ids=str)
def test_a_part_that_was_waited_for_has_arrived(threads, part):
    source = numbers(13, 10, 12)
    for _ in range(5):
        place = np.full(source.shape, 7777, np.int16)
        with Upload(source, place, threads=threads) as arriving:
            arriving.wait_for(arriving.array[part])
            assert np.array_equal(place[part], source[part])


def test_what_is_not_waited_for_may_still_be_missing():
    slow = Threads(SlowCopier, count=1, block_bytes=BLOCK)
    place = np.full((60, 10, 12), 7777, np.int16)
    with Upload(numbers(60, 10, 12), place, threads=slow) as arriving:
        arriving.wait_for(place[:2])
        assert (place[-1] == 7777).all()


def test_what_fails_on_the_way_is_raised_where_it_is_waited_for_and_nowhere_else():
    failing = Threads(lambda: SlowCopier(fail_at=2880), count=2, block_bytes=BLOCK)  # 4 slices of 240 bytes
    place = np.zeros((20, 10, 12), np.int16)
    with Upload(numbers(20, 10, 12), place, threads=failing) as arriving:
        arriving.wait_for(place[:12])
        with pytest.raises(OSError, match="the bus is gone"):
            arriving.wait_for(place[12:13])


def test_nothing_is_written_after_an_upload_was_given_up(threads):
    place = np.zeros((200, 10, 12), np.int16)
    with Upload(numbers(200, 10, 12), place, threads=threads):
        pass
    left = place.copy()
    time.sleep(0.02)
    assert np.array_equal(place, left)
    assert not np.array_equal(place, numbers(200, 10, 12))


@pytest.mark.parametrize("shape", [(13, 10, 12), (1, 1, 1), (3, 40, 50), (0, 4, 4)])
def test_all_of_an_array_comes_back(threads, shape):
    source = numbers(*shape).astype(np.uint8)
    assert np.array_equal(Download(shape, np.uint8, threads=threads).fill(source), source)


def test_every_thread_has_its_buffer_after_the_warm_up():
    made = []
    warm = Threads(lambda: made.append(1) or SlowCopier(), count=3, block_bytes=BLOCK)
    warm.warm_up()
    assert len(made) == 3


def test_a_thread_without_a_buffer_keeps_no_other_waiting():
    made = iter([SlowCopier, SlowCopier])

    def make():
        copier = next(made, None)
        if copier is None:
            raise OSError("no pinned memory is left")
        return copier()

    failing = Threads(make, count=3, block_bytes=BLOCK)
    with pytest.raises(OSError, match="no pinned memory is left"):
        failing.warm_up()
    failing._pool.shutdown()  # returns, since all have ended


@pytest.fixture
def device(put):
    if isinstance(put(np.zeros(1)), np.ndarray):
        pytest.skip("the host's twin is tested above")
    return put


def test_an_array_goes_to_the_device_and_comes_back(device):
    source = numbers(40, 300, 500)[:, ::-1]
    with upload(source) as arriving:
        arriving.wait_for(arriving.array[-3:])
        assert np.array_equal(arriving.array[-3:].get(), source[-3:])
        arriving.wait_for(arriving.array)
        doubled = arriving.array * 2
    assert np.array_equal(
        download_place(source.shape, np.int16).fill(doubled, after=stream_event()), source * 2
    )


@pytest.mark.parametrize("orientation", ["SPL", "IAR", "LPS"])
def test_a_volume_of_the_host_is_segmented_on_the_device_as_on_the_host(device, describe, place, orientation):
    array = np.zeros((24, 40, 40), np.int16)
    array[4:15, 8:30, 10:33] = 200
    volume, model = place(array, orientation), describe()

    def by_value(windows):
        return windows[:, [0, 0, 0]] * np.float32(2) * np.float32(0.5)

    expected = segment(volume, by_value, model=model)
    found = segment(volume, by_value, model=model, on_device=True)
    assert isinstance(found.array, np.ndarray)
    assert np.array_equal(found.array, expected.array)
