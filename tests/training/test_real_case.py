"""A labelled CT among the phantoms: on the model's grid, and never twice the same."""

import numpy as np
import pytest

from stages import Origin, Volume, write_volume
from training.data import draw_sample
from training.real_case import RealCase, draw_in_tumours, read_case


@pytest.fixture
def case():
    """Return a block of liver of 90 mm in a block of soft tissue."""
    hu, liver = np.full((60, 80, 80), -1000, np.float32), np.zeros((60, 80, 80), np.uint8)
    hu[5:55, 10:70, 10:70] = 40
    hu[15:45, 25:55, 25:55], liver[15:45, 25:55, 25:55] = 100, 1
    return RealCase(hu, liver)


def test_image_and_labels_come_onto_the_models_grid(tmp_path):
    hu = np.full((20, 30, 40), 50, np.int16)
    labels = np.zeros_like(hu, dtype=np.uint8)
    labels[10:, 15:, 20:] = 5
    paths = []
    for name, array in (("image", hu), ("labels", labels)):
        volume = Volume(
            array=array, affine=np.diag((6.0, 3.0, 1.5, 1)), origin=Origin(series_instance_uid=name)
        )
        paths.append(write_volume(volume, tmp_path))
    case = read_case(*paths, liver=5, spacing_mm=(3.0, 3.0, 3.0))
    # Indices grow to L, P, S with 6, 3 and 1.5 mm; the model's slices grow to S.
    assert case.hu.shape == (20, 30, 40)
    assert case.liver[-1, -1, -1] == 1
    assert case.liver[0, 0, 0] == 0
    assert case.liver.sum() * 27 == pytest.approx((labels == 5).sum() * 27, rel=0.1)


def test_samples_of_it_differ_and_hold_liver(case):
    rng = np.random.default_rng(0)
    first, second = draw_sample(case, rng), draw_sample(case, rng)
    assert first.image.shape[1:] == (96, 96)
    assert (first.labels > 0).any()
    assert first.image.shape != second.image.shape or (first.image != second.image).any()


def test_tumours_are_drawn_into_the_liver_only_and_seen_in_the_image(case):
    hu, labels = case.hu.copy(), case.liver.copy()
    rng = np.random.default_rng(3)
    while not (labels == 2).any():
        draw_in_tumours(hu, labels, rng)
    assert ((labels > 0) == (case.liver > 0)).all()
    assert (hu[case.liver == 0] == case.hu[case.liver == 0]).all()
    assert abs(float(hu[labels == 2].mean()) - 100) > 5
