import inspect
from dataclasses import replace

import numpy as np
import pytest

from phantoms import DEMO_SEED, AbdomenPhantom, Anatomy, make_demo
from phantoms.abdomen import DEMO_CENTRE_MM, DEMO_SHAPE, DEMO_SPACING_MM
from phantoms.patient import Phase
from training.augmentation import disturb, normalise
from training.data import (
    EVALUATION_SEEDS,
    SPACING_MM,
    TRAINING_SEEDS,
    VALIDATION_SEEDS,
    VOLUME,
    draw_sample,
    held_out_phantom,
    training_phantom,
)


def block_phantom():
    """Return a cube of liver with a tumour in its middle, in air."""
    truth = np.zeros((70, 100, 100), np.uint8)
    truth[20:50, 30:70, 10:50] = 1
    truth[30:40, 45:55, 25:35] = 2
    anatomy = np.where(truth == 2, Anatomy.TUMOUR, np.where(truth == 1, Anatomy.LIVER, Anatomy.AIR))
    hu = np.choose(truth, (-1000, 100, 40)).astype(np.int16)
    return AbdomenPhantom(
        hu, truth, anatomy.astype(np.uint8), (3.0, 3.0, 3.0), (0.0, 0.0, 0.0), 0, Phase.PORTAL_VENOUS
    )


def test_reserved_seeds_are_not_among_the_training_seeds():
    reserved = {DEMO_SEED, *EVALUATION_SEEDS, *VALIDATION_SEEDS}
    assert not any(seed in TRAINING_SEEDS for seed in reserved)
    assert not set(EVALUATION_SEEDS) & set(VALIDATION_SEEDS)


def test_the_demo_is_drawn_with_other_settings_than_what_is_trained_on():
    # Another patient, on another grid, and tumours of sizes that are given, not drawn.
    demo = inspect.signature(make_demo).parameters, DEMO_SHAPE, DEMO_SPACING_MM, DEMO_CENTRE_MM
    assert demo == ({}, (84, 512, 512), (2.5, 0.78, 0.78), (-12.0, 0.0, 0.0))
    trained = training_phantom(0)
    assert trained.hu.shape == VOLUME
    assert trained.spacing_mm == SPACING_MM
    assert trained.seed in TRAINING_SEEDS
    assert DEMO_SEED not in TRAINING_SEEDS


def test_sampler_refuses_a_reserved_seed():
    with pytest.raises(ValueError, match="not among the training seeds"):
        training_phantom(0, first_seed=EVALUATION_SEEDS[0])


def test_training_seed_is_no_held_out_phantom():
    with pytest.raises(ValueError, match="is a training seed"):
        held_out_phantom(TRAINING_SEEDS[0])


def test_clip_range_becomes_zero_to_one():
    assert normalise(np.array([-1000, -160, 40, 240, 900])).tolist() == [0, 0, 0.5, 1, 1]


def test_sample_is_a_window_in_the_range_of_the_model():
    sample = draw_sample(block_phantom(), np.random.default_rng(0))
    assert sample.image.shape == sample.labels.shape
    assert all(size % 16 == 0 for size in sample.image.shape)
    assert sample.image.shape[1:] == (96, 96)
    assert sample.image.dtype == np.float32
    assert sample.image.min() >= 0
    assert sample.image.max() <= 1


def test_tumour_stays_darker_than_its_liver_whatever_is_disturbed():
    phantom = block_phantom()
    core, liver = (slice(33, 37), slice(48, 52), slice(28, 32)), (slice(22, 28), slice(33, 42), slice(13, 22))
    for seed in range(8):
        rng = np.random.default_rng(seed)
        hu = disturb(phantom.hu.astype(np.float32), phantom.truth.copy(), phantom.anatomy, rng)
        assert hu[core].mean() < hu[liver].mean()


def test_slices_outside_a_narrow_scan_hold_neither_image_nor_labels():
    block = block_phantom()
    full = replace(block, hu=np.full_like(block.hu, 100), truth=np.ones_like(block.truth))
    rng = np.random.default_rng(1)
    samples = [draw_sample(full, rng) for _ in range(10)]
    empty = [sample.image.max(axis=(1, 2)) == 0 for sample in samples]
    assert any(e.any() for e in empty)
    assert not any(sample.labels[e].any() for sample, e in zip(samples, empty, strict=True))
