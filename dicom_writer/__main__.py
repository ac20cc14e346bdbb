"""The container's entry point: build the stage, hand it to the driver."""

from __future__ import annotations

import argparse
import os
import sys

from dicom_writer.provenance import Provenance
from dicom_writer.write import write_results
from stages import Job, Stage, find_volumes, main, read_volume


class DicomWriter(Stage):
    """Write each mask of the input folder as a DICOM Segmentation of its original series, verified."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what the result says of the algorithm."""
        default = Provenance()
        parser.add_argument(
            "--algorithm-name",
            default=default.algorithm_name,
            metavar="NAME",
            help="name of the algorithm, written into the result (default: %(default)s)",
        )
        parser.add_argument(
            "--algorithm-version",
            default=default.algorithm_version,
            metavar="VERSION",
            help="its version (default: that of this software)",
        )

    def prepare(self, job: Job) -> None:
        """Import what writes and what verifies while the stages before still work."""
        import dicom_writer.segmentation
        import dicom_writer.verify  # noqa: F401

    def execute(self, job: Job) -> None:
        """Write one verified file a mask."""
        provenance = Provenance(
            job_id=job.job_id,
            algorithm_name=job.arguments.algorithm_name,
            algorithm_version=job.arguments.algorithm_version,
        )
        for path in find_volumes(job.input_dir):
            write_results(read_volume(path), job.source_dir, job.output_dir, provenance=provenance)


if __name__ == "__main__":
    sys.exit(main(DicomWriter(), sys.argv[1:], os.environ, name="dicom-writer"))
