"""user-ai, a stage to learn from: it guesses the liver by its density, without any model."""

import argparse
import json
import logging
import os
import sys

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stages import Job, Stage, find_volumes, main, read_volume, write_volume

logger = logging.getLogger("user_ai")
LIVER_HU = (60, 150)
NECK = 3  # voxels; parts that hang together by less are taken apart


class UserAi(Stage):
    """Mark the largest piece of soft tissue as dense as a liver in each CT volume of the input folder."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the workflow's args may say."""
        parser.add_argument("-p", default="", metavar="TEXT", help="a remark that is kept with the result")

    def execute(self, job: Job) -> None:
        """Write each volume's mask under its name, and beside it what was done, as .user-ai.json."""
        for path in find_volumes(job.input_dir):
            volume = read_volume(path)
            mask = volume.with_array(find_liver(np.asarray(volume.array)))
            write_volume(mask, job.output_dir)
            found_ml = float(mask.array.sum() * mask.voxel_volume_mm3 / 1000)
            record = {"remark": job.arguments.p, "density_hu": LIVER_HU, "found_ml": round(found_ml, 1)}
            (job.output_dir / f"{path.stem}.user-ai.json").write_text(json.dumps(record), encoding="utf-8")
            logger.info("%s: found %.1f ml, remark %r", path.name, found_ml, job.arguments.p)


def find_liver(hu: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Return 1 in the largest piece as dense as a liver, 0 elsewhere; [slice, row, column]."""
    smooth = ndimage.uniform_filter(hu.astype(np.float32), 3)
    cores = ndimage.binary_erosion((smooth > LIVER_HU[0]) & (smooth < LIVER_HU[1]), iterations=NECK)
    pieces, count = ndimage.label(cores)
    if count == 0:
        return np.zeros(hu.shape, np.uint8)
    largest = 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return ndimage.binary_dilation(pieces == largest, iterations=NECK).astype(np.uint8)


if __name__ == "__main__":
    sys.exit(main(UserAi(), sys.argv[1:], os.environ, name="user-ai"))
