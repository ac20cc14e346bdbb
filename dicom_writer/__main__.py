"""The container's entry point: build the stage, hand it to the driver."""

from __future__ import annotations

import sys

from stages.runtime.extras import report_missing_extra

if __name__ == "__main__" and (code := report_missing_extra("writer")):
    sys.exit(code)

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from dicom_writer.kinds import RESULT_KINDS, are_of_volume, kinds_named
from dicom_writer.request.provenance import Provenance
from dicom_writer.request.result_request import Compression, Options
from dicom_writer.write import write_results
from stages import Job, SettingsError, Stage, Volume, find_volumes, main, read_mask, read_volume
from stages.volume.labels import Label, spoken_of
from stages.volume.labels_file import read_labels, write_labels


class DicomWriter(Stage):
    """Write each mask of the input folder as DICOM results of its original series, each verified."""

    takes_labels = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare what is written, and what it says of labels and algorithm.

        Parameters
        ----------
        parser
            Gets the arguments of this stage beside those that all stages have.
        """
        parser.add_argument(
            "--results",
            default="seg",
            metavar="LIST",
            help=f"kinds of result, separated by commas: {', '.join(RESULT_KINDS)} (default: %(default)s)",
        )
        parser.add_argument(
            "--labels",
            type=Path,
            metavar="FILE",
            help="YAML file that says what the labels mean (default: as the mask says, or the workflow)",
        )
        parser.add_argument(
            "--keep-empty-frames",
            action="store_true",
            help="segmentations have a frame for each slice, also where there is no voxel",
        )
        parser.add_argument(
            "--compression",
            choices=get_args(Compression),
            help="of segmentations (default: none for seg, rle for labelmap; seg cannot be rle)",
        )
        for what, meant in (("name", "name of the algorithm"), ("version", "its version")):
            parser.add_argument(
                f"--algorithm-{what}",
                metavar=what.upper(),
                help=f"{meant}, written into the results (default: as the stage that made the mask says)",
            )

    def warm_up(self) -> None:
        """Import what writes and what verifies each kind of result."""
        for name in RESULT_KINDS:
            RESULT_KINDS[name]

    def prepare(self, job: Job) -> None:
        """Read the arguments, and import what writes and what verifies, while stages before still work.

        Parameters
        ----------
        job
            Its arguments are read.
        """
        self._results = kinds_named(job.arguments.results)
        self._read = read_volume if are_of_volume(self._results) else read_mask
        stated = job.arguments.labels
        self._stated: Sequence[Label] = read_labels(stated) if stated else ()
        self._options = Options(
            keep_empty_frames=job.arguments.keep_empty_frames, compression=job.arguments.compression
        )
        if self._options.compression == "rle" and "seg" in self._results:
            raise SettingsError(
                "--compression rle: a binary segmentation (seg) has one bit a pixel, which RLE does not "
                "take; write it deflated, or write labelmap instead"
            )
        for name in self._results:
            RESULT_KINDS[name]

    def execute(self, job: Job) -> None:
        """Write the results of each mask.

        Parameters
        ----------
        job
            Where masks and source images lie, and where results go.
        """
        from dicom_writer.request.labels import labels_of

        for path in find_volumes(job.input_dir):
            mask = with_labels(self._read(path), job.labels)
            write_results(
                mask,
                job.source_dir,
                job.output_dir,
                results=self._results,
                labels=self._stated,
                provenance=Provenance.of(mask.origin.algorithm, **_stated(job.arguments)),
                options=self._options,
            )
            if job.publish_dir and not are_of_volume(self._results):
                write_labels(labels_of(mask, self._stated), job.publish_dir, mask.origin.file_name)


def _stated(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what the arguments say of the algorithm, and nothing that they do not say."""
    stated = {name: getattr(arguments, name) for name in ("algorithm_name", "algorithm_version")}
    return {name: value for name, value in stated.items() if value is not None}


def with_labels(mask: Volume, labels: Sequence[Label]) -> Volume:
    """Return a mask that says what its labels mean, with those of the workflow where it does not itself.

    Parameters
    ----------
    mask
        A mask as it was read.
    labels
        Those of the workflow.
    """
    known, _ = spoken_of(mask.origin.label_values, mask.origin.labels, otherwise=labels)
    return replace(mask, origin=replace(mask.origin, labels=known))


if __name__ == "__main__":
    sys.exit(main(DicomWriter(), sys.argv[1:], os.environ, name="dicom-writer"))
