"""The stage as it is started by hand: what it is told about server, transport and memory."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from stages import Origin, Volume, read_volume, write_volume
from stages.model.tensors import ModelTensors
from stages.segmentation.stage import send_first_request
from tests.stages.tritons import REGIONS, abandoned, running

ROOT = Path(__file__).parents[3]

pytestmark = [pytest.mark.triton, REGIONS]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running(ROOT / "models", tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server


@pytest.fixture
def run(tmp_path):
    """Return what runs the stage on a soft ball in a box of air, and gives its mask too."""
    ball = sum((np.ogrid[-20:20, -30:30, -30:30][n] / 18.0) ** 2 for n in range(3)) < 1
    array = np.where(ball, 110, -1000).astype(np.int16)
    affine = np.diag([3.0, 3.0, 3.0, 1.0])[[2, 1, 0, 3]]
    origin = Origin(series_instance_uid="2.25.1", body_part="HEAD", warnings=("slice 7 may be missing",))
    volume = Volume(array=array, affine=affine, origin=origin)
    (tmp_path / "input").mkdir()
    write_volume(volume, tmp_path / "input")

    def start(*options):
        output = tmp_path / f"output-{len(list(tmp_path.iterdir()))}"
        folders = ["--input", tmp_path / "input", "--output", output]
        command = [sys.executable, "-m", "ai_livertumor", *folders, *options]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        mask = read_volume(output / "2.25.1.mhd") if done.returncode == 0 else None
        start.origin = mask.origin if mask else None
        return done, mask.array if mask else None

    return start


def test_peak_of_memory_and_transport_are_told_before_the_start(run, server):
    done, _ = run("--server", server.grpc_url)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "memory: at most" in line or "travel by" in line]
    assert len(told) == 2
    assert "windows travel by system shared memory" in told[0]
    segmented = done.stderr.index("segmented ")
    assert done.stderr.index("memory: at most ") < segmented
    assert abandoned() == set()
    assert run.origin.label_values == (1, 2)
    assert [label.name for label in run.origin.labels] == ["Liver", "Liver tumour"]


@pytest.mark.slow
def test_every_transport_gives_the_same_mask(run, server):
    _, by_memory = run("--server", server.grpc_url, "--transport", "system")
    by_grpc, grpc_mask = run("--server", server.grpc_url, "--transport", "grpc")
    by_http, http_mask = run("--server", server.http_url, "--transport", "http")
    assert (by_grpc.returncode, by_http.returncode) == (0, 0)
    assert np.array_equal(by_memory, grpc_mask)
    assert np.array_equal(by_memory, http_mask)


def test_memory_that_cannot_do_is_refused_before_a_window_is_asked_about(run, server):
    done, _ = run("--server", server.grpc_url, "--memory-limit", "40M")
    assert done.returncode == 2
    assert "of memory even with one window at a time, and there are 40 MiB (--memory-limit)" in done.stderr


@pytest.mark.parametrize("option", [("--memory-limit", "lots"), ("--deadline", "0")])
def test_what_is_no_size_and_no_time_is_refused(run, server, option):
    done, _ = run("--server", server.grpc_url, *option)
    assert done.returncode == 2


def test_deadline_reaches_the_server(run, server):
    done, _ = run("--server", server.grpc_url, "--deadline", "0.001")
    assert done.returncode == 6
    assert "DEADLINE_EXCEEDED" in done.stderr
    assert abandoned() == set()


def test_what_is_implausible_is_logged_and_goes_with_the_mask(run, server, tmp_path):
    done, _ = run("--server", server.grpc_url)
    (mask,) = tmp_path.glob("output-*/2.25.1.mhd")
    passed_on, *found = read_volume(mask).origin.warnings
    assert passed_on == "slice 7 may be missing"
    assert found[0] == "the series is of HEAD, the model is for ABDOMEN: the mask may be wrong"
    assert [
        sentence
        for sentence in found
        if f"WARNING stages.segmentation.plausibility: {sentence}" not in done.stderr
    ] == []


@pytest.mark.parametrize(
    ("layout", "window", "shape"),
    [
        ("bczyx", (4, 6, 8), (2, 1, 4, 6, 8)),
        ("bxyzc", (4, 6, 8), (2, 8, 6, 4, 1)),
        ("bcyx", (1, 6, 8), (2, 1, 6, 8)),
    ],
)
def test_first_request_has_the_shape_that_most_will_have(layout, window, shape):
    tensors = ModelTensors(
        model="m",
        input_layout=layout,
        output_layout=layout,
        input_type="FP32",
        output_type="FP32",
        fixed=(-1, -1, -1),
        largest_batch=2,
    )
    asked = []
    send_first_request(
        asked.append, SimpleNamespace(window_shape=window), tensors, place=lambda array: array + 1
    )
    (windows,) = asked
    assert (windows.shape, windows.dtype, windows.min()) == (shape, np.float32, 1)
