"""The container's entry point: build the stage, hand it to the driver."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import replace

from dicom_reader.read import read_series
from stages import Job, Stage, main, write_volume
from stages.volume_io import pixel_sha256

logger = logging.getLogger("dicom_reader")


class DicomReader(Stage):
    """Read the largest axial CT series of the input folder as one volume in Hounsfield units."""

    def prepare(self, job: Job) -> None:
        """Import the decoders while the input is still awaited."""
        import pydicom.pixels  # noqa: F401

    def execute(self, job: Job) -> None:
        """Write ``<SeriesInstanceUID>.mhd``, ``.raw`` and ``.json``."""
        volume = read_series(job.input_dir)
        origin = replace(volume.origin, pixel_sha256=pixel_sha256(volume.array))
        path = write_volume(replace(volume, origin=origin), job.output_dir)
        logger.info("wrote %s", path.name)


if __name__ == "__main__":
    sys.exit(main(DicomReader(), sys.argv[1:], os.environ, name="dicom-reader"))
