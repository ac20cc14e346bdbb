import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import stages
from stages.memory.shared import Region, sweep


def test_two_looks_at_a_region_see_the_same_numbers(tmp_path):
    region = Region(64, folder=tmp_path)
    region.array((2, 3), np.float32, offset=16)[:] = [[1, 2, 3], [4, 5, 6]]
    (path,) = tmp_path.iterdir()
    assert path.name == region.name
    assert np.frombuffer(path.read_bytes(), np.float32)[4:10].tolist() == [1, 2, 3, 4, 5, 6]
    region.close()


def test_region_is_for_its_user_alone_and_gone_after_close(tmp_path):
    region = Region(8, folder=tmp_path)
    assert (tmp_path / region.name).stat().st_mode & 0o777 == 0o600
    held = region.array((8,), np.uint8)
    region.close()
    region.close()
    assert list(tmp_path.iterdir()) == []
    held[:] = 1  # still memory


def test_region_for_which_there_is_no_room_is_refused_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor, offset, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Region(8, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_sweep_takes_what_a_killed_process_left_and_nothing_else(tmp_path):
    script = f"""
import sys, time
from pathlib import Path
from stages.memory.shared import Region
Region(4096, folder=Path({str(tmp_path)!r}))
print("there", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=Path(stages.__file__).parents[1]
    )
    with process:
        assert process.stdout.readline() == b"there\n"
        (left,) = tmp_path.iterdir()
        assert sweep(tmp_path) == []  # its process lives
        process.send_signal(signal.SIGKILL)
    mine = Region(8, folder=tmp_path)
    (tmp_path / "clara-windows-not-one-of-ours").touch()
    assert sweep(tmp_path) == [left.name]
    assert {path.name for path in tmp_path.iterdir()} == {mine.name, "clara-windows-not-one-of-ours"}
    mine.close()


def test_region_that_is_just_being_made_is_not_swept(tmp_path):
    path = tmp_path / f"clara-windows-{16 * '0'}"
    path.touch()
    assert sweep(tmp_path) == []
    old = time.time() - 3600
    path.write_bytes(b"data")
    os.utime(path, (old, old))
    assert sweep(tmp_path) == [path.name]
