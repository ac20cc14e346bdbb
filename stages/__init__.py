"""The toolkit that every stage imports: write a stage with what is listed here.

::

    import os, sys
    from stages import Job, main

    def execute(job: Job) -> None:
        ...  # read job.input_dir, write job.output_dir

    if __name__ == "__main__":
        sys.exit(main(execute, sys.argv[1:], os.environ, name="my-stage"))
"""

from stages.driver import Job, Stage, main
from stages.errors import (
    GeometryError,
    InferenceError,
    InputError,
    OutputError,
    SettingsError,
    StageError,
    StageTimeoutError,
    TerminatedError,
    UpstreamError,
)
from stages.geometry import Grid
from stages.labels import Code, Label
from stages.original_slices import SliceMasks, on_original_slices
from stages.settings import StageSettings
from stages.volume import Algorithm, Correction, Origin, SliceOrigin, Volume
from stages.volume_io import find_volumes, read_volume, write_volume

__version__ = "0.1.0"

__all__ = [
    "Algorithm",
    "Code",
    "Correction",
    "GeometryError",
    "Grid",
    "InferenceError",
    "InputError",
    "Job",
    "Label",
    "Origin",
    "OutputError",
    "SettingsError",
    "SliceMasks",
    "SliceOrigin",
    "Stage",
    "StageError",
    "StageSettings",
    "StageTimeoutError",
    "TerminatedError",
    "UpstreamError",
    "Volume",
    "find_volumes",
    "main",
    "on_original_slices",
    "read_volume",
    "write_volume",
]
