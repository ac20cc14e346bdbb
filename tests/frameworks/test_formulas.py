"""The formulas that tests hold descriptions against are those of the frameworks, where they are installed."""

import sys
from types import ModuleType

import numpy as np
import pytest

from tests.stages.segmentation import framework_formulas as formulas

SPACINGS = [
    ((2.0, 0.9, 0.9), (1.5, 1.5, 1.5)),
    ((5.0, 0.8, 0.8), (5.0, 1.3, 1.3)),
    ((2.0, 0.9, 0.9), (4.0, 1.1, 1.1)),
    ((1.1, 0.9, 4.0), (1.5, 1.5, 1.5)),
    ((4.0, 0.9, 4.0), (2.0, 1.5, 1.5)),
]
SHAPE = (18, 40, 37)


@pytest.fixture(scope="module", autouse=True)
def without_timm():
    """Keep dynamic-network-architectures from importing torchvision by way of timm."""
    for name in ("timm", "timm.layers", "timm.models", "timm.models.eva"):
        sys.modules.setdefault(name, ModuleType(name))


def random_array():
    return np.random.default_rng(5).normal(0, 300, SHAPE).astype(np.float32)


@pytest.mark.parametrize(("old_mm", "new_mm"), SPACINGS)
@pytest.mark.parametrize("order", [1, 3])
def test_nnunets_resampling(old_mm, new_mm, order):
    resampling = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    array = random_array()
    shape = resampling.compute_new_shape(SHAPE, old_mm, new_mm)
    assert list(shape) == formulas.nnunet_shape(SHAPE, old_mm, new_mm)
    theirs = resampling.resample_data_or_seg_to_shape(
        array[None], shape, old_mm, new_mm, is_seg=False, order=order, order_z=0, force_separate_z=None
    )
    assert formulas.nnunet_resample(array, shape, old_mm, new_mm, order) == pytest.approx(theirs[0], abs=1e-3)


@pytest.mark.parametrize("window", [(16, 32, 24), (28, 85, 7), (1, 40, 40)])
def test_nnunets_windows(window):
    sliding = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")
    import torch

    theirs = sliding.compute_gaussian(
        window, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu")
    )
    assert np.array_equal(theirs.float().numpy(), formulas.nnunet_gaussian(window))
    for step in (0.5, 0.8):
        image = (90, 171, 133)
        starts = sliding.compute_steps_for_sliding_window(image, window, step)
        assert starts == [
            formulas.nnunet_starts(n, of_window, step) for n, of_window in zip(image, window, strict=True)
        ]


@pytest.mark.parametrize("new_mm", [(1.5, 1.5, 1.5), (3.1, 0.7, 1.7), (4.2, 1.9, 0.5)])
@pytest.mark.parametrize("order", [0, 1])
def test_monais_resampling_and_its_way_back(new_mm, order):
    # of two voxels that are equally near, MONAI's nearest is nearly always the even one, as rounding has it
    transforms = pytest.importorskip("monai.transforms")
    from monai.data import MetaTensor

    old_mm, array = (2.0, 0.9, 0.9), random_array()
    image = MetaTensor(array[None], affine=np.diag([*old_mm, 1.0]))
    spacing = transforms.Spacing(pixdim=new_mm, mode="bilinear" if order else "nearest")
    theirs = spacing(image)
    shape = formulas.monai_shape(SHAPE, old_mm, new_mm)
    assert list(theirs.shape[1:]) == shape
    scale = [new / old for new, old in zip(new_mm, old_mm, strict=True)]
    assert formulas.monai_resample(array, shape, scale, order) == pytest.approx(theirs[0].numpy(), abs=2e-2)
    back = spacing.inverse(theirs)[0].numpy()
    ours = formulas.monai_resample(theirs[0].numpy(), SHAPE, [1 / each for each in scale], order)
    assert ours == pytest.approx(back, abs=2e-2)
