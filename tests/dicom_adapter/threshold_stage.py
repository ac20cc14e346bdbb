"""A stage for tests: the voxels above 0 HU of the CT series, written as a Segmentation and a capture."""

import os
import sys
from dataclasses import replace

import numpy as np

from dicom_reader import read_series
from dicom_writer import write_results
from stages import Code, Job, Label, main

DENSE = Label(value=1, name="Dense tissue", type=Code("85756007", "SCT", "Tissue"), rgb=(255, 205, 60))


def execute(job: Job) -> None:
    volume = read_series(job.input_dir)
    origin = replace(volume.origin, labels=(DENSE,), label_values=(1,))
    mask = replace(volume, array=(volume.array > 0).astype(np.uint8), origin=origin)
    write_results(mask, job.input_dir, job.output_dir, results=["seg", "capture"])


if __name__ == "__main__":
    sys.exit(main(execute, [], os.environ, name="stamp"))
