import numpy as np
import pytest

from stages import InferenceError
from stages.arrays import to_host
from stages.windows.activation import activate, one_hot, sigmoid, softmax


def column(*values):
    """Return one voxel with a value for each class."""
    return np.array(values, np.float32).reshape(1, -1, 1, 1, 1)


def test_softmax_of_hand_computed_odds(put):
    assert to_host(softmax(put(np.log(column(1, 3))))).ravel() == pytest.approx([0.25, 0.75])


def test_softmax_of_large_logits_stays_finite():
    assert softmax(column(1000, 0, -1000)).ravel().tolist() == [1, 0, 0]


def test_sigmoid_of_hand_computed_odds(put):
    assert to_host(sigmoid(put(column(0, np.log(3), -1000, 1000)))).ravel() == pytest.approx(
        [0.5, 0.75, 0, 1]
    )


def test_labels_become_one_score_of_1(put):
    labels = put(np.array([0, 2, 1], np.uint8).reshape(1, 1, 3, 1, 1))
    scores = to_host(one_hot(labels, 3))
    assert scores.dtype == np.float32
    assert scores[0, :, :, 0, 0].T.tolist() == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]


@pytest.mark.parametrize("wrong", [3, -1, np.nan])
def test_label_that_no_class_has_is_refused(wrong):
    with pytest.raises(InferenceError, match="expected 0 to 2"):
        one_hot(column(wrong), 3)


def test_labels_in_several_channels_are_refused():
    with pytest.raises(InferenceError, match="one channel"):
        one_hot(column(0, 1), 3)


def test_answer_in_half_precision_becomes_single():
    assert activate(column(1).astype(np.float16), "none", 1).dtype == np.float32


def test_activation_leaves_the_answer_as_it_was():
    answer = column(1, 2)
    for activation in ("softmax", "sigmoid"):
        activate(answer, activation, 2)
    assert answer.ravel().tolist() == [1, 2]
