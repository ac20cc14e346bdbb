"""Models of every kind on a real Triton, described in their config.pbtxt only; the answer is known."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from stages import read_volume, write_volume
from stages.errors import InferenceError
from stages.model.description import ModelDescription
from stages.segmentation.segment import segment
from stages.triton.client import TritonPredictor
from stages.triton.ensemble import joined
from stages.triton.http import HttpPredictor
from stages.volume.geometry import reorient
from tests.onnx_models import add_model

pytestmark = pytest.mark.triton

ROOT = Path(__file__).parents[3]
FREE = (-1, -1, -1)
WINDOW = {"window_shape": [16, 32, 32]}
KINDS = {
    "dynamic": {"image": (1, *FREE), "scores": (3, *FREE), **WINDOW},
    "fixed": {"image": (1, 16, 24, 24), "scores": (3, 16, 24, 24)},
    "one at a time": {"image": (1, *FREE), "scores": (3, *FREE), "batch": 1, **WINDOW},
    "whole volume of 144": {
        "image": (1, 144, 144, 144),
        "scores": (3, 144, 144, 144),
        "batch": 1,
        "orientation": "LPS",
        "spacing_mm": None,
        "size": [144, 144, 144],
        "crop_margin_percent": [-5, -5, -5, -5, 0, 0],
    },
    "channels last": {"image": (*FREE, 1), "scores": (*FREE, 3), **WINDOW},
    "FP16": {"image": (1, *FREE), "scores": (3, *FREE), "data_type": "FP16", **WINDOW},
    "labels": {
        "image": (1, *FREE),
        "scores": (1, *FREE),
        "kind": "argmax",
        "labels_type": "UINT8",
        "activation": "labels",
        **WINDOW,
    },
    "labels without channels": {
        "image": (1, *FREE),
        "scores": FREE,
        "kind": "argmax",
        "labels_type": "UINT8",
        "activation": "labels",
        **WINDOW,
    },
    "overlapping labels": {
        "image": (1, *FREE),
        "scores": (2, *FREE),
        "centres": (0.275, 0.575),
        "kind": "sigmoid",
        "activation": "sigmoid",
        "channel_labels": [1, 2],
        **WINDOW,
    },
    "slices": {"image": (1, 48, 48), "scores": (3, 48, 48)},
    "slices, channels last": {"image": (-1, -1, 1), "scores": (-1, -1, 3), "window_shape": [1, 32, 32]},
    "nine classes, two wanted": {
        "image": (1, *FREE),
        "scores": (9, *FREE),
        "centres": (0.1, 0.2, 0.3, 0.45, 0.6, 0.7, 0.8, 0.9, 1.0),
        "channel_labels": [0, None, None, 1, None, 2, None, None, None],
        **WINDOW,
    },
    "mirrored": {"image": (1, *FREE), "scores": (3, *FREE), "mirror_axes": [0, 2], **WINDOW},
    "stacks": {"image": (3, 48, 48), "scores": (3, 48, 48), "kind": "middle", "slice_stack": 3},
    "a fold": {"image": (1, *FREE), "scores": (3, *FREE), "centres": (-0.1, 0.25, 0.5), **WINDOW},
    "folds": {
        "image": (1, *FREE),
        "scores": (3, *FREE),
        "centres": (0.3, 0.65, 0.9),  # the mean of both is right
        "ensemble": ["a_fold"],
        **WINDOW,
    },
    "z-score": {
        "image": (1, *FREE),
        "scores": (3, *FREE),
        "centres": (-1.1, 0.3, 1.3),  # (HU - 50) / 100 of -60, 80 and 180
        "intensity_clip_hu": None,
        "intensity_scale": None,
        "intensity_zscore": {"mean": 50, "std": 100},
        **WINDOW,
    },
}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    from clara_wf.model_server.server import UnsupportedPlatformError, serve
    from clara_wf.workspace import Places

    repository = tmp_path_factory.mktemp("models")
    for name, model in KINDS.items():
        add_model(repository, name.replace(" ", "_").replace(",", ""), **model)
    log, cache = tmp_path_factory.mktemp("log") / "server.log", Places.here(os.environ).cache
    try:
        with serve(repository, cache=cache, log=log, on_progress=print) as running:
            yield running
    except UnsupportedPlatformError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def server(servers):
    return servers.grpc_url


@pytest.fixture(scope="module")
def phantom():
    """Return HU and labels: a liver ball of 15 mm radius, in it a tumour of 7 mm; 2 x 1 x 1 mm."""
    z, y, x = np.meshgrid(
        *[(np.arange(n) - (n - 1) / 2) * mm for n, mm in ((20, 2.0), (44, 1.0), (44, 1.0))], indexing="ij"
    )
    labels = np.zeros((20, 44, 44), np.uint8)
    labels[z**2 + y**2 + x**2 < 15**2] = 1
    labels[z**2 + (y - 4) ** 2 + (x + 4) ** 2 < 7**2] = 2
    return np.array([-60, 80, 180], np.int16)[labels], labels


def segmented(server, volume, kind, *, alone=False):
    with ExitStack() as opened:
        connect = lambda name: opened.enter_context(TritonPredictor(server, name))  # noqa: E731
        predictor = connect(kind.replace(" ", "_").replace(",", ""))
        served = predictor.describe()
        model = ModelDescription.from_server(served)
        asked = predictor if alone else joined(predictor, model.ensemble, connect)[0]
        return segment(volume, asked, model=model, tensors=model.tensors_of(served))


def test_models_of_other_tensors_have_no_mean(server):
    message = "ensemble names 'slices', whose tensor 'image' is FP32"
    with (
        TritonPredictor(server, "folds") as first,
        TritonPredictor(server, "slices") as other,
        pytest.raises(InferenceError, match=message),
    ):
        joined(first, ["slices"], lambda _: other)


def test_a_mean_by_http(servers, phantom, place):
    hu, labels = phantom
    with (
        HttpPredictor(servers.http_url, "folds") as first,
        HttpPredictor(servers.http_url, "a_fold") as other,
    ):
        served = first.describe()
        model = ModelDescription.from_server(served)
        asked, _ = joined(first, model.ensemble, lambda _: other)
        mask = segment(place(hu), asked, model=model, tensors=model.tensors_of(served))
        window = np.zeros((1, 1, 4, 4, 4), np.float32)
        assert asked(window) == pytest.approx((first(window) + other(window)) / 2)
    assert np.array_equal(mask.array, labels)


def test_the_stage_asks_all_of_an_ensemble(server, phantom, place, tmp_path):
    hu, labels = phantom
    (tmp_path / "in").mkdir()
    write_volume(place(hu), tmp_path / "in")
    job = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--server", server, "--model", "folds"]
    command = [sys.executable, "-m", "ai_livertumor", *map(str, job)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "its output is the mean with a_fold" in done.stderr
    assert np.array_equal(read_volume(next((tmp_path / "out").glob("*.mhd"))).array, labels)


def test_one_of_the_folds_alone_is_wrong(server, phantom, place):
    hu, labels = phantom
    assert (segmented(server, place(hu), "folds", alone=True).array != labels).mean() > 0.05


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"a fold"}))
def test_a_model_is_used_as_it_describes_itself(server, phantom, place, kind):
    hu, labels = phantom
    volume = place(hu, "RIP")
    mask = segmented(server, volume, kind)
    assert mask.grid.matches(volume.grid)
    found, _ = reorient(mask.array, mask.affine, "SPL")
    if KINDS[kind].get("spacing_mm", "native") == "native":
        assert np.array_equal(found, labels)
    else:
        for label in (1, 2):
            both = ((found == label) & (labels == label)).sum()
            assert 2 * both / ((found == label).sum() + (labels == label).sum()) > 0.98
