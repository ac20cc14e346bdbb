import hashlib
from pathlib import Path

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

FOLDER = Path(__file__).parents[2] / "models" / "segmentation_liver_v1"
MODEL = FOLDER / "1" / "model.onnx"


@pytest.fixture(scope="module")
def session():
    return onnxruntime.InferenceSession(str(MODEL), providers=["CPUExecutionProvider"])


def test_model_takes_at_most_five_megabytes():
    assert MODEL.stat().st_size <= 5e6


def test_card_names_the_checksum_of_the_model():
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() in (FOLDER / "README.md").read_text()


def test_tensors_are_those_of_the_configuration(session):
    (image,), (scores,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape[1]) == ("image", "tensor(float)", 1)
    assert (scores.name, scores.type, len(scores.shape)) == ("scores", "tensor(float)", 5)


def test_batch_and_size_are_free(session):
    (scores,) = session.run(["scores"], {"image": np.zeros((2, 1, 16, 32, 48), np.float32)})
    assert scores.shape == (2, 3, 16, 32, 48)


def test_air_is_background(session):
    (scores,) = session.run(["scores"], {"image": np.zeros((1, 1, 32, 48, 48), np.float32)})
    assert (scores.argmax(1) == 0).all()


def test_description_says_what_training_did():
    from training.augmentation import CLIP_HU
    from training.data import SPACING_MM, WINDOW
    from training.evaluate import read_description

    described = read_description(FOLDER / "config.pbtxt")
    assert described.orientation == "SPL"
    assert described.spacing_mm == SPACING_MM
    assert described.window_shape == WINDOW
    assert described.intensity_clip_hu == CLIP_HU
    assert described.inside == {2: 1}


def test_liver_and_tumours_of_a_phantom_are_found():
    from training.data import EVALUATION_SEEDS
    from training.evaluate import evaluate_phantoms, onnx_predictor, read_description

    model = read_description(FOLDER / "config.pbtxt")
    (result,) = evaluate_phantoms(onnx_predictor(MODEL), model, EVALUATION_SEEDS[:1])
    assert result.liver.dice > 0.9
