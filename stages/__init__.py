"""The toolkit that every stage imports: write a stage with what is listed here.

::

    import os, sys
    from stages import Job, main

    def execute(job: Job) -> None:
        ...  # read job.input_dir, write job.output_dir

    if __name__ == "__main__":
        sys.exit(main(execute, sys.argv[1:], os.environ, name="my-stage"))
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = (
    False  # that of typing takes long for programs that others wait for (`stages.runtime.subreaper`)
)
if TYPE_CHECKING:
    from typing import Any

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
    from stages.lifecycle.driver import Job, Stage, main
    from stages.lifecycle.settings import StageSettings
    from stages.volume.geometry import Grid
    from stages.volume.io import find_volumes, read_mask, read_volume, write_volume
    from stages.volume.labels import Code, Label
    from stages.volume.origin import Algorithm, Correction, Origin, SliceOrigin
    from stages.volume.original_slices import SliceMasks, on_original_slices
    from stages.volume.volume import Volume

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
    "read_mask",
    "read_volume",
    "write_volume",
]

_HOMES = (
    "errors",
    "volume.labels",
    "lifecycle.settings",
    "lifecycle.driver",
    "volume.geometry",
    "volume.origin",
    "volume.volume",
    "volume.io",
    "volume.original_slices",
)  # lightest first


def __getattr__(name: str) -> Any:
    """Import what is listed above when it is first asked for, since NumPy and others take long (PEP 562)."""
    for home in _HOMES if name in __all__ else ():
        found = vars(importlib.import_module(f"stages.{home}")).get(name)
        if found is not None:
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
