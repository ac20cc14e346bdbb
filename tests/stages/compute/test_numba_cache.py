"""What is compiled is kept, and found again, wherever a stage runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import stages
import stages.segmentation.warm_up
from stages.arrays import device_available
from stages.compute import components_device, resample_device
from stages.compute.cuda import kernels as cuda_kernels
from stages.windows import device

ROOT = Path(stages.__file__).parents[1]
COUNT_COMPILED = """
import sys
sys.prefix = sys.argv[1]
import numba.core.event as event
with event.install_recorder("numba:compile") as recorder:
    import stages.segmentation.warm_up
    stages.segmentation.warm_up.warm_up()
import numba
print(len(recorder.buffer), numba.config.CACHE_DIR)
"""


def warm_up(prefix, **environment):
    """Return how often something was compiled in a new process, and where it is kept."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    done = subprocess.run(
        [sys.executable, "-c", COUNT_COMPILED, str(prefix)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**inherited, **{name: str(value) for name, value in environment.items()}},
    )
    assert done.returncode == 0, done.stderr
    compiled, folder = done.stdout.rstrip("\n").split(" ", 1)
    return int(compiled), folder


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    """Return a folder that holds what was compiled, as an image does."""
    folder = tmp_path_factory.mktemp("environment") / "clara-compiled"
    compiled, _ = warm_up(folder.parent, NUMBA_CACHE_DIR=folder)
    assert compiled > 10
    assert list(folder.rglob("*.nbc"))
    return folder


def test_what_an_image_holds_is_not_compiled_again(held, tmp_path):
    for _ in range(2):  # copied at first, found there afterwards
        compiled, folder = warm_up(held.parent, TMPDIR=tmp_path)
        assert compiled == 0
        assert Path(folder).parent == tmp_path


def test_folder_that_is_not_there_is_passed_over(tmp_path):
    _, folder = warm_up(tmp_path / "none", TMPDIR=tmp_path)
    assert folder == ""
    assert not list(tmp_path.iterdir())


def test_what_was_compiled_serves_other_processors(held):
    # the name of the processor that was compiled for is part of each index
    indices = [path.read_bytes() for path in held.rglob("*.nbi")]
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("the processor has no AVX2")
    assert indices
    assert all(b"x86-64-v3" in index for index in indices)


@pytest.mark.skipif(not device_available(), reason="CuPy sees no CUDA device")
def test_kernels_of_the_device_are_compiled_before_there_is_a_volume():
    stages.segmentation.warm_up.warm_up(on_device=True)
    sources = {kernels.SOURCE for kernels in (components_device, resample_device, device)}
    compiled = cuda_kernels._module.cache_info().misses
    for source in sources:
        cuda_kernels._module(source)
    assert cuda_kernels._module.cache_info().misses == compiled
