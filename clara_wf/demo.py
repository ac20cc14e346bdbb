"""The demonstration job: an abdominal CT phantom as a real DICOM series, with its ground truth."""

from __future__ import annotations

from pathlib import Path

from phantoms.abdomen import DEMO_SEED, make_abdomen
from phantoms.dicom_series import write_series
from stages.volume import Origin, Volume
from stages.volume_io import write_volume

DEMO_JOB = "11111111-1111-1111-1111-111111111111"
_SHAPE = (84, 512, 512)
_SPACING_MM = (2.5, 0.78, 0.78)
