"""The stage of the soak's workflow: one result for each instance, whose UID follows from the instance's."""

from __future__ import annotations

import os
import sys

from pydicom import dcmread
from pydicom.uid import UID

from stages import Job, main

SUFFIX = ".77"


def execute(job: Job) -> None:
    for path in sorted(p for p in job.input_dir.rglob("*") if p.is_file()):
        made = dcmread(path)
        made.SOPInstanceUID = UID(f"{made.SOPInstanceUID}{SUFFIX}")
        made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
        made.SeriesInstanceUID = f"{made.SeriesInstanceUID}{SUFFIX}"
        made.save_as(job.output_dir / f"{made.SOPInstanceUID}.dcm", enforce_file_format=True)


if __name__ == "__main__":
    sys.exit(main(execute, [], os.environ, name="stamp"))
