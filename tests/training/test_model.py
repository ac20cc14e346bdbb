import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from stages.volume.overlap import dice  # noqa: E402
from training.export import export_onnx, largest_difference  # noqa: E402
from training.loss import segmentation_loss  # noqa: E402
from training.train import Recipe, Training  # noqa: E402
from training.unet import UNet, count_parameters  # noqa: E402


@pytest.fixture
def small():
    torch.manual_seed(0)
    return UNet((4, 8, 8, 8))


def test_network_gives_three_scores_for_each_voxel(small):
    assert small(torch.zeros(2, 1, 16, 32, 48)).shape == (2, 3, 16, 32, 48)


def test_network_has_about_a_million_parameters():
    assert 0.5e6 < count_parameters(UNet()) < 1.2e6


def test_exported_network_says_the_same_on_another_shape(small, tmp_path):
    path = export_onnx(small, tmp_path / "model.onnx")
    assert largest_difference(small, path, (2, 1, 32, 16, 48)) < 1e-4


def test_right_scores_cost_less_than_wrong_ones():
    labels = torch.zeros(1, 4, 4, 4, dtype=torch.long)
    labels[0, :2] = 1
    right = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1) * 10.0
    assert segmentation_loss(right, labels) < 0.2 < segmentation_loss(-right, labels)


def test_dice_of_half_an_overlap_is_one_half():
    a, b = np.array([True, True, False]), np.array([False, True, True])
    assert dice(a, b) == 0.5
    assert dice(~a & a, ~b & b) == 1.0


def test_a_few_steps_lower_the_loss(tmp_path):
    training = Training(Recipe(minutes=1, output=tmp_path))
    image = torch.zeros(1, 1, 48, 32, 32)
    image[:, :, 12:36, 8:24, 8:24] = 0.7
    labels = (image[:, 0] > 0).long()
    losses = [training.step(image, labels) for _ in range(12)]
    assert losses[-1] < losses[0]


def test_lowest_value_is_background_whatever_the_weights(small):
    with torch.no_grad():
        scores = small.eval()(torch.zeros(1, 1, 16, 32, 32))
    assert (scores.argmax(1) == 0).all()


def test_calibration_prefers_the_shift_that_fits(small):
    from training.calibrate import best_shift

    image = torch.full((1, 1, 16, 16, 16), 0.5)
    truth = np.zeros((16, 16, 16), np.uint8)
    truth[8:] = 2
    fixed = torch.zeros(1, 3, 16, 16, 16)
    fixed[:, 2], fixed[:, 2, 8:] = 1.0, 3.0  # one above background everywhere, three in the tumour
    assert best_shift(lambda _: fixed, [(image, truth)], shifts=(0.0, -2.0, -4.0)) == -2.0
