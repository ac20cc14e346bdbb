"""What user-ai does to a volume whose answer is known."""

import json

import numpy as np
from stage import UserAi, find_liver

from stages import Origin, Volume, find_volumes, main, read_volume, write_volume


def two_blocks():
    """Return 30 x 30 x 30 voxels of air with a block of 14^3 and one of 10^3 voxels of 100 HU."""
    hu = np.full((30, 30, 30), -1000, np.int16)
    hu[2:16, 2:16, 2:16] = hu[18:28, 18:28, 18:28] = 100
    return hu


def test_the_larger_block_is_found_and_nothing_of_the_smaller():
    found = find_liver(two_blocks())
    assert found[8, 8, 8] == 1
    assert not found[17:].any()


def test_a_volume_of_air_has_no_liver():
    assert not find_liver(np.full((10, 10, 10), -1000, np.int16)).any()


def test_the_mask_keeps_the_grid_and_the_remark_is_kept_with_it(tmp_path):
    affine = np.diag([5.0, 1.0, 1.0, 1.0])
    write_volume(
        Volume(array=two_blocks(), affine=affine, origin=Origin(series_instance_uid="1.2.3")), tmp_path
    )
    arguments = ["--input", str(tmp_path), "--output", str(tmp_path / "out"), "-p", "foo"]
    assert main(UserAi(), arguments, {}) == 0
    mask = read_volume(find_volumes(tmp_path / "out")[0])
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.affine, affine)
    assert json.loads((tmp_path / "out/1.2.3.user-ai.json").read_text())["remark"] == "foo"
