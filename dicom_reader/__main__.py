"""The container's entry point: build the stage, hand it to the driver."""

from __future__ import annotations

import sys

from stages.runtime.extras import report_missing_extra

if __name__ == "__main__" and (code := report_missing_extra("reader")):
    sys.exit(code)

import argparse
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from dicom_reader.arguments import add_arguments, rules_of
from dicom_reader.explain import explain
from dicom_reader.pixels.decoders import load_decoders
from dicom_reader.read import judge_folder, read_all_series, read_series
from stages import Job, Stage, Volume, main, write_volume
from stages.runtime.logs import printable
from stages.volume.io import pixel_sha256

logger = logging.getLogger("dicom_reader")


class DicomReader(Stage):
    """Read the best series of the input folder, or all that pass the rules, in Hounsfield units."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the rules by which a series is taken.

        Parameters
        ----------
        parser
            Of the command line.
        """
        add_arguments(parser)

    def may_write_nothing(self, arguments: argparse.Namespace) -> bool:
        """Return whether ``--explain`` is given: alone, nothing is written.

        Parameters
        ----------
        arguments
            As parsed.
        """
        return bool(arguments.explain)

    def warm_up(self) -> None:
        """Import the decoders."""
        load_decoders()

    def prepare(self, job: Job) -> None:
        """Check the rules and import the decoders while the input is still awaited.

        Parameters
        ----------
        job
            Its arguments hold the rules.
        """
        load_decoders()
        self._rules = rules_of(job.arguments)

    def execute(self, job: Job) -> None:
        """Write ``<SeriesInstanceUID>.mhd``, ``.raw`` and ``.json`` of each series taken.

        Parameters
        ----------
        job
            Names the folders and the arguments.
        """
        arguments = job.arguments
        if arguments.explain:
            verdicts = judge_folder(
                job.input_dir, self._rules, take_all=arguments.all, merge_series=arguments.merge_series
            )
            for line in explain(verdicts):
                print(line)  # noqa: T201
            if arguments.input and not arguments.output:
                return
        how: dict[str, Any] = {
            "rules": self._rules,
            "fill_missing": arguments.fill_missing,
            "merge_series": arguments.merge_series,
            "strict": arguments.strict,
        }
        volumes: Iterable[Volume] = (
            read_all_series(job.input_dir, **how) if arguments.all else [read_series(job.input_dir, **how)]
        )
        for volume in volumes:
            origin = replace(volume.origin, pixel_sha256=pixel_sha256(volume.array))
            path = write_volume(replace(volume, origin=origin), job.output_dir)
            logger.info("wrote %s", printable(path.name))


if __name__ == "__main__":
    sys.exit(main(DicomReader(), sys.argv[1:], os.environ, name="dicom-reader"))
