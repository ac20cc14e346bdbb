"""A mask is held against the one that was recorded."""

import numpy as np
import pytest

from clara_wf.models import golden
from stages.errors import InferenceError, InputError


@pytest.fixture
def mask():
    made = np.zeros((4, 10, 10), np.uint8)
    made[0, :5, :4] = 1  # 20 voxels
    return made


def test_the_same_mask_agrees(tmp_path, mask):
    golden.record(tmp_path, mask)
    assert golden.agreement(tmp_path, mask) == {1: 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["golden.npz"]


def test_another_mask_is_told_by_its_dice(tmp_path, mask):
    golden.record(tmp_path, mask)
    other = mask.copy()
    other[0, :5, 4:6] = 1  # 30 voxels, 20 in common: 2 * 20 / 50
    other[1, 0, 0] = 2  # was not there
    found = golden.agreement(tmp_path, other)
    assert found == {1: 0.8, 2: 0.0}
    with pytest.raises(InferenceError, match=r"Dice of label 1: 0\.800, label 2: 0\.000, expected 0\.99"):
        golden.require_agreement(found)


def test_where_none_is_recorded_there_is_nothing_to_agree_with(tmp_path, mask):
    assert golden.agreement(tmp_path, mask) is None


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_a_broken_case_is_told(tmp_path, mask, content):
    (tmp_path / "golden.npz").write_bytes(content)
    with pytest.raises(InputError, match="is no golden case"):
        golden.agreement(tmp_path, mask)


def test_a_case_of_another_shape_is_told(tmp_path, mask):
    golden.record(tmp_path, mask[1:])
    with pytest.raises(InputError, match="of another phantom; record it anew"):
        golden.agreement(tmp_path, mask)
