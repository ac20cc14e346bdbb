import numpy as np
import pytest

from ai_livertumor.infer import infer, softmax
from stages import InferenceError
from stages.arrays import to_host


def test_softmax_of_hand_computed_odds(put):
    logits = np.log(np.array([1.0, 3.0], np.float32)).reshape(1, 2, 1, 1, 1)
    assert to_host(softmax(put(logits))).ravel() == pytest.approx([0.25, 0.75])


def test_softmax_of_large_logits_stays_finite():
    scores = softmax(np.array([1000.0, 0.0, -1000.0], np.float32).reshape(1, 3, 1, 1, 1))
    assert scores.ravel().tolist() == [1, 0, 0]


def test_logits_become_scores_between_0_and_1_when_the_model_asks_for_it(describe):
    def predictor(windows):
        return np.concatenate(
            [np.zeros_like(windows), np.full_like(windows, np.log(3)), windows - 99], axis=1
        )

    scores = infer(np.zeros((8, 16, 16), np.float32), predictor, describe(activation="softmax"))
    assert scores[:, 4, 8, 8] == pytest.approx([0.25, 0.75, 0], abs=1e-6)


def test_scores_of_a_model_that_has_its_activation_are_taken_as_they_are(describe):
    scores = infer(
        np.ones((8, 16, 16), np.float32), lambda w: np.concatenate([w, 2 * w, 3 * w], axis=1), describe()
    )
    assert scores[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_outside_of_the_volume_has_the_normalised_padding_value(describe):
    seen = []

    def predictor(windows):
        seen.append(windows)
        return np.concatenate([windows] * 3, axis=1)

    infer(np.ones((2, 16, 16), np.float32), predictor, describe(padding_value_hu=0))  # 0 HU is 0.25
    assert np.unique(seen[0][0, 0, :3]).tolist() == [0.25]
    assert np.unique(seen[0][0, 0, 3:5]).tolist() == [1.0]


def test_model_with_too_few_channels_is_refused(describe):
    with pytest.raises(InferenceError, match="the model answered"):
        infer(np.ones((8, 16, 16), np.float32), lambda windows: windows, describe())
