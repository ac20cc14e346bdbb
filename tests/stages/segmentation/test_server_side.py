"""Windows that are cut beside the model give the scores of windows that are sent."""

import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import stages
from stages import InferenceError, SettingsError
from stages.memory.limits import MemoryLimit
from stages.segmentation.server_side import RemoteWindows, score_slabs_anywhere, write_windows_model
from stages.triton.client import TritonPredictor
from stages.windows.plan import WindowPlan
from stages.windows.sliding import predict_in_windows
from tests.stages.tritons import REGIONS, abandoned, add_model, running

IMAGE = np.random.default_rng(1).normal(size=(30, 20, 24)).astype(np.float32)
MODELS = {"ramp": "ramp", "nan": "nan", "slow": "slow 30", "doubles": "double"}

pytestmark = REGIONS


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    repository = tmp_path_factory.mktemp("models")
    for name, behaviour in MODELS.items():
        add_model(repository, name, behaviour)
    add_model(repository, "half", entry="FP16", exit_="FP16")
    write_windows_model(repository)
    with running(repository, tmp_path_factory.mktemp("log") / "server.log") as server:
        yield server.grpc_url


def both(url, model, windows, image=IMAGE, **options):
    """Return the scores of windows that are sent, and of windows that are cut beside the model."""
    with TritonPredictor(url, model, transport="grpc") as predictor:
        served = predictor.describe()
        sent = predict_in_windows(image, predictor, windows=windows)
    with RemoteWindows(url, served, **options) as remote:
        assert remote.is_available()
        (slab,) = remote.score_slabs(image, windows=windows)
        return sent, np.array(slab.scores)


@pytest.mark.triton
@pytest.mark.parametrize("transport", ["grpc", "auto"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"overlap": 0.7, "blending": "constant", "batch": 3, "in_flight": 3},
        {"mirror_axes": (0, 2), "placement": "stepped", "activation": "sigmoid"},
        {"shape": (40, 10, 10), "padding": -1.5},
    ],
)
def test_scores_are_the_same_to_the_last_bit(url, settings, transport):
    windows = WindowPlan(**{"shape": (12, 10, 16), "classes": 1, **settings})
    sent, cut_there = both(url, "ramp", windows, transport=transport)
    assert cut_there.shape == sent.shape == (1, *IMAGE.shape)
    assert np.abs(cut_there - sent).max() <= 1e-6


@pytest.mark.triton
@pytest.mark.parametrize(
    ("transport", "limit", "told"),
    [
        ("grpc", None, "the image goes once, its 24 windows are cut beside the model"),
        ("grpc", MemoryLimit(1000, "a test"), "windows are sent one by one: the image at once takes 1 MiB"),
        ("system", None, "windows travel by system shared memory"),
    ],
)
def test_way_is_chosen_by_where_the_server_is_and_by_the_memory(url, caplog, transport, limit, told):
    caplog.set_level(logging.INFO)
    windows = WindowPlan(shape=(12, 10, 16), classes=1)
    with TritonPredictor(url, "ramp", transport=transport) as predictor:
        predictor.choose_transport(on_device=False)
        slabs = score_slabs_anywhere(IMAGE, predictor, windows=windows, limit=limit)
        scores = np.zeros((1, *IMAGE.shape), np.float32)
        for slab in slabs:
            scores[:, slab.start : slab.start + slab.scores.shape[1]] = slab.scores
        assert np.abs(scores - predict_in_windows(IMAGE, predictor, windows=windows)).max() <= 1e-6
    messages = [record.getMessage() for record in caplog.records]
    assert any(message.startswith(told) for message in messages)
    assert any("beside" in message for message in messages) == ("beside" in told)


@pytest.mark.triton
def test_model_in_half_precision_is_asked_in_half_precision(url):
    sent, cut_there = both(url, "half", WindowPlan(shape=(12, 10, 16), classes=1))
    assert np.abs(cut_there - sent).max() <= 1e-6


@pytest.mark.triton
def test_server_without_the_windows_model_says_so(tmp_path):
    add_model(tmp_path / "models", "doubles")
    with running(tmp_path / "models", tmp_path / "log") as server:
        with TritonPredictor(server.grpc_url, "doubles") as predictor:
            served = predictor.describe()
        with RemoteWindows(server.grpc_url, served) as remote:
            assert not remote.is_available()


@pytest.mark.triton
@pytest.mark.parametrize(
    ("model", "message"),
    [("nan", "'sliding_window' at .*not finite"), ("gone", "'sliding_window' at .*gone")],
)
def test_what_goes_wrong_beside_the_model_is_told(url, model, message):
    with TritonPredictor(url, "doubles") as predictor:
        served = predictor.describe()
    object.__setattr__(served, "name", model)
    windows = WindowPlan(shape=(12, 10, 16), classes=1)
    with RemoteWindows(url, served) as remote, pytest.raises(InferenceError, match=message) as told:
        list(remote.score_slabs(IMAGE, windows=windows))
    assert told.value.exit_code == 6


@pytest.mark.triton
def test_deadline_of_a_window_counts_for_each_window(url):
    windows = WindowPlan(shape=(30, 20, 24), classes=1)  # one window
    with TritonPredictor(url, "slow") as predictor:
        served = predictor.describe()
    began = time.monotonic()
    with RemoteWindows(url, served, deadline_s=0.5) as remote:
        with pytest.raises(InferenceError, match="DEADLINE_EXCEEDED"):
            list(remote.score_slabs(IMAGE, windows=windows))
        assert time.monotonic() - began < 3
    assert abandoned() == set()


def test_model_is_written_whole_and_renewed(tmp_path):
    folder = write_windows_model(tmp_path)
    (folder / "1/stages/old.py").touch()
    assert write_windows_model(tmp_path) == folder == tmp_path / "sliding_window"
    assert [path.name for path in tmp_path.iterdir()] == ["sliding_window"]
    assert not (folder / "1/stages/old.py").exists()
    assert (folder / "1/model.py").exists()
    assert "FP32" in (folder / "config.pbtxt").read_text()


def test_copied_modules_import_nothing_that_is_not_copied(tmp_path):
    folder = write_windows_model(tmp_path) / "1"
    script = "import sys; sys.path.insert(0, '.'); import stages.windows.sliding as s; print(s.__file__)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()) == folder / "stages/windows/sliding.py"


def test_folder_that_is_not_there_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="cannot be written into"):
        write_windows_model(tmp_path / "file")


def test_command_writes_the_model_and_prints_its_folder(tmp_path):
    command = [sys.executable, "-m", "stages", "windows-model"]
    root = Path(stages.__file__).parents[1]
    done = subprocess.run([*command, tmp_path], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == f"{tmp_path / 'sliding_window'}\n"
    wrong = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert (wrong.returncode, wrong.stderr) == (2, "usage: python -m stages windows-model REPOSITORY\n")
